"""Baselines are scored on every row of the model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from ml.baselines import fill_with_session_median, fit_linear, signed_column

NAN = np.nan


def test_unknown_values_take_the_median_of_their_session():
    session = np.array([2, 1, 1, 1, 2, 1, 3, 2])
    values = np.array([5.0, 1.0, NAN, 9.0, NAN, 3.0, NAN, 7.0])
    filled = fill_with_session_median(session, values)
    assert filled.tolist() == [5.0, 1.0, 3.0, 9.0, 6.0, 3.0, 0.0, 7.0]
    assert np.isnan(values).sum() == 3


def test_median_equals_numpy_on_random_sessions():
    rng = np.random.default_rng(4)
    session = rng.integers(0, 30, 2000)
    values = rng.normal(size=2000)
    values[rng.random(2000) < 0.3] = NAN
    filled = fill_with_session_median(session, values)
    for s in range(30):
        inside = session == s
        expected = np.nanmedian(values[inside])
        assert np.allclose(filled[inside & np.isnan(values)], expected, rtol=0, atol=1e-15)


def test_nothing_known_is_no_opinion():
    assert fill_with_session_median(np.array([1, 2]), np.array([NAN, NAN])).tolist() == [0.0, 0.0]


def test_sign_turns_the_order():
    score = signed_column(np.array([1, 1, 1]), np.array([1.0, 3.0, NAN]), -1.0)
    assert score.tolist() == [-1.0, -3.0, -2.0]


def linear_rows(count=3000, seed=4):
    """Features on different scales, with gaps and outliers, and labels that follow the first."""
    rng = np.random.default_rng(seed)
    values = rng.normal([0, 5, -100, 7], [1, 0.01, 500, 0], size=(count, 4))
    returns = 0.05 * values[:, 0] + 0.1 * rng.normal(size=count)
    values[rng.random((count, 4)) < 0.1] = np.nan
    values[:3, 1] = 1e9
    return values, (returns > 0).astype(float), returns


def test_linear_models_solve_their_penalised_problems():
    values, up, returns = linear_rows()
    penalty = 0.02
    models = fit_linear(values, up, returns, penalty)
    probability, expected = models.predict(values)

    low, high = np.nanquantile(values, [0.01, 0.99], axis=0)
    rows = np.clip(values, low, high)[:, :3]
    rows = np.nan_to_num((rows - np.nanmean(rows, axis=0)) / np.nanstd(rows, axis=0))
    rows = np.column_stack([np.ones(len(rows)), rows])

    def loss(w):
        z = rows @ w
        return np.mean(np.logaddexp(0, z) - up * z) + penalty / 2 * w[1:] @ w[1:]

    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-rows @ best)), atol=1e-5)
    eye = penalty * len(rows) * np.diag([0, 1, 1, 1])
    ridge = np.linalg.solve(rows.T @ rows + eye, rows.T @ returns)
    np.testing.assert_allclose(expected, rows @ ridge, atol=1e-9)


def test_linear_models_use_nothing_of_the_scored_rows():
    values, up, returns = linear_rows()
    models = fit_linear(values, up, returns, 0.02)
    other = np.vstack([values[:1], np.full((1, 4), 1e12)])
    assert models.predict(other)[0][0] == models.predict(values)[0][0]
    # all unknown: the average share
    nothing = models.predict(np.full((1, 4), np.nan))
    assert nothing[0][0] == pytest.approx(up.mean(), abs=0.02)
    assert nothing[1][0] == pytest.approx(returns.mean(), abs=1e-9)
