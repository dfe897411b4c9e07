"""One warehouse holds one market: an invented one and a real one, or two real ones, never mix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from ingest.layouts import SHIPPED, Layout, read_layout
from ml.contract import Table
from ml.errors import AsxwError
from ml.warehouse import Warehouse, open_warehouse, read_target

INVENTED = "sample"
ZONES = "loaded_layouts"


def price_sources(warehouse: Warehouse, schema: str) -> set[str]:
    """Layouts that loaded the warehouse's prices; empty where there are none."""
    if not warehouse.has_table(schema, "prices"):
        return set()
    rows = warehouse.read_rows(f'select distinct source from "{schema}".prices')
    return {str(row[0]) for row in rows}


def check_one_market(
    warehouse: Warehouse, schema: str, layout: Layout, contract: Mapping[str, Table]
) -> None:
    """Refuse to load a market over another one, and remember the layout's time zone.

    The invented market and a real one are two, and so are layouts of different time zones. Layouts
    of one zone may be mixed, as several vendors of one market.

    Args:
        warehouse: the warehouse, with the raw tables, in the load's transaction.
        schema: schema of the raw tables.
        layout: what is to be loaded.
        contract: the raw tables.

    Raises:
        AsxwError: the text names both sources and what to do.
    """
    others = price_sources(warehouse, schema) - {layout.name}
    if others and INVENTED in others | {layout.name}:
        raise _two_markets(
            ", ".join(sorted(others)), layout.name, "an invented market with a real one"
        )
    rows = warehouse.read_rows(f'select layout, timezone from "{schema}".{ZONES}')
    stored = {str(row[0]): str(row[1]) for row in rows}
    zones = {name: stored.get(name) or _shipped_zone(name, contract) for name in others}
    foreign = [f"{n} ({z})" for n, z in sorted(zones.items()) if z not in (None, layout.timezone)]
    if foreign:
        named = f"{layout.name} ({layout.timezone})"
        raise _two_markets(", ".join(foreign), named, "two markets")
    if stored.get(layout.name) != layout.timezone:
        row = {"layout": layout.name, "timezone": layout.timezone}
        rows_table = pa.Table.from_pylist([row], schema=contract[ZONES].arrow_schema)
        warehouse.replace(schema, contract[ZONES], rows_table, {"layout": layout.name})


def _two_markets(stored: str, layout: str, mixed: str) -> AsxwError:
    return AsxwError(
        f"The warehouse holds prices of {stored}; layout {layout} would mix {mixed}. Load with "
        "--set-aside to keep a DuckDB warehouse under another name and begin a new one, or name "
        "another file in ASXW_DUCKDB_PATH, on Postgres another database in PGDATABASE."
    )


def _shipped_zone(name: str, contract: Mapping[str, Table]) -> str | None:
    """Time zone of a shipped layout; None for another, of which the warehouse knows nothing."""
    path = SHIPPED / f"{name}.yml"
    return read_layout(str(path), contract).timezone if path.is_file() else None


@contextmanager
def other_market_set_aside(
    project_dir: Path,
    layout: str,
    schema: str,
    target: str | None,
    progress: Callable[[str], None],
) -> Iterator[None]:
    """Rename a warehouse whose prices come from other layouts to warehouse.<layouts>.duckdb.

    A warehouse set aside earlier under that name is never overwritten: a number is added. If what
    is done meanwhile fails, the warehouse gets its own name back.
    """
    path = _duckdb_file(project_dir, target)
    sources: set[str] = set()
    if path is not None:
        with open_warehouse(project_dir, target) as warehouse:
            sources = price_sources(warehouse, schema)
    if path is None or not sources - {layout}:
        yield
        return
    aside = _free_name(path, sources)
    path.rename(aside)
    progress(f"{path.name} holds another market: set aside as {aside.name}")
    try:
        yield
    except BaseException:
        for begun in (path, path.with_name(f"{path.name}.wal")):
            begun.unlink(missing_ok=True)
        aside.rename(path)
        progress(f"the load failed: {aside.name} is {path.name} again")
        raise


def _duckdb_file(project_dir: Path, target: str | None) -> Path | None:
    """The target's file; None where there is none yet, or the target is no DuckDB."""
    chosen = read_target(project_dir, target)
    path = project_dir / str(chosen.settings.get("path", ""))
    return path if chosen.kind == "duckdb" and path.is_file() else None


def _free_name(path: Path, sources: set[str]) -> Path:
    stem = f"{path.stem}.{'-'.join(sorted(sources))}"
    aside = path.with_name(f"{stem}{path.suffix}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{stem}.{number}{path.suffix}")
    return aside
