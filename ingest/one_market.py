"""One warehouse holds one market: an invented one and a real one must never mix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ml.errors import AsxwError
from ml.warehouse import Warehouse, open_warehouse, read_target

INVENTED = "sample"


def price_sources(warehouse: Warehouse, schema: str) -> set[str]:
    """Layouts that loaded the warehouse's prices; empty where there are none."""
    if not warehouse.has_table(schema, "prices"):
        return set()
    rows = warehouse.read_rows(f'select distinct source from "{schema}".prices')
    return {str(row[0]) for row in rows}


def check_one_market(sources: set[str], layout: str) -> None:
    """Refuse to load an invented market over a real one, or the other way round.

    Raises:
        AsxwError: the text names both sources and what to do.
    """
    others = sources - {layout}
    if others and INVENTED in sources | {layout}:
        raise AsxwError(
            f"The warehouse holds prices of {', '.join(sorted(others))}; layout {layout} would mix "
            "an invented market with a real one. Load with --set-aside to keep a DuckDB warehouse "
            "under another name and begin a new one, or name another file in ASXW_DUCKDB_PATH, "
            "on Postgres another database in PGDATABASE."
        )


def set_aside_other_market(
    project_dir: Path,
    layout: str,
    schema: str,
    target: str | None,
    progress: Callable[[str], None],
) -> Path | None:
    """Rename a warehouse whose prices come from other layouts to warehouse.<layouts>.duckdb.

    Returns:
        The new name, or None where the warehouse is new, empty or holds this layout's prices. A
        warehouse set aside earlier under that name is never overwritten: a number is added.
    """
    chosen = read_target(project_dir, target)
    path = Path(str(chosen.settings.get("path", "")))
    path = path if path.is_absolute() else project_dir / path
    if chosen.kind != "duckdb" or not path.is_file():
        return None
    with open_warehouse(project_dir, target) as warehouse:
        sources = price_sources(warehouse, schema)
    if not sources or sources == {layout}:
        return None
    stem = f"{path.stem}.{'-'.join(sorted(sources))}"
    aside = path.with_name(f"{stem}{path.suffix}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{stem}.{number}{path.suffix}")
    path.rename(aside)
    progress(f"{path.name} holds another market: set aside as {aside.name}")
    return aside
