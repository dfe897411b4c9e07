"""Score the rows of one session with a saved run, and say why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml.artifacts import Artifact
from ml.contract import Table
from ml.dataset import (
    matrix_of,
    quoted,
    require_columns,
    require_numeric,
    table_columns,
)
from ml.errors import AsxwError
from ml.manifest import Relation
from ml.reasons import CLASSIFIER, REGRESSOR, contributions, reason_rows
from ml.registry import Promotion
from ml.training import predict
from ml.warehouse import Warehouse

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Predictions of one run for one session, in order of symbol."""

    run_id: str
    trade_date: date
    rows: pa.Table
    """Columns of ml.predictions."""
    reasons: pa.Table | None = None
    """Columns of ml.reasons; None: not asked for."""


def find_run(
    warehouse: Warehouse,
    schema: str,
    run_id: str | None,
    model_name: str = "",
    promoted: Promotion | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[str, str]:
    """Model name and run id of a run: the one named, else a model's champion, else its newest.

    Args:
        warehouse: open connection.
        schema: of the results.
        run_id: a run of this warehouse, of any model; None to choose one.
        model_name: of the run to choose.
        promoted: its champion. The seed that says so is the project's and runs are a warehouse's,
            so it may not be here; then the newest is chosen.
        report: told of a champion that is not here.

    Raises:
        AsxwError: there is no run, none of that name, or none of that model.
    """
    if not warehouse.has_table(schema, "runs"):
        raise AsxwError("No model has been trained yet: run `asxw train`.")
    runs = warehouse.read_rows(
        f'select run_id, model_name from "{schema}"."runs" order by created_at desc, run_id desc'
    )
    if not runs:
        raise AsxwError("No model has been trained yet: run `asxw train`.")
    latest = ", ".join(r[0] for r in runs[:5])
    if run_id is not None:
        for found, name in runs:
            if found == run_id:
                return str(name), run_id
        raise AsxwError(f"There is no run {run_id}; the latest are: {latest}.")
    of_model = [str(found) for found, name in runs if name == model_name]
    if not of_model:
        raise AsxwError(
            f"No run of the model {model_name} (model_name in the model parameters) is here; the "
            f"latest of others are: {latest}. Train one, or name a run with --run."
        )
    if promoted is not None and promoted.run_id in of_model:
        return model_name, promoted.run_id
    if promoted is not None:
        report(
            f"The champion {promoted.run_id} (seeds/model_promotions.csv) was not trained in this "
            f"warehouse: {of_model[0]}, the newest run, takes its place."
        )
    return model_name, of_model[0]


def sessions_between(
    warehouse: Warehouse, relation: Relation, first: date, last: date
) -> list[date]:
    """Sessions of fct_features_daily from `first` through `last`.

    Raises:
        AsxwError: there is none.
    """
    table_columns(warehouse, relation)
    rows = warehouse.read_rows(
        f"select distinct cast(trade_date as date) from {relation.sql} "
        "where trade_date >= ? and trade_date <= ? order by 1",
        (first, last),
    )
    if not rows:
        raise AsxwError(f"{relation.sql} has no session from {first} through {last}.")
    return [day for (day,) in rows]


def session_to_score(warehouse: Warehouse, relation: Relation, as_of: date | None) -> date:
    """Latest session of fct_features_daily, on or before `as_of` where it is given.

    Raises:
        AsxwError: there is none.
    """
    table_columns(warehouse, relation)
    condition = "" if as_of is None else "where trade_date <= ?"
    rows = warehouse.read_rows(
        f"select cast(max(trade_date) as date) from {relation.sql} {condition}",
        () if as_of is None else (as_of,),
    )
    day = rows[0][0]
    if not isinstance(day, date):
        until = "" if as_of is None else f" on or before {as_of}"
        raise AsxwError(f"{relation.sql} has no session{until}: load prices and run `dbt build`.")
    return day


def score(
    warehouse: Warehouse,
    relation: Relation,
    artifact: Artifact,
    day: date,
    threads: int,
    reasons: int = 0,
) -> Scores:
    """Predictions for the traded rows of a session that are in the universe, as in training.

    Features are read by name, in the order of the artifact.

    Args:
        warehouse: open connection.
        relation: fct_features_daily.
        artifact: the run.
        day: session to score.
        threads: processors to use.
        reasons: features named per symbol and model; 0: none.

    Raises:
        AsxwError: the model has seen prices of that session or later, the table lacks a feature,
            or the session has no such row.
    """
    card = artifact.card
    through = date.fromisoformat(card.trained_through)
    if through >= day:
        raise AsxwError(
            f"Run {card.run_id} was trained on prices through {through}, so its scores of {day} "
            "would not be forecasts. Score a later session, or use the out-of-fold predictions."
        )
    present = table_columns(warehouse, relation)
    require_columns(
        present,
        ("symbol", "trade_date", "is_traded", "is_in_universe"),
        relation,
        "needed to score",
    )
    require_columns(present, card.features, relation, f"features of run {card.run_id}")
    require_numeric(present, card.features, relation)
    rows = warehouse.read_arrow(
        f"select symbol, {quoted(card.features)} from {relation.sql} "
        "where trade_date = ? and is_traded and is_in_universe "
        'order by symbol collate "C"',
        (day,),
    )
    if rows.num_rows == 0:
        raise AsxwError(
            f"{relation.sql} has no traded row in the universe on {day}: nothing to score."
        )
    values = matrix_of(rows, card.features)
    probability, expected = predict(
        artifact.classifier, artifact.regressor, card.positive_weight, values, threads
    )
    count = rows.num_rows
    table = pa.table(
        {
            "run_id": pa.repeat(card.run_id, count),
            "symbol": pc.cast(rows.column("symbol"), pa.string()),
            "trade_date": pa.repeat(pa.scalar(day), count),
            "probability_up": probability,
            "expected_return": expected,
            "trained_through": pa.repeat(pa.scalar(through), count),
        }
    )
    told = _reasons(artifact, table, values, threads, reasons) if reasons else None
    return Scores(card.run_id, day, table, told)


def _reasons(
    artifact: Artifact, scored: pa.Table, values: Floats, threads: int, count: int
) -> pa.Table:
    card = artifact.card
    symbols = scored.column("symbol").to_pylist()
    boosters = (
        (CLASSIFIER, artifact.classifier, card.positive_weight),
        (REGRESSOR, artifact.regressor, 1.0),
    )
    rows = pa.concat_tables(
        reason_rows(
            head, symbols, card.features, values,
            contributions(booster, values, threads, weight), count,
        )
        for head, booster, weight in boosters
    )  # fmt: skip
    day = scored.column("trade_date")[0]
    return rows.append_column("run_id", pa.repeat(card.run_id, len(rows))).append_column(
        "trade_date", pa.repeat(day, len(rows))
    )


def write_scores(
    warehouse: Warehouse, schema: str, contract: dict[str, Table], *sessions: Scores
) -> None:
    """Replace the predictions of these runs and sessions, all of them in one transaction.

    Reasons go with their predictions: those of an earlier scoring do not stay.
    """
    with warehouse.transaction():
        for scores in sessions:
            key = {"run_id": scores.run_id, "trade_date": scores.trade_date}
            warehouse.replace(schema, contract["predictions"], scores.rows, key)
            reasons = contract["reasons"]
            told = scores.reasons
            if told is None:
                told = reasons.arrow_schema.empty_table()
            warehouse.replace(schema, reasons, told, key)
