"""What five typical questions of BI tools take on a finished Postgres warehouse.

    eval "$(asxw postgres start --database asx_warehouse_sample)"      # or PGHOST and its like
    python benchmarks/bi_queries.py

Each is asked once to warm up and then twenty times; a scan of a whole table is an error.
"""

from __future__ import annotations

import datetime as dt
import os
import statistics
import sys
import time
from typing import Any

import psycopg2

from ml.text_table import text_table

BI_QUERIES = {
    "one symbol over a range of dates": (
        "select trade_date, close, mom_1, vol_60 from marts.fct_features_daily "
        "where symbol = %(symbol)s and trade_date between %(from)s and %(day)s "
        "order by trade_date"
    ),
    "all symbols on a day": (
        "select symbol, close, mom_1_rank from marts.fct_features_daily "
        "where trade_date = %(day)s and is_in_universe order by mom_1_rank desc nulls last"
    ),
    "sectors over a month": (
        "select trade_date, sector, avg(mom_1) as mom_1 from marts.fct_features_daily "
        "where trade_date > %(day)s - 30 group by trade_date, sector"
    ),
    "signals of a symbol": (
        "select trade_date, signal, probability_up from marts.fct_signals "
        "where symbol = %(symbol)s order by trade_date desc limit 60"
    ),
    "coverage of a feature over time": (
        "select trade_date, coverage from marts.fct_feature_coverage_by_session "
        "where feature = 'vol_60' order by trade_date"
    ),
}
# a warehouse without signals gets some for the question, and a table of a few rows needs no index
SIGNALS = (
    "insert into marts.fct_signals (run_id, symbol, trade_date, signal) "
    "select 'r' || n % 3, 'S' || n % 500, date '2024-01-01' + n / 500, 'HOLD' "
    "from generate_series(1, 60000) as n",
    "analyze marts.fct_signals",
)
REPEATS = 20


def sequential_scans(plan: dict[str, Any]) -> list[str]:
    """Tables a plan reads whole."""
    own = [plan["Relation Name"]] if plan["Node Type"] == "Seq Scan" else []
    return own + [s for p in plan.get("Plans", []) for s in sequential_scans(p)]


def parameters(symbol: str, day: dt.date) -> dict[str, Any]:
    """What the questions ask about: one symbol, one day, and the 200 days before it."""
    return {"symbol": symbol, "day": day, "from": day - dt.timedelta(days=200)}


def main() -> None:
    """Ask, and print milliseconds."""
    connection = psycopg2.connect(dbname=os.environ.get("PGDATABASE", "asx_warehouse"))
    cursor = connection.cursor()
    cursor.execute("select max(trade_date), count(*) from marts.fct_features_daily")
    day, total = cursor.fetchall()[0]
    cursor.execute("select min(symbol) from marts.fct_features_daily where trade_date = %s", (day,))
    symbol = cursor.fetchall()[0][0]
    cursor.execute("select count(*) from marts.fct_signals")
    invented = not cursor.fetchall()[0][0]
    if invented:
        for statement in SIGNALS:
            cursor.execute(statement)
    rows, scanned = [], []
    for name, sql in BI_QUERIES.items():
        values = parameters("S7" if invented and "fct_signals" in sql else symbol, day)
        cursor.execute(f"explain (format json) {sql}", values)
        scanned += sequential_scans(cursor.fetchall()[0][0][0]["Plan"])
        times = []
        for _ in range(REPEATS + 1):
            begun = time.perf_counter()
            cursor.execute(sql, values)
            found = len(cursor.fetchall())
            times.append(1000 * (time.perf_counter() - begun))
        rows.append(
            (name, f"{found:,}", f"{statistics.median(times[1:]):.1f}", f"{max(times[1:]):.1f}")
        )
    connection.rollback()
    print(f"fct_features_daily: {total:,} rows\n")
    print(text_table(("question", "rows", "median ms", "slowest ms"), rows))
    if scanned:
        sys.exit(f"read whole: {', '.join(scanned)}")


if __name__ == "__main__":
    main()
