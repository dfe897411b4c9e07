"""Intervals for means of overlapping labels and for statistics pooled over sessions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]


def cosine_terms(length: int, horizon: int) -> int:
    """Number of cosines for the long-run variance of a series of this length.

    The rule of Lazarus et al. (2018) is 0.4 T^(2/3). A label that looks `horizon` sessions ahead
    makes the series a moving average of that order, whose spectrum falls to zero at frequency
    2 pi / horizon; so the highest cosine is also kept at or below a quarter of it, T / (2 horizon),
    where the spectrum still has four fifths of its height at zero.
    """
    return max(1, min(int(0.4 * length ** (2 / 3)), length // (2 * horizon)))


def mean_interval(series: Floats, horizon: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval for the mean of an autocorrelated series.

    The long-run variance is the equal-weighted mean of squared type-II cosine coefficients, and
    the studentised mean has a Student t distribution with as many degrees of freedom as there are
    cosines (fixed-b asymptotics in closed form; E. Lazarus, D. Lewis, J. Stock, M. Watson, HAR
    Inference: Recommendations for Practice, Journal of Business & Economic Statistics 36(4), 2018;
    U. Mueller, A Theory of Robust Long-Run Variance Estimation, Journal of Econometrics 141, 2007).

    Args:
        series: one value per session in time order (T,), no NaN.
        horizon: sessions over which neighbouring values overlap.
        confidence: probability that the interval covers the mean.

    Returns:
        Low and high end; NaN for a series shorter than two horizons, which cannot tell its own
        dependence.
    """
    length = len(series)
    if length < 2 * horizon:
        return math.nan, math.nan
    terms = cosine_terms(length, horizon)
    mean = float(series.mean())
    time = (np.arange(length) + 0.5) / length
    basis = np.sqrt(2.0 / length) * np.cos(np.pi * np.outer(np.arange(1, terms + 1), time))
    variance = float(np.mean((basis @ (series - mean)) ** 2))
    half = float(stats.t.ppf(0.5 + confidence / 2, terms)) * math.sqrt(variance / length)
    return mean - half, mean + half


@dataclass(frozen=True)
class Resampling:
    """Draws of a stationary bootstrap over sessions."""

    counts: Floats
    """How often each session is drawn, per replicate (R, T)."""
    stretch: float
    """Factor that gives the percentile interval its size under overlapping labels."""


def stationary_bootstrap(length: int, replicates: int, mean_block: float, seed: int) -> Floats:
    """How often each session is drawn, per replicate (replicates, length).

    Blocks start anywhere, go round at the end and have geometric lengths (D. Politis, J. Romano,
    The Stationary Bootstrap, Journal of the American Statistical Association 89, 1994). The same
    seed gives the same draws, so differences between predictors are taken on the same sessions.
    """
    rng = np.random.default_rng([seed, length])
    fresh = rng.random((replicates, length)) < 1.0 / mean_block
    fresh[:, 0] = True
    starts = rng.integers(0, length, size=(replicates, length))
    position = np.arange(length)
    begin = np.maximum.accumulate(np.where(fresh, position, 0), axis=1)
    drawn = (np.take_along_axis(starts, begin, axis=1) + position - begin) % length
    flat = drawn + length * np.arange(replicates)[:, None]
    counts = np.bincount(flat.ravel(), minlength=replicates * length)
    return counts.reshape(replicates, length).astype(np.float64)


def overlap_stretch(
    counts: Floats, horizon: int, confidence: float, seed: int, simulations: int = 2000
) -> float:
    """How much wider than its percentiles a bootstrap interval must be.

    With few blocks in a series, replicates spread less than the statistic itself: at 21 sessions
    of overlap and blocks of 42, a plain 95 % interval misses the truth 40 % of the time over 77
    sessions and 10 % over 850. The factor is measured, in the manner of fixed-b critical values,
    on simulated series whose truth is known: white noise summed over `horizon` sessions, which is
    the dependence that overlapping labels have by construction, resampled with the same draws.

    Args:
        counts: draws (R, T).
        horizon: sessions over which neighbouring values overlap.
        confidence: of the interval.
        seed: of the simulation.
        simulations: simulated series.
    """
    length = counts.shape[1]
    rng = np.random.default_rng([seed, length, horizon])
    noise = np.cumsum(rng.normal(size=(length + horizon, simulations)), axis=0)
    series = noise[horizon:] - noise[:-horizon]
    spread = (counts @ series / length).std(axis=0)
    studentised = np.abs(series.mean(axis=0)) / spread
    normal = float(stats.norm.ppf(0.5 + confidence / 2))
    return max(1.0, float(np.quantile(studentised, confidence)) / normal)


def resample_sessions(
    length: int,
    replicates: int,
    mean_block: float,
    *,
    horizon: int,
    confidence: float,
    seed: int,
) -> Resampling | None:
    """Draws and their stretch for a series of this length.

    None for a series shorter than two horizons, which cannot tell its own dependence.
    """
    if length < 2 * horizon:
        return None
    counts = stationary_bootstrap(length, replicates, mean_block, seed)
    return Resampling(counts, overlap_stretch(counts, horizon, confidence, seed))


def bootstrap_interval(
    replicates: Floats, value: float, centre: float, stretch: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentiles of bootstrap replicates about `centre`, stretched, laid about `value`.

    Args:
        replicates: the statistic on each resample (R,); NaN where it is not defined.
        value: the statistic on the sample.
        centre: the statistic on the sample as the replicates approximate it.
        stretch: of the resampling.
        confidence: probability between the two ends.

    Returns:
        Low and high end; NaN where fewer than half of the resamples are defined.
    """
    defined = replicates[np.isfinite(replicates)]
    if 2 * len(defined) < len(replicates) or not len(defined):
        return math.nan, math.nan
    tail = (1.0 - confidence) / 2
    low, high = value + stretch * (np.quantile(defined, [tail, 1.0 - tail]) - centre)
    return float(low), float(high)


def shifted_interval(
    replicates: Floats, value: float, stretch: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of a statistic that cannot be negative and that resampling biases.

    A sum of absolute values grows when its parts scatter, and a resample scatters about a sample
    that scatters about the truth already: replicates lie above the sample's value by about as much
    as that lies above the truth (and those of a standard deviation below). So the percentiles are
    moved back by twice the bootstrap's bias, mean of the replicates less the value, before they are
    stretched about the value: once for the replicates, once for the value (B. Efron, R. Tibshirani,
    An Introduction to the Bootstrap, 1993, chapter 10). The value itself stays inside.

    Args:
        replicates: the statistic on each resample (R,); NaN where it is not defined.
        value: the statistic on the sample.
        stretch: of the resampling.
        confidence: probability between the two ends.

    Returns:
        Low and high end, at least 0; NaN where fewer than half of the resamples are defined.
    """
    defined = replicates[np.isfinite(replicates)]
    if not len(defined):
        return math.nan, math.nan
    centre = 2 * float(defined.mean()) - value
    low, high = bootstrap_interval(replicates, value, centre, stretch, confidence)
    if math.isnan(low):
        return low, high
    return max(0.0, min(low, value)), max(high, value)
