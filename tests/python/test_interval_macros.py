"""macros/evaluation/interval_half_widths.sql against ml/intervals.py, on both engines."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from compiled_query import Run, compiled_query
from scipy import stats

from ml.intervals import mean_interval

pytestmark = pytest.mark.slow

QUERY = """
with deviations as (
    select series, place, n_sessions, x from observed
),
half_widths as ({{ interval_half_widths('deviations', ['series'], ['x']) }})
select
    'half' as what,
    series as number,
    x as value
from half_widths
union all
select
    't' as what,
    degrees as number,
    {{ student_t_975('degrees') }} as value
from generate_series(1, 60) as g (degrees)
"""


@pytest.mark.parametrize("engine", ["duckdb", "postgres"])
def test_half_widths_are_those_of_python(engine: str, request: pytest.FixtureRequest) -> None:
    run: Run = compiled_query(engine, QUERY, "observed", request)
    draws = np.random.default_rng(5)
    # too short, the shortest, a block of a fold, five and thirty years
    lengths = [41, 42, 83, 1260, 7560]
    series = [np.convolve(draws.normal(size=n + 20), np.ones(21), "valid") for n in lengths]
    rows = run(
        pa.table(
            {
                "series": pa.array(np.repeat(range(len(lengths)), lengths), pa.int64()),
                "place": pa.array(np.concatenate([np.arange(n) for n in lengths]), pa.int64()),
                "n_sessions": pa.array(np.repeat(lengths, lengths), pa.int64()),
                "x": np.concatenate([values - values.mean() for values in series]),
            }
        )
    )
    found = {(row["what"], row["number"]): row["value"] for row in rows}
    for degrees in range(1, 61):
        assert found["t", degrees] == pytest.approx(stats.t.ppf(0.975, degrees), rel=4e-6)
    assert ("half", 0) not in found
    for number, values in enumerate(series[1:], start=1):
        low, high = mean_interval(values, 21)
        assert found["half", number] == pytest.approx((high - low) / 2, rel=4e-6)
