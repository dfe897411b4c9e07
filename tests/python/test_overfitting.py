"""Deflated Sharpe ratio and probability of backtest overfitting, against other computations."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest

from ml.overfitting import (
    Moments,
    block_count,
    deflated_sharpe,
    expected_maximum,
    moments,
    overfitting_probability,
)


def test_the_example_of_the_paper():
    """Bailey and Lopez de Prado (2014): 100 trials, five years of 250 days, Sharpe ratio 2.5 a year
    with variance 1/2 between trials, skewness -3, kurtosis 10; 46 trials would have passed."""
    bar = expected_maximum(100, math.sqrt(0.5 / 250))
    assert bar == pytest.approx(0.1132, abs=5e-5)
    found = Moments(0.1, 0.1, 2.5 / math.sqrt(250), -3.0, 10.0)
    assert deflated_sharpe(found, 1250, bar) == pytest.approx(0.9004, abs=5e-5)
    fewer = expected_maximum(46, math.sqrt(0.5 / 250))
    assert deflated_sharpe(found, 1250, fewer) == pytest.approx(0.9505, abs=5e-5)


def test_the_expected_maximum_is_what_worthless_trials_reach():
    rng = np.random.default_rng(1)
    for trials in (10, 40, 200):
        reached = rng.normal(scale=0.3, size=(10_000, trials)).max(axis=1).mean()
        assert expected_maximum(trials, 0.3) == pytest.approx(reached, rel=0.03)
    assert expected_maximum(1, 0.3) == 0.0


def test_moments_are_those_of_the_textbook():
    values = [0.02, -0.01, 0.03, 0.00, 0.05, -0.04, 0.01]
    mean = sum(values) / 7
    central = [sum((v - mean) ** k for v in values) / 7 for k in (2, 3, 4)]
    found = moments(np.array(values))
    assert found.sharpe == pytest.approx(mean / statistics.stdev(values))
    assert found.skewness == pytest.approx(central[1] / central[0] ** 1.5)
    assert found.kurtosis == pytest.approx(central[2] / central[0] ** 2)
    for nothing in (np.full(9, 0.1), np.array([0.1, 0.2])):
        assert math.isnan(moments(nothing).sharpe)
        assert math.isnan(deflated_sharpe(moments(nothing), 20, 0.0))


def by_loops(returns: np.ndarray, blocks: int, horizon: int) -> float:
    """CSCV as the paper tells it: every split by itself, series put together from blocks."""
    length = len(returns)
    sizes = [length // blocks + (1 if n < length % blocks else 0) for n in range(blocks)]
    starts = [sum(sizes[:n]) for n in range(blocks)]
    parts = [
        returns[start : start + size - horizon] for start, size in zip(starts, sizes, strict=True)
    ]
    lost = splits = 0
    for half in itertools.combinations(range(blocks), blocks // 2):
        inside = np.vstack([parts[n] for n in half])
        outside = np.vstack([parts[n] for n in range(blocks) if n not in half])
        here = [statistics.fmean(c) / statistics.pstdev(c) for c in inside.T.tolist()]
        there = [statistics.fmean(c) / statistics.pstdev(c) for c in outside.T.tolist()]
        reached = there[here.index(max(here))]
        relative = (sum(t < reached for t in there) + 1) / (len(there) + 1)
        lost += math.log(relative / (1 - relative)) <= 0
        splits += 1
    return lost / splits


@pytest.mark.parametrize(("trials", "horizon", "length"), [(2, 3, 50), (5, 3, 61), (8, 5, 83)])
def test_backtest_overfitting_equals_loops(trials, horizon, length):
    rng = np.random.default_rng(trials)
    returns = rng.normal(size=(length, trials)) + np.linspace(0, 0.4, trials)
    found = overfitting_probability(returns, horizon)
    assert found.blocks == block_count(length, horizon) and found.trials == trials
    assert found.splits == math.comb(found.blocks, found.blocks // 2)
    assert found.probability == pytest.approx(by_loops(returns, found.blocks, horizon), abs=1e-12)


def test_noise_is_a_coin_toss_and_skill_is_none():
    rng = np.random.default_rng(4)
    noise = [overfitting_probability(rng.normal(size=(400, 20)), 20).probability for _ in range(30)]
    assert 0.4 < np.mean(noise) < 0.6
    skill = rng.normal(size=(400, 20))
    skill[:, 7] += 1.0
    assert overfitting_probability(skill, 20).probability == 0.0
    # what is best in one half of the time is worst in the other
    turning = np.repeat(np.eye(4), 100, axis=0) + rng.normal(scale=0.01, size=(400, 4))
    assert overfitting_probability(turning, 20).probability > 0.8


def test_too_little_to_compare():
    returns = np.random.default_rng(0).normal(size=(100, 3))
    assert overfitting_probability(returns[:, :1], 5) is None
    assert overfitting_probability(returns, 21) is None
    assert block_count(167, 21) == 0 and block_count(168, 21) == 4
    assert block_count(10_000, 21) == 16


def test_a_trial_beside_itself_is_one_trial():
    returns = np.random.default_rng(3).normal(size=(200, 3))
    doubled = returns[:, [0, 1, 0, 2, 1, 1]]
    assert overfitting_probability(doubled, 5) == overfitting_probability(returns, 5)
    assert overfitting_probability(returns[:, [1, 1]], 5) is None
    assert overfitting_probability(returns[:0], 5) is None
