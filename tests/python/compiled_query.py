"""A query with the project's macros in it, compiled by dbt and run on either engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from built_warehouse import Warehouse
from postgres_fixture import Database, command

Run = Callable[[pa.Table], list[dict[str, Any]]]


def compiled_query(engine: str, query: str, name: str, request: pytest.FixtureRequest) -> Run:
    """Run the query over a table that it calls `name`, on "duckdb" or "postgres"."""
    arguments = ("dbt", "--quiet", "compile", "--no-introspect", "--inline", query)
    folder = request.getfixturevalue("tmp_path_factory").mktemp("compiled")
    if engine == "duckdb":
        sql = Warehouse(folder).run(*arguments).stdout

        def in_duckdb(table: pa.Table) -> list[dict[str, Any]]:
            with duckdb.connect() as connection:
                connection.register(name, table)
                return list(connection.sql(sql).to_arrow_table().to_pylist())

        return in_duckdb

    built: Database = request.getfixturevalue("built")
    sql = command(*arguments, environment=built.environment(folder)).stdout

    def in_postgres(table: pa.Table) -> list[dict[str, Any]]:
        with built.warehouse() as warehouse:
            warehouse.put_temporary(name, table)
            return list(warehouse.read_arrow(sql).to_pylist())

    return in_postgres
