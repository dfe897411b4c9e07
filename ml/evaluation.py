"""Metrics of predictors over out-of-fold rows: per fold, pooled, per session, with intervals.

Pooled statistics mix days; statistics per session compare only what could be bought on the same
day. Both are given, because their difference is memory of dates, or market timing. Means over
sessions carry a fixed-b interval, pooled statistics a bootstrap over blocks of sessions: see
`ml/intervals.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ml.config import EvaluationSettings
from ml.intervals import (
    Resampling,
    bootstrap_interval,
    mean_interval,
    resample_sessions,
    shifted_interval,
)

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

POOLED = 0
ALL = "all"


@dataclass(frozen=True)
class Outcomes:
    """What happened on the scored rows; every array is (n,), rows in time order."""

    session: Indices
    fold: Indices
    up: Floats
    """1.0 or 0.0."""
    returns: Floats
    low: Floats
    """Lower winsor limit of the row's fold, from its training rows."""
    high: Floats
    base_rate: Floats
    """Share of positive labels in the training rows of the row's fold."""
    cost: Floats | None = None
    """Cost of buying or selling the row's share, a fraction of its value; None: unknown."""


@dataclass(frozen=True)
class Predictor:
    """What one predictor said about the same rows; every array is (n,).

    Only a predictor with a probability gets the metrics of probabilities, and only one with an
    expected return those of errors; any has a score for the two orderings.
    """

    name: str
    direction: Floats
    """Higher: more likely to rise."""
    ranking: Floats
    """Higher: larger return."""
    probability: Floats | None = None
    expected_return: Floats | None = None


@dataclass(frozen=True)
class Metric:
    """One number; the interval is NaN where none can be given honestly."""

    predictor: str
    fold: int
    segment: str
    name: str
    value: float
    low: float
    high: float
    n: int


# --- statistics per session ---------------------------------------------------------------------


def session_ranks(codes: Indices, values: Floats) -> Floats:
    """Rank of each row within its session (n,), from 1, ties at their average.

    Args:
        codes: session number of each row, 0 to S-1 (n,).
        values: what to rank (n,), no NaN.
    """
    order = np.lexsort((values, codes))
    session, value = codes[order], values[order]
    new_session = np.ones(len(order), dtype=bool)
    new_session[1:] = session[1:] != session[:-1]
    new_value = new_session.copy()
    new_value[1:] |= value[1:] != value[:-1]
    first = np.flatnonzero(new_value)
    last = np.append(first[1:], len(order)) - 1
    origin = np.maximum.accumulate(np.where(new_session, np.arange(len(order)), 0))
    average = (first + last) / 2 - origin[first] + 1
    ranks = np.empty(len(order))
    ranks[order] = np.repeat(average, last - first + 1)
    return ranks


def _sums(codes: Indices, sessions: int, values: Floats) -> Floats:
    return np.asarray(np.bincount(codes, weights=values, minlength=sessions), dtype=np.float64)


def session_auc(
    codes: Indices, sessions: int, ranks: Floats, up: Floats, minimum_rows: int
) -> Floats:
    """ROC-AUC of each session (S,) by the rank-sum formula.

    Args:
        codes: session number of each row (n,).
        sessions: S.
        ranks: rank of the score within the session (n,).
        up: 1.0 or 0.0 (n,).
        minimum_rows: rows a session must have.

    Returns:
        NaN for a session with fewer rows or with one class only.
    """
    rows = np.bincount(codes, minlength=sessions).astype(float)
    positive = _sums(codes, sessions, up)
    pairs = positive * (rows - positive)
    rank_sum = _sums(codes, sessions, ranks * up)
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = (rank_sum - positive * (positive + 1) / 2) / pairs
    return np.where((rows >= minimum_rows) & (pairs > 0), auc, np.nan)


def session_correlation(
    codes: Indices, sessions: int, x: Floats, y: Floats, minimum_rows: int
) -> Floats:
    """Pearson correlation of each session (S,); on ranks it is Spearman's.

    NaN for a session with fewer rows than the minimum or with a constant x or y.
    """
    rows = np.bincount(codes, minlength=sessions).astype(float)
    divisor = np.maximum(rows, 1)
    dx = x - (_sums(codes, sessions, x) / divisor)[codes]
    dy = y - (_sums(codes, sessions, y) / divisor)[codes]
    xx, yy = _sums(codes, sessions, dx * dx), _sums(codes, sessions, dy * dy)
    # a constant leaves rounding behind when its mean is taken away
    flat_x = xx <= 1e-24 * _sums(codes, sessions, x * x)
    flat_y = yy <= 1e-24 * _sums(codes, sessions, y * y)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = _sums(codes, sessions, dx * dy) / np.sqrt(xx * yy)
    return np.where((rows >= minimum_rows) & ~flat_x & ~flat_y, correlation, np.nan)


def session_decile_spread(
    codes: Indices,
    sessions: int,
    ranks: Floats,
    returns: Floats,
    minimum_rows: int,
    cost: Floats | None = None,
) -> Floats:
    """Mean return of the highest tenth less that of the lowest, each session (S,).

    A row belongs to the lowest tenth when (rank - 0.5) / rows <= 0.1, and likewise at the top, so
    tied rows are in together or out together. NaN for too few rows or an empty tenth. With a cost
    a side (n,), every share of both tenths is bought and sold once, as if nothing were held on.
    """
    rows = np.bincount(codes, minlength=sessions).astype(float)
    place = (ranks - 0.5) / rows[codes]
    both_sides = 0.0 if cost is None else 2 * cost
    tenths = []
    for inside, gained in (
        (place >= 0.9, returns - both_sides),
        (place <= 0.1, returns + both_sides),
    ):
        count = _sums(codes, sessions, inside.astype(float))
        with np.errstate(invalid="ignore", divide="ignore"):
            tenths.append(_sums(codes, sessions, gained * inside) / count)
    return np.where(rows >= minimum_rows, tenths[0] - tenths[1], np.nan)


# --- pooled statistics --------------------------------------------------------------------------


def pooled_auc(score: Floats, up: Floats) -> float:
    """ROC-AUC over all rows (n,); NaN with one class only."""
    codes = np.zeros(len(score), dtype=np.int64)
    return float(session_auc(codes, 1, session_ranks(codes, score), up, 1)[0])


def equal_count_bins(values: Floats, bins: int) -> Indices:
    """Bin of each row (n,), 0 to bins-1, of nearly equal counts; ties share a bin."""
    ranks = session_ranks(np.zeros(len(values), dtype=np.int64), values)
    return np.minimum(((ranks - 0.5) / len(values) * bins).astype(np.int64), bins - 1)


def histograms(codes: Indices, sessions: int, bins: Indices, count: int, weights: Floats) -> Floats:
    """Sums of `weights` by session and bin (S, count)."""
    cells = codes * count + bins
    return _sums(cells, sessions * count, weights).reshape(sessions, count)


def binned_auc(positive: Floats, negative: Floats) -> Floats:
    """ROC-AUC of binned scores, rows of a bin counted as tied.

    With 2,000 equal-count bins it differs from the exact value by less than 1e-4.

    Args:
        positive: rows with a positive label by bin (R, bins).
        negative: the others (R, bins).

    Returns:
        One value per resample (R,); NaN with one class only.
    """
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((positive * below).sum(axis=1) / pairs)


def corrected_probability(probability: Floats, positive_weight: float) -> Floats:
    """Undo class weighting: what an unweighted model would have said.

    A model trained with weight w on positive rows estimates odds w times the true ones, so
    p = q / (q + w (1 - q)) (C. Elkan, The Foundations of Cost-Sensitive Learning, IJCAI 2001).

    Args:
        probability: the weighted model's q (n,).
        positive_weight: w > 0.
    """
    return probability / (probability + positive_weight * (1.0 - probability))


# --- everything about one predictor -------------------------------------------------------------


@dataclass(frozen=True)
class _Sample:
    """The rows of one segment, with what all predictors share."""

    segment: str
    rows: Indices
    codes: Indices
    session_fold: Indices
    outcomes: Outcomes
    return_ranks: Floats

    @property
    def sessions(self) -> int:
        return len(self.session_fold)


def _sample(outcomes: Outcomes, inside: Mask, segment: str) -> _Sample:
    rows = np.flatnonzero(inside)
    part = Outcomes(
        session=outcomes.session[rows],
        fold=outcomes.fold[rows],
        up=outcomes.up[rows],
        returns=outcomes.returns[rows],
        low=outcomes.low[rows],
        high=outcomes.high[rows],
        base_rate=outcomes.base_rate[rows],
        cost=None if outcomes.cost is None else outcomes.cost[rows],
    )
    _, first, codes = np.unique(part.session, return_index=True, return_inverse=True)
    return _Sample(segment, rows, codes, part.fold[first], part, session_ranks(codes, part.returns))


@dataclass(frozen=True)
class _Scope:
    """One fold of a sample, or all of it: its sessions, rows and resampling draws."""

    number: int
    sessions: Mask
    rows: Mask
    draws: Resampling | None


def _scopes(
    sample: _Sample,
    settings: EvaluationSettings,
    horizon: int,
    known: dict[int, Resampling | None],
) -> list[_Scope]:
    """All sessions and each fold; `known` keeps the draws by number of sessions."""
    scopes = []
    for number in [POOLED, *np.unique(sample.session_fold).tolist()]:
        sessions = (
            np.ones(sample.sessions, dtype=bool)
            if number == POOLED
            else sample.session_fold == number
        )
        length = int(sessions.sum())
        if length not in known:
            known[length] = resample_sessions(
                length,
                settings.replicates,
                settings.mean_block,
                horizon=horizon,
                confidence=settings.confidence,
                seed=settings.seed,
            )
        scopes.append(_Scope(number, sessions, sessions[sample.codes], known[length]))
    return scopes


@dataclass(frozen=True)
class Series:
    """A predictor's statistics per session (S,), NaN where a session does not count."""

    roc_auc: Floats
    rank_ic: Floats
    pearson_ic: Floats
    decile_spread: Floats
    decile_spread_net: Floats
    brier: Floats

    def named(self) -> dict[str, Floats]:
        """The statistics by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class SessionStatistics:
    """What one predictor's sessions gave in one segment; every array is (S,)."""

    predictor: str
    segment: str
    session: Indices
    fold: Indices
    rows: Indices
    series: Series


@dataclass(frozen=True)
class Evaluation:
    """Every number of an evaluation."""

    metrics: list[Metric]
    sessions: list[SessionStatistics]


_FIELDS = {"roc_auc_session": "roc_auc", "rank_ic": "rank_ic"}


def _series(sample: _Sample, predictor: Predictor, minimum_rows: int) -> Series:
    direction = predictor.direction[sample.rows]
    ranking = predictor.ranking[sample.rows]
    codes, count, outcomes = sample.codes, sample.sessions, sample.outcomes
    direction_ranks = session_ranks(codes, direction)
    ranking_ranks = (
        direction_ranks
        if predictor.ranking is predictor.direction
        else session_ranks(codes, ranking)
    )
    return Series(
        roc_auc=session_auc(codes, count, direction_ranks, outcomes.up, minimum_rows),
        rank_ic=session_correlation(codes, count, ranking_ranks, sample.return_ranks, minimum_rows),
        pearson_ic=session_correlation(codes, count, ranking, outcomes.returns, minimum_rows),
        decile_spread=session_decile_spread(
            codes, count, ranking_ranks, outcomes.returns, minimum_rows
        ),
        decile_spread_net=np.full(count, np.nan)
        if outcomes.cost is None
        else session_decile_spread(
            codes, count, ranking_ranks, outcomes.returns, minimum_rows, outcomes.cost
        ),
        brier=np.full(count, np.nan)
        if predictor.probability is None
        else _session_brier(sample, predictor.probability[sample.rows], minimum_rows),
    )


def session_series(
    outcomes: Outcomes, predictor: Predictor, minimum_rows: int
) -> tuple[Indices, Series]:
    """Sessions (S,) in order, and a predictor's statistics of each, over all rows.

    Args:
        outcomes: what happened on the scored rows.
        predictor: what was said about them.
        minimum_rows: rows a session must have.
    """
    sample = _sample(outcomes, np.ones(len(outcomes.session), dtype=bool), ALL)
    return np.unique(outcomes.session), _series(sample, predictor, minimum_rows)


def _session_brier(sample: _Sample, probability: Floats, minimum_rows: int) -> Floats:
    """Brier score of each session (S,), NaN where it has too few rows."""
    rows = np.bincount(sample.codes, minlength=sample.sessions)
    errors = _sums(sample.codes, sample.sessions, (probability - sample.outcomes.up) ** 2)
    return np.where(rows >= minimum_rows, errors / rows, np.nan)


class _Collector:
    """Gathers the metrics of one predictor in one scope."""

    def __init__(
        self,
        predictor: str,
        sample: _Sample,
        scope: _Scope,
        settings: EvaluationSettings,
        horizon: int,
    ) -> None:
        self.predictor = predictor
        self.segment = sample.segment
        self.scope = scope
        self.settings = settings
        self.horizon = horizon
        self.metrics: list[Metric] = []

    def add(self, name: str, value: float, interval: tuple[float, float], n: int) -> None:
        """Keep a metric that is defined."""
        if math.isfinite(value):
            self.metrics.append(
                Metric(self.predictor, self.scope.number, self.segment, name, value, *interval, n)
            )

    def session_mean(self, name: str, series: Floats) -> None:
        """Mean over the scope's sessions with a fixed-b interval."""
        defined = series[self.scope.sessions]
        defined = defined[np.isfinite(defined)]
        if len(defined):
            interval = mean_interval(defined, self.horizon, self.settings.confidence)
            self.add(name, float(defined.mean()), interval, len(defined))

    def resampled(
        self,
        name: str,
        sums: Floats,
        statistic: Callable[[Floats], Floats],
        n: int,
        exact: float | None = None,
        biased: bool = False,
    ) -> None:
        """A statistic of sums over sessions, with a bootstrap interval.

        Args:
            name: of the metric.
            sums: sufficient sums of each session of the scope (S, k).
            statistic: maps totals (R, k) to values (R,).
            n: rows or sessions behind it.
            exact: the value, where the sums only approximate it.
            biased: it cannot be negative, and resamples have it too large or too small.
        """
        centre = float(statistic(sums.sum(axis=0, keepdims=True))[0])
        value = centre if exact is None else exact
        interval = (math.nan, math.nan)
        if self.scope.draws is not None and math.isfinite(value):
            draws, confidence = self.scope.draws, self.settings.confidence
            drawn = statistic(draws.counts @ sums)
            interval = (
                shifted_interval(drawn, value, draws.stretch, confidence)
                if biased
                else bootstrap_interval(drawn, value, centre, draws.stretch, confidence)
            )
        self.add(name, value, interval, n)


def _information_ratio(totals: Floats) -> Floats:
    """Mean over standard deviation (ddof 1) from count, sum and sum of squares (R, 3)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(totals[:, 1] / totals[:, 0] / _deviation(totals))


def _deviation(totals: Floats) -> Floats:
    """Standard deviation (ddof 1) from count, sum and sum of squares (R, 3)."""
    count, total, squares = totals.T
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = (squares - total * total / count) / (count - 1)
        return np.asarray(np.sqrt(np.where(variance > 0, variance, np.nan)))


def _ratio(totals: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(totals[:, 1] / totals[:, 0])


def _absolute_share(totals: Floats) -> Floats:
    """Absolute sums of all columns but the last, over the last (R,)."""
    return np.asarray(np.abs(totals[:, :-1]).sum(axis=1) / totals[:, -1])


def _root_ratio(totals: Floats) -> Floats:
    return np.sqrt(_ratio(totals))


def _orderings(
    collector: _Collector, sample: _Sample, predictor: Predictor, series: Series
) -> None:
    """AUC, information coefficients and decile spread."""
    scope, settings = collector.scope, collector.settings
    score, up = predictor.direction[sample.rows][scope.rows], sample.outcomes.up[scope.rows]
    rows = int(scope.rows.sum())
    codes = np.cumsum(scope.sessions)[sample.codes[scope.rows]] - 1
    count = int(scope.sessions.sum())
    bins = equal_count_bins(score, settings.bins)
    positive = histograms(codes, count, bins, settings.bins, up)
    negative = histograms(codes, count, bins, settings.bins, 1.0 - up)
    by_session = series.roc_auc[scope.sessions]
    counted = np.isfinite(by_session)
    sums = np.column_stack([positive, negative, counted, np.where(counted, by_session, 0.0)])

    def auc(totals: Floats) -> Floats:
        return binned_auc(totals[:, : settings.bins], totals[:, settings.bins : -2])

    def gap(totals: Floats) -> Floats:
        return auc(totals) - _ratio(totals[:, -2:])

    exact = pooled_auc(score, up)
    collector.resampled("roc_auc_pooled", sums, auc, rows, exact)
    collector.session_mean("roc_auc_session", series.roc_auc)
    if counted.any():
        collector.resampled("auc_gap", sums, gap, rows, exact - float(by_session[counted].mean()))

    collector.session_mean("rank_ic", series.rank_ic)
    ic = series.rank_ic[scope.sessions]
    defined = np.isfinite(ic)
    if defined.sum() > 1:
        known = np.where(defined, ic, 0.0)
        moments = np.column_stack([defined, known, known * known]).astype(float)
        collector.resampled("rank_ic_std", moments, _deviation, int(defined.sum()), biased=True)
        collector.resampled("rank_ic_ir", moments, _information_ratio, int(defined.sum()))
    collector.session_mean("pearson_ic", series.pearson_ic)
    collector.session_mean("decile_spread", series.decile_spread)
    collector.session_mean("decile_spread_net", series.decile_spread_net)


def _probabilities(collector: _Collector, sample: _Sample, probability: Floats) -> None:
    """Brier score and skill, log loss, calibration error, base rate."""
    scope, settings, outcomes = collector.scope, collector.settings, sample.outcomes
    p, up, base = probability[scope.rows], outcomes.up[scope.rows], outcomes.base_rate[scope.rows]
    rows = len(p)
    codes = np.cumsum(scope.sessions)[sample.codes[scope.rows]] - 1
    count = int(scope.sessions.sum())
    inside = np.clip(p, 1e-15, 1 - 1e-15)
    losses = {
        "ones": np.ones(rows),
        "brier": (p - up) ** 2,
        "base_brier": (base - up) ** 2,
        "log": -np.where(up > 0, np.log(inside), np.log1p(-inside)),
        "up": up,
    }
    sums = {name: _sums(codes, count, values) for name, values in losses.items()}

    def pair(below: str, above: str) -> Floats:
        return np.column_stack([sums[below], sums[above]])

    collector.resampled("brier", pair("ones", "brier"), _ratio, rows)
    collector.resampled(
        "brier_skill", pair("base_brier", "brier"), lambda totals: 1.0 - _ratio(totals), rows
    )
    collector.resampled("log_loss", pair("ones", "log"), _ratio, rows)
    collector.resampled("base_rate", pair("ones", "up"), _ratio, rows)
    bins = equal_count_bins(p, settings.calibration_bins)
    misses = histograms(codes, count, bins, settings.calibration_bins, p - up)
    collector.resampled(
        "calibration_error",
        np.column_stack([misses, sums["ones"]]),
        _absolute_share,
        rows,
        biased=True,
    )


def _errors(collector: _Collector, sample: _Sample, expected: Floats) -> None:
    """RMSE and MAE, raw and with labels and predictions limited at the fold's winsor limits."""
    scope, outcomes = collector.scope, sample.outcomes
    predicted, returns = expected[scope.rows], outcomes.returns[scope.rows]
    low, high = outcomes.low[scope.rows], outcomes.high[scope.rows]
    codes = np.cumsum(scope.sessions)[sample.codes[scope.rows]] - 1
    count, rows = int(scope.sessions.sum()), len(predicted)
    ones = _sums(codes, count, np.ones(rows))
    for suffix, error in (
        ("", predicted - returns),
        ("_winsorised", np.clip(predicted, low, high) - np.clip(returns, low, high)),
    ):
        squares = np.column_stack([ones, _sums(codes, count, error * error)])
        collector.resampled(f"rmse{suffix}", squares, _root_ratio, rows)
        absolute = np.column_stack([ones, _sums(codes, count, np.abs(error))])
        collector.resampled(f"mae{suffix}", absolute, _ratio, rows)


def _differences(
    name: str,
    one: Series,
    other: Series,
    *,
    sample: _Sample,
    scopes: Sequence[_Scope],
    settings: EvaluationSettings,
    horizon: int,
) -> list[Metric]:
    """Mean difference per session of two predictors, over the sessions that count for both."""
    metrics = []
    for scope in scopes:
        collector = _Collector(name, sample, scope, settings, horizon)
        collector.session_mean("roc_auc_session", one.roc_auc - other.roc_auc)
        collector.session_mean("rank_ic", one.rank_ic - other.rank_ic)
        metrics += collector.metrics
    return metrics


@dataclass(frozen=True)
class Compared:
    """A statistic of two predictors over the sessions that count for both."""

    difference: Metric
    """First less second, session by session, with its interval."""
    value: float
    """Mean of the first."""
    other: float


def compare_orderings(
    outcomes: Outcomes,
    predictors: Mapping[str, Predictor],
    pairs: Sequence[tuple[str, str]],
    segments: Mapping[str, Mask],
    *,
    settings: EvaluationSettings,
    horizon: int,
) -> list[list[Compared]]:
    """AUC and Rank IC per session of pairs of predictors, and their differences.

    Args:
        outcomes: scored rows (n,).
        predictors: what was said about them, by name.
        pairs: names of the two predictors of each comparison.
        segments: rows of each segment (n,) by name; one without rows gives nothing.
        settings: rows a session must have, and confidence.
        horizon: sessions a label looks ahead.

    Returns:
        For each pair, an entry per segment, fold (0: all) and statistic.
    """
    found: list[list[Compared]] = [[] for _ in pairs]
    for segment, inside in segments.items():
        if not inside.any():
            continue
        sample = _sample(outcomes, inside, segment)
        series = {
            name: _series(sample, predictor, settings.minimum_rows)
            for name, predictor in predictors.items()
        }
        folds = [POOLED, *np.unique(sample.session_fold).tolist()]
        for results, (one, other) in zip(found, pairs, strict=True):
            for name in ("roc_auc_session", "rank_ic"):
                first, second = (getattr(series[p], _FIELDS[name]) for p in (one, other))
                for fold in folds:
                    both = np.isfinite(first) & np.isfinite(second)
                    if fold != POOLED:
                        both &= sample.session_fold == fold
                    if not both.any():
                        continue
                    a, b = first[both], second[both]
                    low, high = mean_interval(a - b, horizon, settings.confidence)
                    metric = Metric(
                        f"{one} - {other}", fold, segment, name, float((a - b).mean()),
                        low, high, len(a),
                    )  # fmt: skip
                    results.append(Compared(metric, float(a.mean()), float(b.mean())))
    return found


def evaluate(
    outcomes: Outcomes,
    predictors: Sequence[Predictor],
    segments: dict[str, Mask],
    *,
    settings: EvaluationSettings,
    horizon: int,
    differences: Sequence[tuple[str, str]] = (),
) -> Evaluation:
    """Every metric of every predictor.

    Args:
        outcomes: scored rows (n,).
        predictors: what was said about them.
        segments: rows of each segment (n,) by name; one without rows gives no metric.
        settings: sizes of bins and bootstrap.
        horizon: sessions a label looks ahead.
        differences: pairs of predictor names, first less second.

    Returns:
        One metric per predictor, fold (0: all rows), segment and name that is defined, and the
        series per session behind them. Fewer sessions than two horizons give a value without an
        interval.
    """
    metrics: list[Metric] = []
    sessions: list[SessionStatistics] = []
    draws: dict[int, Resampling | None] = {}
    for segment, inside in segments.items():
        if not inside.any():
            continue
        sample = _sample(outcomes, inside, segment)
        scopes = _scopes(sample, settings, horizon, draws)
        series = {p.name: _series(sample, p, settings.minimum_rows) for p in predictors}
        for predictor in predictors:
            for scope in scopes:
                collector = _Collector(predictor.name, sample, scope, settings, horizon)
                _orderings(collector, sample, predictor, series[predictor.name])
                if predictor.probability is not None:
                    _probabilities(collector, sample, predictor.probability[sample.rows])
                if predictor.expected_return is not None:
                    _errors(collector, sample, predictor.expected_return[sample.rows])
                metrics += collector.metrics
        rows = np.bincount(sample.codes, minlength=sample.sessions)
        numbers = np.unique(outcomes.session[sample.rows])
        sessions += [
            SessionStatistics(name, segment, numbers, sample.session_fold, rows, found)
            for name, found in series.items()
        ]
        for one, other in differences:
            metrics += _differences(
                f"{one} - {other}",
                series[one],
                series[other],
                sample=sample,
                scopes=scopes,
                settings=settings,
                horizon=horizon,
            )
    return Evaluation(metrics, sessions)
