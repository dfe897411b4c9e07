"""Two warehouses compared cell by cell: the same models must give the same numbers everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.dataset import NOTHING, quoted
from ml.errors import AsxwError
from ml.manifest import Relation
from ml.text_table import text_table
from ml.warehouse import Warehouse

RELATIVE = 1e-9
# Third moments and slopes lose digits in any formula; FEATURES states their tolerance.
RELATIVE_LOOSE = 1e-6
LOOSE_COLUMNS = ("skew_ret_60", "volume_skew_60", "sma200_slope", "beta_252", "idio_vol_60")
LOOSE_SUFFIXES = ("_trend_4",)
# when something was trained or judged, and in which attempt, is another in every warehouse:
# that both know it, or neither, is compared and the value is not
OF_THE_ATTEMPT = ("trial_id", "started_at", "finished_at", "computed_at", "created_at")
EXAMPLES = 3


@dataclass(frozen=True)
class Compared:
    """One column of one table."""

    table: str
    column: str
    rows: int
    different: int
    largest: float
    """Largest relative difference of the cells known on both sides; 0 for text, dates, flags."""
    examples: tuple[str, ...] = ()


def tolerance(column: str) -> float:
    """Relative tolerance of a column of doubles."""
    loose = column in LOOSE_COLUMNS or column.endswith(LOOSE_SUFFIXES)
    return RELATIVE_LOOSE if loose else RELATIVE


def _difference(left: pa.ChunkedArray, right: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Relative difference per row (0 where equal), and where one side alone is null."""
    known_left, known_right = (np.asarray(pc.is_valid(c)) for c in (left, right))
    x, y = (
        np.asarray(pc.fill_null(pc.cast(c, pa.float64()), 0.0).to_numpy()) for c in (left, right)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.abs(x - y)
        relative = gap / np.maximum(np.maximum(np.abs(x), np.abs(y)), 1e-300)
        relative = np.where((x == y) | (np.isnan(x) & np.isnan(y)) | (gap <= NOTHING), 0, relative)
    relative = np.where(np.isnan(relative), np.inf, relative)
    both = known_left & known_right
    return np.where(both, relative, 0.0), known_left != known_right


def compare_column(
    table: str, column: str, left: pa.ChunkedArray, right: pa.ChunkedArray, keys: pa.Table
) -> Compared:
    """Compare two columns whose rows are in the same order."""
    if pa.types.is_floating(left.type) and pa.types.is_floating(right.type):
        relative, one_sided = _difference(left, right)
        wrong = one_sided | (relative > tolerance(column))
        largest = float(relative.max(initial=0.0))
    else:
        if not left.type.equals(right.type):
            right = pc.cast(right, left.type)
        equal = pc.fill_null(pc.equal(left, right), False)
        both_null = pc.and_(pc.is_null(left), pc.is_null(right))
        wrong = ~np.asarray(pc.or_(equal, both_null))
        largest = 0.0
    where = np.flatnonzero(wrong)
    examples = tuple(
        f"{keys.slice(int(i), 1).to_pylist()[0]}: {left[int(i)].as_py()} / {right[int(i)].as_py()}"
        for i in where[:EXAMPLES]
    )
    return Compared(table, column, len(left), len(where), largest, examples)


def compare_table(
    left: Warehouse, right: Warehouse, relation: Relation, keys: Sequence[str]
) -> list[Compared]:
    """Every column of a table in two warehouses; of OF_THE_ATTEMPT, where there is a value.

    Args:
        left: one warehouse.
        right: the other.
        relation: the table, of the same name in both.
        keys: columns that identify a row; rows are compared in their order.

    Raises:
        AsxwError: columns, number of rows or keys differ; the text says how.
    """
    columns = [list(w.columns(relation.schema, relation.name)) for w in (left, right)]
    if columns[0] != columns[1] or not columns[0]:
        raise AsxwError(
            f"{relation.sql} has columns {', '.join(columns[0]) or 'none'} in {left.place} and "
            f"{', '.join(columns[1]) or 'none'} in {right.place}: build both from the same project."
        )
    tables = [_read(w, relation, columns[0], keys) for w in (left, right)]
    if tables[0].num_rows != tables[1].num_rows:
        raise AsxwError(
            f"{relation.sql} has {tables[0].num_rows:,} rows in {left.place} and "
            f"{tables[1].num_rows:,} in {right.place}: load the same data into both."
        )
    named = tables[0].select(list(keys))
    return [
        compare_column(
            relation.name, c, _comparable(tables[0], c), _comparable(tables[1], c), named
        )
        for c in columns[0]
    ]


def _comparable(table: pa.Table, column: str) -> pa.ChunkedArray:
    values = table.column(column)
    return pc.is_valid(values) if column in OF_THE_ATTEMPT else values


def _read(
    warehouse: Warehouse, relation: Relation, columns: Sequence[str], keys: Sequence[str]
) -> pa.Table:
    """The table in order of its keys; sorted here, because databases collate text differently."""
    rows = warehouse.read_arrow(f"select {quoted(columns)} from {relation.sql}")
    return rows.take(pc.sort_indices(rows, sort_keys=[(k, "ascending") for k in keys]))


def compare(
    left: Warehouse,
    right: Warehouse,
    tables: Mapping[Relation, Sequence[str]],
    progress: Callable[[str], None] = lambda _: None,
) -> list[Compared]:
    """Every column of every table; `tables` maps each to the columns that identify a row."""
    compared: list[Compared] = []
    for relation, keys in tables.items():
        found = compare_table(left, right, relation, keys)
        compared += found
        wrong = sum(c.different for c in found)
        progress(f"{relation.name}: {found[0].rows:,} rows, {wrong:,} cells differ")
    return compared


def report(compared: Sequence[Compared]) -> str:
    """One line per column of doubles, one per table for the exact ones, and the sums."""
    lines = []
    for table in dict.fromkeys(c.table for c in compared):
        own = [c for c in compared if c.table == table]
        exact = [c for c in own if c.largest == 0]
        if exact:
            cells, wrong = sum(c.rows for c in exact), sum(c.different for c in exact)
            lines.append((table, f"{len(exact)} columns, equal", f"{cells:,}", "0", f"{wrong:,}"))
        lines += [
            (table, c.column, f"{c.rows:,}", f"{c.largest:.1e}", f"{c.different:,}")
            for c in own
            if c.largest > 0
        ]
    cells, wrong = sum(c.rows for c in compared), sum(c.different for c in compared)
    head = ("table", "column", "cells", "largest difference", "beyond tolerance")
    text = [text_table(head, lines, left=2), "", f"{cells:,} cells compared, {wrong:,} differ."]
    text += [f"  {c.table}.{c.column} {e}" for c in compared for e in c.examples]
    return "\n".join(text)
