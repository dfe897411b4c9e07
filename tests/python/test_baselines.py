"""Baselines are scored on every row of the model."""

from __future__ import annotations

import numpy as np

from ml.baselines import fill_with_session_median, signed_column

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
