"""The as-of replay: what a past build would have held, and differences that must be found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from built_warehouse import Warehouse as Market

from ml.audit.as_of import EXTRA, MISSING, Moment, Rule, compare_moment, read_rules
from ml.audit.rebuild import drop
from ml.errors import AsxwError
from ml.manifest import Model, Relation, project_models
from ml.warehouse import DuckDBWarehouse

AT = Moment(datetime(2026, 1, 3), date(2026, 1, 2), 1)
FULL = {
    name: Model(name, Relation("whole", name), "marts/features", True, ("symbol", "trade_date"))
    for name in ("daily", "verdicts")
}
PAST = {
    name: Model(name, Relation("past", name), "marts/features", True, ("symbol", "trade_date"))
    for name in ("daily", "verdicts", "latest")
}


@pytest.fixture
def two_builds(tmp_path: Path) -> Iterator[DuckDBWarehouse]:
    with DuckDBWarehouse(tmp_path / "two.duckdb") as warehouse:
        for schema in ("whole", "past"):
            warehouse.execute(f"create schema {schema}")
        for schema, last in (("whole", 3), ("past", 2)):
            warehouse.execute(
                f"create table {schema}.daily as select symbol, i as session_idx, "
                "date '2026-01-01' + cast(i as integer) as trade_date, i / 7.0::double as x, "
                "case when i > 1 then null else 'b' end as y, "
                f"random() as build_key from generate_series(0, {last - 1}) as g (i) "
                "cross join (values ('A'), ('B')) as s (symbol)"
            )
        warehouse.execute(
            "create table past.latest as select * from past.daily where session_idx = 1"
        )
        warehouse.execute(
            "create table whole.verdicts as select 'A' as symbol, date '2026-01-01' as trade_date, "
            "'real_move' as verdict, 2 as resolved_from"
        )
        warehouse.execute(
            "create table past.verdicts as select 'A' as symbol, date '2026-01-01' as trade_date, "
            "'suspect' as verdict, cast(null as integer) as resolved_from"
        )
        yield warehouse


def differences(warehouse: DuckDBWarehouse, rule: Rule) -> dict[str, int]:
    full = FULL | {"latest": FULL["daily"]}
    (found,) = compare_moment(warehouse, [rule], full, PAST, AT)
    return {d.column: d.rows for d in found.differences}


KEY = ("symbol", "trade_date")
DAILY = Rule(
    "daily",
    "rows",
    rows="trade_date <= {last_date}",
    key=KEY,
    except_={"build_key": "numbers of one build"},
)
LATEST = Rule("latest", "latest", key=KEY, of="daily", except_={"build_key": "likewise"})
VERDICTS = Rule(
    "verdicts",
    "rows",
    rows="trade_date <= {last_date}",
    key=KEY,
    once="resolved_from <= {last_idx}",
    until=("verdict", "resolved_from"),
)


def test_rows_of_the_past_that_are_the_same_are_no_difference(two_builds: DuckDBWarehouse) -> None:
    assert differences(two_builds, DAILY) == {}
    assert differences(two_builds, LATEST) == {}
    # not known by then in either build: what it became later is no difference
    assert differences(two_builds, VERDICTS) == {}


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ("update past.daily set x = x + 1e-17 where symbol = 'A' and session_idx = 0", "x"),
        ("update past.daily set x = null where symbol = 'A' and session_idx = 1", "x"),
        ("update whole.daily set y = 'c' where symbol = 'A' and session_idx = 1", "y"),
        ("delete from past.daily where symbol = 'A' and session_idx = 1", MISSING),
        ("delete from whole.daily where symbol = 'A' and session_idx = 1", EXTRA),
    ],
)
def test_one_changed_cell_is_one_difference(
    two_builds: DuckDBWarehouse, change: str, column: str
) -> None:
    two_builds.execute(change)
    assert differences(two_builds, DAILY) == {column: 1}


def test_a_change_after_the_time_is_none_of_its_business(two_builds: DuckDBWarehouse) -> None:
    two_builds.execute("update whole.daily set x = -1 where session_idx = 2")
    assert differences(two_builds, DAILY) == {}


def test_the_latest_table_is_the_last_session_of_the_history(two_builds: DuckDBWarehouse) -> None:
    two_builds.execute("update whole.daily set x = -1 where session_idx = 1 and symbol = 'B'")
    assert differences(two_builds, LATEST) == {"x": 1}


def test_a_verdict_known_by_then_must_be_the_same(two_builds: DuckDBWarehouse) -> None:
    two_builds.execute("update whole.verdicts set resolved_from = 1")
    assert differences(two_builds, VERDICTS) == {"verdict": 1, "resolved_from": 1}


def test_rounding_is_told_from_a_real_difference(two_builds: DuckDBWarehouse) -> None:
    two_builds.execute("update past.daily set x = x * (1 + 1e-12) where session_idx = 1")
    two_builds.execute("update past.daily set x = x + 1 where session_idx = 0 and symbol = 'B'")
    (found,) = compare_moment(two_builds, [DAILY], FULL, PAST, AT)
    (x,) = found.differences
    assert (x.rows, x.beyond) == (3, 1) and x.largest == 1
    assert x.examples[0].startswith("symbol A, trade_date 2026-01-02: 0.142857")


def test_a_public_mart_without_a_rule_is_refused(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text("tables:\n  daily: {rule: rows, rows: 'true'}\n", encoding="utf-8")
    with pytest.raises(AsxwError, match="no rule for the public verdicts"):
        read_rules(FULL, rules)
    rules.write_text("tables: {gone: {rule: apart, why: x}}\n", encoding="utf-8")
    with pytest.raises(AsxwError, match="no model"):
        read_rules(FULL, rules)
    rules.write_text("tables: {daily: {rule: rows}}\n", encoding="utf-8")
    with pytest.raises(AsxwError, match="daily needs a rule"):
        read_rules(FULL, rules)
    rules.write_text(
        "tables: {daily: {rule: rows, rows: 'true'}}\nfolders: {marts/features: results}\n",
        encoding="utf-8",
    )
    assert {r.table: r.rule for r in read_rules(FULL, rules)} == {
        "daily": "rows",
        "verdicts": "apart",
    }


def test_only_schemas_of_an_as_of_build_are_ever_dropped(two_builds: DuckDBWarehouse) -> None:
    two_builds.execute("create schema asof_202601030000_marts")
    for prefix in ("", "asof_", "full", "asof_2026"):
        with pytest.raises(ValueError, match="not the prefix"):
            drop(two_builds, prefix)
    drop(two_builds, "asof_202601030000_")
    left = two_builds.read_rows("select schema_name from information_schema.schemata")
    assert ("whole",) in left and ("asof_202601030000_marts",) not in left


@pytest.mark.slow
def test_the_sample_market_replays(built_market: Market, tmp_path: Path) -> None:
    """As known before a bar was corrected: the correction, and nothing else, makes a difference."""
    ((symbol, day, corrected),) = built_market.frame(
        "select symbol, trade_date, max(available_at) as corrected from raw.prices "
        "group by symbol, trade_date having count(*) > 1 "
        "order by trade_date desc limit 1"
    ).itertuples(index=False, name=None)
    before = [corrected - timedelta(days=days) for days in (200, 100)]
    dates = ",".join(f"{moment:%Y-%m-%dT00:00}" for moment in (*before, corrected))
    done = built_market.run(
        "asxw", "audit", "replay", "--dates", dates, "--out", str(tmp_path / "cells.csv"),
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    audit = built_market.frame("select * from ml.audits where layer = 'replay'").iloc[-1]
    assert audit["passed"] and audit["market"] == "sample" and audit["checked"] > 1_000_000
    *earlier, at = json.loads(audit["details"])["times"]
    assert len(earlier) == 2 and all(time["unexplained"] == [] for time in earlier)
    assert at["corrections"] >= 1
    explained = {(d["table"], d["column"]) for d in at["explained"]}
    assert ("int_traded_prices", "close") in explained, at
    assert at["unexplained"] == []
    # what was scored on that day, and the checksum of every session until then, as it is today
    assert at["rows"]["fct_features_latest"] > 30 and at["rows"]["int_session_checksums"] > 300
    listed = (tmp_path / "cells.csv").read_text(encoding="utf-8")
    assert f"security_id={symbol}" in listed and f"{day:%Y-%m-%d}" in listed
    left = built_market.frame(
        "select schema_name from information_schema.schemata where schema_name like 'asof%'"
    )
    assert left.empty
    # every public mart of the project has its rule
    rules = read_rules(project_models(built_market.folder / "target" / "manifest.json"))
    assert {r.table for r in rules if r.rule != "apart"} >= {"fct_features_daily", "dim_sessions"}
