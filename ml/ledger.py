"""The ledger of trials: every training run and tuning trial that was begun, failed ones included.

What was tried and thrown away decides how much the best result is worth, so a trial is written
down before it begins. One that is killed stays `started`.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml.config import ModelConfig
from ml.contract import Table
from ml.errors import AsxwError
from ml.overfitting import (
    Moments,
    Overfitting,
    deflated_sharpe,
    expected_maximum,
    moments,
    overfitting_probability,
)
from ml.warehouse import Warehouse

Floats = npt.NDArray[np.float64]
Writer = Callable[[Callable[[Warehouse], None]], None]

TRAIN = "train"
TUNE = "tune"


@dataclass(frozen=True)
class SessionSeries:
    """What a trial reached on each of its test sessions, in time order; arrays are (T,)."""

    trade_date: npt.NDArray[np.datetime64]
    session_idx: npt.NDArray[np.int64]
    roc_auc: Floats
    rank_ic: Floats
    spread: Floats
    """Top less bottom tenth over one horizon, a fraction, net of costs where they are known."""


@dataclass(frozen=True)
class Trial:
    """A trial that has begun."""

    trial_id: str
    kind: str
    model_name: str
    configuration: str
    label: str
    horizon: int
    parameters_json: str
    git_commit: str | None
    study_id: str | None = None
    number: int | None = None
    choices_json: str | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(tzinfo=None))


def configuration_hash(config: ModelConfig, features: Sequence[str], label: str) -> str:
    """Hash of what makes two trials the same choice; the data they saw is no part of it."""
    content = {"config": config.trial_identity(), "features": sorted(features), "label": label}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def new_trial(
    kind: str,
    config: ModelConfig,
    features: Sequence[str],
    *,
    label: str,
    git_commit: str | None,
    study_id: str | None = None,
    number: int | None = None,
    choices: Mapping[str, Any] | None = None,
) -> Trial:
    """A trial that begins now; arguments as in ml.trials."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return Trial(
        trial_id=f"{kind}-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}",
        kind=kind,
        model_name=config.model_name,
        configuration=configuration_hash(config, features, label),
        label=label,
        horizon=config.folds.horizon,
        parameters_json=json.dumps(config.identity()),
        git_commit=git_commit,
        study_id=study_id,
        number=number,
        choices_json=None if choices is None else json.dumps(choices),
        started_at=now,
    )


@dataclass(frozen=True)
class Outcome:
    """What became of a trial that completed."""

    series: SessionSeries
    panel_checksum: str
    run_id: str | None = None
    objective: float | None = None


def known_mean(values: Floats) -> float | None:
    """Mean of the values (T,) that are numbers; None where there is none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _day(value: np.datetime64) -> date:
    return date.fromisoformat(str(value))


def _trial_row(
    trial: Trial, status: str, outcome: Outcome | None = None, error: str | None = None
) -> dict[str, Any]:
    """Columns of ml.trials."""
    row: dict[str, Any] = {
        "trial_id": trial.trial_id,
        "kind": trial.kind,
        "study_id": trial.study_id,
        "number": trial.number,
        "model_name": trial.model_name,
        "configuration": trial.configuration,
        "status": status,
        "error": error,
        "started_at": trial.started_at,
        "horizon": trial.horizon,
        "label": trial.label,
        "git_commit": trial.git_commit,
        "choices_json": trial.choices_json,
        "parameters_json": trial.parameters_json,
    }
    if status != "started":
        row["finished_at"] = datetime.now(UTC).replace(tzinfo=None)
    if outcome is not None:
        series = outcome.series
        row |= {
            "run_id": outcome.run_id,
            "roc_auc_session": known_mean(series.roc_auc),
            "rank_ic": known_mean(series.rank_ic),
            "objective": outcome.objective,
            "n_sessions": len(series.trade_date),
            "panel_checksum": outcome.panel_checksum,
        }
        # a market too small to judge has no session that counts
        if len(series.trade_date):
            row["first_session"] = _day(series.trade_date.min())
            row["last_session"] = _day(series.trade_date.max())
    return row


def _numbers(values: Floats) -> pa.Array:
    return pa.array(values, mask=~np.isfinite(values))


def _series_rows(trial_id: str, series: SessionSeries) -> pa.Table:
    """Columns of ml.trial_sessions."""
    return pa.table(
        {
            "trial_id": pa.repeat(trial_id, len(series.trade_date)),
            "trade_date": pa.array(series.trade_date),
            "session_idx": series.session_idx,
            "roc_auc": _numbers(series.roc_auc),
            "rank_ic": _numbers(series.rank_ic),
            "spread": _numbers(series.spread),
        }
    )


def run_series(sessions: pa.Table, predictor: str, segment: str) -> SessionSeries:
    """The series of a run from its rows of ml.session_metrics."""
    names = ("roc_auc", "rank_ic", "decile_spread", "decile_spread_net")
    found: dict[int, dict[str, float]] = {}
    days: dict[int, date] = {}
    for row in sessions.to_pylist():
        if row["predictor"] == predictor and row["segment"] == segment and row["metric"] in names:
            found.setdefault(row["session_idx"], {})[row["metric"]] = row["value"]
            days[row["session_idx"]] = row["trade_date"]
    order = sorted(found)

    def column(*choice: str) -> Floats:
        values = [next((found[s][n] for n in choice if n in found[s]), math.nan) for s in order]
        return np.array(values, dtype=np.float64)

    return SessionSeries(
        trade_date=np.array([days[s] for s in order], dtype="datetime64[D]"),
        session_idx=np.array(order, dtype=np.int64),
        roc_auc=column("roc_auc"),
        rank_ic=column("rank_ic"),
        spread=column("decile_spread_net", "decile_spread"),
    )


# --- how much of it may be luck -----------------------------------------------------------------


@dataclass(frozen=True)
class _Judged:
    """A completed trial and its spreads, without the sessions that have none."""

    trial_id: str
    horizon: int
    configuration: tuple[str, str, str]
    """Model, label and hash of the configuration."""
    window: tuple[Any, ...]
    """What trials have in common that may be compared session by session."""
    sessions: npt.NDArray[np.int64]
    spread: Floats
    moments: Moments

    @property
    def periods(self) -> float:
        """Spreads that do not overlap."""
        return len(self.spread) / self.horizon


def _completed(warehouse: Warehouse, schema: str) -> list[_Judged]:
    """Completed trials with at least three spreads, the earliest first."""
    rows = warehouse.read_rows(
        "select trials.trial_id, trials.horizon, trials.model_name, trials.label, "
        "trials.configuration, trials.kind, trials.study_id, trials.first_session, "
        "trials.last_session, series.session_idx, series.spread "
        f'from "{schema}"."trials" as trials '
        f'inner join "{schema}"."trial_sessions" as series on trials.trial_id = series.trial_id '
        "where trials.status = 'completed' and series.spread is not null "
        "order by trials.started_at, trials.trial_id, series.session_idx"
    )
    grouped: dict[tuple[Any, ...], list[tuple[int, float]]] = {}
    for row in rows:
        grouped.setdefault(row[:9], []).append(row[9:])
    judged = []
    for (trial_id, horizon, model, label, configuration, *window), values in grouped.items():
        spread = np.array([v for _, v in values], dtype=np.float64)
        found = moments(spread)
        if math.isfinite(found.sharpe):
            sessions = np.array([s for s, _ in values], dtype=np.int64)
            key = (model, label, configuration)
            scope = (model, label, *window)
            judged.append(_Judged(trial_id, horizon, key, scope, sessions, spread, found))
    return judged


def _one_each(trials: Sequence[_Judged]) -> list[_Judged]:
    """The latest trial of every configuration."""
    return list({t.configuration: t for t in trials}.values())


def _distinct(trials: Sequence[_Judged]) -> list[_Judged]:
    """One trial of each series: a parameter that changes nothing makes no second one."""
    return list({(t.sessions.tobytes(), t.spread.tobytes()): t for t in trials}.values())


def _group_overfitting(trials: Sequence[_Judged]) -> Overfitting | None:
    """Among trials of one window, on the sessions they all have."""
    shared = trials[0].sessions
    for trial in trials[1:]:
        shared = np.intersect1d(shared, trial.sessions, assume_unique=True)
    columns = [t.spread[np.searchsorted(t.sessions, shared)] for t in trials]
    return overfitting_probability(np.column_stack(columns), trials[0].horizon)


def overfitting_rows(warehouse: Warehouse, schema: str) -> list[dict[str, Any]]:
    """Columns of ml.overfitting for every completed trial, as the ledger stands.

    The bar is set by every configuration of the model and label that was ever begun, because those
    that failed or were stopped half way had been looked at too. Trials whose spreads are the same
    to the last digit count once for the deviation of the Sharpe ratios, and for the backtest
    overfitting.
    """
    begun: dict[tuple[str, str], int] = {
        (model, label): int(count)
        for model, label, count in warehouse.read_rows(
            "select model_name, label, count(distinct configuration) "
            f'from "{schema}"."trials" group by model_name, label'
        )
    }
    judged = _completed(warehouse, schema)
    windows: dict[tuple[Any, ...], Overfitting | None] = {}
    families: dict[tuple[str, str], list[float]] = {}
    for trial in _distinct(_one_each(judged)):
        families.setdefault(trial.configuration[:2], []).append(trial.moments.sharpe)
    for window in {t.window for t in judged}:
        windows[window] = _group_overfitting(_one_each([t for t in judged if t.window == window]))
    now = datetime.now(UTC).replace(tzinfo=None)
    rows = []
    for trial in judged:
        family = trial.configuration[:2]
        ratios = np.array(families[family])
        # of one trial alone, what chance does to a Sharpe ratio of so many periods
        deviation = (
            float(ratios.std(ddof=1)) if len(ratios) > 1 else 1 / math.sqrt(max(trial.periods, 1.0))
        )
        bar = expected_maximum(begun[family], deviation)
        probability = deflated_sharpe(trial.moments, trial.periods, bar)
        pbo = windows[trial.window]
        rows.append(
            {
                "trial_id": trial.trial_id,
                "computed_at": now,
                "n_trials": begun[family],
                "n_sessions": len(trial.spread),
                "n_periods": trial.periods,
                "mean_spread": trial.moments.mean,
                "sharpe": trial.moments.sharpe,
                "skewness": trial.moments.skewness,
                "kurtosis": trial.moments.kurtosis,
                "sharpe_deviation": deviation,
                "sharpe_expected_maximum": bar,
                "deflated_sharpe": None if math.isnan(probability) else probability,
                "pbo": pbo.probability if pbo else None,
                "pbo_trials": pbo.trials if pbo else None,
                "pbo_blocks": pbo.blocks if pbo else None,
                "pbo_splits": pbo.splits if pbo else None,
            }
        )
    return rows


# --- writing ------------------------------------------------------------------------------------


def begin(warehouse: Warehouse, schema: str, contract: Mapping[str, Table], trial: Trial) -> None:
    """Write down that a trial begins."""
    rows = _rows(contract["trials"], [_trial_row(trial, "started")])
    with warehouse.transaction():
        warehouse.replace(schema, contract["trials"], rows, {"trial_id": trial.trial_id})


def _rows(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows with every column of the contract; what a row does not say is NULL."""
    return pa.Table.from_pylist(
        [{c.name: row.get(c.name) for c in table.columns} for row in rows],
        schema=table.arrow_schema,
    )


def complete(
    warehouse: Warehouse,
    schema: str,
    contract: Mapping[str, Table],
    trial: Trial,
    outcome: Outcome,
) -> dict[str, Any] | None:
    """Write what a trial reached, and judge every trial anew; call it in a transaction.

    Returns:
        The trial's own row of ml.overfitting; None where its returns are too few to judge.
    """
    key = {"trial_id": trial.trial_id}
    row = _rows(contract["trials"], [_trial_row(trial, "completed", outcome)])
    warehouse.replace(schema, contract["trials"], row, key)
    warehouse.replace(
        schema, contract["trial_sessions"], _series_rows(trial.trial_id, outcome.series), key
    )
    judged = _judge_all(warehouse, schema, contract)
    return next((row for row in judged if row["trial_id"] == trial.trial_id), None)


def fail(
    warehouse: Warehouse, schema: str, contract: Mapping[str, Table], trial: Trial, error: str
) -> None:
    """Write that a trial failed, and why."""
    row = _rows(contract["trials"], [_trial_row(trial, "failed", error=error)])
    with warehouse.transaction():
        warehouse.replace(schema, contract["trials"], row, {"trial_id": trial.trial_id})
        _judge_all(warehouse, schema, contract)


def _judge_all(
    warehouse: Warehouse, schema: str, contract: Mapping[str, Table]
) -> list[dict[str, Any]]:
    # trials that end at the same moment judge one after the other
    warehouse.hold("overfitting")
    rows = overfitting_rows(warehouse, schema)
    warehouse.execute(f'delete from "{schema}"."overfitting"')
    if rows:
        warehouse.append(schema, contract["overfitting"], _rows(contract["overfitting"], rows))
    return rows


def read_judged(
    warehouse: Warehouse, schema: str, study_id: str, number: int
) -> dict[str, Any] | None:
    """Row of ml.overfitting of a completed tuning trial; None where it was too little to judge."""
    rows = warehouse.read_arrow(
        f'select judged.* from "{schema}"."overfitting" as judged '
        f'inner join "{schema}"."trials" as trials on judged.trial_id = trials.trial_id '
        "where trials.study_id = ? and trials.number = ? order by trials.started_at desc limit 1",
        (study_id, number),
    ).to_pylist()
    return dict(rows[0]) if rows else None


def luck_line(judged: Mapping[str, Any] | None) -> str:
    """What may be luck, as `asxw train` and `asxw tune` say it."""
    if judged is None:
        return "Too few decile spreads to say what may be luck."
    deflated = judged["deflated_sharpe"]
    line = (
        f"Configurations tried so far: {judged['n_trials']}. The decile spread has a Sharpe ratio "
        f"of {judged['sharpe']:.2f} a horizon, the best of as many worthless ones is expected to "
        f"show {judged['sharpe_expected_maximum']:.2f}"
    )
    line += "." if deflated is None else f"; more than that with probability {deflated:.2f}."
    if judged["pbo"] is not None:
        line += (
            f" Probability of backtest overfitting among {judged['pbo_trials']} trials on the same "
            f"sessions: {judged['pbo']:.2f}."
        )
    return line


@contextmanager
def failures_recorded(
    trial: Trial, schema: str, contract: Mapping[str, Table], write: Writer
) -> Iterator[None]:
    """Write a failure inside into the ledger and let it go on.

    Args:
        trial: begun.
        schema: of the result tables.
        contract: of the result tables.
        write: calls what it is given with an open warehouse.
    """
    try:
        yield
    except BaseException as error:
        text = str(error) or type(error).__name__
        # what went wrong first is what a person must see
        with suppress(AsxwError):
            write(lambda warehouse: fail(warehouse, schema, contract, trial, text))
        raise
