"""Ranks within a session against pandas, on values that are hard to tell apart, on both engines."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from compiled_query import Run, compiled_query

pytestmark = pytest.mark.slow

QUERY = """
with members as (select * from quotes)

select
    members.session_idx,
    members.row_number,
    {{ cross_sectional_rank('members', 'x') }} as x_rank,
    {{ cross_sectional_rank('members', 'y') }} as y_rank
from {{ with_ranks('members', ['x', 'y']) }}
order by members.row_number
"""


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def run(request: pytest.FixtureRequest) -> Run:
    """The query over a table of quotes, on one of the engines."""
    return compiled_query(request.param, QUERY, "quotes", request)


def quotes() -> pd.DataFrame:
    """Six sessions; x and y are NULL now and then, in the last session always."""
    rng = np.random.default_rng(3)
    powers = [sign * 2.0**e for e in range(-60, 61, 5) for sign in (1, -1)]
    neighbours = [math.nextafter(v, towards) for v in powers for towards in (-math.inf, math.inf)]
    second = [math.nextafter(v, math.inf) for v in neighbours]
    sessions: list[list[float | None]] = [
        [*powers, *neighbours, *second, 0.0, -0.0, 1e-300, -1e-300, 1e300, -1e300],
        # ties of every size, NULLs between them
        [None if v == 3 else float(v) for v in rng.integers(0, 12, 500)],
        list(rng.normal(0, 1, 400)),
        [0.0] * 50,
        [7.5],
        [None] * 10,
    ]
    frame = pd.DataFrame(
        [
            {"session_idx": session, "x": x, "y": None if x is None else -x}
            for session, values in enumerate(sessions)
            for x in values
        ]
    ).sample(frac=1, random_state=1, ignore_index=True)
    return frame.astype({"x": float, "y": float}).assign(row_number=np.arange(len(frame)))


def test_ranks_are_those_of_pandas_to_the_last_neighbour_of_a_double(run: Run) -> None:
    frame = quotes()
    found = pd.DataFrame(run(pa.Table.from_pandas(frame, preserve_index=False)))
    assert len(found) == len(frame)
    for column in ("x", "y"):
        values = frame.groupby("session_idx")[column]
        expected = (values.rank() - 0.5) / values.transform("count")
        assert expected.notna().sum() > 1000
        pd.testing.assert_series_equal(
            found[f"{column}_rank"].astype(float), expected, check_names=False, rtol=1e-15
        )
