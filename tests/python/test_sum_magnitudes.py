"""Rolling sums are exact while no spell adds up to more than the magnitude declared for them."""

from __future__ import annotations

import re
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
DECLARED = re.compile(r"'(\w+)': \{'frames': \[[\d, ]+\], 'magnitude': (\d+)")


def declared(model: str) -> dict[str, int]:
    text = (PROJECT / "models/intermediate/features" / f"{model}.sql").read_text(encoding="utf-8")
    return {column: int(magnitude) for column, magnitude in DECLARED.findall(text)}


def too_large(connection: duckdb.DuckDBPyConnection, model: str, compiled: str) -> list[str]:
    """Sums whose values, at their mean over a spell, would pass the magnitude in a long one."""
    stages = compiled[: compiled.rindex("\n\n)\n\nselect") + len("\n\n)\n\n")]
    magnitudes = declared(model)
    found, seen = [], set()
    for stage in STAGES[model]:
        columns = connection.sql(f"{stages} select * from {stage}").columns
        for column in sorted(set(columns) & set(magnitudes)):
            seen.add(column)
            value = connection.sql(
                f"{stages} select max(mean) from (select avg(abs({column})) as mean from {stage} "
                "group by spell_key having count(*) > 250) as spells"
            ).fetchall()[0][0]
            if value * SESSIONS > 2.0 ** magnitudes[column]:
                found.append(f"{model}.{column}: a spell's mean is {value:g}")
    assert seen == set(magnitudes)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("model", STAGES)
@pytest.mark.parametrize("market", ["sample", "real"])
def test_a_long_spell_stays_within_the_magnitude_of_its_sums(
    model: str, market: str, request: pytest.FixtureRequest
) -> None:
    built: Warehouse = request.getfixturevalue("built_market")
    warehouse = built.path if market == "sample" else request.getfixturevalue("real_warehouse")
    compiled: Path = next(built.target.glob(f"compiled/**/features/{model}.sql"))
    with duckdb.connect() as connection:
        connection.sql(f"attach '{warehouse}' as warehouse (read_only)")
        assert not too_large(connection, model, compiled.read_text(encoding="utf-8"))


def test_every_declared_sum_is_asked_for() -> None:
    folder = PROJECT / "models"
    summing = {p.stem for p in folder.rglob("*.sql") if DECLARED.search(p.read_text("utf-8"))}
    assert summing == set(STAGES)
