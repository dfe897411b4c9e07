"""One-line predictors the model is compared with, scored on the same rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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
