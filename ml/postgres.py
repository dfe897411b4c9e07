"""The warehouse on a Postgres server: Arrow in and out over binary COPY (ADBC)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import adbc_driver_manager
import adbc_driver_postgresql.dbapi
import pyarrow as pa
import pyarrow.parquet as pq

from ml.contract import Table
from ml.errors import AsxwError
from ml.warehouse import Named, WarehouseBusyError

CONNECT_SECONDS = 10
# dbt's name of a setting: libpq's
_CONNECTION_KEYS = {
    "host": "host",
    "port": "port",
    "user": "user",
    "password": "password",
    "pass": "password",
    "dbname": "dbname",
    "database": "dbname",
    "sslmode": "sslmode",
    "sslcert": "sslcert",
    "sslkey": "sslkey",
    "sslrootcert": "sslrootcert",
    "keepalives_idle": "keepalives_idle",
    "connect_timeout": "connect_timeout",
}
_QUOTED = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*")""")
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_AWAY = ("57P01", "57P02", "57P03", "08000", "08001", "08003", "08004", "08006", "53300")
_AWAY_TEXT = re.compile(
    r"server closed the connection|connection refused|no connection to the server"
    r"|could not connect|connection to server|terminating connection|SSL SYSCALL"
    r"|could not receive data|could not send data|starting up|shutting down",
    re.IGNORECASE,
)
_DENIED, _TIMEOUT, _NO_LOGIN = "42501", "57014", ("28000", "28P01", "3D000")
_RETRY = ("40001", "40P01")


class PostgresError(AsxwError):
    """The server refused or failed; nothing of the transaction was kept."""


def connection_text(settings: Mapping[str, Any]) -> str:
    """libpq's connection text for an output of the dbt profile."""
    known = {
        _CONNECTION_KEYS[k]: v
        for k, v in settings.items()
        if k in _CONNECTION_KEYS and v not in (None, "")
    }
    known = {"connect_timeout": CONNECT_SECONDS, "application_name": "asxw"} | known
    quoted = {k: str(v).replace("\\", "\\\\").replace("'", "\\'") for k, v in known.items()}
    return " ".join(f"{k}='{v}'" for k, v in quoted.items())


def numbered(sql: str) -> str:
    """Bound parameters as Postgres writes them: $1, $2 for each ? outside quotes."""
    parts = _QUOTED.split(sql)
    count = 0
    for position in range(0, len(parts), 2):
        pieces = parts[position].split("?")
        text = pieces[0]
        for piece in pieces[1:]:
            count += 1
            text += f"${count}{piece}"
        parts[position] = text
    return "".join(parts)


def plain(table: pa.Table) -> pa.Table:
    """Arrow without the driver's metadata; numeric, which arrives as text, as doubles."""
    columns = []
    for column in table.columns:
        if isinstance(column.type, pa.OpaqueType) and column.type.type_name == "numeric":
            text = pa.chunked_array([c.storage for c in column.chunks], pa.string())
            columns.append(text.cast(pa.float64()))
        else:
            columns.append(column)
    return pa.table(columns, names=table.column_names)


def _cells(column: pa.ChunkedArray) -> list[Any]:
    """Python values; numeric as int where it is whole (sums of counts), else as float."""
    if not isinstance(column.type, pa.OpaqueType):
        return list(column.to_pylist())
    texts = [t for c in column.chunks for t in c.storage.to_pylist()]
    numbers = [None if t is None else Decimal(t) for t in texts]
    return [
        None if n is None else int(n) if n == n.to_integral_value() else float(n) for n in numbers
    ]


class PostgresWarehouse:
    """A database of a Postgres server. Readers and writers work at once; see docs/postgres.md.

    Args:
        settings: an output of the dbt profile, rendered.
        read_only: the server refuses every write of this connection.
    """

    def __init__(self, settings: Mapping[str, Any], read_only: bool = False) -> None:
        self.settings = dict(settings)
        self._in_transaction = False
        with self._explained():
            self._connection = adbc_driver_postgresql.dbapi.connect(connection_text(settings))
        with self._explained():
            if settings.get("role"):
                self._run(f'set role "{settings["role"]}"')
            if settings.get("search_path"):
                self._run(f"set search_path to {settings['search_path']}")
            if read_only:
                self._run("set default_transaction_read_only = on")
            # plans of a warehouse's long queries do not gain from compilation: docs/postgres.md
            self._run("set jit = off")
            self._connection.commit()

    @property
    def place(self) -> str:
        """User, host, port and database, without the password."""
        s = self.settings
        return f"postgresql://{s.get('user')}@{s.get('host')}:{s.get('port')}/{self._database}"

    @property
    def _database(self) -> str:
        return str(self.settings.get("dbname") or self.settings.get("database"))

    def close(self) -> None:
        """Give the connection back; an unfinished transaction is undone."""
        # a lost connection cannot be closed any better
        with suppress(adbc_driver_manager.Error):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- queries ----------------------------------------------------------------------------------

    def read_arrow(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """Run a query with bound parameters and return its rows as one Arrow table."""
        return plain(self._fetch(sql, parameters))

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query and return its rows as tuples."""
        table = self._fetch(sql, parameters)
        return list(zip(*(_cells(c) for c in table.columns), strict=True))

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run one statement."""
        with self._statement():
            self._run(sql, parameters)

    def _fetch(self, sql: str, parameters: Sequence[Any]) -> pa.Table:
        with self._statement(), self._connection.cursor() as cursor:
            cursor.execute(numbered(sql), tuple(parameters) or None)
            return cursor.fetch_arrow_table()

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(numbered(sql), tuple(parameters) or None)

    @contextmanager
    def _statement(self) -> Iterator[None]:
        """One statement; outside `transaction` it is a transaction of its own.

        So no reader stays in a transaction, where its locks would hold up a build.
        """
        with self._explained():
            try:
                yield
            except BaseException:
                if not self._in_transaction:
                    self._undo()
                raise
            if not self._in_transaction:
                self._connection.commit()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside become visible together or not at all."""
        self._in_transaction = True
        try:
            with self._explained():
                yield
                self._connection.commit()
        except BaseException:
            self._undo()
            raise
        finally:
            self._in_transaction = False

    @contextmanager
    def snapshot(self, relations: Sequence[Named]) -> Iterator[None]:
        """All reads inside see these tables at one moment, whatever is built meanwhile.

        The tables are locked against renaming before the moment is chosen: under an older one a
        table that a build swapped in would look empty.
        """
        with self.transaction():
            self._run("set transaction isolation level repeatable read, read only")
            self._run(f"lock table {', '.join(r.sql for r in relations)} in access share mode")
            yield

    def _undo(self) -> None:
        # with the connection lost there is nothing to ask for: the server undoes it
        with suppress(adbc_driver_manager.Error):
            self._connection.rollback()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """The driver's errors as texts that say what to do."""
        try:
            yield
        except adbc_driver_manager.Error as error:
            raise self._explanation(error) from error

    def _explanation(self, error: adbc_driver_manager.Error) -> AsxwError:
        text, state = _text(error), error.sqlstate or ""
        if state in _NO_LOGIN or "authentication failed" in text:
            return PostgresError(
                f"{self.place} refuses the login: {text}. Set PGUSER, PGPASSWORD and PGDATABASE."
            )
        if _is_away(error):
            return WarehouseBusyError(
                f"{self.place} is away or the connection was lost: {text}. Nothing of the running "
                "transaction was kept; run the command again when the server is back."
            )
        if state == _DENIED:
            return PostgresError(
                f"{self.settings.get('user')} may not do that in {self._database}: {text}. Connect "
                "as another user, or have `asxw grant` run."
            )
        if state == _TIMEOUT:
            return PostgresError(
                f"{self.place} ended the statement: {text}. Nothing was kept. Raise "
                "statement_timeout for this user (PGOPTIONS='-c statement_timeout=10min') or run "
                "it again when the server is less busy."
            )
        if state in _RETRY:
            return PostgresError(
                f"{self.place} ended the transaction in favour of another: {text}. Nothing was "
                "kept; run the command again."
            )
        return PostgresError(f"{self.place}: {text}")

    # --- tables -----------------------------------------------------------------------------------

    def has_table(self, schema: str, table: str) -> bool:
        """Whether the schema has a table or view of this name, be it readable or not."""
        return bool(self.columns(schema, table))

    def may_read(self, schema: str, table: str) -> bool:
        """Whether there is such a table or view, and the user may select from it."""
        found = self.read_rows(
            "select has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') "
            "from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
            "where n.nspname = ?::text and c.relname = ?::text",
            (schema, table),
        )
        return bool(found and found[0][0])

    def columns(self, schema: str, table: str) -> dict[str, str]:
        """Columns of a table or view and their types in capitals, in order; none: no table."""
        rows = self.read_rows(
            "select a.attname::text, upper(format_type(a.atttypid, a.atttypmod)) "
            "from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid "
            "join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
            "where n.nspname = ?::text and c.relname = ?::text and a.attnum > 0 "
            "and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm', 'f') order by a.attnum",
            (schema, table),
        )
        return dict(rows)

    def create_tables(self, schema: str, tables: dict[str, Table]) -> None:
        """Create the schema and those of the contract's tables that do not exist yet.

        Asks first: `if not exists` needs the right to create even where there is nothing to do.
        """
        missing = [t for t in tables.values() if not self.columns(schema, t.name)]
        if not missing:
            return
        if not self.read_rows(
            "select 1 from pg_catalog.pg_namespace where nspname = ?::text", (schema,)
        ):
            self.execute(f'create schema if not exists "{schema}"')
        for table in missing:
            self.execute(table.ddl(schema))

    def replace(self, schema: str, table: Table, rows: pa.Table, where: Mapping[str, Any]) -> None:
        """Delete the rows whose columns equal `where`, then insert; call it in a transaction.

        The table is locked against other writers until the transaction ends, so that of two jobs
        that write the same key the later one's rows stay, complete. Readers go on.
        """
        name = f'"{schema}"."{table.name}"'
        condition = " and ".join(f'"{column}" = ?' for column in where)
        self.execute(f"lock table {name} in share row exclusive mode")
        self.execute(f"delete from {name} where {condition}", list(where.values()))
        self.append(schema, table, rows)

    def append(self, schema: str, table: Table, rows: pa.Table) -> None:
        """Insert Arrow rows in bulk, columns by name; a missing column is an error."""
        ordered = rows.select([c.name for c in table.columns]).cast(table.arrow_schema)
        with self._statement(), self._connection.cursor() as cursor:
            cursor.adbc_ingest(table.name, ordered, mode="append", db_schema_name=schema)

    def hold(self, name: str) -> None:
        """Until the transaction's end, let no other transaction hold the same name."""
        self.execute("select pg_advisory_xact_lock(?)", (zlib.crc32(f"asxw {name}".encode()),))

    def put_temporary(self, name: str, rows: pa.Table) -> None:
        """Make a temporary table of Arrow rows, in place of one of that name."""
        self.drop_temporary(name)
        with self._statement(), self._connection.cursor() as cursor:
            cursor.adbc_ingest(name, rows, mode="create", temporary=True)
        self.execute(f'analyze pg_temp."{name}"')

    def make_temporary(self, name: str, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Make a temporary table of a query, in place of one of that name."""
        self.drop_temporary(name)
        self.execute(f'create temporary table "{name}" as {sql}', parameters)
        self.execute(f'analyze pg_temp."{name}"')

    def drop_temporary(self, name: str) -> None:
        """Drop a temporary table, if there is one."""
        self.execute(f'drop table if exists pg_temp."{name}"')

    def write_parquet(self, sql: str, path: Path) -> None:
        """Write a query's rows to a Parquet file, batch by batch."""
        with self._statement(), self._connection.cursor() as cursor:
            cursor.execute(sql)
            batches = cursor.fetch_record_batch()
            first = plain(pa.Table.from_batches([], batches.schema))
            with pq.ParquetWriter(path, first.schema, compression="snappy") as writer:
                for batch in batches:
                    writer.write_table(plain(pa.Table.from_batches([batch])))


def _text(error: adbc_driver_manager.Error) -> str:
    """The server's own words: without the driver's prefix and the query it repeats."""
    text = str(error).split("\n\nQuery was:")[0].split("\nQuery:")[0]
    found = re.search(r"(?:ERROR|FATAL):\s*(.*)", text, re.DOTALL)
    text = found[1] if found else text
    return re.sub(r"\s+", " ", re.sub(r"\.? SQLSTATE: \w*\s*$", "", text)).strip(" .")


def _is_away(error: adbc_driver_manager.Error) -> bool:
    return (error.sqlstate or "") in _AWAY or bool(_AWAY_TEXT.search(str(error)))
