"""Predictors the model is compared with, scored on the same rows: one-liners and linear models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression, Ridge

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def fill_with_session_median(session: Indices, values: Floats) -> Floats:
    """Replace unknown values (n,) by the median of the known ones of the same session.

    A row without a value then counts as average, so that a baseline is judged on exactly the rows
    of the model; leaving such rows out would compare two different samples. A session without any
    value gets 0 throughout: no opinion.

    Args:
        session: session of each row (n,), in any order.
        values: signed score (n,), NaN where unknown.
    """
    out = values.copy()
    missing = np.isnan(values)
    if not missing.any():
        return out
    known = np.flatnonzero(~missing)
    known = known[np.lexsort((values[known], session[known]))]
    sessions, start, count = np.unique(session[known], return_index=True, return_counts=True)
    ordered = values[known]
    low = ordered[start + (count - 1) // 2] if len(known) else ordered
    high = ordered[start + count // 2] if len(known) else ordered
    medians = (low + high) / 2
    place = np.searchsorted(sessions, session[missing])
    found = place < len(sessions)
    found[found] = sessions[place[found]] == session[missing][found]
    fill = np.zeros(int(missing.sum()))
    fill[found] = medians[place[found]]
    out[missing] = fill
    return out


def signed_column(session: Indices, column: Floats, sign: float) -> Floats:
    """A column of the panel (n,) as a score: times its sign, gaps at the session's median."""
    return fill_with_session_median(session, sign * column)


@dataclass(frozen=True)
class LinearModels:
    """A regularised logistic and a ridge regression on standardised features."""

    logistic: LogisticRegression
    ridge: Ridge
    low: Floats
    """Limits of each feature (p,), from the training rows."""
    high: Floats
    centre: Floats
    scale: Floats

    def _standardised(self, values: Floats) -> Floats:
        """Features (n, p) within their limits, with mean 0 and deviation 1; unknown is 0."""
        out = np.clip(values, self.low, self.high)
        out -= self.centre
        out /= self.scale
        return np.asarray(np.nan_to_num(out, copy=False, nan=0.0))

    def predict(self, values: Floats) -> tuple[Floats, Floats]:
        """Probability of a rise and expected return, both (n,), from features (n, p)."""
        rows = self._standardised(values)
        return self.logistic.predict_proba(rows)[:, 1], np.asarray(self.ridge.predict(rows))


def fit_linear(values: Floats, up: Floats, returns: Floats, penalty: float) -> LinearModels:
    """Fit both linear models; everything fitted comes from these rows.

    Features are limited at their 1st and 99th percentile and standardised, and a row that lacks one
    counts as average in it: what a linear model needs to be a fair opponent of trees.

    Args:
        values: features (n, p), NaN where unknown.
        up: 1.0 or 0.0 (n,).
        returns: limited returns (n,).
        penalty: L2 penalty per row, on standardised coefficients.
    """
    low, high = np.nanquantile(values[:: max(1, len(values) // 100_000)], [0.01, 0.99], axis=0)
    clipped = np.clip(values, low, high)
    centre, scale = np.nanmean(clipped, axis=0), np.nanstd(clipped, axis=0)
    del clipped
    # a feature without spread in these rows says nothing
    scale = np.where(scale > 1e-12 * np.maximum(np.abs(centre), 1e-12), scale, np.inf)
    count = len(values)
    logistic = LogisticRegression(C=1 / (penalty * count), solver="newton-cholesky", max_iter=50)
    models = LinearModels(
        logistic, Ridge(alpha=penalty * count, solver="cholesky"), low, high, centre, scale
    )
    rows = models._standardised(values)
    logistic.fit(rows, up)
    models.ridge.fit(rows, returns)
    return models
