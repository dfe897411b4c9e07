"""Fundamentals end to end: made-up publications in a small market, and the snapshot's history."""

from __future__ import annotations

import datetime as dt
import json
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from built_warehouse import NO_TESTS, Warehouse

BUILD = ("dbt", "--quiet", "build", *NO_TESTS, "--select")


# --- publications ---------------------------------------------------------------------------------

# symbol, period end, type, published, revised, eps; the sessions run from 16 March to 4 June 2026
REPORTS = [
    # the result of the half is out on Tuesday 7 April after the close
    ("AAA", "2025-06-30", "year", "2025-09-01 09:00:00", None, 1.0),
    ("AAA", "2025-12-31", "half", "2026-04-07 16:15:00", None, 2.0),
    # the old year restated after it; the half itself restated twice on one day
    ("AAA", "2025-06-30", "year", "2026-04-14 09:00:00", None, 1024.0),
    ("AAA", "2025-12-31", "half", "2026-04-21 09:00:00", None, 4.0),
    ("AAA", "2025-12-31", "half", "2026-04-21 11:00:00", None, 8.0),
    # a Saturday, and a report that takes a figure away
    ("AAA", "2025-12-31", "half", "2026-05-02 10:00:00", None, 16.0),
    ("AAA", "2026-03-31", "half", "2026-05-12 10:00:00", None, None),
    # nothing before the first report; no publication time: 75 days after 31 January is 16 April
    ("BBB", "2026-01-31", "half", None, None, 2.0),
    # filed 200 days late
    ("CCC", "2025-09-30", "half", "2026-04-18 10:00:00", None, 2.0),
]


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Warehouse:
    built = Warehouse(tmp_path_factory.mktemp("fundamentals"))
    files = built.folder / "market"
    built.run("asxw", "sample-market", str(files), "--symbols", "5", "--sessions", "60")
    traded = duckdb.sql(
        f"select symbol from '{files}/prices.parquet' group by symbol "
        "having count(*) = (select max(n) from (select count(*) as n "
        f"from '{files}/prices.parquet' group by symbol)) order by 1 limit 3"
    ).fetchall()
    names = dict(zip(("AAA", "BBB", "CCC"), (s for (s,) in traded), strict=True))
    schema = pq.read_schema(files / "fundamentals.parquet")
    table = {name: [None] * len(REPORTS) for name in schema.names}
    table["symbol"] = [names[r[0]] for r in REPORTS]
    table["period_end"] = [dt.date.fromisoformat(r[1]) for r in REPORTS]
    table["period_type"] = [r[2] for r in REPORTS]
    table["available_at"] = [r[3] and dt.datetime.fromisoformat(r[3]) for r in REPORTS]
    table["eps"] = [r[5] for r in REPORTS]
    table["market_cap"] = [0.0 if r[0] == "CCC" else 1e6 for r in REPORTS]
    pq.write_table(pa.table(table, schema=schema), files / "fundamentals.parquet")
    built.run("asxw", "load", str(files), "--layout", "sample")
    variables = "{fundamental_max_age_days: 250}"
    built.run(*BUILD, "+int_fundamental_daily", "--vars", variables)
    (built.folder / "names.json").write_text(json.dumps(names))
    return built


def history(market: Warehouse, name: str) -> list[tuple]:
    """First session of each stretch with the same report and eps."""
    symbol = json.loads((market.folder / "names.json").read_text())[name]
    found = market.rows(
        f"""select g.trade_date, f.fund_period_end, f.eps, f.fund_age_days
        from intermediate.int_fundamental_daily f
        join intermediate.int_daily_grid g using (spell_key, session_idx)
        where g.symbol = '{symbol}' order by 1""",
    )
    changes = [
        row
        for before, row in zip([None, *found[:-1]], found, strict=True)
        if before is None or before[1:3] != row[1:3]
    ]
    return [(str(day), end and str(end), eps) for day, end, eps, _ in changes]


@pytest.mark.slow
def test_a_row_has_what_was_known_at_its_decision_time(market):
    assert history(market, "AAA")[1:] == [
        ("2026-04-08", "2025-12-31", 2.0),  # known at 16:15 of the 7th: the session after
        ("2026-04-21", "2025-12-31", 8.0),  # the second of two; the restated year changes nothing
        ("2026-05-04", "2025-12-31", 16.0),  # a Saturday's counts on Monday
        ("2026-05-12", "2026-03-31", None),  # what the new report leaves out is unknown
    ]
    assert history(market, "AAA")[0][1:] == ("2025-06-30", 1.0)


@pytest.mark.slow
def test_nothing_before_the_first_report_and_an_assumed_time(market):
    first = market.rows("select min(trade_date) from intermediate.int_daily_grid")[0][0]
    assert history(market, "BBB") == [(str(first), None, None), ("2026-04-16", "2026-01-31", 2.0)]
    assert market.rows(
        "select available_at, available_at_assumed from raw.fundamentals "
        "where available_at_assumed",
    ) == [(dt.datetime(2026, 4, 16), True)]


@pytest.mark.slow
def test_a_market_cap_of_nothing_is_unknown(market):
    symbol = json.loads((market.folder / "names.json").read_text())["CCC"]
    sizes = "select min(market_cap), count(*) from {} where symbol = '" + symbol + "'"
    assert market.rows(sizes.format("raw.fundamentals")) == [(0.0, 1)]
    assert market.rows(sizes.format("staging.stg_fundamentals")) == [(None, 1)]


@pytest.mark.slow
def test_a_late_filing_counts_from_its_filing(market):
    assert history(market, "CCC")[1:] == [("2026-04-20", "2025-09-30", 2.0)]


@pytest.mark.slow
def test_a_report_that_is_too_old_says_nothing(market):
    variables = "{fundamental_max_age_days: 205}"
    market.run(*BUILD, "int_fundamental_daily", "--vars", variables)
    assert history(market, "AAA")[:3] == [
        (history(market, "AAA")[0][0], "2025-06-30", 1.0),
        ("2026-03-26", None, None),  # 206 days after 1 September
        ("2026-04-08", "2025-12-31", 2.0),
    ]


# --- the latest table -----------------------------------------------------------------------------


@pytest.mark.slow
def test_training_reads_no_latest_table(market):
    manifest = json.loads((market.target / "manifest.json").read_text())
    seen: set[str] = set()
    open_nodes = ["model.asx_warehouse.int_training_panel"]
    while open_nodes:
        node = open_nodes.pop()
        if node not in seen:
            seen.add(node)
            open_nodes.extend(manifest["parent_map"].get(node, []))
    assert "model.asx_warehouse.fct_features_daily" in seen
    assert not [node for node in seen if node.endswith("_latest")]


# --- the snapshot ---------------------------------------------------------------------------------

SNAPSHOT = (
    *("fundamentals_snapshot", "stg_fundamentals_snapshot", "stg_symbol_changes"),
    *("int_symbol_history", "int_fundamental_reports", "int_fundamentals_versions"),
)


def deliver(warehouse: Warehouse, *states: tuple[str, float | None, str | None]) -> None:
    """What the vendor has now: symbol, eps and end of the period."""
    with duckdb.connect(str(warehouse.path)) as connection:
        connection.execute("delete from raw.fundamentals_current")
        for symbol, eps, end in states:
            connection.execute(
                "insert into raw.fundamentals_current (symbol, eps, period_end, period_type) "
                "values (?, ?, cast(? as date), 'half')",
                [symbol, eps, end],
            )
    variables = "{fundamentals_source: snapshot}"
    warehouse.run(*BUILD, *SNAPSHOT, "--vars", variables)


@pytest.mark.slow
def test_a_snapshot_keeps_the_history_a_vendor_does_not(tmp_path):
    warehouse = Warehouse(tmp_path)
    warehouse.run(*BUILD, "stg_symbol_changes")
    before = dt.datetime.now(dt.UTC)
    deliver(
        warehouse, ("AAA.AX", 1.0, "2025-12-31"), ("BBB", 2.0, None), ("CCC", 4.0, "2025-12-31")
    )
    deliver(warehouse, ("AAA.AX", 1.5, "2025-12-31"), ("CCC", 4.0, "2025-12-31"))
    after = dt.datetime.now(dt.UTC)
    versions = warehouse.rows(
        "select security_id, period_end, eps, valid_from, valid_to "
        "from intermediate.int_fundamentals_versions order by security_id, valid_from",
    )
    end = dt.date(2025, 12, 31)
    assert [(s, e) for s, _, e, _, _ in versions] == [
        ("AAA", 1.0),
        ("AAA", 1.5),
        ("BBB", 2.0),
        ("BBB", None),  # gone: nothing is known any more
        ("CCC", 4.0),  # unchanged: one version
    ]
    assert versions[0][1] == end
    # the vendor names no period: it ends the day its values were seen
    assert versions[2][1] == versions[2][3].date()
    # knowledge is in market time, between the two clocks
    zone = ZoneInfo("Australia/Sydney")
    low, high = (t.astimezone(zone).replace(tzinfo=None) for t in (before, after))
    assert all(low <= version[3] <= high for version in versions)
    assert versions[0][4] == versions[1][3] and versions[1][4] is None
