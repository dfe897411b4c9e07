"""`asxw sample-market`: writes the invented market as one Parquet file per raw table."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click
import pyarrow.parquet as pq

from ingest.sample_market import SampleMarket, SampleParameters, generate
from ml.errors import AsxwError

MANIFEST = "manifest.json"


def write_sample_market(parameters: SampleParameters, out_dir: Path) -> SampleMarket:
    """Generates the market and writes it to `out_dir`, whole or not at all.

    One `<table>.parquet` per raw table, `planted_truth.parquet`, `planted_latent.parquet` and
    `manifest.json`. An earlier sample in `out_dir` is replaced.

    Raises:
        AsxwError: `out_dir` holds something else, or cannot be written.
    """
    is_used = out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir()))
    if is_used and not (out_dir / MANIFEST).is_file():
        raise AsxwError(f"{out_dir} exists and is not a sample market: name an empty folder.")
    market = generate(parameters)
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out_dir.parent, prefix=f".{out_dir.name}-") as scratch:
            _write(market, parameters, Path(scratch) / "new")
            if out_dir.exists():
                out_dir.rename(Path(scratch) / "old")
            (Path(scratch) / "new").rename(out_dir)
    except OSError as error:
        raise AsxwError(f"cannot write the sample market to {out_dir}: {error}") from error
    return market


def _write(market: SampleMarket, parameters: SampleParameters, folder: Path) -> None:
    folder.mkdir()
    files = market.tables | {"planted_truth": market.truth, "planted_latent": market.latent}
    for name, table in files.items():
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
    (folder / MANIFEST).write_text(_manifest(market, parameters), encoding="utf-8")


def _manifest(market: SampleMarket, parameters: SampleParameters) -> str:
    events: dict[str, int] = {}
    for name in market.truth["event"].to_pylist():
        events[name] = events.get(name, 0) + 1
    content = {
        "about": "An invented market: no row describes a real company. See docs/sample_market.md.",
        "parameters": asdict(parameters),
        "rows": {name: table.num_rows for name, table in market.tables.items()},
        "planted_events": events,
    }
    return json.dumps(content, indent=2, sort_keys=True, default=str) + "\n"


@click.command("sample-market")
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option("--symbols", default=160, show_default=True, help="Companies and funds.")
@click.option("--sessions", default=756, show_default=True, help="Sessions of the ASX calendar.")
@click.option("--seed", default=7, show_default=True, help="Same seed, same bytes.")
@click.option(
    "--end",
    type=click.DateTime(["%Y-%m-%d"]),
    default="2026-06-04",
    show_default=True,
    help="Last day of the market.",
)
@click.option("--null", is_flag=True, help="No return is predictable: honest AUC is 0.50.")
def sample_market_command(
    *, out_dir: Path, symbols: int, sessions: int, seed: int, end: datetime, null: bool
) -> None:
    """Write an invented market with a known answer to OUT_DIR, one Parquet file per raw table."""
    parameters = SampleParameters(symbols, sessions, seed, end.date(), null)
    market = write_sample_market(parameters, out_dir)
    for name, table in market.tables.items():
        click.echo(f"{name:<18} {table.num_rows:>10,} rows")
    click.echo(f"{market.truth.num_rows} planted events; written to {out_dir}")
