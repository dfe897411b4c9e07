"""Which run scores: promotion, with the sealed holdout opened once and every opening on record."""

from __future__ import annotations

import csv
import json
import math
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from ml.artifacts import load_artifact
from ml.config import ModelConfig
from ml.contract import Table
from ml.dataset import Panel
from ml.errors import AsxwError
from ml.evaluation import Metric
from ml.folds import HOLDOUT, Fold, check_purge, every_nth_session, plan_folds
from ml.gates import ALARM
from ml.training import FoldResult, Report, evaluate_results, fit_and_score, metric_rows
from ml.warehouse import Warehouse

SEED = Path("seeds") / "model_promotions.csv"
REVIEWS = Path("reviews")
COLUMNS = ("run_id", "model_name", "promoted_at", "promoted_by", "reason")
_REVIEW_KEYS = ("who", "when", "checked")


@dataclass(frozen=True)
class Promotion:
    """A line of the seed."""

    run_id: str
    model_name: str
    promoted_at: str
    promoted_by: str
    reason: str


def read_promotions(project_dir: Path) -> list[Promotion]:
    """Every promotion on record, the earliest first.

    Raises:
        AsxwError: the seed has other columns than it should.
    """
    path = project_dir / SEED
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise AsxwError(f"{path} must have the columns {', '.join(COLUMNS)}.")
        rows = [Promotion(**row) for row in reader]
    return sorted(rows, key=lambda row: row.promoted_at)


def champion(project_dir: Path, model_name: str) -> Promotion | None:
    """The latest promotion of a model."""
    of_model = [p for p in read_promotions(project_dir) if p.model_name == model_name]
    return of_model[-1] if of_model else None


def _git(project_dir: Path, *arguments: str) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 (arguments are passed as a list)
            ["git", *arguments],  # noqa: S607 (git of the user's path)
            cwd=project_dir,
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def check_review(project_dir: Path, run_id: str, alarms: Sequence[str]) -> None:
    """Refuse a run with alarms that has no committed leak review.

    Raises:
        AsxwError: says which file is wanted and what it must hold.
    """
    if not alarms:
        return
    path = REVIEWS / f"{run_id}.md"
    problem = None
    if not (project_dir / path).is_file():
        problem = "does not exist"
    else:
        lines = (project_dir / path).read_text(encoding="utf-8").lower().splitlines()
        told = {line.split(":")[0] for line in lines if line.partition(":")[2].strip()}
        empty = [f"{key}:" for key in _REVIEW_KEYS if key not in told]
        if empty:
            problem = f"has no line that begins with {' or '.join(empty)} and goes on"
        elif not _git(project_dir, "ls-files", "--error-unmatch", str(path)) or not _git(
            project_dir, "diff", "--quiet", "HEAD", "--", str(path)
        ):
            problem = "is not committed as it stands"
    if problem:
        raise AsxwError(
            f"Run {run_id} looks too good ({', '.join(alarms)}), and its leak review {path} "
            f"{problem}. Look for what the model could not have known, write down who: looked, "
            "when: and what was checked:, commit the file and promote again."
        )


def too_few_rows(warehouse: Warehouse, schema: str, run_id: str) -> str | None:
    """Why a run has predictions and no statistic of any session; None where it has one."""
    if warehouse.read_rows(
        f'select 1 from "{schema}"."session_metrics" where run_id = ? limit 1', (run_id,)
    ):
        return None
    most = warehouse.read_rows(
        "select max(n) from (select count(*) as n "
        f'from "{schema}"."predictions_oof" where run_id = ? group by trade_date) as sessions',
        (run_id,),
    )[0][0]
    parameters = warehouse.read_rows(
        f'select parameters_json from "{schema}"."runs" where run_id = ?', (run_id,)
    )
    least = json.loads(parameters[0][0])["evaluation"]["minimum_rows"]
    if most is None or most >= least:
        return None
    return (
        f"Run {run_id} has no session of {least} out-of-fold rows (evaluation.minimum_rows), the "
        f"largest has {most}: nothing of it is judged session by session. Load more symbols, or "
        "lower evaluation.minimum_rows (--config) and var session_minimum_rows together; then "
        "train again."
    )


def check_complete(warehouse: Warehouse, schema: str, run_id: str, n_folds: int) -> None:
    """Refuse a run of which some result table holds nothing.

    Raises:
        AsxwError: names the tables, or says that no session has rows enough to be judged.
    """
    missing = [
        name
        for name in (
            "folds",
            "metrics",
            "session_metrics",
            "importance",
            "predictions_oof",
            "gates",
        )
        if not warehouse.read_rows(
            f'select 1 from "{schema}"."{name}" where run_id = ? limit 1', (run_id,)
        )
    ]
    folds = warehouse.read_rows(
        f'select count(distinct fold) from "{schema}"."folds" where run_id = ?', (run_id,)
    )[0][0]
    if missing == ["session_metrics"]:
        reason = too_few_rows(warehouse, schema, run_id)
        if reason is not None:
            raise AsxwError(reason)
    if missing or folds != n_folds:
        raise AsxwError(
            f"Run {run_id} is not whole: "
            + (f"no rows in {', '.join(missing)}" if missing else f"{folds} of {n_folds} folds")
            + ". Train again."
        )


def score_holdout(panel: Panel, config: ModelConfig) -> tuple[FoldResult, list[Metric]]:
    """Train as a fold does, on what was known before the holdout, and score the holdout.

    Raises:
        AsxwError: the run was made without a holdout, or the panel is too short for one.
    """
    plan = plan_folds(panel.session_idx, config.folds)
    if plan.holdout_first is None:
        raise AsxwError("The run has no sealed holdout (folds.holdout is 0): nothing to open.")
    last = int(panel.session_idx.max())
    fold = Fold(HOLDOUT, plan.holdout_first, last, plan.holdout_first - config.folds.embargo)
    stride = config.folds.training_stride
    train = every_nth_session(fold.train_rows(panel.label_end_idx), panel.session_idx, stride)
    check_purge(fold, config.folds.embargo, panel.label_end_idx[train])
    test = np.flatnonzero(panel.session_idx >= plan.holdout_first)
    with threadpool_limits(1, "blas"):
        result = fit_and_score(panel, fold, train, test, config)
    evaluation, _ = evaluate_results(panel, [result], config)
    # one block: what would be pooled and what would be the fold are the same
    metrics = [
        Metric(m.predictor, HOLDOUT, m.segment, m.name, m.value, m.low, m.high, m.n)
        for m in evaluation.metrics
        if m.fold == 0
    ]
    return result, metrics


def _opened_at(warehouse: Warehouse, schema: str, run_id: str) -> datetime | None:
    """When the holdout was opened for a run."""
    rows = warehouse.read_rows(
        f'select opened_at from "{schema}"."holdout_openings" where run_id = ?', (run_id,)
    )
    return rows[0][0] if rows else None


def promote(
    warehouse: Warehouse,
    schema: str,
    contract: dict[str, Table],
    *,
    project_dir: Path,
    artifacts: Path,
    run: dict[str, Any],
    panel: Panel,
    config: ModelConfig,
    by: str,
    reason: str,
    report: Report,
) -> Promotion:
    """Check a run, open its holdout if it is still sealed, and add its line to the seed.

    Args:
        warehouse: open for writing.
        schema: of the result tables.
        contract: of the result tables.
        project_dir: where the seed and the reviews are.
        artifacts: root of saved models.
        run: its row of ml.runs.
        panel: the training panel as it is now.
        config: parameters the run was made with.
        by: who promotes.
        reason: why, for the record.
        report: takes a line of progress.

    Raises:
        AsxwError: the run is not whole, its files are altered, the panel or the parameters are not
            the run's, an alarm has no review, or it is the champion already.
    """
    run_id, model_name = run["run_id"], run["model_name"]
    check_complete(warehouse, schema, run_id, int(run["n_folds"]))
    card = load_artifact(artifacts, model_name, run_id).card
    alarms = warehouse.read_rows(
        f'select gate from "{schema}"."gates" where run_id = ? and level = ? and not passed '
        "order by gate",
        (run_id, ALARM),
    )
    check_review(project_dir, run_id, [str(a) for (a,) in alarms])
    promoted = read_promotions(project_dir)
    if any(p.run_id == run_id for p in promoted):
        raise AsxwError(
            f"Run {run_id} is in {SEED} already. To go back to it, delete the lines after its own."
        )
    if not panel.checksum == run["panel_checksum"] == card.panel_checksum:
        raise AsxwError(
            f"Run {run_id} is stale: the training panel has changed since. Train again and "
            "promote the new run."
        )
    if json.loads(json.dumps(config.identity())) != json.loads(run["parameters_json"]):
        raise AsxwError(
            f"Run {run_id} was made with other parameters than these: give the same --config."
        )
    opened_at = _opened_at(warehouse, schema, run_id)
    now = datetime.now(UTC).replace(tzinfo=None)
    if opened_at is not None:
        report(f"the holdout was opened for this run on {opened_at:%Y-%m-%d}: not again")
    elif config.folds.holdout:
        report("opening the sealed holdout")
        result, metrics = score_holdout(panel, config)
        days = panel.trade_date[result.test]
        opening = pa.Table.from_pylist(
            [
                {
                    "run_id": run_id,
                    "opened_at": now,
                    "opened_by": by,
                    "reason": reason,
                    "first_session": days.min().astype(object),
                    "last_session": days.max().astype(object),
                    "n_rows": len(result.test),
                    "trained_through": result.trained_through,
                }
            ]
        )
        rows = pa.Table.from_pylist(metric_rows(run_id, metrics))
        with warehouse.transaction():
            warehouse.hold("holdout_openings")
            if _opened_at(warehouse, schema, run_id) is not None:
                raise AsxwError(
                    f"The holdout of run {run_id} has just been opened by another promotion: "
                    "run the command again."
                )
            warehouse.append(schema, contract["holdout_openings"], opening)
            warehouse.replace(
                schema, contract["metrics"], rows, {"run_id": run_id, "fold": HOLDOUT}
            )
    entry = Promotion(run_id, model_name, f"{now:%Y-%m-%d %H:%M:%S}", by, reason)
    path = project_dir / SEED
    fresh = not path.is_file()
    path.parent.mkdir(exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if fresh:
            writer.writerow(COLUMNS)
        writer.writerow([getattr(entry, c) for c in COLUMNS])
    return entry


def side_by_side_metrics(
    warehouse: Warehouse, schema: str, run_ids: Sequence[str]
) -> list[list[str]]:
    """Headline numbers of runs in columns, out of fold and on the holdout, as texts."""
    wanted = [
        (fold, segment, name)
        for fold in (0, HOLDOUT)
        for segment in ("all", "adv_100k", "adv_1m")
        for name in ("roc_auc_session", "rank_ic")
    ]
    rows = []
    for fold, segment, name in wanted:
        line = ["holdout" if fold == HOLDOUT else "out of fold", segment, name]
        for run_id in run_ids:
            found = warehouse.read_rows(
                f'select value, ci_low, ci_high from "{schema}"."metrics" where run_id = ? '
                "and predictor = 'lightgbm' and fold = ? and segment = ? and metric = ?",
                (run_id, fold, segment, name),
            )
            line.append(_cell(*found[0]) if found else "-")
        if any(cell != "-" for cell in line[3:]):
            rows.append(line)
    return rows


def _cell(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None or math.isnan(low):
        return f"{value:.4f}"
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"
