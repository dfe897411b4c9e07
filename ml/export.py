"""The training panel as Parquet, for people and tools without the warehouse."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.artifacts import sha256_file
from ml.dataset import KEYS, LABELS, quoted, require_columns, table_columns
from ml.errors import AsxwError
from ml.manifest import Relation
from ml.warehouse import Warehouse


@dataclass(frozen=True)
class ExportedFiles:
    """Where an export was written."""

    dated: Path
    latest: Path
    manifest: Path
    content: dict[str, Any]
    """What the manifest says."""


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to; it takes the name when all went well.

    Its name is this call's own: of two jobs at once each writes its file, and one's remains.
    """
    staging = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield staging
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


def export_panel(
    warehouse: Warehouse, relation: Relation, features: Sequence[str], folder: Path
) -> ExportedFiles:
    """Write featureset_<last trade_date>.parquet, featureset_latest.parquet and its manifest.

    Rows are in order of trade_date, symbol; the same panel gives the same bytes. Every file
    appears complete or not at all, the manifest last.

    Args:
        warehouse: open connection.
        relation: the training panel.
        features: columns whose coverage the manifest reports.
        folder: made where it is missing.

    Raises:
        AsxwError: the panel or a feature is missing, or the panel is empty.
    """
    present = table_columns(warehouse, relation)
    require_columns(present, [*KEYS, *LABELS], relation, "keys and labels of the panel")
    require_columns(present, features, relation, "features in dbt's manifest")
    counts = ", ".join(f'count("{f}")' for f in features)
    # what is counted is what is written, whatever a build swaps in meanwhile
    with warehouse.snapshot([relation]):
        summary = warehouse.read_rows(
            "select count(*), count(distinct symbol), cast(min(trade_date) as date), "
            f"cast(max(trade_date) as date), {counts} from {relation.sql}"
        )[0]
        rows, symbols, first, last, *known = summary
        if not rows:
            raise AsxwError(f"{relation.sql} is empty: load prices and run `dbt build`.")

        folder.mkdir(parents=True, exist_ok=True)
        dated = folder / f"featureset_{last}.parquet"
        latest = folder / "featureset_latest.parquet"
        manifest = folder / "featureset_latest.json"
        with appearing(dated) as staging:
            warehouse.write_parquet(
                f"select {quoted(list(present))} from {relation.sql} "
                'order by trade_date, symbol collate "C"',
                staging,
            )
    with appearing(latest) as staging:
        shutil.copyfile(dated, staging)
    content = {
        "file": dated.name,
        "sha256": sha256_file(dated),
        "rows": rows,
        "symbols": symbols,
        "first_trade_date": first.isoformat(),
        "last_trade_date": last.isoformat(),
        "columns": list(present),
        "coverage": {f: n / rows for f, n in zip(features, known, strict=True)},
    }
    with appearing(manifest) as staging:
        staging.write_bytes((json.dumps(content, indent=2) + "\n").encode())
    return ExportedFiles(dated, latest, manifest, content)
