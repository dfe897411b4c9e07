"""What each feature family is worth: the same folds and rows, with the family and without it.

Two questions, because families overlap: what is lost when one is left out of everything
(`drop_one`), and what is gained when it is added to the price families alone (`add_one`). The
answer is the difference of the statistic session by session, with its interval.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime

import lightgbm as lgb
import numpy as np
import pyarrow as pa

from ml.config import ModelConfig
from ml.contract import Table
from ml.dataset import Panel, check_horizon
from ml.errors import AsxwError
from ml.evaluation import (
    ALL,
    Metric,
    Outcomes,
    Predictor,
    compare_orderings,
)
from ml.folds import Fold, FoldPlan, check_purge, every_nth_session, plan_folds
from ml.manifest import ColumnMeta
from ml.training import (
    Floats,
    Indices,
    Report,
    booster_parameters,
    class_weight,
    known_features,
    library_versions,
    liquidity_segments,
    side_by_side,
)
from ml.warehouse import Warehouse

Features = tuple[str, ...]

DROP_ONE, ADD_ONE, TOGETHER = "drop_one", "add_one", "all_added"
EVERYTHING = "all"


@dataclass(frozen=True)
class Comparison:
    """One family in question: the features of the model with it and of the model without it."""

    kind: str
    """drop_one, add_one, or all_added: every other family added to the base at once."""
    family: str
    with_family: Features
    without_family: Features


@dataclass(frozen=True)
class Ablation:
    """A finished ablation, nothing of it written yet."""

    ablation_id: str
    rows: pa.Table
    """Columns of ml.ablations but for created_at."""
    metrics: tuple[tuple[Comparison, Metric], ...]
    warnings: tuple[str, ...]


def plan_comparisons(columns: Sequence[ColumnMeta], config: ModelConfig) -> list[Comparison]:
    """Every family left out of everything, and every other family added to the base.

    Args:
        columns: the columns that may be tried, in the manifest's order; those whose role the model
            does not learn from are only ever added.
        config: names the base families and the roles.

    Raises:
        AsxwError: a base family does not exist, or there is nothing to compare.
    """
    base = config.ablation.base_families
    families = list(dict.fromkeys(c.family for c in columns if c.family))
    unknown = [f for f in base if f not in families]
    if unknown:
        raise AsxwError(
            f"ablation.base_families names {', '.join(unknown)}; the families are "
            f"{', '.join(families)}."
        )

    def names(keep: Sequence[str], learned: bool) -> Features:
        return tuple(
            c.name
            for c in columns
            if c.family in keep and (not learned or c.role in config.features.roles)
        )

    everything, priced = names(families, True), names(base, True)
    found = []
    for family in families:
        without = tuple(n for n in everything if n not in names([family], True))
        if without and without != everything:
            found.append(Comparison(DROP_ONE, family, everything, without))
    for family in families:
        added = names([family], False)
        extended = tuple(c.name for c in columns if c.name in {*priced, *added})
        if extended != priced:
            found.append(Comparison(ADD_ONE, family, extended, priced))
    if everything != priced:
        found.append(Comparison(TOGETHER, EVERYTHING, everything, priced))
    if not found:
        raise AsxwError("There is one feature family only: nothing to compare it with.")
    return found


def _variants(comparisons: Sequence[Comparison]) -> list[Features]:
    return list(dict.fromkeys(v for c in comparisons for v in (c.with_family, c.without_family)))


def score_fold(
    panel: Panel, train: Indices, test: Indices, variants: Sequence[Features], config: ModelConfig
) -> list[Floats | None]:
    """Raw score of the test rows (n,) by each variant, all trained on the same binned rows.

    A variant is held to its features by LightGBM's interaction constraints, which gives the trees
    a data set of these features alone would give, without binning the rows once per variant.

    Returns:
        None for a variant without a feature that passes the coverage filter in these rows.
    """
    where = f"Ablation, training rows through session {int(panel.session_idx[train].max())}"
    up = panel.up[train]
    weight = class_weight(up, where)
    inside = np.zeros(len(panel), dtype=bool)
    inside[train] = True
    values = panel.matrix(inside, np.arange(len(panel.features)))
    kept = known_features(values, config.features.minimum_coverage, where)
    place = {panel.features[j]: n for n, j in enumerate(kept)}
    parameters = {
        **booster_parameters(config, config.ablation.training_stride),
        **config.classifier.lightgbm,
        **config.ablation.lightgbm,
    }
    data = lgb.Dataset(
        values if len(kept) == values.shape[1] else np.asfortranarray(values[:, kept]),
        label=up,
        weight=np.where(up > 0, weight, 1.0),
        params=parameters,
    )
    inside[:] = False
    inside[test] = True
    rows = np.ascontiguousarray(panel.matrix(inside, kept))
    scores: list[Floats | None] = []
    try:
        data.construct()
        del values
        for variant in variants:
            columns = [place[name] for name in variant if name in place]
            if not columns:
                scores.append(None)
                continue
            constraint = {"interaction_constraints": [columns]} if len(columns) < len(kept) else {}
            booster = lgb.train({**parameters, **constraint}, data, config.ablation.trees)
            raw = booster.predict(rows, raw_score=True, num_threads=config.num_threads)
            scores.append(np.asarray(raw, dtype=np.float64))
    except lgb.basic.LightGBMError as error:
        raise AsxwError(f"{where}: LightGBM refused the data or a parameter: {error}") from error
    return scores


def _run_folds(
    panel: Panel,
    plan: FoldPlan,
    variants: Sequence[Features],
    config: ModelConfig,
    report: Report,
) -> tuple[Indices, Indices, list[Floats | None]]:
    """Every fold by every variant.

    Returns:
        Test rows of all folds (n,), their folds (n,), and the score of each variant (n,): None for
        a variant that some fold could not train.
    """
    workers, single = side_by_side(config)
    tests = {
        f.number: np.flatnonzero(plan.test_rows(f, panel.session_idx, panel.label_end_idx))
        for f in plan.folds
    }
    found: dict[int, list[Floats | None]] = {}
    lock = threading.Lock()
    started = time.monotonic()

    def run(fold: Fold) -> None:
        begun = time.monotonic()
        past = fold.train_rows(panel.label_end_idx)
        rows = every_nth_session(past, panel.session_idx, config.ablation.training_stride)
        check_purge(fold, config.folds.embargo, panel.label_end_idx[rows])
        train, test = np.flatnonzero(rows), tests[fold.number]
        if not len(train) or not len(test):
            raise AsxwError(
                f"Fold {fold.number}: {len(train)} training and {len(test)} test rows. "
                "Load more history."
            )
        found[fold.number] = score_fold(panel, train, test, variants, single)
        with lock:
            now = time.monotonic()
            report(
                f"fold {fold.number}: {len(variants)} models on {len(train):,} training rows, "
                f"{now - begun:.0f} s; {len(found)}/{len(plan.folds)} folds after "
                f"{now - started:.0f} s"
            )

    with ThreadPoolExecutor(workers) as pool:
        # the latest folds have most rows: first, so that none of them is left alone at the end
        futures = [pool.submit(run, fold) for fold in reversed(plan.folds)]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise

    numbers = [f.number for f in plan.folds]
    rows = np.concatenate([tests[n] for n in numbers])
    folds = np.repeat(numbers, [len(tests[n]) for n in numbers])
    scores: list[Floats | None] = []
    for v in range(len(variants)):
        parts = [found[n][v] for n in numbers]
        known = [p for p in parts if p is not None]
        scores.append(np.concatenate(known) if len(known) == len(parts) else None)
    return rows, folds, scores


def _ablation_id(
    panel: Panel, comparisons: Sequence[Comparison], config: ModelConfig, label: str
) -> str:
    content = {
        "panel": panel.checksum,
        "config": config.ablation_identity(),
        "comparisons": [[c.kind, c.family, c.with_family, c.without_family] for c in comparisons],
        "label": label,
        "versions": library_versions(),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    last = date.fromisoformat(str(panel.label_end_date.max()))
    return f"{config.model_name}-ablation-{last:%Y%m%d}-{digest[:10]}"


def run_ablation(
    panel: Panel,
    comparisons: Sequence[Comparison],
    config: ModelConfig,
    *,
    label: str,
    git_commit: str | None,
    report: Report,
) -> Ablation:
    """Train every variant on every fold and compare; nothing is written.

    Args:
        panel: every trainable row, with every feature of the comparisons.
        comparisons: from `plan_comparisons`.
        config: parameters.
        label: what the return measures (close or adj_close).
        git_commit: state of the project, for the record.
        report: takes a line of progress.

    Raises:
        AsxwError: too little history, another horizon than the labels', one class only, no usable
            feature, or no session with as many rows as are judged.
    """
    check_horizon(panel, config.folds.horizon)
    plan = plan_folds(panel.session_idx, config.folds)
    variants = _variants(comparisons)
    ablation_id = _ablation_id(panel, comparisons, config, label)
    report(
        f"{ablation_id}: {len(variants)} sets of features, {len(plan.folds)} folds, "
        f"{len(panel):,} rows"
    )
    rows, folds, scores = _run_folds(panel, plan, variants, config, report)
    nothing = np.full(len(rows), math.nan)
    outcomes = Outcomes(
        session=panel.session_idx[rows],
        fold=folds,
        up=panel.up[rows],
        returns=panel.returns[rows],
        low=nothing,
        high=nothing,
        base_rate=nothing,
    )
    segments = liquidity_segments(panel, rows, config)
    names = {v: str(n) for n, v in enumerate(variants)}
    predictors = {
        names[v]: Predictor(names[v], score, score)
        for v, score in zip(variants, scores, strict=True)
        if score is not None
    }
    warnings = [*plan.warnings]
    possible = []
    for c in comparisons:
        if names[c.with_family] in predictors and names[c.without_family] in predictors:
            possible.append(c)
        else:
            warnings.append(
                f"{c.kind} {c.family} was left out: in some fold none of the features that remain "
                "passes the coverage filter."
            )
    if not possible:
        raise AsxwError("Nothing to compare. " + " ".join(warnings))
    report("comparing")
    pairs = [(names[c.with_family], names[c.without_family]) for c in possible]
    found = compare_orderings(
        outcomes,
        predictors,
        pairs,
        segments,
        settings=config.evaluation,
        horizon=config.folds.horizon,
    )
    metrics, table = [], []
    for comparison, results in zip(possible, found, strict=True):
        for result in results:
            metric = result.difference
            metrics.append((comparison, metric))
            table.append(
                {
                    "ablation_id": ablation_id,
                    "kind": comparison.kind,
                    "family": comparison.family,
                    "segment": metric.segment,
                    "fold": metric.fold,
                    "metric": metric.name,
                    "value_with": result.value,
                    "value_without": result.other,
                    "delta": metric.value,
                    "ci_low": None if math.isnan(metric.low) else metric.low,
                    "ci_high": None if math.isnan(metric.high) else metric.high,
                    "n": metric.n,
                    "n_features": len(comparison.with_family) - len(comparison.without_family),
                    "n_folds": len(plan.folds),
                    "n_rows": len(rows),
                    "first_session": date.fromisoformat(str(panel.trade_date.min())),
                    "last_session": date.fromisoformat(str(panel.trade_date.max())),
                    "label": label,
                    "panel_checksum": panel.checksum,
                    "git_commit": git_commit,
                    "parameters_json": json.dumps(config.ablation_identity()),
                }
            )
    if not table:
        raise AsxwError(
            f"No session of the test blocks has {config.evaluation.minimum_rows} rows with a "
            "label, the least that is judged (evaluation.minimum_rows): nothing to compare."
        )
    return Ablation(ablation_id, pa.Table.from_pylist(table), tuple(metrics), tuple(warnings))


def write_ablation(
    warehouse: Warehouse, schema: str, contract: dict[str, Table], ablation: Ablation
) -> None:
    """Write the rows in one transaction; those of the same ablation are replaced."""
    now = datetime.now(UTC).replace(tzinfo=None)
    created = pa.array([now] * ablation.rows.num_rows, type=pa.timestamp("us"))
    rows = ablation.rows.append_column("created_at", created)
    rows = rows.cast(
        pa.schema([contract["ablations"].arrow_schema.field(n) for n in rows.schema.names])
    )
    with warehouse.transaction():
        warehouse.replace(
            schema, contract["ablations"], rows, {"ablation_id": ablation.ablation_id}
        )


def headline(ablation: Ablation, name: str, segment: str = ALL) -> list[tuple[Comparison, Metric]]:
    """One metric of every comparison over all folds, the most useful family first."""
    rows = [
        (c, m) for c, m in ablation.metrics if (m.fold, m.segment, m.name) == (0, segment, name)
    ]
    return sorted(rows, key=lambda row: (row[0].kind, -row[1].value))
