"""Which 95 % intervals for a mean keep their level where labels of 21 sessions overlap.

Simulated series whose mean is 0: white noise summed over 21 sessions, the dependence that labels
have by construction. An honest interval leaves 0 out in 5 % of them. `pip install skfolio arch`
adds theirs; without them their lines are left out.

    python benchmarks/intervals.py [--simulations 1000]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

from ml.intervals import bootstrap_interval, mean_interval, resample_sessions
from ml.text_table import text_table

Floats = npt.NDArray[np.float64]
Interval = Callable[[Floats], tuple[float, float]]
HORIZON = 21
# a test block, a longer one, a year, and the out-of-fold sessions of four years
LENGTHS = (63, 126, 252, 850)


def overlapping(count: int, length: int, seed: int) -> Floats:
    """Series of mean 0 (count, length) whose neighbours share 20 of 21 sessions."""
    noise = np.random.default_rng(seed).normal(size=(count, length + HORIZON))
    sums = np.cumsum(noise, axis=1)
    return sums[:, HORIZON:] - sums[:, :-HORIZON]


def t_test(series: Floats) -> tuple[float, float]:
    half = stats.t.ppf(0.975, len(series) - 1) * series.std(ddof=1) / math.sqrt(len(series))
    return series.mean() - half, series.mean() + half


def newey_west(series: Floats) -> tuple[float, float]:
    """Bartlett weights up to the overlap, normal quantile: the textbook's answer."""
    centred, length = series - series.mean(), len(series)
    variance = centred @ centred / length
    for lag in range(1, HORIZON):
        variance += 2 * (1 - lag / HORIZON) * (centred[lag:] @ centred[:-lag]) / length
    half = 1.96 * math.sqrt(max(variance, 0.0) / length)
    return series.mean() - half, series.mean() + half


def stretched(length: int) -> Interval:
    draws = resample_sessions(length, 500, 42, horizon=HORIZON, confidence=0.95, seed=1)
    assert draws is not None

    def interval(series: Floats) -> tuple[float, float]:
        mean = float(series.mean())
        return bootstrap_interval(draws.counts @ series / length, mean, mean, draws.stretch)

    return interval


def skfolio_interval() -> Interval | None:
    try:
        from skfolio.alpha._evaluation import _mean_inference  # noqa: PLC0415
    except ImportError:
        return None

    def interval(series: Floats) -> tuple[float, float]:
        found = _mean_inference(series, horizon=HORIZON)
        return found["mean_ci_lower"], found["mean_ci_upper"]

    return interval


def arch_interval() -> Interval | None:
    try:
        from arch.bootstrap import StationaryBootstrap, optimal_block_length  # noqa: PLC0415
    except ImportError:
        return None

    def interval(series: Floats) -> tuple[float, float]:
        block = float(optimal_block_length(series)["stationary"].iloc[0])
        low, high = StationaryBootstrap(max(block, 1.0), series, seed=1).conf_int(
            np.mean, reps=500, method="percentile"
        )[:, 0]
        return float(low), float(high)

    return interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000)
    count = parser.parse_args().simulations
    fixed: dict[str, Interval | None] = {
        "t-test": t_test,
        "Newey-West, 20 lags, normal": newey_west,
        "arch, stationary bootstrap, its own block": arch_interval(),
        "skfolio, fixed-b HAC": skfolio_interval(),
        "here, cosines": lambda series: mean_interval(series, HORIZON),
    }
    lines: dict[str, list[str]] = {}
    for length in LENGTHS:
        methods = {**fixed, "here, bootstrap": stretched(length)}
        series = overlapping(count, length, seed=7)
        truth = 2 * 1.96 * series.mean(axis=1).std()  # width an interval would have that knew it
        for name, method in methods.items():
            if method is None:
                continue
            # the slow ones on fewer series
            some = series[: count // 3] if name.startswith("arch") else series
            ends = np.array([method(one) for one in some])
            known = np.isfinite(ends).all(axis=1)
            if not known.any():
                lines.setdefault(name, []).append("none given")
                continue
            low, high = ends[known].T
            wrong = np.mean((low > 0) | (high < 0))
            width = np.mean(high - low) / truth
            lines.setdefault(name, []).append(f"{wrong:.1%}, {width:.2f}")
    print("True nulls rejected at 5 %, and mean width over the width of one who knows the truth:")
    header = ["sessions", *(str(length) for length in LENGTHS)]
    print(text_table(header, [[name, *cells] for name, cells in lines.items()], left=1))


if __name__ == "__main__":
    main()
