"""One load: read and check in memory, then merge everything into the warehouse at once."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa

from ingest.checks import INPUT, MERGED, REASON, Mapper, create_macros
from ingest.layouts import Input, Layout, read_layout
from ingest.merge import merge
from ingest.one_market import check_one_market, other_market_set_aside
from ingest.reader import FILE, ID, Source, Staging, find_files, literal, quoted
from ml.contract import Table, read_contract
from ml.errors import AsxwError
from ml.warehouse import Warehouse, open_warehouse, project_vars

TOP_REASONS = 5
REQUIRED_TABLE = "prices"


@dataclass(frozen=True)
class FileCount:
    """Rows of one file in one table: read = loaded + unchanged + rejected."""

    table: str
    file: str
    read: int
    loaded: int
    unchanged: int
    rejected: int


@dataclass
class LoadResult:
    """What a load did, per table and file, and why rows were rejected (reason, rows)."""

    load_id: str
    counts: list[FileCount] = field(default_factory=list)
    reasons: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    def total(self, table: str) -> FileCount:
        """The counts of a table over its files."""
        own = [c for c in self.counts if c.table == table]
        return FileCount(
            table,
            "",
            sum(c.read for c in own),
            sum(c.loaded for c in own),
            sum(c.unchanged for c in own),
            sum(c.rejected for c in own),
        )


@dataclass(frozen=True)
class _Plan:
    """An input whose files were found and whose columns fit."""

    entry: Input
    source: Source | None
    lookups: Mapping[str, Source]


@dataclass(frozen=True)
class _Times:
    received_at: dt.datetime
    """When the data arrived; market local time, as `now`."""
    now: dt.datetime
    loaded_at: dt.datetime
    """UTC."""


def load(
    folder: Path,
    layout_name: str,
    project_dir: Path,
    *,
    target: str | None = None,
    received_at: dt.datetime | None = None,
    raw_schema: str | None = None,
    set_aside: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> LoadResult:
    """Load a folder of vendor files into the raw tables, all of it or nothing.

    Args:
        folder: where the files are.
        layout_name: a shipped layout's name or the path of one.
        project_dir: folder with dbt_project.yml.
        target: output of the dbt profile; None for its default.
        received_at: when the data arrived, market local time; corrections of rows already in the
            warehouse are known from then on. None for now.
        raw_schema: schema of the raw tables; None for the project's.
        set_aside: keep a DuckDB warehouse with other layouts' prices under another name and begin a
            new one; after a load that fails it is back under its own.
        progress: called with one line per step.

    Raises:
        AsxwError: nothing was loaded; the text says why and what to do.
    """
    contract = read_contract(project_dir, "raw")
    layout = read_layout(layout_name, contract)
    if REQUIRED_TABLE not in layout.inputs:
        raise AsxwError(f"Layout {layout.path} describes no {REQUIRED_TABLE}, which a load needs.")
    if not folder.is_dir():
        raise AsxwError(f"{folder} is not a folder. Name the folder that holds the files.")
    times = _times(layout, received_at)
    schema = raw_schema or str(project_vars(project_dir)["raw_schema"])
    folder = folder.resolve()
    with Staging(folder, layout.timezone, _linked(folder, layout)) as staging:
        plans = _plan(staging, layout, contract, progress)
        with (
            other_market_set_aside(project_dir, layout.name, schema, target, progress)
            if set_aside
            else nullcontext(),
            _explained(),
            open_warehouse(project_dir, target) as warehouse,
            warehouse.transaction(),
        ):
            # a second load waits for this one, and then finds its rows
            warehouse.hold(f"load {schema}")
            warehouse.create_tables(schema, contract)
            check_one_market(warehouse, schema, layout, contract)
            job = _Load(
                staging,
                warehouse,
                layout,
                contract=contract,
                schema=schema,
                times=times,
                progress=progress,
            )
            for name, table_plans in plans.items():
                job.run(contract[name], table_plans)
            return job.result


@contextmanager
def _explained() -> Iterator[None]:
    """A failure of the database (a full disk, too little memory) as one clear text."""
    try:
        yield
    except duckdb.Error as error:
        raise AsxwError(f"The load stopped and nothing was loaded: {str(error).strip()}") from error


def _times(layout: Layout, received_at: dt.datetime | None) -> _Times:
    now = dt.datetime.now(dt.UTC)
    local = now.astimezone(ZoneInfo(layout.timezone)).replace(tzinfo=None, microsecond=0)
    if received_at is not None and received_at > local:
        raise AsxwError(
            f"--received-at {received_at} is in the future of {layout.timezone} ({local}). "
            "Give the market's local time at which the data arrived."
        )
    return _Times(received_at or local, local, now.replace(tzinfo=None))


def _linked(folder: Path, layout: Layout) -> list[Path]:
    """Files outside the folder that links in it stand for."""
    sets = [
        files
        for entries in layout.inputs.values()
        for entry in entries
        for files in (entry.files, *entry.lookups.values())
        if files is not None
    ]
    real = {f.path.resolve() for files in sets for f in find_files(folder, files.pattern)}
    return sorted(path for path in real if not path.is_relative_to(folder))


def _plan(
    staging: Staging,
    layout: Layout,
    contract: Mapping[str, Table],
    progress: Callable[[str], None],
) -> dict[str, list[_Plan]]:
    """Find every file and bind every expression before a row is read."""
    plans: dict[str, list[_Plan]] = {}
    for name, inputs in layout.inputs.items():
        for entry in inputs:
            create_macros(staging, layout, entry.values)
            mapper = Mapper(staging, layout, entry, contract[name])
            mapper.check_sql()
            source = staging.inspect(entry.files, f"raw.{name}") if entry.files else None
            if source is not None and not source.groups:
                progress(f"{name}: no file {entry.label}, left out")
                continue
            lookups = {
                key: staging.inspect(files, f"raw.{name}, lookup {key}")
                for key, files in entry.lookups.items()
            }
            for key, lookup in lookups.items():
                lookup.check_types(f"Layout {layout.path}, {name}, lookup {key}")
            sources: tuple[Source | None, ...] = (source,)
            if source is not None:
                mapper.check_groups(source)
                if entry.query is None:
                    sources = source.by_types()
                else:
                    source.check_types(f"Layout {layout.path}, {name}, {entry.label}, query")
            plans.setdefault(name, []).extend(_Plan(entry, s, lookups) for s in sources)
    if REQUIRED_TABLE not in plans:
        patterns = ", ".join(e.label for e in layout.inputs[REQUIRED_TABLE])
        raise AsxwError(
            f"No file for raw.{REQUIRED_TABLE} in {staging.folder} (looked for {patterns}). Name "
            "the folder that holds it, or a layout that fits the files."
        )
    return plans


class _Load:
    """The tables of one load, one after the other, inside the warehouse's transaction."""

    def __init__(
        self,
        staging: Staging,
        warehouse: Warehouse,
        layout: Layout,
        *,
        contract: Mapping[str, Table],
        schema: str,
        times: _Times,
        progress: Callable[[str], None],
    ) -> None:
        self.staging = staging
        self.warehouse = warehouse
        self.layout = layout
        self.contract = contract
        self.schema = schema
        self.times = times
        self.progress = progress
        self.result = LoadResult(uuid.uuid4().hex)
        self._file_numbers: list[int] = []
        self._lookup_files: dict[int, str] = {}

    def run(self, table: Table, plans: list[_Plan]) -> None:
        """Read, check and merge one table."""
        self._create_staged(table)
        self._file_numbers = []
        self._lookup_files = {}
        for number, plan in enumerate(plans):
            self._stage(table, plan, number)
        self._keep_lookup_lines()
        self._reject_repeats(table)
        merged = merge(
            self.warehouse,
            self.schema,
            table,
            self._clean_rows(table),
            replaced_rows=self.contract["replaced_rows"],
            source=self.layout.name,
            received_at=self.times.received_at,
            now=self.times.now,
            loaded_at=self.times.loaded_at,
        )
        if merged.rejected.num_rows:
            self.staging.connection.register("late", merged.rejected)
            self.staging.connection.execute(
                f"update __staged set {REASON} = late.reason from late "
                "where __staged.rowid = late.no"
            )
            self.staging.connection.unregister("late")
        self._write_rejects(table)
        self._count(table, merged.counts)
        for number in range(len(plans)):
            self.staging.connection.execute(f"drop table if exists __source_{number}")
        self.staging.connection.execute("delete from __malformed")
        total = self.result.total(table.name)
        self.progress(
            f"{table.name}: {total.read:,} read, {total.loaded:,} loaded, "
            f"{total.unchanged:,} unchanged, {total.rejected:,} rejected"
        )

    def _create_staged(self, table: Table) -> None:
        columns = ", ".join(
            f"{quoted(c.name)} {c.data_type}" for c in table.columns if not c.loader
        )
        self.staging.connection.execute(
            f"create or replace table __staged ({INPUT} integer, {ID} bigint, {FILE} integer, "
            f"{columns}, {REASON} text, {MERGED} boolean)"
        )

    def _stage(self, table: Table, plan: _Plan, number: int) -> None:
        staging = self.staging
        mapper = Mapper(staging, self.layout, plan.entry, table)
        create_macros(staging, self.layout, plan.entry.values)
        first = len(staging.files)
        source_table = f"__source_{number}"
        if plan.source is None:
            staging.load_rows(plan.entry, self.layout.path.name, source_table)
        else:
            staging.load(plan.source, source_table)
        last = len(staging.files)
        self._file_numbers.extend(range(first, last))
        for name, lookup in plan.lookups.items():
            read = len(staging.files)
            staging.load(lookup, f"__lookup_{name}")
            self._lookup_files |= dict.fromkeys(range(read, len(staging.files)), name)
            staging.connection.execute(
                f"create or replace view {quoted(name)} as "
                f"select * exclude ({FILE}) from __lookup_{name}"
            )
        columns = staging.describe(f"select * exclude ({FILE}) from {source_table}")
        mapper.view(source_table, columns, first, last)
        relation = mapper.relation(f"__queried_{number}")
        mapper.map(relation, "__staged", number, self.times.received_at.date())
        staging.connection.execute("drop view input")
        staging.connection.execute(f"drop table if exists __queried_{number}")
        for name in plan.lookups:
            staging.connection.execute(f"drop view {quoted(name)}")
            staging.connection.execute(f"drop table __lookup_{name}")

    def _keep_lookup_lines(self) -> None:
        """Malformed lines of lookups, once each, and not those an input of the table has too."""
        if not self._lookup_files:
            return
        connection = self.staging.connection
        own = ", ".join(
            f"({n}, {literal(self.staging.files[n].name)}, "
            f"{literal(self._lookup_files[n]) if n in self._lookup_files else 'null'})"
            for n in (*self._file_numbers, *self._lookup_files)
        )
        connection.execute(
            "create or replace temp table __placed as select m.rowid as no, m.position, f.* "
            f"from __malformed m join (values {own}) as f(file_no, file_name, lookup) "
            "using (file_no)"
        )
        connection.execute(
            "delete from __malformed where rowid in (select m.no from __placed m "
            "where m.lookup is not null and exists (select 1 from __placed o "
            "where o.file_name = m.file_name and o.position = m.position "
            "and (o.lookup is null or o.no < m.no)))"
        )
        connection.execute(
            "update __malformed set reason = 'lookup ' || p.lookup || ', ' || reason "
            "from __placed p where p.no = __malformed.rowid and p.lookup is not null"
        )
        kept = self.staging.rows("select distinct file_no from __malformed")
        self._file_numbers.extend(
            n for row in sorted(kept, key=str) if (n := int(str(row[0]))) in self._lookup_files
        )

    def _reject_repeats(self, table: Table) -> None:
        """One row per key stays: identical repeats keep the first, conflicting ones none."""
        keys = ", ".join(quoted(k) for k in table.key)
        payload = ", ".join(quoted(c) for c in table.payload) or "0"
        good = f"{REASON} is null and not {MERGED}"
        self.staging.connection.execute(
            f"create or replace temp table __repeated as select {keys}, "
            f"count(distinct row({payload})) as variants from __staged "
            f"where {good} group by {keys} having count(*) > 1"
        )
        self.staging.connection.execute(
            f"update __staged set {REASON} = r.reason from ("
            "select rowid as no, case when variants > 1 then 'conflicting rows with the same key' "
            f"when row_number() over (partition by {keys} order by {INPUT}, {ID}) > 1 "
            "then 'duplicate row' end as reason "
            "from (select s.rowid, s.*, r.variants from __staged s "
            f"join __repeated r using ({keys}) where {good})) r "
            "where __staged.rowid = r.no and r.reason is not null"
        )
        host = " and ".join(f"h.{quoted(k)} = s.{quoted(k)}" for k in table.key)
        self.staging.connection.execute(
            f"update __staged set {REASON} = 'the row it belongs to was rejected' from ("
            f"select s.rowid as no from __staged s where s.{MERGED} and s.{REASON} is null and not "
            f"exists (select 1 from __staged h where {host} and h.{REASON} is null "
            f"and not h.{MERGED})) lost where __staged.rowid = lost.no"
        )

    def _clean_rows(self, table: Table) -> pa.Table:
        columns = ", ".join(quoted(c.name) for c in table.columns if not c.loader)
        return self.staging.connection.sql(
            f"select rowid as no, {FILE} as file_no, {MERGED} as merged, {columns} "
            f"from __staged where {REASON} is null"
        ).to_arrow_table()

    def _write_rejects(self, table: Table) -> None:
        """Rejected rows as they were read, kept once however often they are delivered."""
        inputs = self.staging.rows(
            f"select distinct {INPUT} from __staged where {REASON} is not null order by 1"
        )
        selects = [self._rejected_sql(int(str(row[0]))) for row in inputs]
        selects.append(
            "select file_no, position as row_number, "
            "to_json(struct_pack(line := line))::text as row_json, reason from __malformed"
        )
        self.staging.connection.execute(
            "create or replace temp table __rejects as " + " union all ".join(selects)
        )
        names = [(n, f.name) for n, f in enumerate(self.staging.files)]
        listed = ", ".join(f"({n}, {literal(name)})" for n, name in names)
        rows = self.staging.connection.sql(
            "select md5(concat_ws('|', table_name, source, file_name, row_json, reason, "
            "occurrence)) as reject_id, table_name, source, file_name, row_number, row_json, "
            f"reason, timestamp '{self.times.loaded_at}' as loaded_at from ("
            f"select {literal(table.name)} as table_name, {literal(self.layout.name)} as source, "
            "f.file_name, r.row_number, r.row_json, r.reason, row_number() over "
            "(partition by f.file_name, r.row_json, r.reason "
            "order by r.file_no, r.row_number) as occurrence "
            f"from __rejects r join (values {listed}) as f(file_no, file_name) using (file_no)) "
            "order by file_name, row_number"
        ).to_arrow_table()
        ledger = self.contract["rejected_rows"]
        self.warehouse.put_temporary("rejects", rows)
        name = f'"{self.schema}".{ledger.name}'
        self.warehouse.execute(
            f"insert into {name} ({', '.join(rows.column_names)}) select r.* from rejects r "
            f"where not exists (select 1 from {name} s where s.reject_id = r.reject_id)"
        )
        self.warehouse.drop_temporary("rejects")
        self.result.reasons[table.name] = [
            (str(r[0]), int(str(r[1])))
            for r in self.staging.rows(
                "select reason, count(*) from __rejects group by 1 order by 2 desc, 1 "
                f"limit {TOP_REASONS}"
            )
        ]

    def _rejected_sql(self, number: int) -> str:
        """Rejected rows of one input: file, position counting malformed lines, JSON, reason."""
        source = f"__source_{number}"
        columns = self.staging.describe(f"select * exclude ({FILE}) from {source}")
        cells = ", ".join(f"{quoted(c)} := s.{quoted(c)}" for c in columns)
        return (
            f"select r.{FILE} as file_no, r.{ID} - b.base + 1 + coalesce(m.before, 0) "
            f"as row_number, to_json(struct_pack({cells}))::text as row_json, "
            f"r.{REASON} as reason from (select * from __staged where {INPUT} = {number} "
            f"and {REASON} is not null) r join {source} s on s.rowid = r.{ID} "
            f"join (select {FILE}, min(rowid) as base from {source} group by 1) b "
            f"on b.{FILE} = r.{FILE} asof left join (select file_no, max(before) as before, "
            "position - before as good_before from (select file_no, position, row_number() "
            f"over (partition by file_no order by position) as before from __malformed "
            f"where owner = '{source}') group by file_no, good_before) m on m.file_no = r.{FILE} "
            f"and r.{ID} - b.base >= m.good_before"
        )

    def _count(self, table: Table, merged: Mapping[tuple[int, str], int]) -> None:
        """Counts per file, checked against the rows that were read, into load_log."""
        read = {
            int(str(r[0])): (int(str(r[1])), int(str(r[2])))
            for r in self.staging.rows(
                "select file_no, sum(n)::bigint, sum(bad)::bigint from ("
                f"select {FILE} as file_no, count(*) as n, count({REASON}) as bad from __staged "
                "group by 1 union all select file_no, count(*), count(*) from __malformed "
                "group by 1) group by 1 order by 1"
            )
        }
        by_name: dict[str, list[int]] = {}
        for number in self._file_numbers:
            n, rejected = read.get(number, (0, 0))
            loaded = merged.get((number, "loaded"), 0)
            unchanged = merged.get((number, "unchanged"), 0)
            if n != loaded + unchanged + rejected:
                raise AsxwError(
                    f"{self.staging.files[number].name}, raw.{table.name}: {n} rows read, but "
                    f"{loaded} loaded, {unchanged} unchanged and {rejected} rejected. This is a "
                    "defect of the loader; nothing was loaded."
                )
            sums = by_name.setdefault(self.staging.files[number].name, [0, 0, 0, 0])
            for position, value in enumerate((n, loaded, unchanged, rejected)):
                sums[position] += value
        own = [FileCount(table.name, name, *sums) for name, sums in by_name.items()]
        self.result.counts.extend(own)
        ledger = self.contract["load_log"]
        rows: list[dict[str, Any]] = [
            {
                "load_id": self.result.load_id,
                "source": self.layout.name,
                "table_name": c.table,
                "file_name": c.file,
                "rows_read": c.read,
                "rows_loaded": c.loaded,
                "rows_unchanged": c.unchanged,
                "rows_rejected": c.rejected,
                "loaded_at": self.times.loaded_at,
            }
            for c in own
        ]
        if rows:
            self.warehouse.append(
                self.schema, ledger, pa.Table.from_pylist(rows, schema=ledger.arrow_schema)
            )
