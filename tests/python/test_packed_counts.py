"""Three counts in one number against three counts, on both engines."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from built_warehouse import Warehouse
from compiled_query import Run, compiled_query

pytestmark = pytest.mark.slow

CONDITIONS = ["event = 1", "event in (1, 2)", "event = 3"]
QUERY = """
select
    kind,
    sum(case when event = 1 then 1 else 0 end) as first,
    sum(case when event in (1, 2) then 1 else 0 end) as second,
    sum(case when event = 3 then 1 else 0 end) as third,
    {{ unpacked_count('packed', 0) }} as unpacked_first,
    {{ unpacked_count('packed', 1) }} as unpacked_second,
    {{ unpacked_count('packed', 2) }} as unpacked_third
from (
    select announced.kind, announced.event, by_kind.packed
    from announced
    inner join (
        select kind, cast({{ packed_counts(CONDITIONS) }} as double precision) as packed
        from announced
        group by kind
    ) as by_kind on announced.kind = by_kind.kind
) as both_ways
group by kind, packed
""".replace("CONDITIONS", repr(CONDITIONS))

# events of a group: none that counts, one, two, and each count as high as a frame may have it
EVENTS = {
    "none": [None, 0, 4],
    "one": [1],
    "mixed": [1, 2, 3, 3, None, 2, 0],
    "full": [1] * (2**16 - 1) + [3] * (2**16 - 1),
    "second alone": [2] * (2**16 - 1),
}


@pytest.mark.parametrize("engine", ["duckdb", "postgres"])
def test_counts_come_out_as_they_went_in(engine: str, request: pytest.FixtureRequest) -> None:
    run: Run = compiled_query(engine, QUERY, "announced", request)
    kinds = [kind for kind, events in EVENTS.items() for _ in events]
    events = [event for group in EVENTS.values() for event in group]
    rows = run(pa.table({"kind": kinds, "event": pa.array(events, pa.int32())}))
    assert {row["kind"] for row in rows} == EVENTS.keys()
    for row in rows:
        for place in ("first", "second", "third"):
            assert row[f"unpacked_{place}"] == row[place], row
    full = next(row for row in rows if row["kind"] == "full")
    assert [full["first"], full["second"], full["third"]] == [2**16 - 1] * 3


def test_a_fourth_count_is_refused(tmp_path: Path) -> None:
    query = "select {{ packed_counts(['true', 'true', 'true', 'true']) }}"
    done = Warehouse(tmp_path).run("dbt", "compile", "--inline", query, check=False)
    assert done.returncode != 0
    assert "room for three counts, not 4" in done.stdout
