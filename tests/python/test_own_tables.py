"""raw_mapping: a team's own tables in place of loaded ones give the same marts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from built_warehouse import Warehouse
from postgres_fixture import PROJECT, Database, command

from ml.manifest import Relation
from ml.parity import compare

pytestmark = pytest.mark.slow

# docs/own_tables.md, with the columns the sample has
OWN_TABLES = [
    "create schema market",
    # a team's table has one row per symbol and day: of a corrected bar the correction
    "create table market.prices as select distinct on (symbol, trade_date) trade_date as dt, "
    "symbol, open::numeric as px_open, high::numeric as px_high, low::numeric as px_low, "
    "close::numeric as px_close, volume::numeric as shares from raw.prices "
    "order by symbol, trade_date, available_at desc",
    "create table market.fundamentals as select symbol, period_end as fiscal_end, "
    "available_at at time zone 'Australia/Sydney' as updated_at, period_type as kind, "
    "pe_ratio as pe, eps, market_cap as mktcap from raw.fundamentals",
    "drop table raw.prices cascade",
]


def documented() -> dict:
    """The variables of the worked example."""
    text = (PROJECT / "docs" / "own_tables.md").read_text()
    block = next(b for b in text.split("```yaml")[1:] if "raw_mapping" in b).split("```")[0]
    return yaml.safe_load(block)["vars"]


def test_the_documented_example_builds_what_the_loaded_tables_build(
    built: Database, tmp_path: Path
) -> None:
    own = built.copy("own_tables")
    with own.warehouse() as warehouse:
        for statement in OWN_TABLES:
            warehouse.execute(statement)
    variables = documented()
    # the other raw tables are the loaded ones
    variables["raw_schema"] = "raw"
    del variables["raw_mapping"]["fundamentals"]
    environment = own.environment(tmp_path)
    names = ["fct_features_daily", "dim_sessions", "fct_price_breaks"]
    arguments = ["--vars", yaml.safe_dump(variables), "--select", *[f"+{n}" for n in names]]
    command("dbt", "--quiet", "run", *arguments, environment=environment)
    keys = {
        "fct_features_daily": ("symbol", "trade_date"),
        "dim_sessions": ("trade_date",),
        "fct_price_breaks": ("security_id", "trade_date"),
    }
    with built.warehouse() as left, own.warehouse() as right:
        compared = compare(left, right, {Relation("marts", n): keys[n] for n in names})
    assert [c for c in compared if c.different] == []


def test_fundamentals_and_an_empty_schema(built: Database, tmp_path: Path) -> None:
    own = built.copy("own_schema")
    with own.warehouse() as warehouse:
        for statement in OWN_TABLES:
            warehouse.execute(statement)
    environment = own.environment(tmp_path)
    text = yaml.safe_dump(documented())
    select = ["--select", "stg_fundamentals", "stg_prices"]
    command("dbt", "--quiet", "run", "--vars", text, *select, environment=environment)
    loaded = built.rows("select symbol, period_end, available_at, pe_ratio from raw.fundamentals")
    found = own.rows("select symbol, period_end, available_at, pe_ratio from asxw_raw.fundamentals")
    assert sorted(map(repr, found)) == sorted(map(repr, loaded)) and found


MAPPED = {
    "raw_mapping": {
        "prices": {
            "relation": "market.prices",
            "columns": {"symbol": "symbol", "trade_date": "dt", "close": "c", "volume": "v"},
        }
    }
}
ONE_BAR = (
    "create schema market",
    "create table market.prices as select 'ABC' as symbol, date '2024-01-02' as dt, "
    "1.0 as c, 10.0 as v",
)
KIND = (
    "select table_type, (select count(*) from staging.stg_prices) from information_schema.tables "
    "where table_schema = 'raw' and table_name = 'prices'"
)
STEPS = (({}, ("BASE TABLE", 0)), (MAPPED, ("VIEW", 1)), ({}, ("BASE TABLE", 0)))


def test_a_mapping_can_be_taken_back_on_postgres(database: Database, tmp_path: Path) -> None:
    with database.warehouse() as warehouse:
        for statement in ONE_BAR:
            warehouse.execute(statement)
    for variables, expected in STEPS:
        arguments = ["--select", "stg_prices", "stg_price_versions"]
        command("dbt", "--quiet", "run", *arguments, "--vars", yaml.safe_dump(variables),
                environment=database.environment(tmp_path))  # fmt: skip
        assert database.rows(KIND) == [expected]


def test_a_view_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    own = Warehouse(tmp_path)
    own.run("dbt", "--quiet", "run", "--select", "stg_prices")
    own.execute("alter table raw.prices rename to kept")
    own.execute("create view raw.prices as select * from raw.kept")
    own.run("dbt", "--quiet", "run", "--select", "stg_prices")
    assert own.rows(KIND) == [("VIEW", 0)]


def test_a_mapping_can_be_taken_back_on_duckdb(tmp_path: Path) -> None:
    own = Warehouse(tmp_path)
    for statement in ONE_BAR:
        own.execute(statement)
    for variables, expected in STEPS:
        arguments = ("--select", "stg_prices", "--vars", yaml.safe_dump(variables))
        own.run("dbt", "--quiet", "run", *arguments)
        assert own.rows(KIND) == [expected]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quotes": {"relation": "x", "columns": {}}}, "which is no raw table"),
        ({"prices": {"relation": "x", "columns": {"symbol": "s"}}}, "gives no trade_date"),
        ({"prices": {"relation": "x", "columns": {"dt": "s"}}}, "which raw.prices has not"),
        (
            {"directory": {"relation": "x", "columns": {"symbol": "s", "snapshot_date": "d",
                                                        "available_at": "a"}}},
            "holds loaded rows",
        ),
    ],
)  # fmt: skip
def test_a_wrong_mapping_is_a_clear_error(
    built: Database, tmp_path: Path, change: dict, message: str
) -> None:
    variables = yaml.safe_dump({"raw_mapping": change})
    arguments = ["dbt", "--quiet", "run", "--select", "stg_prices", "--vars", variables]
    done = command(*arguments, environment=built.environment(tmp_path), check=False)
    assert done.returncode != 0 and message in done.stdout + done.stderr
