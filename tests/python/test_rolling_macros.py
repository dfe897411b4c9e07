"""Rolling macros of both engines against exact arithmetic, on values that defeat running sums."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from compiled_query import Run, compiled_query

pytestmark = pytest.mark.slow
ROWS = 400

QUERY = """
{% set highest = {'function': 'max', 'values': 'x', 'sessions': 252} %}
{% set lowest = {'function': 'min', 'values': 'gappy', 'sessions': 20} %}
{% set gappy_highest = {'function': 'max', 'values': 'gappy', 'sessions': 20} %}
{% set gappy_lowest = {'function': 'min', 'values': 'gappy', 'sessions': 252} %}
{% set middle = {'function': 'median', 'values': 'volume', 'sessions': 20} %}
{% set gappy_middle = {'function': 'median', 'values': 'gappy', 'sessions': 20} %}
{% set sums = {
    'gappy': {'frames': [20, 252], 'magnitude': 14},
    'gappy_short': {'frames': [7]},
    'seldom': {'frames': [12, 21, 60], 'magnitude': 14, 'complete': true},
    'seldom_short': {'frames': [7], 'complete': true},
    'x': {'frames': [50, 60], 'magnitude': 14},
    'x_square': {'frames': [60], 'magnitude': 28},
    'x_cube': {'frames': [60], 'magnitude': 42},
    'volume': {'frames': [60], 'magnitude': 48, 'resolution': -20},
    'volume_square': {'frames': [60], 'magnitude': 96, 'resolution': -20},
    'volume_cube': {'frames': [60], 'magnitude': 144, 'resolution': -20},
} %}
select
    spell_key,
    session_idx,
    total_7,
    total_20,
    total_252,
    complete_7,
    complete_12,
    complete_21,
    complete_60,
    mean_50,
    sqrt({{ variance_of_sums('total_60', 'squares_60', 60) }}) as deviation_60,
    {{ skewness_of_sums('total_60', 'squares_60', 'cubes_60', 60) }} as skewness_60,
    {{ skewness_of_sums('volumes_60', 'volume_squares_60', 'volume_cubes_60', 60) }}
        as volume_skewness_60,
    median_20,
    slope_20,
    highest_252,
    lowest_20,
    lowest_5,
    highest_of_every_fifth,
    gappy_highest_20,
    gappy_lowest_252,
    gappy_median_20,
    gappy_7_ago
from (
    select
        series.spell_key,
        series.session_idx,
        {{ rolling_sum(sums, 'gappy_short', 7) }} as total_7,
        {{ rolling_sum(sums, 'gappy', 20) }} as total_20,
        {{ rolling_sum(sums, 'gappy', 252) }} as total_252,
        {{ rolling_sum(sums, 'seldom_short', 7) }} as complete_7,
        {{ rolling_sum(sums, 'seldom', 12) }} as complete_12,
        {{ rolling_sum(sums, 'seldom', 21) }} as complete_21,
        {{ rolling_sum(sums, 'seldom', 60) }} as complete_60,
        {{ rolling_mean(sums, 'x', 50) }} as mean_50,
        {{ rolling_sum(sums, 'x', 60) }} as total_60,
        {{ rolling_sum(sums, 'x_square', 60) }} as squares_60,
        {{ rolling_sum(sums, 'x_cube', 60) }} as cubes_60,
        {{ rolling_sum(sums, 'volume', 60) }} as volumes_60,
        {{ rolling_sum(sums, 'volume_square', 60) }} as volume_squares_60,
        {{ rolling_sum(sums, 'volume_cube', 60) }} as volume_cubes_60,
        {{ rolling_order_statistic(middle) }} as median_20,
        {{ rolling_slope('volume', 20) }} as slope_20,
        {{ rolling_order_statistic(highest) }} as highest_252,
        {{ rolling_order_statistic(lowest) }} as lowest_20,
        {{ rolling_extreme('least', 'x', sessions=5) }} as lowest_5,
        {{ rolling_extreme('greatest', 'x', sessions=20, step=5) }} as highest_of_every_fifth,
        {{ rolling_order_statistic(gappy_highest) }} as gappy_highest_20,
        {{ rolling_order_statistic(gappy_lowest) }} as gappy_lowest_252,
        {{ rolling_order_statistic(gappy_middle) }} as gappy_median_20,
        {{ lagged('gappy', 7, nullable=true) }} as gappy_7_ago
    from
        {{ with_rolling(
            'series',
            ['x'],
            ['volume', 'gappy'],
            sums,
            [highest, lowest, gappy_highest, gappy_lowest, middle, gappy_middle]
        ) }}
    {{ rolling_windows([20, 252]) }}
) as rolled
order by spell_key, session_idx
"""


def series() -> pa.Table:
    """Two spells: returns with a 900-fold jump and stretches of zeros, volumes over 12 decades.

    `gappy` lacks a value now and then, and for longer than a short frame once; `seldom` lacks few.
    """
    rng = np.random.default_rng(5)
    tables = []
    for spell, scale in ((1, 0.02), (2, 1e-4)):
        x = rng.normal(0, scale, ROWS)
        x[60], x[61], x[130:200] = 900.0, -0.999, 0.0
        volume = np.round(np.exp(rng.normal(6, 2, ROWS)))
        volume[90:95] *= 1e8
        volume[200:270] = 0
        missing = rng.random(ROWS) < 0.05
        missing[340:365] = True
        gappy = pa.array(x, mask=missing)
        seldom = pa.array(x, mask=np.isin(np.arange(ROWS), [0, 100, 101, 250, ROWS - 3]))
        columns = {"x": x, "x_square": x * x, "x_cube": x * x * x}
        columns |= {"volume": volume, "volume_square": volume**2, "volume_cube": volume**3}
        tables.append(
            pa.table(
                {
                    "spell_key": pa.array(np.full(ROWS, spell)),
                    "session_idx": pa.array(np.arange(ROWS)),
                    "gappy": gappy,
                    "gappy_short": gappy,
                    "seldom": seldom,
                    "seldom_short": seldom,
                    **{name: pa.array(values) for name, values in columns.items()},
                }
            )
        )
    return pa.concat_tables(tables)


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def run(request: pytest.FixtureRequest) -> Run:
    """The query over a table of series, on one of the engines."""
    return compiled_query(request.param, QUERY, "series", request)


def exact(values: list[float]) -> list[Fraction]:
    return [Fraction(v) for v in values]


def deviation(values: list[float]) -> float:
    mean = sum(exact(values)) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in exact(values)) / (len(values) - 1))


def skewness(values: list[float]) -> float | None:
    n = len(values)
    mean = sum(exact(values)) / n
    second = float(sum((v - mean) ** 2 for v in exact(values)) / n)
    third = float(sum((v - mean) ** 3 for v in exact(values)) / n)
    return math.sqrt(n * (n - 1)) / (n - 2) * third / second**1.5 if second else None


def slope(values: list[float]) -> float:
    middle = Fraction(len(values) - 1, 2)
    offsets = [i - middle for i in range(len(values))]
    products = (o * v for o, v in zip(offsets, exact(values), strict=True))
    return float(sum(products) / sum(o * o for o in offsets))


def complete_sum(values: list[float], n: int) -> float | None:
    """None unless every session of the frame has a value."""
    return float(sum(exact(values))) if len(values) == n else None


def present(function: Callable[[list[float]], float]) -> Callable[[list[float]], float | None]:
    """None of a frame without any value."""
    return lambda values: function(values) if values else None


EXACT: dict[str, tuple[str, int, Callable[[list[float]], float | None], float]] = {
    "total_7": ("gappy", 7, lambda v: float(sum(exact(v))), 1e-12),
    "total_20": ("gappy", 20, lambda v: float(sum(exact(v))), 1e-12),
    "total_252": ("gappy", 252, lambda v: float(sum(exact(v))), 1e-12),
    "complete_7": ("seldom", 7, lambda v: complete_sum(v, 7), 1e-12),
    "complete_12": ("seldom", 12, lambda v: complete_sum(v, 12), 1e-12),
    "complete_21": ("seldom", 21, lambda v: complete_sum(v, 21), 1e-12),
    "complete_60": ("seldom", 60, lambda v: complete_sum(v, 60), 1e-12),
    "mean_50": ("x", 50, lambda v: float(sum(exact(v)) / len(v)), 1e-12),
    "deviation_60": ("x", 60, deviation, 1e-9),
    "skewness_60": ("x", 60, skewness, 1e-6),
    "volume_skewness_60": ("volume", 60, skewness, 1e-6),
    "median_20": ("volume", 20, statistics.median, 0),
    "slope_20": ("volume", 20, slope, 1e-6),
    "highest_252": ("x", 252, max, 0),
    "lowest_20": ("gappy", 20, present(min), 0),
    "lowest_5": ("x", 5, min, 0),
    "highest_of_every_fifth": ("x", 20, lambda v: max(v[4::5]), 0),
    "gappy_highest_20": ("gappy", 20, present(max), 0),
    "gappy_lowest_252": ("gappy", 252, present(min), 0),
    "gappy_median_20": ("gappy", 20, present(statistics.median), 1e-15),
}


def test_rolling_macros_are_as_good_as_exact_ones(run: Run) -> None:
    table = series()
    found = run(table)
    given = table.to_pylist()
    assert len(found) == len(given) == 2 * ROWS
    compared = 0
    for number, row in enumerate(found):
        start = number // ROWS * ROWS
        for name, (column, n, function, tolerance) in EXACT.items():
            if number - start < n - 1:
                assert not name.startswith("complete") or row[name] is None, (number, name)
                continue
            frame = [r[column] for r in given[number - n + 1 : number + 1] if r[column] is not None]
            value = function(frame)
            compared += 1
            if value is None:
                assert row[name] is None, (number, name)
            else:
                # sums over a jump of 900 that cancel
                summed = name.startswith(("total", "complete", "mean"))
                jumped = summed and max(frame, default=0) > 100
                floor = 1e-12 if jumped else 1e-18
                assert row[name] == pytest.approx(value, rel=tolerance, abs=floor), (number, name)
        before = given[number - 7]["gappy"] if number - start >= 7 else None
        assert row["gappy_7_ago"] == before
    assert compared > 10 * ROWS


def test_rolling_macros_give_the_same_bits_whatever_rows_stand_around(run: Run) -> None:
    table = series()
    whole = {(r["spell_key"], r["session_idx"]): r for r in run(table)}
    early = run(table.filter(np.asarray(table["session_idx"]) < 300))
    second = run(table.filter(np.asarray(table["spell_key"]) == 2))
    shuffled = run(table.take(np.random.default_rng(1).permutation(len(table))))
    for rows in (early, second, shuffled):
        assert len(rows) >= ROWS
        for row in rows:
            assert row == whole[row["spell_key"], row["session_idx"]]
