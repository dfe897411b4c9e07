"""The protocol ladder: what each customary mistake is worth in AUC, on the same rows.

The lowest rung is how such a model is often judged; every rung takes one mistake away, and the last
is the honest protocol. On a market without any signal all that is above one half is a mistake.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml.config import ModelConfig
from ml.contract import Table
from ml.dataset import as_read, floats, matrix_of, quoted, require_columns, table_columns
from ml.errors import AsxwError
from ml.evaluation import pooled_auc, session_auc, session_ranks
from ml.folds import first_of_holdout
from ml.intervals import mean_interval
from ml.manifest import ProjectManifest, Relation
from ml.warehouse import Warehouse

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Split = tuple[Indices, Indices]

SYMBOL_ORDER, SHUFFLED, UNPURGED, PURGED = "symbol order", "shuffled", "unpurged", "purged"
LABELS = "int_labels"
_NEVER = np.iinfo(np.int64).max
_LIGHTGBM: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.1,
    "num_leaves": 63,
    "min_data_in_leaf": 40,
    "max_bin": 63,
    "feature_fraction": 0.8,
    "seed": 20240701,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
    "num_threads": 1,
}


@dataclass(frozen=True)
class Rung:
    """One way to judge a model."""

    name: str
    mistake: str
    """What is still wrong with it that the next rung does right; empty on the last."""
    split: str
    todays_fundamentals: bool
    unknown_is_down: bool
    market_columns: bool


RUNGS = (
    Rung("naive", "today's fundamentals in every row", SYMBOL_ORDER, True, True, True),
    Rung("fundamentals as known", "no label counts as a fall", SYMBOL_ORDER, False, True, True),
    Rung("labelled rows", "split in the order of symbols", SYMBOL_ORDER, False, False, True),
    Rung("shuffled k-fold", "rows shuffled", SHUFFLED, False, False, True),
    Rung("walk-forward", "training labels reach the test block", UNPURGED, False, False, True),
    Rung("purged", "market-wide columns", PURGED, False, False, True),
    Rung("honest", "", PURGED, False, False, False),
)


@dataclass(frozen=True)
class Rows:
    """Traded rows of the universe, labelled or not, in order of session and symbol; n rows."""

    symbol: Indices
    """Place of the symbol in the alphabet (n,)."""
    session: Indices
    label_end: Indices
    """Session the label is known at; the largest integer where there is no label (n,)."""
    up: Floats
    """1 for a rise, 0 for a fall, NaN without a label (n,)."""
    values: Floats
    """Features, then market-wide columns (n, p)."""
    features: tuple[str, ...]
    context: tuple[str, ...]
    latest: dict[str, Floats]
    """The newest value of each fundamental of the symbol, whatever the session of the row (n,)."""

    def matrix(self, rung: Rung, rows: Indices) -> Floats:
        """What a rung's model sees of some rows (len(rows), columns)."""
        width = len(self.features) + (len(self.context) if rung.market_columns else 0)
        out = self.values[rows, :width]
        if rung.todays_fundamentals:
            for name, value in self.latest.items():
                out[:, self.features.index(name)] = value[rows]
        return out


@dataclass(frozen=True)
class Judged:
    """A rung with its figures."""

    rung: Rung
    auc: float
    """Over all test rows of all folds."""
    session_auc: float
    """Mean over sessions with enough rows of both classes."""
    session_auc_low: float
    session_auc_high: float
    rows: int
    sessions: int
    folds: int


def read_rows(
    warehouse: Warehouse,
    manifest: ProjectManifest,
    config: ModelConfig,
    stride: int,
    symbol_stride: int = 1,
) -> Rows:
    """Rows before the sealed holdout; a label whose end lies behind its beginning is unknown.

    Args:
        warehouse: open connection.
        manifest: where the tables are, and the columns' roles.
        config: length of the holdout.
        stride: every so-manyth session is read.
        symbol_stride: every so-manyth symbol of the alphabet is kept.

    Raises:
        AsxwError: a table or a column is missing, or there are no rows.
    """
    daily, labels = manifest.features_daily, Relation(manifest.panel.schema, LABELS)
    learned = manifest.features(config.features)
    context = tuple(c.name for c in manifest.columns if c.role == "context")
    present = table_columns(warehouse, daily)
    require_columns(present, [*learned, *context], daily, "features in dbt's manifest")
    fundamental = {c.name for c in manifest.columns if c.family == "fundamental"}
    todays = [name for name in learned if name in fundamental]
    last = warehouse.read_rows(f"select max(session_idx) from {daily.sql}")[0][0]
    if last is None:
        raise AsxwError(f"{daily.sql} is empty: load prices and run `dbt build`.")
    learned_from = warehouse.read_arrow(
        f"select distinct session_idx from {manifest.panel.sql} order by session_idx"
    )
    # as training seals it: the panel ends where labels do, a horizon before the last session
    holdout_first = first_of_holdout(
        floats(learned_from.column("session_idx")).astype(np.int64), config.folds
    )
    end = int(last) if holdout_first is None else holdout_first - 1
    columns = ", ".join(f'd."{c}"' for c in (*learned, *context))
    asked = "".join(f', r."{c}" as "latest_{c}"' for c in todays)
    newest = quoted(("symbol", *todays))
    rows = warehouse.read_arrow(
        f"select d.symbol, d.session_idx, l.label_end_idx, l.return_1m_fwd_sign, "
        f"{columns}{asked} from {daily.sql} as d left join {labels.sql} as l "
        "on d.security_id = l.security_id and d.session_idx = l.session_idx "
        f"left join (select distinct on (symbol) {newest} from {daily.sql} "
        "order by symbol, session_idx desc) as r on d.symbol = r.symbol "
        "where d.is_traded and d.is_in_universe and d.session_idx <= ? "
        'and d.session_idx % ? = 0 order by d.session_idx, d.symbol collate "C"',
        (end, stride),
    )
    if rows.num_rows == 0:
        raise AsxwError(f"{daily.sql} has no rows before the holdout: load more history.")
    _, symbol = np.unique(rows.column("symbol").to_numpy(zero_copy_only=False), return_inverse=True)
    if symbol_stride > 1:
        kept = symbol % symbol_stride == 0
        rows, symbol = rows.filter(pa.array(kept)), symbol[kept]
    label_end, up = floats(rows.column("label_end_idx")), floats(rows.column("return_1m_fwd_sign"))
    up = np.where(label_end > end, np.nan, up)
    return Rows(
        symbol=symbol.astype(np.int64),
        session=floats(rows.column("session_idx")).astype(np.int64),
        label_end=_known_at(label_end, up),
        up=up,
        values=matrix_of(rows, (*learned, *context)),
        features=learned,
        context=context,
        latest={name: as_read(floats(rows.column(f"latest_{name}"))) for name in todays},
    )


def _known_at(label_end: Floats, up: Floats) -> Indices:
    known = ~np.isnan(up)
    out = np.full(len(up), _NEVER)
    out[known] = label_end[known].astype(np.int64)
    return out


# --- splits -------------------------------------------------------------------------------------


def splits(
    split: str, rows: Rows, usable: Indices, blocks: int, embargo: int, seed: int
) -> Iterator[Split]:
    """Training and test rows of each fold, among the usable rows.

    Args:
        split: one of the four kinds.
        rows: all rows.
        usable: positions that have a label, or count as having one.
        blocks: test blocks; those by order leave as much before the first one.
        embargo: sessions between the last training label and the test block (purged only).
        seed: of the shuffle.
    """
    if split == SHUFFLED:
        mixed = np.random.default_rng(seed).permutation(usable)
        for test in np.array_split(mixed, blocks):
            yield np.setdiff1d(usable, test), np.sort(test)
    elif split == SYMBOL_ORDER:
        ordered = usable[np.lexsort((rows.session[usable], rows.symbol[usable]))]
        parts = np.array_split(ordered, blocks + 1)
        for n in range(1, blocks + 1):
            yield np.concatenate(parts[:n]), parts[n]
    else:
        parts = np.array_split(np.unique(rows.session[usable]), blocks + 1)
        for part in parts[1:]:
            first, last = part[0], part[-1]
            session = rows.session[usable]
            test = usable[(session >= first) & (session <= last)]
            before = rows.label_end[usable] < first - embargo if split == PURGED else (
                session < first
            )  # fmt: skip
            yield usable[before], test


def judge(
    rung: Rung, rows: Rows, config: ModelConfig, *, trees: int, blocks: int, workers: int
) -> Judged:
    """Train and test by a rung's protocol.

    Raises:
        AsxwError: a fold has rows of one class only.
    """
    up = np.where(np.isnan(rows.up), 0.0, rows.up) if rung.unknown_is_down else rows.up
    usable = np.flatnonzero(~np.isnan(up))
    folds = list(
        splits(rung.split, rows, usable, blocks, config.folds.embargo, int(_LIGHTGBM["seed"]))
    )
    for train, test in folds:
        if len(np.unique(up[train])) < 2 or not len(test):
            raise AsxwError(
                f"{rung.name}: a fold has {len(train)} training and {len(test)} test rows, or one "
                "class only. Load more history, or ask for fewer blocks."
            )

    def score_fold(fold: Split) -> Floats:
        train, test = fold
        data = lgb.Dataset(rows.matrix(rung, train), label=up[train], params=_LIGHTGBM)
        booster = lgb.train(_LIGHTGBM, data, trees)
        raw = booster.predict(rows.matrix(rung, test), num_threads=1, raw_score=True)
        return np.asarray(raw, dtype=np.float64)

    # whole folds side by side, each on one processor: no thread waits for another at every split
    with ThreadPoolExecutor(workers) as pool:
        score = np.concatenate(list(pool.map(score_fold, folds)))
    test = np.concatenate([test for _, test in folds])
    kept, codes = np.unique(rows.session[test], return_inverse=True)
    by_session = session_auc(
        codes, len(kept), session_ranks(codes, score), up[test], config.evaluation.minimum_rows
    )
    known = by_session[np.isfinite(by_session)]
    stride = int(np.diff(kept).min()) if len(kept) > 1 else 1
    # neighbouring values overlap over a horizon of sessions, of which every so-manyth is here
    low, high = mean_interval(known, max(1, config.folds.horizon // stride))
    return Judged(
        rung=rung,
        auc=pooled_auc(score, up[test]),
        session_auc=float(known.mean()) if len(known) else float("nan"),
        session_auc_low=low,
        session_auc_high=high,
        rows=len(test),
        sessions=len(known),
        folds=len(folds),
    )


def climb(
    rows: Rows,
    config: ModelConfig,
    *,
    trees: int,
    blocks: int,
    report: Callable[[str], None],
    rungs: Sequence[Rung] = RUNGS,
) -> list[Judged]:
    """Every rung, from the worst protocol to the honest one."""
    found = []
    for number, rung in enumerate(rungs, start=1):
        begun = time.monotonic()
        judged = judge(
            rung, rows, config, trees=trees, blocks=blocks, workers=config.num_threads
        )  # fmt: skip
        found.append(judged)
        report(
            f"rung {number}/{len(rungs)} {rung.name}: AUC {judged.auc:.4f}, per session "
            f"{judged.session_auc:.4f}, {time.monotonic() - begun:.0f} s"
        )
    return found


def ladder_rows(
    market: str,
    judged: Sequence[Judged],
    *,
    trees: int,
    stride: int,
    git_commit: str | None,
    symbol_stride: int = 1,
) -> pa.Table:
    """Rows of ml.protocol_ladder but for created_at."""

    def known(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    return pa.Table.from_pylist(
        [
            {
                "market": market,
                "rung": number,
                "name": j.rung.name,
                "mistake": j.rung.mistake or None,
                "split": j.rung.split,
                "todays_fundamentals": j.rung.todays_fundamentals,
                "unknown_is_down": j.rung.unknown_is_down,
                "market_columns": j.rung.market_columns,
                "auc": j.auc,
                "session_auc": known(j.session_auc),
                "session_auc_ci_low": known(j.session_auc_low),
                "session_auc_ci_high": known(j.session_auc_high),
                "n_rows": j.rows,
                "n_sessions": j.sessions,
                "n_folds": j.folds,
                "trees": trees,
                "session_stride": stride,
                "symbol_stride": symbol_stride,
                "git_commit": git_commit,
            }
            for number, j in enumerate(judged, start=1)
        ]
    )


def write_ladder(
    warehouse: Warehouse, schema: str, contract: dict[str, Table], market: str, rows: pa.Table
) -> None:
    """Write the rows in one transaction; those of the same market are replaced."""
    table = contract["protocol_ladder"]
    warehouse.create_tables(schema, {"protocol_ladder": table})
    now = datetime.now(UTC).replace(tzinfo=None)
    created = pa.array([now] * rows.num_rows, type=pa.timestamp("us"))
    written = rows.append_column("created_at", created)
    written = written.cast(
        pa.schema([table.arrow_schema.field(name) for name in written.schema.names])
    )
    with warehouse.transaction():
        warehouse.replace(schema, table, written, {"market": market})
