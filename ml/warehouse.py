"""The warehouse as Python sees it: dbt's own profile says where it is, Arrow goes in and out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import duckdb
import jinja2
import pyarrow as pa
import yaml

from ml.contract import Table
from ml.errors import AsxwError

PROJECT_FILE = "dbt_project.yml"
PROFILES_FILE = "profiles.yml"


@dataclass(frozen=True)
class Target:
    """One output of the dbt profile, rendered."""

    name: str
    settings: dict[str, Any]
    profiles_file: Path

    @property
    def kind(self) -> str:
        """Adapter: duckdb or postgres."""
        return str(self.settings["type"])


def _profiles_file(project_dir: Path) -> Path:
    """The profiles.yml dbt would take: DBT_PROFILES_DIR, the project, the home folder."""
    named = os.environ.get("DBT_PROFILES_DIR")
    folders = [Path(named)] if named else [project_dir, Path.home() / ".dbt"]
    for folder in folders:
        if (folder / PROFILES_FILE).is_file():
            return folder / PROFILES_FILE
    looked = ", ".join(str(f) for f in folders)
    raise AsxwError(f"No {PROFILES_FILE} in {looked}. Copy profiles.yml.example there.")


def _env_var(name: str, default: str | None = None) -> str:
    value = os.environ.get(name, default)
    if value is None:
        raise AsxwError(f"The dbt profile needs the environment variable {name}; it is not set.")
    return value


def _render(value: Any, environment: jinja2.Environment) -> Any:
    if isinstance(value, dict):
        return {k: _render(v, environment) for k, v in value.items()}
    if isinstance(value, list):
        return [_render(v, environment) for v in value]
    if isinstance(value, str):
        return environment.from_string(value).render(env_var=_env_var)
    return value


def read_project(project_dir: Path) -> dict[str, Any]:
    """Content of the project's dbt_project.yml.

    Raises:
        AsxwError: there is none, or it cannot be read.
    """
    path = project_dir / PROJECT_FILE
    if not path.is_file():
        raise AsxwError(
            f"{project_dir} has no {PROJECT_FILE}: run asxw in the project's folder, or name that "
            "with `asxw --project-dir`."
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise AsxwError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise AsxwError(f"{path} must be a mapping of keys to values.")
    return content


def read_target(project_dir: Path, target: str | None = None) -> Target:
    """The profile's output to use: `target`, else the profile's default.

    Raises:
        AsxwError: no project, no profile, or no such output; the text lists the ones there are.
    """
    project = read_project(project_dir)
    path = _profiles_file(project_dir)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701 (no HTML)
    environment.filters["as_number"] = int
    environment.filters["as_bool"] = lambda text: str(text).lower() == "true"
    profile = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get(project["profile"])
    if profile is None:
        raise AsxwError(f"{path} has no profile called {project['profile']}.")
    name = target or str(_render(profile["target"], environment))
    outputs = profile["outputs"]
    if name not in outputs:
        raise AsxwError(f"{path} has no target {name}; there are: {', '.join(sorted(outputs))}.")
    return Target(name, _render(outputs[name], environment), path)


class WarehouseBusyError(AsxwError):
    """The warehouse cannot be had just now: another process holds the file, the server is away."""


class Named(Protocol):
    """A table with a quoted name."""

    @property
    def sql(self) -> str:
        """The quoted name."""
        ...


class Warehouse(Protocol):
    """What load, training, scoring and export ask of a database.

    SQL is what DuckDB and Postgres both take, with ? for bound parameters. Outside `transaction`
    every call stands for itself; a write is complete when it returns.
    """

    @property
    def place(self) -> str:
        """Where the warehouse is, for messages; never a password."""
        ...

    def close(self) -> None:
        """Give the file or the connection back."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def read_arrow(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """Run a query with bound parameters and return its rows as one Arrow table."""
        ...

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query and return its rows as tuples."""
        ...

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run one statement."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All statements inside become visible together or not at all."""
        ...

    def snapshot(self, relations: Sequence[Named]) -> AbstractContextManager[None]:
        """All reads inside see these tables at one moment, whatever is built meanwhile."""
        ...

    def has_table(self, schema: str, table: str) -> bool:
        """Whether the schema has a table or view of this name."""
        ...

    def may_read(self, schema: str, table: str) -> bool:
        """Whether there is such a table or view, and the user may select from it."""
        ...

    def columns(self, schema: str, table: str) -> dict[str, str]:
        """Columns of a table or view and their types in capitals, in order; none: no table."""
        ...

    def create_tables(self, schema: str, tables: dict[str, Table]) -> None:
        """Create the schema and those of the contract's tables that do not exist yet."""
        ...

    def replace(self, schema: str, table: Table, rows: pa.Table, where: Mapping[str, Any]) -> None:
        """Delete the rows whose columns equal `where`, then insert; call it in a transaction."""
        ...

    def append(self, schema: str, table: Table, rows: pa.Table) -> None:
        """Insert Arrow rows in bulk, columns by name; a missing column is an error."""
        ...

    def hold(self, name: str) -> None:
        """Until the transaction's end, let no other transaction hold the same name."""
        ...

    def put_temporary(self, name: str, rows: pa.Table) -> None:
        """Make a temporary table of Arrow rows, in place of one of that name."""
        ...

    def make_temporary(self, name: str, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Make a temporary table of a query, in place of one of that name."""
        ...

    def drop_temporary(self, name: str) -> None:
        """Drop a temporary table, if there is one."""
        ...

    def write_parquet(self, sql: str, path: Path) -> None:
        """Write a query's rows to a Parquet file."""
        ...


class DuckDBWarehouse:
    """A DuckDB file. One process writes at a time; a second one gets a clear error."""

    def __init__(
        self, path: Path, config: dict[str, Any] | None = None, read_only: bool = False
    ) -> None:
        self.path = path
        if read_only and not path.is_file():
            raise AsxwError(f"{path} does not exist yet: load data and run dbt build first.")
        try:
            self.connection = duckdb.connect(
                str(path), read_only=read_only, config=config if config else {}
            )
        except duckdb.IOException as error:
            if "lock" not in str(error).lower():
                raise AsxwError(f"{path} cannot be opened: {error}") from error
            raise WarehouseBusyError(
                f"{path} is in use by another process (a running dbt build, asxw or a database "
                "tool). Close it and run the command again; nothing was changed."
            ) from error

    def close(self) -> None:
        """Give the file back."""
        self.connection.close()

    @property
    def place(self) -> str:
        """The file."""
        return str(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_arrow(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """Run a query with bound parameters and return its rows as one Arrow table."""
        return self.connection.sql(sql, params=list(parameters)).to_arrow_table()

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query and return its rows as tuples."""
        return self.connection.execute(sql, list(parameters)).fetchall()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run one statement."""
        self.connection.execute(sql, list(parameters))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside become visible together or not at all."""
        self.connection.execute("begin transaction")
        try:
            yield
        except BaseException:
            self.connection.execute("rollback")
            raise
        self.connection.execute("commit")

    def has_table(self, schema: str, table: str) -> bool:
        """Whether the schema has a table or view of this name."""
        found = self.read_rows(
            "select 1 from information_schema.tables where table_schema = ? and table_name = ?",
            (schema, table),
        )
        return bool(found)

    def may_read(self, schema: str, table: str) -> bool:
        """Whether there is such a table or view: a file has no roles."""
        return self.has_table(schema, table)

    def create_tables(self, schema: str, tables: dict[str, Table]) -> None:
        """Create the schema and those of the contract's tables that do not exist yet."""
        self.execute(f'create schema if not exists "{schema}"')
        for table in tables.values():
            self.execute(table.ddl(schema))

    def replace(self, schema: str, table: Table, rows: pa.Table, where: Mapping[str, Any]) -> None:
        """Delete the rows whose columns equal `where`, then insert; call it in a transaction."""
        condition = " and ".join(f'"{column}" = ?' for column in where)
        self.execute(
            f'delete from "{schema}"."{table.name}" where {condition}', list(where.values())
        )
        self.append(schema, table, rows)

    def append(self, schema: str, table: Table, rows: pa.Table) -> None:
        """Insert Arrow rows in bulk, columns by name; a missing column is an error."""
        columns = ", ".join(f'"{c.name}"' for c in table.columns)
        with self._registered("incoming_rows", rows):
            self.execute(
                f'insert into "{schema}"."{table.name}" ({columns}) '
                f"select {columns} from incoming_rows"
            )

    @contextmanager
    def _registered(self, name: str, rows: pa.Table) -> Iterator[None]:
        """Arrow rows as a view of this name."""
        self.connection.register(name, rows)
        try:
            yield
        except BaseException:
            # a transaction that failed takes no further statement, and its error is the one to tell
            with suppress(duckdb.Error):
                self.connection.unregister(name)
            raise
        self.connection.unregister(name)

    def columns(self, schema: str, table: str) -> dict[str, str]:
        """Columns of a table or view and their types in capitals, in order; none: no table."""
        return dict(
            self.read_rows(
                "select column_name, data_type from information_schema.columns "
                "where table_schema = ? and table_name = ? order by ordinal_position",
                (schema, table),
            )
        )

    def snapshot(self, relations: Sequence[Named]) -> AbstractContextManager[None]:  # noqa: ARG002
        """All reads inside see these tables at one moment: a transaction does."""
        return self.transaction()

    def hold(self, name: str) -> None:
        """Nothing to do: the file has one writer."""

    def put_temporary(self, name: str, rows: pa.Table) -> None:
        """Make a temporary table of Arrow rows, in place of one of that name."""
        with self._registered("arriving_rows", rows):
            self.make_temporary(name, "select * from arriving_rows")

    def make_temporary(self, name: str, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Make a temporary table of a query, in place of one of that name."""
        self.execute(f'create or replace temp table "{name}" as {sql}', parameters)

    def drop_temporary(self, name: str) -> None:
        """Drop a temporary table, if there is one."""
        self.execute(f'drop table if exists temp."{name}"')

    def write_parquet(self, sql: str, path: Path) -> None:
        """Write a query's rows to a Parquet file."""
        target = "'" + str(path).replace("'", "''") + "'"
        self.execute(f"copy ({sql}) to {target} (format parquet, compression snappy)")


def open_warehouse(
    project_dir: Path, target: str | None = None, read_only: bool = False
) -> Warehouse:
    """Connect to the warehouse that dbt's profile names.

    A relative path in the profile counts from the project folder, as dbt run there has it.
    """
    chosen = read_target(project_dir, target)
    if chosen.kind == "postgres":
        # the driver is loaded by those who need it alone
        from ml.postgres import PostgresWarehouse  # noqa: PLC0415

        return PostgresWarehouse(chosen.settings, read_only=read_only)
    return open_duckdb(project_dir, target, read_only)


def open_duckdb(
    project_dir: Path, target: str | None = None, read_only: bool = False
) -> DuckDBWarehouse:
    """Connect to a DuckDB target; see open_warehouse.

    Raises:
        AsxwError: the target is another database, or one in memory.
    """
    chosen = read_target(project_dir, target)
    if chosen.kind != "duckdb":
        raise AsxwError(
            f"Target {chosen.name} in {chosen.profiles_file} is {chosen.kind}; this needs DuckDB. "
            "Choose a duckdb target with --target."
        )
    path = Path(str(chosen.settings["path"]))
    if path.name == ":memory:":
        raise AsxwError(
            f"Target {chosen.name} in {chosen.profiles_file} is a database in memory, which keeps "
            "nothing: choose another with --target."
        )
    return DuckDBWarehouse(
        path if path.is_absolute() else project_dir / path,
        config=chosen.settings.get("config_options"),
        read_only=read_only,
    )


def open_when_free(
    project_dir: Path,
    target: str | None,
    wait_seconds: float,
    report: Callable[[str], None],
) -> Warehouse:
    """Connect for writing, waiting for another process to give the file back, or for the server.

    For results that took long to compute: losing them to a dbt build that ends in a minute would
    be a waste.

    Args:
        project_dir: folder with dbt_project.yml.
        target: target of the dbt profile.
        wait_seconds: longest wait.
        report: takes one line when the wait begins.

    Raises:
        WarehouseBusyError: still in use, or away, after the wait.
    """
    deadline = time.monotonic() + wait_seconds
    told = False
    while True:
        try:
            return open_warehouse(project_dir, target)
        except WarehouseBusyError as error:
            if time.monotonic() >= deadline:
                raise
            if not told:
                report(f"waiting up to {wait_seconds:.0f} s to write: {error}")
                told = True
            time.sleep(min(1.0, wait_seconds))


def write_when_free(
    project_dir: Path,
    target: str | None,
    wait_seconds: float,
    report: Callable[[str], None],
    write: Callable[[Warehouse], object],
) -> None:
    """Write results that took long to compute, again from the start where the connection is lost.

    Args:
        project_dir: folder with dbt_project.yml.
        target: target of the dbt profile.
        wait_seconds: longest wait, all attempts together.
        report: takes a line when a wait begins.
        write: writes everything in one transaction, so that it may be called again.

    Raises:
        WarehouseBusyError: still in use, or away, after the wait; nothing was written.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        left = max(0.0, deadline - time.monotonic())
        with open_when_free(project_dir, target, left, report) as warehouse:
            try:
                write(warehouse)
            except WarehouseBusyError as error:
                if time.monotonic() >= deadline:
                    raise
                report(f"writing again: {error}")
            else:
                return


def project_vars(project_dir: Path, given: str | None = None) -> dict[str, Any]:
    """`vars` of dbt_project.yml, for the few settings Python shares with dbt (schema names).

    Args:
        project_dir: the project.
        given: what a command's --vars said, which is laid over them.

    Raises:
        AsxwError: the folder holds no project, or `given` is not a mapping.
    """
    return dict(read_project(project_dir).get("vars") or {}) | given_vars(given)


def given_vars(text: str | None) -> dict[str, Any]:
    """What a command's --vars said.

    Raises:
        AsxwError: it is not a mapping.
    """
    try:
        given = yaml.safe_load(text) if text else {}
    except yaml.YAMLError:
        given = None
    if not isinstance(given, dict):
        raise AsxwError(f"--vars must be a mapping, such as '{{schema_prefix: dev_}}', not {text}.")
    return given
