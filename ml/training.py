"""Train and evaluate: purged walk-forward folds, and the final models on every row."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from threadpoolctl import threadpool_limits

from ml.artifacts import Feature, ModelCard
from ml.baselines import fit_linear, signed_column
from ml.config import ModelConfig
from ml.contract import Table
from ml.dataset import SEGMENT_COLUMN, Panel, check_horizon, coverage
from ml.errors import AsxwError
from ml.evaluation import (
    ALL,
    Evaluation,
    Metric,
    Outcomes,
    Predictor,
    corrected_probability,
    evaluate,
    session_auc,
    session_ranks,
)
from ml.folds import HOLDOUT, Fold, FoldPlan, check_purge, every_nth_session, plan_folds
from ml.importance import Permutation, permutation_importance, sample_rows
from ml.warehouse import Warehouse

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Report = Callable[[str], None]

MODEL = "lightgbm"
BASE_RATE = "base_rate"
LINEAR = "linear"
FINAL = 0
_LIBRARIES = ("lightgbm", "numpy", "scikit-learn", "scipy", "pyarrow", "duckdb")


@dataclass(frozen=True)
class Heads:
    """The two fitted models of one set of training rows."""

    classifier: lgb.Booster
    regressor: lgb.Booster
    kept: Indices
    """Positions of the features that passed the coverage filter."""
    positive_weight: float
    low: float
    """Winsor limits of the training rows' returns."""
    high: float
    base_rate: float
    mean_return: float
    """Mean of the winsorised returns."""

    def predict(self, values: Floats, threads: int) -> tuple[Floats, Floats]:
        """Probability of a rise, class weighting undone, and expected return, both (n,).

        Args:
            values: the kept features (n, len(kept)).
            threads: processors to use.
        """
        return predict(self.classifier, self.regressor, self.positive_weight, values, threads)


def predict(
    classifier: lgb.Booster,
    regressor: lgb.Booster,
    positive_weight: float,
    values: Floats,
    threads: int,
) -> tuple[Floats, Floats]:
    """Probability of a rise, class weighting undone, and expected return, both (n,)."""
    rows = np.ascontiguousarray(values)
    weighted = np.asarray(classifier.predict(rows, num_threads=threads), dtype=np.float64)
    expected = np.asarray(regressor.predict(rows, num_threads=threads), dtype=np.float64)
    return corrected_probability(weighted, positive_weight), expected


@dataclass(frozen=True)
class FoldResult:
    """One fold: its rows and what its models said about the test rows."""

    fold: Fold
    train: Mask
    test: Indices
    heads: Heads
    probability: Floats
    expected_return: Floats
    linear: tuple[Floats, Floats]
    """Probability and expected return of the linear baseline."""
    trained_through: date
    permutation: Permutation | None = None
    """What each kept feature is worth on the test rows; None: not measured."""


@dataclass(frozen=True)
class TrainingRun:
    """A finished run, nothing of it written yet."""

    run_id: str
    card: ModelCard
    classifier: str
    regressor: str
    tables: dict[str, pa.Table]
    """Rows of the ml tables by name; runs is complete but for created_at."""
    metrics: tuple[Metric, ...]
    warnings: tuple[str, ...]


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries a result depends on."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"python": f"{sys.version_info.major}.{sys.version_info.minor}", **versions}


def _day(value: np.datetime64) -> date:
    return date.fromisoformat(str(value))


# --- fitting ------------------------------------------------------------------------------------


def class_weight(up: Floats, where: str) -> float:
    """Weight of a positive row, n_neg / n_pos, for labels (n,).

    Raises:
        AsxwError: one class only.
    """
    positives = int(up.sum())
    negatives = len(up) - positives
    if not positives or not negatives:
        raise AsxwError(
            f"{where}: {len(up)} training rows with {positives} positive labels; both classes are "
            "needed. Load more history."
        )
    return negatives / positives


def known_features(values: Floats, minimum_coverage: float, where: str) -> Indices:
    """Positions of the columns of `values` (n, p) that pass the coverage filter.

    Raises:
        AsxwError: there is none.
    """
    kept = np.flatnonzero(coverage(values) >= max(minimum_coverage, 1e-12))
    if not len(kept):
        raise AsxwError(
            f"{where}: no feature is known in {minimum_coverage:.0%} of the {len(values)} training "
            "rows. Windows need up to a year of prices: load more history."
        )
    return kept


def booster_parameters(config: ModelConfig, stride: int) -> dict[str, Any]:
    """LightGBM parameters both models share; a leaf reaches over as many sessions at any stride."""
    parameters = {**config.lightgbm, "num_threads": config.num_threads, "verbosity": -1}
    least = parameters.get("min_data_in_leaf")
    if least is not None:
        parameters["min_data_in_leaf"] = max(1, int(least) // stride)
    return parameters


def fit_heads(
    panel: Panel,
    rows: Mask,
    config: ModelConfig,
    trees: tuple[int, int],
    where: str,
    stride: int = 1,
) -> Heads:
    """Fit both models on the rows given; everything fitted comes from these rows.

    Args:
        panel: the training panel.
        rows: training rows (n,).
        config: parameters.
        trees: of the classifier and of the regressor.
        where: what is being fitted, for messages.
        stride: the rows are of every so-manyth session.

    Raises:
        AsxwError: no rows, one class only, or no feature with enough coverage.
    """
    up, returns = panel.up[rows], panel.returns[rows]
    weight = class_weight(up, where)
    values = panel.matrix(rows, np.arange(len(panel.features)))
    kept = known_features(values, config.features.minimum_coverage, where)
    if len(kept) < len(panel.features):
        values = panel.matrix(rows, kept)
    low, high = (float(q) for q in np.quantile(returns, config.winsor))
    target = np.clip(returns, low, high)

    shared = booster_parameters(config, stride)
    data = lgb.Dataset(
        values, label=target, feature_name=[panel.features[j] for j in kept], params=shared
    )
    try:
        data.construct()
        regressor = lgb.train({**shared, **config.regressor.lightgbm}, data, trees[1])
        # Row weights, not scale_pos_weight: with that the trees start from the unweighted share
        # of positives, and a model that has not converged is off after the correction.
        data.set_label(up).set_weight(np.where(up > 0, weight, 1.0))
        classifier = lgb.train({**shared, **config.classifier.lightgbm}, data, trees[0])
    except lgb.basic.LightGBMError as error:
        raise AsxwError(f"{where}: LightGBM refused the data or a parameter: {error}") from error
    return Heads(
        classifier=classifier,
        regressor=regressor,
        kept=kept,
        positive_weight=weight,
        low=low,
        high=high,
        base_rate=float(up.mean()),
        mean_return=float(target.mean()),
    )


def model_text(booster: lgb.Booster, threads: int) -> str:
    """A model in LightGBM's text format, without the number of threads it was trained on.

    It is the only line that depends on the machine, and the checksums of a run should not.
    """
    return booster.model_to_string().replace(f"[num_threads: {threads}]", "[num_threads: 0]")


def fold_rows(
    panel: Panel, plan: FoldPlan, fold: Fold, config: ModelConfig
) -> tuple[Mask, Indices]:
    """Training rows (n,) of a fold, purged, and its test rows by position.

    Raises:
        AsxwError: there are none of either.
    """
    stride = config.folds.training_stride
    train = every_nth_session(fold.train_rows(panel.label_end_idx), panel.session_idx, stride)
    test = np.flatnonzero(plan.test_rows(fold, panel.session_idx, panel.label_end_idx))
    where = f"Fold {fold.number}"
    if not train.any() or not len(test):
        raise AsxwError(
            f"{where}: {int(train.sum())} training and {len(test)} test rows. Load more history."
        )
    check_purge(fold, config.folds.embargo, panel.label_end_idx[train])
    return train, test


def _run_fold(panel: Panel, plan: FoldPlan, fold: Fold, config: ModelConfig) -> FoldResult:
    train, test = fold_rows(panel, plan, fold, config)
    result = fit_and_score(panel, fold, train, test, config)
    return replace(result, permutation=_permutation(panel, result, config))


def _permutation(panel: Panel, result: FoldResult, config: ModelConfig) -> Permutation | None:
    """Permutation importance of a fold's classifier on a sample of its test rows."""
    settings = config.evaluation
    if not settings.permutation_rows:
        return None
    seed = settings.seed + result.fold.number
    chosen = sample_rows(
        panel.session_idx[result.test], settings.permutation_rows, np.random.default_rng(seed)
    )
    rows = result.test[chosen]
    return permutation_importance(
        result.heads.classifier,
        np.ascontiguousarray(panel.values[np.ix_(rows, result.heads.kept)]),
        panel.session_idx[rows],
        panel.up[rows],
        least=settings.minimum_rows,
        seed=seed,
    )


def fit_and_score(
    panel: Panel, fold: Fold, train: Mask, test: Indices, config: ModelConfig
) -> FoldResult:
    """Fit on the training rows (n,) and score the test rows, by position."""
    stride, where = config.folds.training_stride, f"Fold {fold.number}"
    trees = (config.classifier.trees_fold, config.regressor.trees_fold)
    heads = fit_heads(panel, train, config, trees, where, stride)
    inside = np.zeros(len(panel), dtype=bool)
    inside[test] = True
    rows = panel.matrix(inside, heads.kept)
    probability, expected = heads.predict(rows, config.num_threads)
    linear = fit_linear(
        panel.matrix(train, heads.kept),
        panel.up[train],
        np.clip(panel.returns[train], heads.low, heads.high),
        config.evaluation.linear_penalty,
    )
    return FoldResult(
        fold=fold,
        train=train,
        test=test,
        heads=heads,
        probability=probability,
        expected_return=expected,
        linear=linear.predict(rows),
        trained_through=_day(panel.label_end_date[train].max()),
    )


# Fits that run at the same time; each holds a copy of its rows and their bins.
_MOST_WORKERS = 4


def side_by_side(config: ModelConfig) -> tuple[int, ModelConfig]:
    """How many fits run side by side, and the configuration of each.

    Whole fits side by side leave no processor waiting for another at every split of every tree,
    which one fit on several threads does, and badly so where other programs run.
    """
    workers = min(config.num_threads, _MOST_WORKERS)
    return workers, replace(config, threads=config.num_threads // workers)


def run_fits(
    panel: Panel, plan: FoldPlan, final_rows: Mask, config: ModelConfig, report: Report
) -> tuple[list[FoldResult], Heads]:
    """Every fold and the final models, the largest first; one line each on the way.

    Returns:
        Results in the order of the folds, and the final models.
    """
    workers, single = side_by_side(config)
    trees_fold = config.classifier.trees_fold + config.regressor.trees_fold
    trees_final = (config.classifier.trees_final, config.regressor.trees_final)
    # A tree costs its rows and a share for its leaves that is worth some 60,000 rows.
    work = {
        fold.number: (
            int(fold.train_rows(panel.label_end_idx).sum()) // config.folds.training_stride + 60_000
        )
        * trees_fold
        for fold in plan.folds
    }
    work[FINAL] = (int(final_rows.sum()) + 60_000) * sum(trees_final)
    folds = {fold.number: fold for fold in plan.folds}
    results: dict[int, FoldResult] = {}
    finals: list[Heads] = []
    lock = threading.Lock()
    started = time.monotonic()
    done = 0

    def fit(number: int) -> None:
        nonlocal done
        begun = time.monotonic()
        if number == FINAL:
            heads = fit_heads(panel, final_rows, single, trees_final, "Final models")
            line = f"final models: {int(final_rows.sum()):,} rows, {len(heads.kept)} features"
            finals.append(heads)
        else:
            result = _run_fold(panel, plan, folds[number], single)
            codes = panel.session_idx[result.test]
            auc = mean_session_auc(codes, result.probability, panel.up[result.test])
            line = (
                f"fold {number}/{len(folds)}: {int(result.train.sum()):,} training rows, "
                f"{len(result.test):,} test rows, {len(result.heads.kept)} features, AUC {auc:.4f}"
            )
            results[number] = result
        with lock:
            done += work[number]
            now = time.monotonic()
            left = (now - started) / done * (sum(work.values()) - done)
            report(f"{line}, {now - begun:.0f} s, about {left:.0f} s left")

    # the largest first, so that none of them is left alone at the end
    order = sorted(work, key=lambda number: -work[number])
    # BLAS of the linear baseline on one thread: the same sums whatever the number of processors
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(fit, number) for number in order]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [results[fold.number] for fold in plan.folds], finals[0]


def mean_session_auc(session: Indices, score: Floats, up: Floats) -> float:
    """Mean ROC-AUC per session with both classes, for the progress line; NaN if there is none."""
    _, codes = np.unique(session, return_inverse=True)
    by_session = session_auc(codes, int(codes.max()) + 1, session_ranks(codes, score), up, 2)
    known = by_session[np.isfinite(by_session)]
    return float(known.mean()) if len(known) else math.nan


# --- evaluation ---------------------------------------------------------------------------------


def liquidity_segments(panel: Panel, rows: Indices, config: ModelConfig) -> dict[str, Mask]:
    """The rows (n,) of each segment: all, and the liquidity tiers where the panel knows them."""
    segments = {ALL: np.ones(len(rows), dtype=bool)}
    liquidity = panel.column(SEGMENT_COLUMN)
    if liquidity is not None:
        for name, least in config.evaluation.segments.items():
            segments[name] = np.asarray(liquidity[rows] >= least)
    return segments


def side_cost(panel: Panel, rows: Indices, config: ModelConfig) -> Floats | None:
    """Cost of one side (n,), a fraction, by liquidity tier; None where the panel has none."""
    liquidity = panel.column(SEGMENT_COLUMN)
    if liquidity is None:
        return None
    costs = config.evaluation.costs
    tier = np.searchsorted(list(costs), np.nan_to_num(liquidity[rows], nan=0.0), side="right") - 1
    return np.array(list(costs.values()))[np.maximum(tier, 0)] / 10_000


def evaluate_results(
    panel: Panel, results: Sequence[FoldResult], config: ModelConfig
) -> tuple[Evaluation, list[str]]:
    """Statistics of the model, the baselines and their differences, and warnings."""
    # sums of more threads end in other last digits
    with threadpool_limits(1, "blas"):
        return _evaluated(panel, results, config)


def _evaluated(
    panel: Panel, results: Sequence[FoldResult], config: ModelConfig
) -> tuple[Evaluation, list[str]]:
    rows = np.concatenate([r.test for r in results])
    counts = [len(r.test) for r in results]

    def spread(values: Sequence[float]) -> Floats:
        return np.repeat(np.asarray(values, dtype=np.float64), counts)

    base_rate = spread([r.heads.base_rate for r in results])
    outcomes = Outcomes(
        session=panel.session_idx[rows],
        fold=np.repeat([r.fold.number for r in results], counts),
        up=panel.up[rows],
        returns=panel.returns[rows],
        low=spread([r.heads.low for r in results]),
        high=spread([r.heads.high for r in results]),
        base_rate=base_rate,
        cost=side_cost(panel, rows, config),
    )
    probability = np.concatenate([r.probability for r in results])
    expected = np.concatenate([r.expected_return for r in results])
    mean_return = spread([r.heads.mean_return for r in results])
    linear = tuple(np.concatenate([r.linear[n] for r in results]) for n in (0, 1))
    predictors = [
        Predictor(MODEL, probability, expected, probability, expected),
        Predictor(BASE_RATE, base_rate, mean_return, base_rate, mean_return),
        Predictor(LINEAR, *linear, *linear),
    ]
    warnings = []
    for name, (column, sign) in config.evaluation.baselines.items():
        values = panel.column(column)
        if values is None:
            warnings.append(f"Baseline {name} was left out: the panel has no column {column}.")
            continue
        score = signed_column(outcomes.session, values[rows], sign)
        predictors.append(Predictor(name, score, score))
    differences = [(MODEL, p.name) for p in predictors if p.name not in (MODEL, BASE_RATE)]

    segments = liquidity_segments(panel, rows, config)
    if panel.column(SEGMENT_COLUMN) is None:
        warnings.append(f"No liquidity segments: the panel has no column {SEGMENT_COLUMN}.")
    warnings += [
        f"Segment {name} has no out-of-fold row."
        for name, inside in segments.items()
        if not inside.any()
    ]
    _, sizes = np.unique(outcomes.session, return_counts=True)
    if sizes.max() < config.evaluation.minimum_rows:
        warnings.append(
            f"No session has {config.evaluation.minimum_rows} rows (evaluation.minimum_rows), the "
            f"largest has {sizes.max()}: nothing is judged session by session."
        )
    evaluation = evaluate(
        outcomes,
        predictors,
        segments,
        settings=config.evaluation,
        horizon=config.folds.horizon,
        differences=differences,
    )
    return evaluation, warnings


# --- rows of the result tables ------------------------------------------------------------------


def _fold_rows(run_id: str, panel: Panel, results: Sequence[FoldResult]) -> list[dict[str, Any]]:
    rows = []
    for result in results:
        for role, where in (("train", np.flatnonzero(result.train)), ("test", result.test)):
            sessions = panel.session_idx[where]
            days = panel.trade_date[where]
            rows.append(
                {
                    "run_id": run_id,
                    "fold": result.fold.number,
                    "role": role,
                    "first_session": _day(days.min()),
                    "last_session": _day(days.max()),
                    "first_session_idx": int(sessions.min()),
                    "last_session_idx": int(sessions.max()),
                    "last_label_end_idx": int(panel.label_end_idx[where].max()),
                    "n_sessions": len(np.unique(sessions)),
                    "n_rows": len(where),
                    "n_positive": int(panel.up[where].sum()),
                    "n_features": len(result.heads.kept),
                }
            )
    return rows


def _importance_rows(
    run_id: str, fold: int, features: Sequence[str], heads: Heads
) -> list[dict[str, Any]]:
    rows = []
    for head, booster in (("classifier", heads.classifier), ("regressor", heads.regressor)):
        gain = booster.feature_importance("gain").astype(np.float64)
        splits = booster.feature_importance("split")
        total = float(gain.sum())
        order = np.argsort(-gain, kind="stable")
        rank = np.empty(len(gain), dtype=np.int64)
        rank[order] = np.arange(1, len(gain) + 1)
        for j, position in enumerate(heads.kept):
            rows.append(
                {
                    "run_id": run_id,
                    "head": head,
                    "fold": fold,
                    "feature": features[position],
                    "gain": float(gain[j]),
                    "gain_share": float(gain[j]) / total if total > 0 else 0.0,
                    "splits": int(splits[j]),
                    "rank": int(rank[j]),
                }
            )
    return rows


def _permutation_rows(
    run_id: str, panel: Panel, results: Sequence[FoldResult]
) -> list[dict[str, Any]]:
    """Permutation importance of every fold where it could be measured."""
    rows = []
    for result in results:
        found = result.permutation
        if found is None or not np.isfinite(found.auc):
            continue
        rank = np.argsort(np.argsort(-found.auc_loss, kind="stable"), kind="stable") + 1
        rows += [
            {
                "run_id": run_id,
                "fold": result.fold.number,
                "feature": panel.features[position],
                "auc_loss": float(found.auc_loss[j]),
                "rank": int(rank[j]),
                "auc": found.auc,
                "n_sessions": found.sessions,
                "n_rows": found.rows,
            }
            for j, position in enumerate(result.heads.kept)
        ]
    return rows


def _prediction_rows(run_id: str, panel: Panel, results: Sequence[FoldResult]) -> pa.Table:
    rows = np.concatenate([r.test for r in results])
    counts = [len(r.test) for r in results]
    through = np.repeat(
        np.array([r.trained_through for r in results], dtype="datetime64[D]"), counts
    )
    return pa.table(
        {
            "run_id": pa.repeat(run_id, len(rows)),
            "symbol": panel.symbol.take(pa.array(rows)).cast(pa.string()),
            "trade_date": pa.array(panel.trade_date[rows]),
            "fold": pa.array(np.repeat([r.fold.number for r in results], counts)),
            "probability_up": np.concatenate([r.probability for r in results]),
            "expected_return": np.concatenate([r.expected_return for r in results]),
            "return_1m_fwd": panel.returns[rows],
            "return_1m_fwd_sign": panel.up[rows].astype(np.int64),
            "trained_through": pa.array(through),
        }
    )


def metric_rows(run_id: str, metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """Columns of ml.metrics."""

    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return [
        {
            "run_id": run_id,
            "predictor": m.predictor,
            "fold": m.fold,
            "segment": m.segment,
            "metric": m.name,
            "value": m.value,
            "ci_low": known(m.low),
            "ci_high": known(m.high),
            "n": m.n,
        }
        for m in metrics
    ]


def _session_rows(run_id: str, panel: Panel, evaluation: Evaluation) -> pa.Table:
    """Statistics per session that are defined, one row each."""
    numbers, first = np.unique(panel.session_idx, return_index=True)
    days = panel.trade_date[first]
    parts = []
    for entry in evaluation.sessions:
        day = days[np.searchsorted(numbers, entry.session)]
        for name, values in entry.series.named().items():
            known = np.isfinite(values)
            count = int(known.sum())
            parts.append(
                pa.table(
                    {
                        "run_id": pa.repeat(run_id, count),
                        "predictor": pa.repeat(entry.predictor, count),
                        "segment": pa.repeat(entry.segment, count),
                        "trade_date": pa.array(day[known]),
                        "session_idx": entry.session[known],
                        "fold": entry.fold[known],
                        "metric": pa.repeat(name, count),
                        "value": values[known],
                        "n_rows": entry.rows[known],
                    }
                )
            )
    return pa.concat_tables(parts)


# --- the run ------------------------------------------------------------------------------------


def make_run_id(
    *,
    config: ModelConfig,
    panel: Panel,
    label: str,
    trained_through: date,
    latest: date,
    versions: dict[str, str],
) -> str:
    """Name of a run; the same data, parameters and libraries give the same name."""
    content = {
        "panel": panel.checksum,
        "latest_session": latest.isoformat(),
        "config": config.identity(),
        "features": panel.features,
        "label": label,
        "versions": versions,
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{config.model_name}-{trained_through:%Y%m%d}-{digest[:10]}"


def train(
    panel: Panel,
    config: ModelConfig,
    *,
    latest: tuple[int, date],
    label: str,
    git_commit: str | None,
    report: Report,
    columns: Sequence[Feature] = (),
) -> TrainingRun:
    """Train and evaluate; nothing is written.

    Args:
        panel: every trainable row.
        config: parameters.
        latest: index and date of the latest session of fct_features_daily, which the final model
            is to score: its training labels must have matured before it.
        label: what the return measures (close or adj_close).
        git_commit: state of the project, for the record.
        report: takes a line of progress.
        columns: how fct_features_daily describes the features, for the manifest of the models.

    Raises:
        AsxwError: too little history, another horizon than the labels', one class only, or no
            usable feature.
    """
    check_horizon(panel, config.folds.horizon)
    plan = plan_folds(panel.session_idx, config.folds)
    latest_idx, latest_day = latest
    final_rows = np.asarray(panel.label_end_idx < latest_idx)
    if not final_rows.any():
        raise AsxwError(
            f"No label has matured before the latest session {latest_day}: load more history."
        )
    trained_through = _day(panel.label_end_date[final_rows].max())
    if trained_through >= latest_day:
        raise AsxwError(
            f"Labels end on {trained_through}, not before the latest session {latest_day}, though "
            "their session index says so: session indices of the panel and of fct_features_daily "
            "differ. Run `dbt build` again."
        )
    versions = library_versions()
    run_id = make_run_id(
        config=config,
        panel=panel,
        label=label,
        trained_through=trained_through,
        latest=latest_day,
        versions=versions,
    )
    report(
        f"{run_id}: {len(panel):,} rows, {len(panel.features)} features, "
        f"{len(plan.folds)} folds, {config.num_threads} threads"
    )

    results, heads = run_fits(panel, plan, final_rows, config, report)
    report("evaluating")
    evaluation, notes = evaluate_results(panel, results, config)

    parameters = config.identity()
    described = {f.name: f for f in columns}
    kept = [panel.features[j] for j in heads.kept]
    card = ModelCard(
        run_id=run_id,
        model_name=config.model_name,
        trained_through=trained_through.isoformat(),
        label=label,
        columns=tuple(described.get(f, Feature(f)) for f in kept),
        positive_weight=heads.positive_weight,
        panel_checksum=panel.checksum,
        git_commit=git_commit,
        seeds={
            "lightgbm": int(config.lightgbm.get("seed", 0)),
            "evaluation": config.evaluation.seed,
        },
        parameters=parameters,
        versions=versions,
    )
    warnings = [*plan.warnings, *notes]
    dropped = [f for f in panel.features if f not in kept]
    if dropped:
        warnings.append(
            f"Left out of the final models, known in less than "
            f"{config.features.minimum_coverage:.0%} of rows: {', '.join(dropped)}."
        )
    holdout = (
        None
        if plan.holdout_first is None
        else _day(panel.trade_date[panel.session_idx >= plan.holdout_first].min())
    )
    importance = _importance_rows(run_id, FINAL, panel.features, heads)
    for result in results:
        importance += _importance_rows(run_id, result.fold.number, panel.features, result.heads)
    permuted = _permutation_rows(run_id, panel, results)
    permutation = {"permutation_importance": pa.Table.from_pylist(permuted)} if permuted else {}
    run_row = {
        "run_id": run_id,
        "model_name": config.model_name,
        "trained_through": trained_through,
        "first_session": _day(panel.trade_date[final_rows].min()),
        "last_session": _day(panel.trade_date[final_rows].max()),
        "holdout_first_session": holdout,
        "n_rows": int(final_rows.sum()),
        "n_sessions": len(np.unique(panel.session_idx[final_rows])),
        "n_symbols": len(np.unique(panel.symbol.indices.to_numpy()[final_rows])),
        "n_features": len(heads.kept),
        "n_folds": len(results),
        "base_rate": heads.base_rate,
        "label": label,
        "panel_checksum": panel.checksum,
        "git_commit": git_commit,
        "parameters_json": json.dumps(parameters),
        "features_json": json.dumps(card.features),
        "versions_json": json.dumps(versions),
        "warnings_json": json.dumps(warnings),
    }
    return TrainingRun(
        run_id=run_id,
        card=card,
        classifier=model_text(heads.classifier, side_by_side(config)[1].threads),
        regressor=model_text(heads.regressor, side_by_side(config)[1].threads),
        tables={
            "runs": pa.Table.from_pylist([run_row]),
            "folds": pa.Table.from_pylist(_fold_rows(run_id, panel, results)),
            "metrics": pa.Table.from_pylist(metric_rows(run_id, evaluation.metrics)),
            "session_metrics": _session_rows(run_id, panel, evaluation),
            "importance": pa.Table.from_pylist(importance),
            **permutation,
            "predictions_oof": _prediction_rows(run_id, panel, results),
        },
        metrics=tuple(evaluation.metrics),
        warnings=tuple(warnings),
    )


def write_run(
    warehouse: Warehouse, schema: str, contract: dict[str, Table], run: TrainingRun
) -> None:
    """Write a run's rows, in place of those of the same run; call it in a transaction."""
    created = pa.array([datetime.now(UTC).replace(tzinfo=None)], type=pa.timestamp("us"))
    tables = run.tables | {"runs": run.tables["runs"].append_column("created_at", created)}
    # a holdout is opened once for a run: the same run trained again does not lose what it said
    opened = warehouse.read_arrow(
        f'select * from "{schema}"."metrics" where run_id = ? and fold = ?',
        (run.run_id, HOLDOUT),
    )
    for name, rows in tables.items():
        warehouse.replace(schema, contract[name], rows, {"run_id": run.run_id})
    if opened.num_rows:
        warehouse.append(schema, contract["metrics"], opened)
