"""Postgres' moving windows against exact arithmetic, on values that defeat plain running sums."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from postgres_fixture import Database, command

pytestmark = pytest.mark.slow
ROWS = 400

QUERY = """
{% set highest = {'function': 'max', 'values': 'x', 'sessions': 252} %}
{% set lowest = {'function': 'min', 'values': 'x', 'sessions': 20} %}
select
    series.spell_key,
    series.session_idx,
    {{ rolling_sum('x', 'w', 14) }} as total,
    {{ rolling_mean('x', 'w', 14) }} as mean,
    {{ rolling_deviation('x', 'w') }} as deviation,
    {{ rolling_covariance('x', 'y', 'w') }} as covariance,
    {{ rolling_skewness('x', 'w') }} as skewness,
    {{ rolling_skewness('volume', 'w', 48, -20) }} as volume_skewness,
    {{ rolling_median('volume', 'w') }} as median,
    {{ rolling_slope('volume', 'session_idx', 'w', 20, 48) }} as slope,
    {{ rolling_extreme(highest, 'unused') }} as highest_252,
    {{ rolling_extreme(lowest, 'unused') }} as lowest_20
from {{ with_extremes('series', [highest, lowest]) }}
window
    w as (partition by spell_key order by session_idx rows between 19 preceding and current row)
"""


def series() -> pa.Table:
    """Two spells: returns with a 900-fold jump and stretches of zeros, volumes over 12 decades."""
    rng = np.random.default_rng(5)
    tables = []
    for spell, scale in ((1, 0.02), (2, 1e-4)):
        x = rng.normal(0, scale, ROWS)
        x[60], x[61], x[130:170] = 900.0, -0.999, 0.0
        y = rng.normal(0, scale, ROWS)
        volume = np.round(np.exp(rng.normal(6, 2, ROWS)))
        volume[90:95] *= 1e8
        volume[200:230] = 0
        missing = rng.random(ROWS) < 0.05
        tables.append(
            pa.table(
                {
                    "spell_key": pa.array(np.full(ROWS, spell)),
                    "session_idx": pa.array(np.arange(ROWS)),
                    "x": pa.array(x, mask=missing),
                    "y": pa.array(y, mask=rng.random(ROWS) < 0.05),
                    "volume": pa.array(volume),
                }
            )
        )
    return pa.concat_tables(tables)


def exact(values: list[float]) -> list[Fraction]:
    return [Fraction(v) for v in values]


def covariance(pairs: list[tuple[float, float]]) -> float | None:
    if len(pairs) < 2:
        return None
    left, right = exact([p[0] for p in pairs]), exact([p[1] for p in pairs])
    n = len(pairs)
    product = sum(a * b for a, b in zip(left, right, strict=True))
    return float((product - sum(left) * sum(right) / n) / (n - 1))


def skewness(values: list[float]) -> float | None:
    n = len(values)
    if n < 3:
        return None
    mean = sum(exact(values)) / n
    second = float(sum((v - mean) ** 2 for v in exact(values)) / n)
    third = float(sum((v - mean) ** 3 for v in exact(values)) / n)
    return math.sqrt(n * (n - 1)) / (n - 2) * third / second**1.5 if second else None


def slope(values: list[float]) -> float:
    middle = Fraction(len(values) - 1, 2)
    offsets = [i - middle for i in range(len(values))]
    products = (o * v for o, v in zip(offsets, exact(values), strict=True))
    return float(sum(products) / sum(o * o for o in offsets))


def of_known(function: Callable[[list[float]], float]) -> Callable[[list[float]], float | None]:
    return lambda values: function(values) if values else None


EXACT: dict[str, tuple[str, int, Callable[[list[float]], float | None], float]] = {
    "total": ("x", 20, of_known(lambda v: float(sum(exact(v)))), 1e-12),
    "mean": ("x", 20, of_known(lambda v: float(sum(exact(v)) / len(v))), 1e-12),
    "skewness": ("x", 20, skewness, 1e-6),
    "volume_skewness": ("volume", 20, skewness, 1e-6),
    "median": ("volume", 20, of_known(statistics.median), 0),
    "highest_252": ("x", 252, of_known(max), 0),
    "lowest_20": ("x", 20, of_known(min), 0),
}


def test_moving_windows_are_as_good_as_exact_ones(built: Database, tmp_path: Path) -> None:
    environment = built.environment(tmp_path)
    done = command(
        "dbt", "--quiet", "compile", "--no-introspect", "--inline", QUERY, environment=environment
    )
    table = series()
    with built.warehouse() as warehouse:
        warehouse.put_temporary("series", table)
        found = warehouse.read_arrow(
            f"select * from ({done.stdout}) as q order by spell_key, session_idx"
        ).to_pylist()
    given = table.to_pylist()
    assert len(found) == len(given) == 2 * ROWS
    for number, row in enumerate(found):
        start = number // ROWS * ROWS

        def frame(column: str, n: int, end: int = number, first: int = start) -> list[float]:
            rows = given[max(first, end - n + 1) : end + 1]
            return [r[column] for r in rows if r[column] is not None]

        expected = {
            name: (function(frame(column, n)), tolerance)
            for name, (column, n, function, tolerance) in EXACT.items()
        }
        rows = given[max(start, number - 19) : number + 1]
        pairs = [(r["x"], r["y"]) for r in rows if r["x"] is not None and r["y"] is not None]
        expected["covariance"] = covariance(pairs), 1e-9
        variance = covariance([(v, v) for v in frame("x", 20)])
        expected["deviation"] = None if variance is None else math.sqrt(variance), 1e-9
        if len(rows) == 20:
            expected["slope"] = slope(frame("volume", 20)), 1e-6
        for name, (value, tolerance) in expected.items():
            if value is None:
                assert row[name] is None, (number, name)
            else:
                # a covariance of almost nothing is rounding of its products
                floor = (
                    1e-16 * math.prod(max(map(abs, c), default=0) for c in zip(*pairs, strict=True))
                    if name == "covariance"
                    else 1e-18
                )
                assert row[name] == pytest.approx(value, rel=tolerance, abs=floor), (number, name)
