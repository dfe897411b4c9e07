"""Clean rows into a raw table, by the rules of the contract: idempotent, nothing overwritten."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from ml.contract import Table
from ml.errors import AsxwError
from ml.warehouse import Warehouse

SUPERSEDED = "changes a version that a later one in the same load replaces"


@dataclass(frozen=True)
class Merged:
    """Rows per (file number, loaded or unchanged), and rows (no, reason) rejected on the way."""

    counts: dict[tuple[int, str], int]
    rejected: pa.Table


def _list(columns: Sequence[str], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{c}"' for c in columns)


def _same(columns: Sequence[str], left: str, right: str) -> str:
    """Null-safe equality of columns."""
    tests = [f'{left}."{c}" is not distinct from {right}."{c}"' for c in columns]
    return " and ".join(tests) or "true"


def _equal(columns: Sequence[str], left: str, right: str) -> str:
    return " and ".join(f'{left}."{c}" = {right}."{c}"' for c in columns)


def merge(
    warehouse: Warehouse,
    schema: str,
    table: Table,
    rows: pa.Table,
    *,
    replaced_rows: Table,
    source: str,
    received_at: dt.datetime,
    now: dt.datetime,
    loaded_at: dt.datetime,
) -> Merged:
    """Merge checked rows, unique in the table's key, within the caller's transaction.

    A versioned table gets a changed row as a new version known from `received_at`, or, where the
    version it corrects will be known later only, from just after that, unless some version stored
    for the row already says the same: a file loaded again adds nothing, whatever came after it. Any
    other table has the row replaced and keeps its old form in replaced_rows.

    Args:
        warehouse: the warehouse, in a transaction.
        schema: schema of the raw tables.
        table: the raw table.
        rows: no, file_no, merged, and the table's columns without those of the loader. A merged
            row shares the fate of the row with its key.
        replaced_rows: the table that keeps the old form of a replaced row.
        source: the layout's name.
        received_at: market local time; see above.
        now: market local time, not before `received_at`.
        loaded_at: UTC.

    Raises:
        AsxwError: a correction would not be newer than the version it corrects.
    """
    target = f'"{schema}"."{table.name}"'
    first = table.key[0]
    warehouse.put_temporary("incoming", rows)
    warehouse.make_temporary(
        "fate",
        "select i.no, i.file_no, "
        f"case when s.\"{first}\" is null then 'insert' "
        f"when {_same(table.payload, 'i', 's')} then 'unchanged' else 'changed' end as status, "
        "cast(null as timestamp) as known_at "
        f"from incoming i left join {target} s on {_equal(table.key, 'i', 's')} "
        "where not i.merged",
    )
    if table.versioned:
        _version(warehouse, target, table, received_at, now)
    else:
        _replace(warehouse, schema, target, table, replaced_rows, loaded_at)
    columns = [c.name for c in table.columns if not c.loader]
    known = [
        'coalesce(f.known_at, i."available_at")'
        if c == "available_at" and table.versioned
        else f'i."{c}"'
        for c in columns
    ]
    warehouse.execute(
        f"insert into {target} ({_list(columns)}, source, loaded_at) "
        f"select {', '.join(known)}, ?, cast(? as timestamp) from incoming i "
        "join fate f on f.no = i.no where f.status in ('insert', 'changed', 'correction') "
        "order by i.no",
        [source, loaded_at],
    )
    return _outcome(warehouse, table)


def _version(
    warehouse: Warehouse,
    target: str,
    table: Table,
    received_at: dt.datetime,
    now: dt.datetime,
) -> None:
    """Decide about rows whose key is stored with another payload."""
    business = [k for k in table.key if k != "available_at"]
    warehouse.make_temporary(
        "changed",
        "select i.* from incoming i join fate f on f.no = i.no where f.status = 'changed'",
    )
    if not warehouse.read_rows("select 1 from changed limit 1"):
        return
    warehouse.make_temporary(
        "versions",
        "select s.*, row_number() over "
        f'(partition by {_list(business, "s.")} order by s."available_at" desc) as place '
        f"from {target} s where exists (select 1 from changed c "
        f"where {_equal(business, 'c', 's')})",
    )
    warehouse.make_temporary("latest", "select * from versions where place = 1")
    warehouse.make_temporary(
        "verdict",
        "select c.no, "
        f"case when exists (select 1 from versions s where {_equal(business, 's', 'c')} "
        f"and {_same(table.payload, 's', 'c')}) then 'unchanged' "
        f"when exists (select 1 from incoming i where {_equal(business, 'i', 'c')} "
        'and i."available_at" > c."available_at" and not i.merged) then \'superseded\' '
        'when l."available_at" between cast(? as timestamp) and cast(? as timestamp) '
        "then 'too late' else 'correction' end as status, "
        "greatest(cast(? as timestamp), l.\"available_at\" + interval '1 microsecond') as known_at "
        f"from changed c join latest l on {_equal(business, 'l', 'c')}",
        [received_at, now, received_at],
    )
    late = warehouse.read_rows(
        f'select {_list(business, "c.")}, l."available_at" from verdict v '
        f"join changed c on c.no = v.no join latest l on {_equal(business, 'l', 'c')} "
        "where v.status = 'too late' order by c.no limit 1"
    )
    if late:
        row = ", ".join(f"{k} {v}" for k, v in zip(business, late[0][:-1], strict=True))
        raise AsxwError(
            f"raw.{table.name}: the row {row} differs from the stored one, whose latest version "
            f"is known since {late[0][-1]}, but the data is said to have arrived at {received_at}. "
            "Give the time it really arrived with --received-at; nothing was loaded."
        )
    warehouse.execute(
        "update fate set status = v.status, "
        "known_at = case when v.status = 'correction' then v.known_at end "
        "from verdict v where v.no = fate.no"
    )


def _replace(
    warehouse: Warehouse,
    schema: str,
    target: str,
    table: Table,
    replaced_rows: Table,
    loaded_at: dt.datetime,
) -> None:
    """Move the stored form of changed rows to replaced_rows."""
    changed = (
        "select 1 from incoming i join fate f on f.no = i.no where f.status = 'changed' and "
        + _equal(table.key, "i", "s")
    )
    if not warehouse.read_rows("select 1 from fate where status = 'changed' limit 1"):
        return
    columns = _list([c.name for c in table.columns], "s.")
    stored = warehouse.read_arrow(f"select {columns} from {target} s where exists ({changed})")
    warehouse.append(schema, replaced_rows, _as_json(stored, table, loaded_at))
    warehouse.execute(f"delete from {target} as s where exists ({changed})")


def _as_json(stored: pa.Table, table: Table, replaced_at: dt.datetime) -> pa.Table:
    """Rows of replaced_rows: one text per stored row, written by DuckDB whatever the warehouse."""
    cells = ", ".join(f"'{c.name}', s.\"{c.name}\"" for c in table.columns)
    with duckdb.connect(":memory:") as connection:
        connection.register("stored", stored)
        return connection.sql(
            f"select ? as table_name, cast(json_object({cells}) as text) as row_json, "
            "cast(? as timestamp) as replaced_at from stored s",
            params=[table.name, replaced_at],
        ).to_arrow_table()


def _outcome(warehouse: Warehouse, table: Table) -> Merged:
    warehouse.execute(
        "insert into fate (no, file_no, status) select p.no, p.file_no, f.status "
        "from incoming p join incoming h on "
        f"{_equal(table.key, 'h', 'p')} and not h.merged join fate f on f.no = h.no where p.merged"
    )
    counts = {
        (int(row[0]), str(row[1])): int(row[2])
        for row in warehouse.read_rows(
            "select file_no, case when status = 'unchanged' then status else 'loaded' end, "
            "count(*) from fate where status <> 'superseded' group by 1, 2"
        )
    }
    rejected = warehouse.read_arrow(
        "select no, ? as reason from fate where status = 'superseded'", [SUPERSEDED]
    )
    for name in ("incoming", "fate", "changed", "versions", "latest", "verdict"):
        warehouse.drop_temporary(name)
    return Merged(counts, rejected)
