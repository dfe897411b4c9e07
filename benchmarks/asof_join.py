"""As-of joins: a range join on validity against the alternatives, on DuckDB and Postgres.

    python benchmarks/asof_join.py                    # DuckDB; Postgres too when PGHOST is set
    python benchmarks/asof_join.py --symbols 600      # a smaller market

Every row of a grid (symbols x sessions) gets the version known at its session, four ways:

- sessions: validity as sessions, half-open, joined by range (what int_fundamental_daily does)
- times: validity as times, joined by range with the session's decision time
- lateral: the latest version known, by a correlated subquery per row
- asof: DuckDB's own ASOF join

The results are compared before anything is reported: nobody is fast by joining something else.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import duckdb
import psycopg2

Run = Callable[[str], object]

SETUP = """
    create table grid as
    select s as security_id, t as session_idx,
        timestamp '2015-01-01 16:15:00' + t * interval '1 day' as decision_at
    from generate_series(1, {symbols}) as a (s)
    cross join generate_series(0, {sessions} - 1) as b (t);
    create table published as
    select s as security_id, v as version,
        timestamp '2014-12-20 09:00:00'
        + (v * ({sessions} / {versions}) + (s * 7 + v * 3) % 11) * interval '1 day'
        + ((s + v) % 24) * interval '1 hour' as valid_from
    from generate_series(1, {symbols}) as a (s)
    cross join generate_series(0, {versions} - 1) as b (v);
    create table versions as
    select security_id, version, valid_from,
        lead(valid_from) over (partition by security_id order by valid_from) as valid_to
    from published;
    create table ranges as
    select security_id, version, from_session_idx,
        lead(from_session_idx) over (partition by security_id order by from_session_idx)
            as before_session_idx
    from (
        select distinct on (security_id, from_session_idx) security_id, version, from_session_idx
        from (
            select published.*, greatest(
                0, cast(valid_from as date) - date '2015-01-01'
                + case when cast(valid_from as time) < time '16:15:00' then 0 else 1 end
            ) as from_session_idx
            from published
        ) as placed
        order by security_id, from_session_idx, valid_from desc
    ) as latest;
"""
INDEX = "create index on published (security_id, valid_from); analyze;"

WAYS = {
    "sessions": """
        select g.security_id, g.session_idx, r.version from grid as g left join ranges as r
        on g.security_id = r.security_id and g.session_idx >= r.from_session_idx
        and (g.session_idx < r.before_session_idx or r.before_session_idx is null)""",
    "times": """
        select g.security_id, g.session_idx, v.version from grid as g left join versions as v
        on g.security_id = v.security_id and g.decision_at > v.valid_from
        and (g.decision_at <= v.valid_to or v.valid_to is null)""",
    "lateral": """
        select g.security_id, g.session_idx, l.version from grid as g left join lateral (
            select p.version from published as p
            where p.security_id = g.security_id and p.valid_from < g.decision_at
            order by p.valid_from desc limit 1
        ) as l on true""",
    "asof": """
        select g.security_id, g.session_idx, p.version from grid as g asof left join published as p
        on g.security_id = p.security_id and g.decision_at > p.valid_from""",
}
CHECK = (
    "select count(*), count(version), sum(security_id * version + session_idx * version) from {}"
)


def measure(name: str, run: Run, ways: dict[str, str], runs: int) -> None:
    """Time each way, compare the results, print seconds and ratios."""
    seconds, results = {}, {}
    for way, sql in ways.items():
        taken = []
        for _ in range(runs):
            run("drop table if exists joined")
            begin = time.perf_counter()
            run(f"create table joined as {sql}")
            taken.append(time.perf_counter() - begin)
            if taken[0] > 60:
                break
        seconds[way] = statistics.median(taken)
        results[way] = str(run(CHECK.format("joined")))
    if len(set(results.values())) != 1:
        raise SystemExit(f"{name}: the ways differ: {results}")
    print(f"{name}: rows, matched, checksum {results['sessions']}")
    for way, taken_by_way in seconds.items():
        ratio = taken_by_way / seconds["sessions"]
        print(f"  {way:<10}{taken_by_way:8.2f} s{ratio:8.1f} x the range join on sessions")


def on_duckdb(arguments: argparse.Namespace) -> None:
    """All four ways, in memory."""
    connection = duckdb.connect()
    connection.execute(
        SETUP.replace("{sessions} / {versions}", "{sessions} // {versions}").format(
            **vars(arguments)
        )
    )
    measure("DuckDB", lambda sql: connection.execute(sql).fetchall(), WAYS, arguments.runs)


def on_postgres(arguments: argparse.Namespace) -> None:
    """Without ASOF, in a schema of its own on the server that the PG variables name."""
    connection = psycopg2.connect("")
    connection.autocommit = True
    cursor = connection.cursor()

    def run(sql: str) -> object:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else None

    run("drop schema if exists benchmark_asof cascade")
    run("create schema benchmark_asof")
    try:
        run("set search_path to benchmark_asof")
        run(SETUP.format(**vars(arguments)))
        run(INDEX)
        measure("Postgres", run, {k: v for k, v in WAYS.items() if k != "asof"}, arguments.runs)
    finally:
        run("drop schema benchmark_asof cascade")
        connection.close()


def main() -> None:
    """Run on every engine there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, default=2394)
    parser.add_argument("--sessions", type=int, default=1560)
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    print(
        f"{arguments.symbols:,} symbols x {arguments.sessions:,} sessions, "
        f"{arguments.versions} versions each"
    )
    on_duckdb(arguments)
    if os.environ.get("PGHOST"):
        on_postgres(arguments)
    else:
        print("Postgres: skipped, PGHOST is not set")


if __name__ == "__main__":
    main()
