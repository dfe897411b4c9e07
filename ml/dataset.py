"""The training panel as numpy arrays, read from the warehouse through Arrow.

Features are read with the 24 bits of a 32-bit float (`as_read`), wherever a model meets them: the
engines add in different orders, so their values differ in the last bits, and a tree that parts two
neighbouring values would part them elsewhere on the other engine. A score computed from a row of
fct_features_daily equals the score of the same row in the panel. The arrays themselves are float64:
1.5 million rows of 40 features are 0.5 GB; one more copy exists while a fold's data set is binned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml.errors import AsxwError
from ml.manifest import Relation
from ml.warehouse import Warehouse

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

KEYS = ("symbol", "trade_date", "session_idx")
LABELS = ("return_1m_fwd", "return_1m_fwd_sign", "label_end_date", "label_end_idx")

SEGMENT_COLUMN = "adv_20_median"
"""Traded value, which is compared with the thresholds of the liquidity segments."""

NOTHING = 1e-13
"""A ratio less 1, a difference of two returns or a slope of a flat line can be rounding noise
around zero, some units in the last place of 1; no column has a value of interest so small."""


@dataclass(frozen=True)
class Panel:
    """Trainable rows in order of trade_date, symbol; n rows, p features."""

    symbol: pa.DictionaryArray
    trade_date: npt.NDArray[np.datetime64]
    session_idx: Indices
    label_end_date: npt.NDArray[np.datetime64]
    label_end_idx: Indices
    returns: Floats
    """Return over the horizon, a fraction (n,)."""
    up: Floats
    """1.0 where the return is positive, else 0.0 (n,)."""
    features: tuple[str, ...]
    values: Floats
    """Features (n, p) as_read, columns contiguous, NaN where unknown."""
    extra: dict[str, Floats]
    """Columns that only the evaluation uses: baselines as_read, SEGMENT_COLUMN exactly."""
    checksum: str

    def __len__(self) -> int:
        return len(self.session_idx)

    def column(self, name: str) -> Floats | None:
        """A feature or evaluation column (n,) by name; None where the panel lacks it."""
        if name in self.extra:
            return self.extra[name]
        if name in self.features:
            return np.asarray(self.values[:, self.features.index(name)])
        return None

    def part(self, rows: Mask) -> Panel:
        """The panel of some rows (n,), with a checksum of its own."""
        where = np.flatnonzero(rows)
        symbol = self.symbol.take(pa.array(where))
        columns: dict[str, npt.NDArray[np.generic]] = {
            "trade_date": self.trade_date[where],
            "session_idx": self.session_idx[where],
            "label_end_date": self.label_end_date[where],
            "label_end_idx": self.label_end_idx[where],
            "return_1m_fwd": self.returns[where],
            "return_1m_fwd_sign": self.up[where],
            **{name: values[where] for name, values in self.extra.items()},
        }
        values = self.matrix(rows, np.arange(len(self.features)))
        return _panel_of(columns, symbol, self.features, values, list(self.extra))

    def matrix(self, rows: Mask, kept: Indices) -> Floats:
        """Values (rows, kept) as a fresh array with contiguous columns."""
        where = np.flatnonzero(rows)
        out = np.empty((len(where), len(kept)), order="F")
        for j, feature in enumerate(kept):
            np.take(self.values[:, feature], where, out=out[:, j])
        return out


def table_columns(warehouse: Warehouse, relation: Relation) -> dict[str, str]:
    """Columns of a table and their SQL types, in order.

    Raises:
        AsxwError: there is no such table.
    """
    found = warehouse.columns(relation.schema, relation.name)
    if not found:
        raise AsxwError(
            f"The warehouse {warehouse.place} has no table {relation.sql}: run `dbt build` first."
        )
    return found


def require_columns(
    present: dict[str, str], needed: Sequence[str], relation: Relation, why: str
) -> None:
    """Check that a table has the columns named.

    Raises:
        AsxwError: names every missing column.
    """
    missing = [c for c in needed if c not in present]
    if missing:
        raise AsxwError(
            f"{relation.sql} lacks {', '.join(missing)} ({why}). The table is older than the "
            "project: run `dbt build` again."
        )


def require_numeric(present: dict[str, str], features: Sequence[str], relation: Relation) -> None:
    """Check that features are numbers or booleans, the only types LightGBM can take.

    Raises:
        AsxwError: names the features of another type; LightGBM would end the process on them.
    """
    numeric = ("DOUBLE", "FLOAT", "BIGINT", "INTEGER", "SMALLINT", "TINYINT", "HUGEINT", "BOOLEAN")
    postgres = ("DOUBLE PRECISION", "REAL")
    wrong = [
        f"{f} ({present[f]})"
        for f in features
        if present[f].split("(")[0] not in (*numeric, *postgres)
    ]
    if wrong:
        raise AsxwError(
            f"Features of {relation.sql} must be numbers or booleans, and these are not: "
            f"{', '.join(wrong)}. Give them another role in the YAML of fct_features_daily."
        )


def quoted(names: Sequence[str]) -> str:
    """Column names as a quoted list for a select."""
    return ", ".join(f'"{name}"' for name in names)


def floats(column: pa.ChunkedArray) -> Floats:
    """A numeric or boolean Arrow column as float64 (n,); null and every NaN become one NaN."""
    out = np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False))
    missing = np.isnan(out)
    if missing.any():
        out = np.where(missing, np.nan, out)
    return out


def as_read(values: Floats) -> Floats:
    """Numbers (n,) as models read them: rounded to 32-bit floats, and 0 below 1e-13 in size.

    Both engines' values of a feature, which agree to 1e-11 or better, become the same number, but
    for the few on the border between two 32-bit floats: 2 of 155 million on six years of the ASX.
    Numbers above 3.4e38 become infinite.
    """
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32).astype(np.float64)
    rounded[np.abs(rounded) < NOTHING] = 0.0
    return np.asarray(rounded)


def matrix_of(rows: pa.Table, features: Sequence[str]) -> Floats:
    """The named columns of an Arrow table as_read (n, p), columns contiguous."""
    out = np.empty((rows.num_rows, len(features)), order="F")
    for j, feature in enumerate(features):
        out[:, j] = as_read(floats(rows.column(feature)))
    return out


def _dates(column: pa.ChunkedArray) -> npt.NDArray[np.datetime64]:
    return np.asarray(pc.cast(column, pa.date32()).to_numpy(zero_copy_only=False)).astype(
        "datetime64[D]"
    )


def _sorted_dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Dictionary-encoded text whose dictionary is in alphabetical order."""
    encoded = pc.cast(column, pa.string()).combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    place = np.empty(len(order), dtype=np.int32)
    place[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    codes = place[encoded.indices.to_numpy(zero_copy_only=False)]
    return pa.DictionaryArray.from_arrays(pa.array(codes), encoded.dictionary.take(order))


def panel_checksum(symbol: pa.DictionaryArray, columns: dict[str, npt.NDArray[np.generic]]) -> str:
    """SHA-256 over the values of the panel: names, types and bytes of the columns by name.

    Rows count in their order, which the panel's key fixes; the order of columns does not.
    """
    digest = hashlib.sha256()
    digest.update("\n".join(symbol.dictionary.to_pylist()).encode())
    codes = np.ascontiguousarray(symbol.indices.to_numpy(zero_copy_only=False))
    digest.update(codes.tobytes())
    for name in sorted(columns):
        values = np.ascontiguousarray(columns[name])
        digest.update(f"\n{name} {values.dtype.str} {len(values)}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _panel_of(
    columns: dict[str, npt.NDArray[np.generic]],
    symbol: pa.DictionaryArray,
    features: tuple[str, ...],
    values: Floats,
    extra_names: Sequence[str],
) -> Panel:
    """A panel of named columns (n,), their symbols and features (n, p), with its checksum."""
    hashed = (
        columns
        | {name: as_read(columns[name]) for name in extra_names}  # type: ignore[arg-type]
        | {f: values[:, j] for j, f in enumerate(features)}
    )
    return Panel(
        symbol=symbol,
        trade_date=columns["trade_date"],  # type: ignore[arg-type]
        session_idx=columns["session_idx"],  # type: ignore[arg-type]
        label_end_date=columns["label_end_date"],  # type: ignore[arg-type]
        label_end_idx=columns["label_end_idx"],  # type: ignore[arg-type]
        returns=columns["return_1m_fwd"],  # type: ignore[arg-type]
        up=columns["return_1m_fwd_sign"],  # type: ignore[arg-type]
        features=features,
        values=values,
        extra={name: columns[name] for name in extra_names},  # type: ignore[misc]
        checksum=panel_checksum(symbol, hashed),
    )


def read_panel(
    warehouse: Warehouse,
    relation: Relation,
    features: Sequence[str],
    evaluation_columns: Sequence[str] = (),
    first_day: date | None = None,
    last_day: date | None = None,
) -> Panel:
    """Read every trainable row, or those of some sessions.

    Args:
        warehouse: open connection.
        relation: the training panel's table.
        features: columns the model may see, in order.
        evaluation_columns: further numeric columns, read where the table has them; that of the
            segments with all its bits, so that SQL and Python put a row in the same segment.
        first_day: leave earlier sessions out.
        last_day: leave later sessions out.

    Raises:
        AsxwError: the table or a column is missing, a feature is not a number, a label is null,
            or there is no row.
    """
    present = table_columns(warehouse, relation)
    require_columns(present, [*KEYS, *LABELS], relation, "keys and labels of the panel")
    require_columns(present, features, relation, "features in dbt's manifest")
    require_numeric(present, features, relation)
    extra_names = [
        c for c in evaluation_columns if c in present and (c not in features or c == SEGMENT_COLUMN)
    ]
    wanted = list(dict.fromkeys([*KEYS, *LABELS, *features, *extra_names]))
    limits = [
        (f"trade_date {sign} ?", day)
        for sign, day in ((">=", first_day), ("<=", last_day))
        if day is not None
    ]
    where = f"where {' and '.join(condition for condition, _ in limits)} " if limits else ""
    rows = warehouse.read_arrow(
        f"select {quoted(wanted)} from {relation.sql} {where}"
        'order by trade_date, symbol collate "C"',
        [day for _, day in limits],
    )
    if rows.num_rows == 0:
        span = "".join(
            f" {word} {day}" for word, day in (("from", first_day), ("to", last_day)) if day
        )
        raise AsxwError(
            f"{relation.sql} is empty{span}: load prices, run `dbt build`, and see the funnel "
            "of rows for why none is trainable."
        )
    for name in (*KEYS, *LABELS):
        if rows.column(name).null_count:
            raise AsxwError(
                f"{relation.sql}: {name} is null in {rows.column(name).null_count} rows; "
                "the panel must hold trainable rows only."
            )

    columns: dict[str, npt.NDArray[np.generic]] = {
        "trade_date": _dates(rows.column("trade_date")),
        "label_end_date": _dates(rows.column("label_end_date")),
    }
    for name in ("session_idx", "label_end_idx"):
        columns[name] = np.asarray(pc.cast(rows.column(name), pa.int64()).to_numpy())
    for name in ("return_1m_fwd", "return_1m_fwd_sign"):
        columns[name] = floats(rows.column(name))
    for name in extra_names:
        known = floats(rows.column(name))
        columns[name] = known if name == SEGMENT_COLUMN else as_read(known)
    if not np.isfinite(columns["return_1m_fwd"]).all():
        raise AsxwError(f"{relation.sql}: return_1m_fwd is infinite or not a number in some rows.")
    if not np.isin(columns["return_1m_fwd_sign"], (0.0, 1.0)).all():
        raise AsxwError(f"{relation.sql}: return_1m_fwd_sign must be 0 or 1.")
    symbol = _sorted_dictionary(rows.column("symbol"))
    values = matrix_of(rows, features)
    del rows
    return _panel_of(columns, symbol, tuple(features), values, extra_names)


def check_horizon(panel: Panel, horizon: int) -> None:
    """Refuse a horizon other than that of the labels.

    Intervals, Sharpe ratios and the blocks of the overfitting test count on it.

    Raises:
        AsxwError: says how far the labels look ahead.
    """
    ahead = int((panel.label_end_idx - panel.session_idx).max())
    if ahead != horizon:
        raise AsxwError(
            f"folds.horizon is {horizon} in the model parameters, but the labels of the training "
            f"panel look {ahead} sessions ahead (label_end_idx less session_idx). Set it to "
            f"{ahead}: it says what the labels are and does not change them."
        )


def latest_session(warehouse: Warehouse, relation: Relation) -> tuple[int, date]:
    """Index and date of the latest session of fct_features_daily.

    Raises:
        AsxwError: the table is missing or empty.
    """
    present = table_columns(warehouse, relation)
    require_columns(present, ("session_idx", "trade_date"), relation, "keys of the panel")
    rows = warehouse.read_rows(
        f"select max(session_idx), cast(max(trade_date) as date) from {relation.sql}"
    )
    index, day = rows[0]
    if index is None:
        raise AsxwError(f"{relation.sql} is empty: load prices and run `dbt build`.")
    return int(index), day


def coverage(values: Floats) -> Floats:
    """Share of values that are known, per column (p,)."""
    return np.array([1.0 - np.isnan(values[:, j]).mean() for j in range(values.shape[1])])
