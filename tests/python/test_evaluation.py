"""Vectorised statistics equal scikit-learn's and scipy's; intervals keep their size."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from ml.config import read_config
from ml.evaluation import (
    ALL,
    POOLED,
    Outcomes,
    Predictor,
    binned_auc,
    corrected_probability,
    equal_count_bins,
    evaluate,
    histograms,
    pooled_auc,
    session_auc,
    session_correlation,
    session_decile_spread,
    session_ranks,
)
from ml.intervals import (
    bootstrap_interval,
    mean_interval,
    resample_sessions,
    shifted_interval,
)

SETTINGS = replace(read_config().evaluation, replicates=100)
HORIZON = 21


@pytest.fixture(scope="module")
def rows():
    """Unordered rows of 40 sessions of different sizes, with ties."""
    rng = np.random.default_rng(5)
    codes = rng.permutation(np.repeat(np.arange(40), rng.integers(3, 90, 40)))
    score = np.round(rng.normal(size=len(codes)), 1)
    returns = np.round(0.3 * score + rng.normal(size=len(codes)), 2)
    return codes, score, returns


def test_auc_of_each_session_equals_scikit_learn(rows):
    codes, score, returns = rows
    up = (returns > 0).astype(float)
    up[codes == 7] = 1.0
    ours = session_auc(codes, 40, session_ranks(codes, score), up, 20)
    for s in range(40):
        inside = codes == s
        if inside.sum() < 20 or len(set(up[inside])) < 2:
            assert math.isnan(ours[s])
        else:
            assert abs(ours[s] - roc_auc_score(up[inside], score[inside])) < 1e-12


def test_correlations_of_each_session_equal_scipy(rows):
    codes, score, returns = rows
    score = score.copy()
    score[codes == 3] = 0.1
    rank = session_correlation(
        codes, 40, session_ranks(codes, score), session_ranks(codes, returns), 20
    )
    linear = session_correlation(codes, 40, score, returns, 20)
    for s in range(40):
        inside = codes == s
        if inside.sum() < 20 or s == 3:
            assert math.isnan(rank[s]) and math.isnan(linear[s])
        else:
            expected = stats.spearmanr(score[inside], returns[inside]).statistic
            assert abs(rank[s] - expected) < 1e-12
            assert abs(linear[s] - stats.pearsonr(score[inside], returns[inside])[0]) < 1e-12


def test_decile_spread_by_hand():
    codes = np.zeros(30, dtype=np.int64)
    returns = np.arange(30.0)
    ranks = session_ranks(codes, returns)
    spread = session_decile_spread(codes, 1, ranks, returns, 20)[0]
    assert spread == np.mean([27, 28, 29]) - np.mean([0, 1, 2])
    constant = session_ranks(codes, np.ones(30))
    assert math.isnan(session_decile_spread(codes, 1, constant, returns, 20)[0])


def test_binned_auc_is_within_a_ten_thousandth():
    rng = np.random.default_rng(2)
    score = rng.normal(size=50_000)
    up = (score * 0.2 + rng.normal(size=len(score)) > 0).astype(float)
    bins = equal_count_bins(score, 2000)
    codes = np.zeros(len(score), dtype=np.int64)
    binned = binned_auc(
        histograms(codes, 1, bins, 2000, up), histograms(codes, 1, bins, 2000, 1 - up)
    )[0]
    exact = roc_auc_score(up, score)
    assert abs(pooled_auc(score, up) - exact) < 1e-12
    assert abs(binned - exact) < 1e-4


@pytest.mark.parametrize("weight", [0.3, 1.0, 4.0])
def test_correction_undoes_class_weighting_exactly(weight):
    p = np.linspace(0.01, 0.99, 50)
    weighted = weight * p / (weight * p + 1 - p)
    assert np.allclose(corrected_probability(weighted, weight), p, rtol=1e-14)


def overlapping(series: int, length: int, seed: int = 0) -> np.ndarray:
    """Null series whose neighbours share 20 of 21 sessions (series, length)."""
    noise = np.cumsum(np.random.default_rng(seed).normal(size=(series, length + HORIZON)), axis=1)
    return noise[:, HORIZON:] - noise[:, :-HORIZON]


@pytest.mark.parametrize("length", [84, 252, 850])
def test_true_null_with_overlap_is_rejected_at_its_level(length):
    series = overlapping(1500, length)
    missed = [not low <= 0 <= high for low, high in (mean_interval(s, HORIZON) for s in series)]
    assert 0.03 <= np.mean(missed) <= 0.08
    t_test = stats.ttest_1samp(series, 0, axis=1).pvalue < 0.05
    assert t_test.mean() > 0.5


def test_intervals_of_hit_rates_and_sharpe_ratios_keep_their_level():
    """Of a session's part in the error, as fct_signal_performance and fct_portfolio_summary."""
    rng, length, trials = np.random.default_rng(11), 500, 600
    expected = float((1 / (1 + np.exp(-0.4 * rng.normal(size=1_000_000)))).mean())
    missed = {"hit rate": 0, "sharpe": 0, "sharpe of independent returns": 0}
    for _ in range(trials):
        # rises that 20 of 21 sessions share, of a number of rows that wanders
        state = np.convolve(rng.normal(size=length + 20), np.full(21, 21**-0.5), "valid")
        rows = rng.poisson(30 * np.exp(0.5 * rng.normal(size=length)))
        right = rng.binomial(rows, 1 / (1 + np.exp(-0.4 * state)))
        share = right.sum() / rows.sum()
        low, high = mean_interval((right - share * rows) * length / rows.sum(), HORIZON)
        missed["hit rate"] += not low <= expected - share <= high
        # returns of stale prices: 0.2 of one session's shows in the next
        noise = rng.normal(size=length + 50)
        returns = 0.05 * 0.96**-0.5 + sum(
            0.2**k * noise[50 - k : 50 - k + length] for k in range(9)
        )
        sharpe = returns.mean() / returns.std(ddof=1)
        z = (returns - returns.mean()) / returns.std(ddof=1)
        low, high = mean_interval(z - sharpe / 2 * (z**2 - 1), HORIZON)
        missed["sharpe"] += not low <= 0.05 - sharpe <= high
        half = 1.96 * np.sqrt((1 + sharpe**2 / 2) / length)
        missed["sharpe of independent returns"] += abs(0.05 - sharpe) > half
    assert 0.03 <= missed["hit rate"] / trials <= 0.08
    assert 0.03 <= missed["sharpe"] / trials <= 0.08
    # A. Lo's interval of 2002, which knows of no dependence
    assert missed["sharpe of independent returns"] / trials > 0.08


@pytest.mark.parametrize("length", [84, 252, 850])
def test_bootstrap_of_a_true_null_is_rejected_at_its_level(length):
    series = overlapping(1500, length, seed=9)
    draws = resample_sessions(length, 300, 42, horizon=HORIZON, confidence=0.95, seed=1)
    means = draws.counts @ series.T / length
    missed = []
    for i, own in enumerate(series.mean(axis=1)):
        low, high = bootstrap_interval(means[:, i], own, own, draws.stretch)
        missed.append(not low <= 0 <= high)
    assert 0.03 <= np.mean(missed) <= 0.08


def misses_by_bin(rng: np.random.Generator, shift: float, length: int, shares: int) -> np.ndarray:
    """Probability less outcome by session and tenth of the probability (length, 10).

    The probability is calibrated but for `shift`; labels overlap and have the market in common.
    """

    def moving(count):
        noise = np.cumsum(rng.normal(size=(length + HORIZON, count)), axis=0)
        return (noise[HORIZON:] - noise[:-HORIZON]) / math.sqrt(HORIZON)

    signal = moving(shares)
    outcome = 0.25 * signal + math.sqrt(0.3) * moving(1) + math.sqrt(0.7) * moving(shares)
    # the market and the share's own noise have variance 1 together
    miss = (stats.norm.cdf(0.25 * signal) + shift - (outcome > 0)).ravel()
    bins = equal_count_bins(signal.ravel(), 10)
    return histograms(np.repeat(np.arange(length), shares), length, bins, 10, miss)


@pytest.mark.parametrize(("shift", "least"), [(0.0, 0.82), (0.05, 0.88)])
def test_the_interval_of_the_calibration_error_is_not_shifted_upwards(shift, least):
    """At 0 exactly the bootstrap is at its worst: percentiles as they are miss it nearly always."""
    length, shares = 252, 20
    draws = resample_sessions(length, 200, 42, horizon=HORIZON, confidence=0.95, seed=1)
    rng = np.random.default_rng(12)
    covered, plain = [], []
    for _ in range(200):
        misses = misses_by_bin(rng, shift, length, shares)
        value = np.abs(misses.sum(axis=0)).sum() / (length * shares)
        drawn = np.abs(draws.counts @ misses).sum(axis=1) / (length * shares)
        low, high = shifted_interval(drawn, value, draws.stretch)
        assert 0 <= low <= value <= high
        covered.append(low <= shift <= high)
        low, high = bootstrap_interval(drawn, value, value, draws.stretch)
        plain.append(low <= shift <= high)
    assert least <= np.mean(covered) <= 0.99
    assert np.mean(plain) < 0.4 or shift


def test_the_interval_of_a_standard_deviation_is_not_shifted_downwards():
    length = 252
    draws = resample_sessions(length, 200, 42, horizon=HORIZON, confidence=0.95, seed=1)
    covered, plain = [], []
    for series in 0.05 + 0.08 * overlapping(400, length, seed=4) / math.sqrt(HORIZON):
        value = float(series.std())
        mean = draws.counts @ series / length
        drawn = np.sqrt(draws.counts @ series**2 / length - mean**2)
        low, high = shifted_interval(drawn, value, draws.stretch)
        assert 0 <= low <= value <= high
        covered.append(low <= 0.08 <= high)
        low, high = bootstrap_interval(drawn, value, value, draws.stretch)
        plain.append(low <= 0.08 <= high)
    assert np.mean(covered) > max(0.86, np.mean(plain) + 0.02)


def test_a_statistic_that_no_resample_has_gets_no_interval():
    assert all(math.isnan(end) for end in shifted_interval(np.full(9, np.nan), 0.1, 1.0))
    assert all(math.isnan(end) for end in shifted_interval(np.r_[0.1, [np.nan] * 8], 0.1, 1.0))
    assert shifted_interval(np.array([0.3, 0.3]), 0.1, 1.0) == (0.0, 0.1)


def test_short_series_have_no_interval():
    assert all(math.isnan(end) for end in mean_interval(np.ones(41), HORIZON))
    assert resample_sessions(41, 10, 42, horizon=HORIZON, confidence=0.95, seed=1) is None


@pytest.fixture(scope="module")
def evaluated():
    """A model with some skill and a calibrated probability on two folds of 60 sessions."""
    rng = np.random.default_rng(8)
    session = np.repeat(np.arange(120), 50)
    signal = rng.normal(size=len(session))
    returns = 0.03 * signal + 0.1 * rng.standard_t(4, size=len(session))
    up = (returns > 0).astype(float)
    fold = np.where(session < 60, 1, 2)
    probability = stats.norm.cdf(0.25 * signal)
    ones = np.ones(len(session))
    outcomes = Outcomes(
        session, fold, up, returns, -0.2 * ones, 0.2 * ones, 0.45 * ones, cost=0.0025 * ones
    )
    model = Predictor("lightgbm", probability, 0.03 * signal, probability, 0.03 * signal)
    noise = rng.normal(size=len(session))
    base = Predictor("base_rate", 0.45 * ones, 0 * ones, 0.45 * ones, 0 * ones)
    found = evaluate(
        outcomes,
        [model, Predictor("noise", noise, noise), base],
        {ALL: np.ones(len(session), dtype=bool), "half": session % 2 == 0, "none": session < 0},
        settings=SETTINGS,
        horizon=HORIZON,
        differences=[("lightgbm", "noise")],
    )
    return outcomes, model, found.metrics, found.sessions


def test_pooled_metrics_equal_their_definitions(evaluated):
    outcomes, model, metrics, _ = evaluated
    found = {m.name: m for m in metrics if (m.predictor, m.fold, m.segment) == ("lightgbm", 0, ALL)}
    p, expected, up, returns = (
        model.probability,
        model.expected_return,
        outcomes.up,
        outcomes.returns,
    )
    clipped = np.clip(returns, -0.2, 0.2)
    by_hand = {
        "roc_auc_pooled": roc_auc_score(up, p),
        "brier": brier_score_loss(up, p),
        "brier_skill": 1 - brier_score_loss(up, p) / np.mean((0.45 - up) ** 2),
        "log_loss": log_loss(up, p),
        "base_rate": up.mean(),
        "rmse": np.sqrt(np.mean((expected - returns) ** 2)),
        "mae": np.mean(np.abs(expected - returns)),
        "rmse_winsorised": np.sqrt(np.mean((np.clip(expected, -0.2, 0.2) - clipped) ** 2)),
        "mae_winsorised": np.mean(np.abs(np.clip(expected, -0.2, 0.2) - clipped)),
    }
    for name, value in by_hand.items():
        assert found[name].value == pytest.approx(value, rel=1e-12), name
        assert found[name].n == len(up)
    bins = np.argsort(np.argsort(p)) * 10 // len(p)
    gaps = [abs((p - up)[bins == b].sum()) for b in range(10)]
    assert found["calibration_error"].value == pytest.approx(sum(gaps) / len(p))
    assert found["auc_gap"].value == pytest.approx(
        found["roc_auc_pooled"].value - found["roc_auc_session"].value
    )
    assert found["rank_ic_ir"].value == pytest.approx(
        found["rank_ic"].value / found["rank_ic_std"].value
    )
    assert found["roc_auc_session"].n == 120


def test_every_metric_is_given_per_fold_and_pooled_with_an_interval(evaluated):
    metrics = evaluated[2]
    names = {m.name for m in metrics if m.predictor == "lightgbm"}
    assert names == {
        "roc_auc_pooled", "roc_auc_session", "auc_gap", "rank_ic", "rank_ic_std", "rank_ic_ir",
        "pearson_ic", "decile_spread", "decile_spread_net", "brier", "brier_skill", "log_loss",
        "base_rate", "calibration_error", "rmse", "rmse_winsorised", "mae", "mae_winsorised",
    }  # fmt: skip
    for fold in (POOLED, 1, 2):
        assert {m.name for m in metrics if m.predictor == "lightgbm" and m.fold == fold} == names
    assert {m.segment for m in metrics} == {ALL, "half"}
    keys = [(m.predictor, m.fold, m.segment, m.name) for m in metrics]
    assert len(keys) == len(set(keys))
    for metric in metrics:
        if metric.segment == ALL:
            assert metric.low <= metric.value <= metric.high, metric


def test_no_interval_of_what_cannot_be_negative_begins_below_zero(evaluated):
    found = [m for m in evaluated[2] if m.name in ("calibration_error", "rank_ic_std")]
    known = [m for m in found if not math.isnan(m.low)]
    assert len(known) > 10 and all(0 <= m.low <= m.value <= m.high for m in known)
    # the model's probability is calibrated, and nothing overlaps here
    (error,) = [
        m for m in found
        if (m.predictor, m.fold, m.segment, m.name) == ("lightgbm", 0, ALL, "calibration_error")
    ]  # fmt: skip
    assert error.low == 0.0


def test_fold_metrics_use_the_rows_of_the_fold_only(evaluated):
    outcomes, model, metrics, _ = evaluated
    found = {
        (m.fold, m.name): m.value for m in metrics if m.predictor == "lightgbm" and m.segment == ALL
    }
    for fold in (1, 2):
        inside = outcomes.fold == fold
        exact = roc_auc_score(outcomes.up[inside], model.direction[inside])
        assert found[fold, "roc_auc_pooled"] == pytest.approx(exact, rel=1e-12)


def test_a_constant_has_no_skill_and_no_correlation(evaluated):
    found = {
        m.name: m.value
        for m in evaluated[2]
        if (m.predictor, m.fold, m.segment) == ("base_rate", POOLED, ALL)
    }
    assert found["roc_auc_pooled"] == found["roc_auc_session"] == 0.5
    assert found["brier_skill"] == 0.0
    assert "rank_ic" not in found and "decile_spread" not in found


def test_difference_is_taken_session_by_session(evaluated):
    metrics = {(m.predictor, m.name): m for m in evaluated[2] if m.fold == 0 and m.segment == ALL}
    difference = metrics["lightgbm - noise", "roc_auc_session"]
    assert difference.value == pytest.approx(
        metrics["lightgbm", "roc_auc_session"].value - metrics["noise", "roc_auc_session"].value
    )
    assert difference.low > 0


def test_net_spread_pays_for_buying_and_selling_both_tenths():
    codes = np.zeros(30, dtype=np.int64)
    returns = np.arange(30.0)
    cost = np.where(returns > 20, 0.1, 0.4)
    ranks = session_ranks(codes, returns)
    net = session_decile_spread(codes, 1, ranks, returns, 20, cost)
    # top 27..29 at 0.1 a side, bottom 0..2 at 0.4
    assert net[0] == pytest.approx((28 - 1) - 2 * 0.1 - 2 * 0.4)


def test_the_series_per_session_are_what_the_means_are_made_of(evaluated):
    outcomes, model, metrics, sessions = evaluated
    values = {(m.predictor, m.segment, m.fold, m.name): m for m in metrics}
    names = {"roc_auc": "roc_auc_session"}
    for entry in sessions:
        assert len(entry.session) == len(entry.rows) == (120 if entry.segment == ALL else 60)
        for name, series in entry.series.named().items():
            known = np.isfinite(series)
            key = (entry.predictor, entry.segment, 0, names.get(name, name))
            if name == "brier" or not known.any():
                continue
            assert values[key].value == pytest.approx(series[known].mean(), rel=1e-12)
            assert values[key].n == known.sum()
    (whole,) = [e for e in sessions if (e.predictor, e.segment) == ("lightgbm", ALL)]
    inside = outcomes.session == whole.session[7]
    expected = brier_score_loss(outcomes.up[inside], model.probability[inside])
    assert whole.series.brier[7] == pytest.approx(expected)
    assert whole.rows[7] == inside.sum()
