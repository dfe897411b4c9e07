"""Does the evaluation find the strength that was planted, and nothing where nothing is?

    python benchmarks/strength.py                       # 160 companies, 756 sessions, seed 7
    python benchmarks/strength.py --symbols 500 --seeds 7 8 9 10

Each seed gives two invented markets (docs/sample_market.md), one with the planted signal and one
without. Both are loaded, built by dbt and trained on as a user does it. In the first the latent
state, judged on the model's rows and with its intervals, must show the planted strength, and the
model must find a part of it; in the second no interval may leave out what chance gives.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ml.config import ModelConfig, read_config
from ml.dataset import Panel, latest_session, read_panel
from ml.evaluation import Metric
from ml.manifest import project_manifest
from ml.text_table import text_table
from ml.training import MODEL, TrainingRun, train
from ml.warehouse import DuckDBWarehouse

PROJECT = Path(__file__).resolve().parents[1]
LATENT = "latent"
# 21 sessions of drift in standard deviations of the return, per unit of the latent state
PLANTED_RATIO = 0.34
CHANCE = {"roc_auc_session": 0.5, "rank_ic": 0.0, "pearson_ic": 0.0, "decile_spread": 0.0}


@dataclass(frozen=True)
class Planted:
    """What the latent state is worth, for jointly normal state and return."""

    roc_auc_session: float
    rank_ic: float


def planted_strength() -> Planted:
    """AUC = 1/2 + (2/pi) asin(rho / sqrt 2) and Rank IC = (6/pi) asin(rho / 2)."""
    rho = PLANTED_RATIO / math.hypot(1.0, PLANTED_RATIO)
    return Planted(
        0.5 + 2 / math.pi * math.asin(rho / math.sqrt(2)), 6 / math.pi * math.asin(rho / 2)
    )


def with_latent(panel: Panel, file: Path) -> Panel:
    """The panel with the latent state as a column the evaluation may use."""
    rows = pq.read_table(file).to_pydict()
    known: dict[tuple[str, date], float] = {
        (s, d): z
        for s, d, z in zip(rows["symbol"], rows["trade_date"], rows["latent"], strict=True)
    }
    days = panel.trade_date.astype(object)
    latent = [known.get(key, math.nan) for key in zip(panel.symbol.to_pylist(), days, strict=True)]
    return replace(panel, extra=panel.extra | {LATENT: np.array(latent)})


def run_market(
    warehouse: Path, manifest: Path, latent: Path, config: ModelConfig
) -> tuple[TrainingRun, Panel]:
    """Train on a built market, with the latent state among the baselines."""
    described = project_manifest(PROJECT, manifest)
    evaluation = config.evaluation
    columns = [column for column, _ in evaluation.baselines.values()]
    with DuckDBWarehouse(warehouse, read_only=True) as opened:
        latest = latest_session(opened, described.features_daily)
        panel = read_panel(
            opened, described.panel, described.features(config.features),
            [*columns, "adv_20_median"],
        )  # fmt: skip
    baselines = {**evaluation.baselines, LATENT: (LATENT, 1.0)}
    config = replace(config, evaluation=replace(evaluation, baselines=baselines))
    panel = with_latent(panel, latent)
    run = train(panel, config, latest=latest, label="close", git_commit=None, report=lambda _: None)
    return run, panel


def pooled(run: TrainingRun, predictor: str, name: str, segment: str = "all") -> Metric:
    """A metric over all out-of-fold rows."""
    return next(
        m
        for m in run.metrics
        if (m.predictor, m.fold, m.segment, m.name) == (predictor, 0, segment, name)
    )


def beyond_chance(run: TrainingRun) -> list[Metric]:
    """Claims of the model over all out-of-fold rows whose interval leaves out what chance gives.

    Orderings by themselves and against every baseline, whole market and liquid tiers, on either
    side; and a skill of the probabilities above 0.
    """
    found = []
    for m in run.metrics:
        ours = m.predictor == MODEL or m.predictor.startswith(f"{MODEL} - ")
        if m.fold != 0 or not ours or math.isnan(m.low):
            continue
        if m.name == "brier_skill" and m.low > 0:
            found.append(m)
        chance = CHANCE.get(m.name)
        if chance is None:
            continue
        expected = chance if m.predictor == MODEL else 0.0
        if not m.low <= expected <= m.high:
            found.append(m)
    return found


def build(folder: Path, symbols: int, sessions: int, seed: int, null: bool) -> None:
    """Generate, load and build a market up to its training panel."""
    environment = dict(os.environ) | {
        "ASXW_DUCKDB_PATH": str(folder / "warehouse.duckdb"),
        "ASXW_TARGET": "duckdb",
        "DBT_TARGET_PATH": str(folder / "target"),
        "DBT_LOG_PATH": str(folder / "logs"),
    }
    size = ["--symbols", str(symbols), "--sessions", str(sessions), "--seed", str(seed)]
    for command in (
        ["asxw", "sample-market", str(folder / "data"), *size, *(["--null"] if null else [])],
        ["asxw", "load", str(folder / "data"), "--layout", "sample"],
        ["dbt", "--quiet", "build", "--exclude-resource-type", "test", "unit_test",
         "--select", "+int_training_panel"],
    ):  # fmt: skip
        program = Path(sys.executable).with_name(command[0])
        subprocess.run([program, *command[1:]], cwd=PROJECT, env=environment, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip


def cell(metric: Metric) -> str:
    """A value with its interval."""
    return f"{metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}]"


def judge(run: TrainingRun, null: bool) -> tuple[list[str], bool]:
    """A row of the table, and whether the market was judged rightly."""
    latent = [pooled(run, LATENT, name) for name in ("roc_auc_session", "rank_ic")]
    model = [pooled(run, MODEL, name) for name in ("roc_auc_session", "rank_ic")]
    claims = beyond_chance(run)
    if null:
        right = not claims and all(m.low <= CHANCE[m.name] <= m.high for m in (*latent, *model))
    else:
        planted = vars(planted_strength())
        behind = pooled(run, f"{MODEL} - {LATENT}", "rank_ic")
        right = all(m.low <= planted[m.name] <= m.high for m in latent)
        right = right and model[1].low > 0 and behind.high < 0
    return [*(cell(m) for m in (*latent, *model)), str(len(claims))], right


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 where a market was judged wrongly."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--symbols", type=int, default=160)
    parser.add_argument("--sessions", type=int, default=756)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--config", type=Path, help="YAML file laid over ml/model.yml")
    given = parser.parse_args(arguments)
    config = read_config(given.config)
    rows: list[list[str]] = []
    wrong: Mapping[bool, list[int]] = {False: [], True: []}
    for seed in given.seeds:
        for null in (False, True):
            with tempfile.TemporaryDirectory(prefix="strength-") as name:
                folder = Path(name)
                build(folder, given.symbols, given.sessions, seed, null)
                run, panel = run_market(
                    folder / "warehouse.duckdb", folder / "target" / "manifest.json",
                    folder / "data" / "planted_latent.parquet", config,
                )  # fmt: skip
            shown, right = judge(run, null)
            if not right:
                wrong[null].append(seed)
            market = "null" if null else "planted"
            rows.append([market, str(seed), f"{len(panel):,}", *shown, "" if right else "WRONG"])
            print(f"{market} {seed}: {'as it should be' if right else 'WRONG'}", file=sys.stderr)
    planted = planted_strength()
    print(f"planted: AUC {planted.roc_auc_session:.4f}, Rank IC {planted.rank_ic:.4f}\n")
    header = ["market", "seed", "rows", "latent AUC", "latent Rank IC", "model AUC",
              "model Rank IC", "claims", ""]  # fmt: skip
    print(text_table(header, rows))
    return 1 if wrong[False] or wrong[True] else 0


if __name__ == "__main__":
    sys.exit(main())
