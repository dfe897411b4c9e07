"""Rolling sums on Postgres: exact up to their declared magnitude, and fine enough for small values.

Values are rounded to a grid that follows from the magnitude and the resolution a model declares
(macros/portable/exact_sum.sql). DuckDB rounds nothing, so what rounding takes must stay far within
the tolerance of the parity test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from built_warehouse import PROJECT, Warehouse

# the longest spell that macros/portable/with_rolling.sql allows for
SESSIONS = 2**14
STAGES = {
    "int_announcement_features": ["latest"],
    "int_momentum_features": ["adjusted"],
    "int_volatility_features": ["ranged"],
    "int_relative_features": ["paired"],
    "int_liquidity_features": ["powers"],
}
DECLARED = re.compile(
    r"'(\w+)': \{'frames': \[([\d, ]+)\], 'magnitude': (\d+)(?:, 'resolution': (-?\d+))?"
)
DEFAULT_RESOLUTION = -64
# bits of a sum less those that 2^14 rests of half a step need: how much finer each part's grid is
FINER = 53 - 14
# what rounding may take of a frame's mean of absolute values; of the close more matters, because a
# flat price is 0 away from its mean
ROUNDING = 1e-10
ROUNDING_OF_CLOSE = 1e-14
# a frame of less, as of returns of 1e-17, is rounding noise itself
NOISE = 1e-12


@dataclass(frozen=True)
class Sum:
    """What a model declares of a column it sums."""

    shortest_frame: int
    magnitude: int
    resolution: int

    @property
    def grid(self) -> int:
        """Exponent of the grid of the last part, the first that is fine enough."""
        grid = self.magnitude - 53
        while grid > self.resolution:
            grid -= FINER
        return grid


def declared(model: str) -> dict[str, Sum]:
    text = (PROJECT / "models/intermediate/features" / f"{model}.sql").read_text(encoding="utf-8")
    return {
        column: Sum(
            min(int(n) for n in frames.split(",")),
            int(magnitude),
            int(resolution or DEFAULT_RESOLUTION),
        )
        for column, frames, magnitude, resolution in DECLARED.findall(text)
    }


def stages_of(compiled: str) -> str:
    """The compiled model without its last select."""
    return compiled[: compiled.rindex("\n\n)\n\nselect") + len("\n\n)\n\n")]


def too_large(connection: duckdb.DuckDBPyConnection, model: str, compiled: str) -> list[str]:
    """Sums whose values, at their mean over a spell, would pass the magnitude in a long one."""
    stages = stages_of(compiled)
    sums = declared(model)
    found, seen = [], set()
    for stage in STAGES[model]:
        columns = connection.sql(f"{stages} select * from {stage}").columns
        for column in sorted(set(columns) & set(sums)):
            seen.add(column)
            value = connection.sql(
                f"{stages} select max(mean) from (select avg(abs({column})) as mean from {stage} "
                "group by spell_key having count(*) > 250) as spells"
            ).fetchall()[0][0]
            if value * SESSIONS > 2.0 ** sums[column].magnitude:
                found.append(f"{model}.{column}: a spell's mean is {value:g}")
    assert seen == set(sums)
    return found


def too_coarse(connection: duckdb.DuckDBPyConnection, model: str, compiled: str) -> list[str]:
    """Sums whose values are rounded by too much of some frame's mean."""
    stages = stages_of(compiled)
    found = []
    for stage in STAGES[model]:
        columns = connection.sql(f"{stages} select * from {stage}").columns
        for column, declared_sum in declared(model).items():
            if column not in columns:
                continue
            shift = f"cast({1.5 * 2.0 ** (declared_sum.grid + 52)!r} as double)"
            lost = connection.sql(
                f"{stages} select max(lost / mean) from (select "
                f"avg(abs({column})) over frame as mean, "
                f"avg(abs({column} - (({column} + {shift}) - {shift}))) over frame as lost "
                f"from {stage} window frame as (partition by spell_key order by session_idx "
                f"rows {declared_sum.shortest_frame - 1} preceding)) as frames where mean > {NOISE}"
            ).fetchall()[0][0]
            allowed = ROUNDING_OF_CLOSE if column == "close_adjusted" else ROUNDING
            if lost is not None and lost > allowed:
                found.append(f"{model}.{column}: {lost:.1e} of a frame's mean is rounded away")
    return found


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The models that sum, compiled."""
    warehouse = Warehouse(tmp_path_factory.mktemp("compiled"))
    warehouse.run("dbt", "--quiet", "compile", "--select", *STAGES)
    folder = warehouse.target / "compiled"
    return {
        model: next(folder.glob(f"**/features/{model}.sql")).read_text(encoding="utf-8")
        for model in STAGES
    }


@contextmanager
def attached(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that knows the file by the name the compiled models use."""
    with duckdb.connect() as connection:
        connection.sql(f"attach '{path}' as warehouse (read_only)")
        yield connection


# a test for each market: tests that share a warehouse run on one worker


@pytest.mark.slow
@pytest.mark.parametrize("model", STAGES)
def test_a_long_spell_of_the_sample_stays_within_the_magnitude_of_its_sums(
    model: str, compiled: dict[str, str], built_market: Warehouse
) -> None:
    with attached(built_market.path) as connection:
        assert not too_large(connection, model, compiled[model])


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("model", STAGES)
def test_a_long_real_spell_stays_within_the_magnitude_of_its_sums(
    model: str, compiled: dict[str, str], real_warehouse: Path
) -> None:
    with attached(real_warehouse) as connection:
        assert not too_large(connection, model, compiled[model])


@pytest.mark.slow
@pytest.mark.parametrize("model", STAGES)
def test_no_frame_of_small_values_of_the_sample_is_rounded_away(
    model: str, compiled: dict[str, str], built_market: Warehouse
) -> None:
    with attached(built_market.path) as connection:
        assert not too_coarse(connection, model, compiled[model])


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("model", STAGES)
def test_no_frame_of_small_real_values_is_rounded_away(
    model: str, compiled: dict[str, str], real_warehouse: Path
) -> None:
    with attached(real_warehouse) as connection:
        assert not too_coarse(connection, model, compiled[model])


def test_every_declared_sum_is_asked_for() -> None:
    folder = PROJECT / "models"
    summing = {p.stem for p in folder.rglob("*.sql") if DECLARED.search(p.read_text("utf-8"))}
    assert summing == set(STAGES)
