"""How much of a result may be luck: what the best of many trials reaches without any skill.

Two answers. The deflated Sharpe ratio is the probability that a strategy's true Sharpe ratio is
above what the best of as many worthless trials would show. The probability of backtest overfitting
says how often the trial that was best on one half of the sessions is below the middle on the other.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

_EULER = 0.5772156649015329
# More blocks give more splits of shorter halves; 16 make 12,870.
_MOST_BLOCKS = 16
_LEAST_BLOCKS = 4


@dataclass(frozen=True)
class Moments:
    """What the deflated Sharpe ratio needs to know of a series of returns."""

    mean: float
    deviation: float
    sharpe: float
    """Mean over deviation, of one period."""
    skewness: float
    kurtosis: float
    """3 for a normal distribution."""


def moments(returns: Floats) -> Moments:
    """Moments of the returns of a period (T,), no NaN; NaN where they are not defined."""
    if len(returns) < 3:
        return Moments(*[math.nan] * 5)
    mean, deviation = float(returns.mean()), float(returns.std(ddof=1))
    # a constant leaves rounding behind when its mean is taken away
    if deviation <= 1e-12 * max(abs(mean), 1e-300):
        return Moments(mean, 0.0, *[math.nan] * 3)
    return Moments(
        mean,
        deviation,
        mean / deviation,
        float(stats.skew(returns)),
        float(stats.kurtosis(returns, fisher=False)),
    )


def expected_maximum(trials: int, deviation: float) -> float:
    """Sharpe ratio that the best of `trials` worthless ones is expected to show.

    sqrt(V) ((1 - g) z(1 - 1/N) + g z(1 - 1/(N e))), with Euler's constant g and the normal quantile
    z (D. Bailey, M. Lopez de Prado, The Deflated Sharpe Ratio, Journal of Portfolio Management
    40(5), 2014). Trials count as independent; those of one model are not, and the bar is then
    higher than it need be.

    Args:
        trials: N; a single one is no choice and gives 0.
        deviation: sqrt(V), standard deviation of the Sharpe ratios of the trials.
    """
    if trials < 2:
        return 0.0
    high = float(stats.norm.ppf(1 - 1 / trials))
    higher = float(stats.norm.ppf(1 - 1 / (trials * math.e)))
    return deviation * ((1 - _EULER) * high + _EULER * higher)


def deflated_sharpe(found: Moments, periods: float, bar: float) -> float:
    """Probability that the true Sharpe ratio is above `bar` (Bailey, Lopez de Prado 2014).

    Args:
        found: moments of the strategy's returns.
        periods: independent periods T the moments were taken over; overlapping returns count for as
            many as do not overlap.
        bar: Sharpe ratio of one period, from `expected_maximum`; 0 gives the probabilistic Sharpe
            ratio.

    Returns:
        NaN where moments are not defined or there are fewer than two periods.
    """
    variance = 1 - found.skewness * found.sharpe + (found.kurtosis - 1) / 4 * found.sharpe**2
    if not math.isfinite(variance) or variance <= 0 or periods < 2:
        return math.nan
    return float(stats.norm.cdf((found.sharpe - bar) * math.sqrt((periods - 1) / variance)))


@dataclass(frozen=True)
class Overfitting:
    """Probability of backtest overfitting and what it was counted over."""

    probability: float
    trials: int
    blocks: int
    splits: int


def block_count(sessions: int, horizon: int) -> int:
    """Blocks for CSCV: even, at most 16, each at least two horizons long; 0 where four do not fit.

    Args:
        sessions: T.
        horizon: sessions a label looks ahead.
    """
    fitting = min(_MOST_BLOCKS, sessions // (2 * horizon)) // 2 * 2
    return fitting if fitting >= _LEAST_BLOCKS else 0


def overfitting_probability(returns: Floats, horizon: int) -> Overfitting | None:
    """Probability of backtest overfitting by combinatorially symmetric cross-validation.

    The sessions are cut into S blocks. For each of the S over S/2 ways to take half of them, the
    trial with the highest Sharpe ratio there gets its rank among all trials on the other half; the
    probability is the share of ways in which it is not above the middle (D. Bailey, J. Borwein,
    M. Lopez de Prado, Q. Zhu, The Probability of Backtest Overfitting, Journal of Computational
    Finance 20(4), 2016). The last `horizon` sessions of a block are left out, because their labels
    are made of the next block's prices. Columns that are equal count as one trial: a trial beside
    itself is never above the middle, and says nothing of choosing.

    Args:
        returns: one column per trial, sessions in time order (T, N), no NaN.
        horizon: sessions a label looks ahead.

    Returns:
        None for a single trial or where four blocks do not fit.
    """
    _, first = np.unique(returns, axis=1, return_index=True)
    returns = returns[:, np.sort(first)]
    sessions, trials = returns.shape
    blocks = block_count(sessions, horizon)
    if trials < 2 or not blocks:
        return None
    parts = [part[: len(part) - horizon] for part in np.array_split(returns, blocks)]
    count = np.array([len(part) for part in parts], dtype=np.float64)
    total = np.array([part.sum(axis=0) for part in parts])
    # moments about each trial's own mean, so that squares of large numbers do not cancel
    centre = total.sum(axis=0) / count.sum()
    total = np.array([(part - centre).sum(axis=0) for part in parts])
    square = np.array([((part - centre) ** 2).sum(axis=0) for part in parts])

    chosen = np.zeros((math.comb(blocks, blocks // 2), blocks), dtype=np.float64)
    for row, half in enumerate(itertools.combinations(range(blocks), blocks // 2)):
        chosen[row, list(half)] = 1.0

    def sharpe(weights: Floats) -> Floats:
        n = (weights @ count)[:, None]
        mean = weights @ total / n
        variance = np.maximum(weights @ square / n - mean**2, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = (centre + mean) / np.sqrt(variance)
        # a trial without any spread did nothing on these sessions
        return np.where(variance > 0, ratio, 0.0)

    inside, outside = sharpe(chosen), sharpe(1.0 - chosen)
    best = inside.argmax(axis=1)
    reached = np.take_along_axis(outside, best[:, None], axis=1)
    below = (outside < reached).sum(axis=1)
    tied = (outside == reached).sum(axis=1)
    rank = below + (tied + 1) / 2
    # logit(rank / (N + 1)) <= 0
    lost = rank <= (trials + 1) / 2
    return Overfitting(float(lost.mean()), trials, blocks, len(chosen))
