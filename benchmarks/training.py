"""Twelve folds and the final models: this project's way against the usual loop, in one run.

    python benchmarks/training.py                 # reference size, every tree
    python benchmarks/training.py --trees 0.1     # a tenth of the trees, for both

The usual loop takes a pandas frame and fits LightGBM's scikit-learn classifier and regressor fold
after fold with default threads, on every training row and with the same parameters. Both sides get
the same rows, folds and purge, each in a process of its own, which starts from a Parquet file; what
is timed begins with the data in memory and ends with the out-of-fold predictions and the final
models. Ours also fits the linear baseline in that time. `--same-rows` adds a third contender, the
loop on our rows and bins, which shows what does not come from training on every third session.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ml.config import HeadSettings, ModelConfig, read_config
from ml.dataset import KEYS, LABELS, Panel, floats
from ml.evaluation import session_auc, session_correlation, session_ranks
from ml.folds import every_nth_session, plan_folds
from ml.intervals import mean_interval
from ml.training import booster_parameters, run_fits

REFERENCE_SYMBOLS, REFERENCE_SESSIONS, FEATURES = 2394, 520, 60
HORIZON = 21
SPEED_TARGET, MEMORY_TARGET = 2.0, 4.0
OURS, USUAL, SAME_ROWS = "this project", "usual loop", "loop on our rows"


def make_rows(symbols: int, sessions: int, seed: int = 3) -> pa.Table:
    """An invented panel with 60 persistent features, a few of which move returns a little."""
    rng = np.random.default_rng(seed)
    total = sessions + HORIZON
    state = rng.normal(size=(symbols, FEATURES))
    # windows of a week to a year move that slowly
    decay = rng.uniform(0.9, 0.995, size=FEATURES)
    volatility = np.exp(rng.normal(-3.7, 0.5, size=symbols))
    values = np.empty((sessions, symbols, FEATURES))
    daily = np.empty((total, symbols))
    for t in range(total):
        state = decay * state + np.sqrt(1 - decay**2) * rng.normal(size=state.shape)
        if t < sessions:
            values[t] = state
        drift = state[:, 0] + 0.7 * state[:, 1] * state[:, 2] + np.tanh(state[:, 3])
        shock = rng.standard_t(5, size=symbols) + 0.5 * rng.normal()
        daily[t] = volatility * (0.03 * drift + shock)
    growth = np.vstack([np.zeros(symbols), np.cumsum(daily, axis=0)])
    # the state of a session drives the returns after it
    returns = np.expm1(growth[HORIZON : HORIZON + sessions] - growth[:sessions])
    values[..., 4:14][rng.random((sessions, symbols, 10)) < 0.1] = np.nan
    session, symbol = np.indices((sessions, symbols))
    return pa.table(
        {
            "session_idx": session.ravel(),
            "symbol": symbol.ravel(),
            "label_end_idx": session.ravel() + HORIZON,
            "return_1m_fwd": returns.ravel(),
            **{f"f{j:02d}": values[..., j].ravel() for j in range(FEATURES)},
        }
    )


def bench_config(trees: float) -> ModelConfig:
    """The project's parameters, with a share of the trees; blocks may be short at this size."""
    config = read_config()

    def scaled(head: HeadSettings) -> HeadSettings:
        return replace(
            head,
            trees_fold=max(1, round(head.trees_fold * trees)),
            trees_final=max(1, round(head.trees_final * trees)),
        )

    return replace(
        config,
        classifier=scaled(config.classifier),
        regressor=scaled(config.regressor),
        folds=replace(config.folds, waive_minimum_block=True),
        # permutation importance is no part of what the loop does
        evaluation=replace(config.evaluation, permutation_rows=0),
    )


def feature_names(schema: pa.Schema) -> list[str]:
    """Columns that are neither keys nor labels."""
    return [n for n in schema.names if n not in (*KEYS, *LABELS)]


def read_ours(file: Path) -> Panel:
    """The rows as the project's panel."""
    table = pq.read_table(file)
    features = feature_names(table.schema)
    values = np.empty((table.num_rows, len(features)), order="F")
    for j, name in enumerate(features):
        values[:, j] = floats(table.column(name))
    session = table.column("session_idx").to_numpy()
    label_end = table.column("label_end_idx").to_numpy()
    first = date(2020, 1, 1)
    days = np.array([first + timedelta(int(s)) for s in range(label_end.max() + 1)])
    days = days.astype("datetime64[D]")
    returns = table.column("return_1m_fwd").to_numpy()
    return Panel(
        symbol=table.column("symbol").cast(pa.string()).combine_chunks().dictionary_encode(),
        trade_date=days[session],
        session_idx=session,
        label_end_date=days[label_end],
        label_end_idx=label_end,
        returns=returns,
        up=(returns > 0).astype(float),
        features=tuple(features),
        values=values,
        extra={},
        checksum="",
    )


def judged(
    session: np.ndarray, probability: np.ndarray, expected: np.ndarray, returns: np.ndarray
) -> dict[str, Any]:
    """Mean AUC and Rank IC per session, and the AUC of each."""
    _, codes = np.unique(session, return_inverse=True)
    count = int(codes.max()) + 1
    ranks = [session_ranks(codes, v) for v in (probability, expected, returns)]
    auc = session_auc(codes, count, ranks[0], (returns > 0).astype(float), 20)
    return {
        "auc": float(np.nanmean(auc)),
        "rank_ic": float(np.nanmean(session_correlation(codes, count, *ranks[1:], 20))),
        "auc_by_session": auc.tolist(),
    }


def run_ours(file: Path, config: ModelConfig) -> dict[str, Any]:
    """Folds and final models as `asxw train` fits them."""
    panel = read_ours(file)
    plan = plan_folds(panel.session_idx, config.folds)
    final = np.ones(len(panel), dtype=bool)
    begun, worked = time.perf_counter(), time.process_time()
    results, _ = run_fits(panel, plan, final, config, lambda line: print(line, file=sys.stderr))
    seconds = time.perf_counter() - begun
    rows = np.concatenate([r.test for r in results])
    return {
        "seconds": seconds,
        "processors": (time.process_time() - worked) / seconds,
        **judged(
            panel.session_idx[rows],
            np.concatenate([r.probability for r in results]),
            np.concatenate([r.expected_return for r in results]),
            panel.returns[rows],
        ),
    }


def run_usual(file: Path, config: ModelConfig, same_rows: bool) -> dict[str, Any]:
    """A pandas frame and scikit-learn's interface, one fit after another."""
    frame = pd.read_parquet(file)
    features = feature_names(pq.read_schema(file))
    session = frame["session_idx"].to_numpy()
    label_end = frame["label_end_idx"].to_numpy()
    frame["up"] = (frame["return_1m_fwd"] > 0).astype(int)
    plan = plan_folds(session, config.folds)
    stride = config.folds.training_stride if same_rows else 1
    # what LightGBM would do by itself: column-wise or row-wise, 255 bins, any order of sums
    ours_alone = () if same_rows else ("max_bin", "force_row_wise", "deterministic")

    def parameters(head: HeadSettings, trees: int, step: int) -> dict[str, Any]:
        merged = {**booster_parameters(config, step), **head.lightgbm}
        for name in ("num_threads", "feature_pre_filter", *ours_alone):
            merged.pop(name, None)
        return {**merged, "n_estimators": trees}

    def fit(rows: np.ndarray, trees: tuple[int, int], step: int) -> tuple[Any, Any]:
        train = frame[rows]
        low, high = train["return_1m_fwd"].quantile(list(config.winsor))
        classifier = lgb.LGBMClassifier(
            **parameters(config.classifier, trees[0], step), class_weight="balanced"
        )
        classifier.fit(train[features], train["up"])
        regressor = lgb.LGBMRegressor(**parameters(config.regressor, trees[1], step))
        regressor.fit(train[features], train["return_1m_fwd"].clip(low, high))
        return classifier, regressor

    begun, worked = time.perf_counter(), time.process_time()
    tested, probability, expected = [], [], []
    for fold in plan.folds:
        rows = every_nth_session(fold.train_rows(label_end), session, stride)
        trees = (config.classifier.trees_fold, config.regressor.trees_fold)
        classifier, regressor = fit(rows, trees, stride)
        test = np.flatnonzero(plan.test_rows(fold, session, label_end))
        inputs = frame[features].iloc[test]
        tested.append(test)
        probability.append(classifier.predict_proba(inputs)[:, 1])
        expected.append(regressor.predict(inputs))
        print(f"fold {fold.number}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    trees = (config.classifier.trees_final, config.regressor.trees_final)
    fit(np.ones(len(frame), dtype=bool), trees, 1)
    seconds = time.perf_counter() - begun
    rows = np.concatenate(tested)
    returns = frame["return_1m_fwd"].to_numpy()[rows]
    return {
        "seconds": seconds,
        "processors": (time.process_time() - worked) / seconds,
        **judged(session[rows], np.concatenate(probability), np.concatenate(expected), returns),
    }


def contend(name: str, file: Path, trees: float) -> None:
    """Run one contender in this process and print what it reached as JSON."""
    config = bench_config(trees)
    found = run_ours(file, config) if name == OURS else run_usual(file, config, name == SAME_ROWS)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    found["peak_gb"] = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    print(json.dumps(found))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the contenders in turn; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--symbols", type=int, default=REFERENCE_SYMBOLS)
    parser.add_argument("--sessions", type=int, default=REFERENCE_SESSIONS)
    parser.add_argument("--trees", type=float, default=1.0, metavar="FRACTION")
    parser.add_argument(
        "--same-rows", action="store_true", help="The loop on our rows and bins too."
    )
    parser.add_argument("--panel", type=Path, help="Parquet of `asxw export` instead.")
    parser.add_argument("--contender", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.contender:
        contend(given.contender[0], Path(given.contender[1]), given.trees)
        return 0
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        file = given.panel or Path(folder) / "panel.parquet"
        if given.panel is None:
            pq.write_table(make_rows(given.symbols, given.sessions), file)
        count, columns = pq.read_metadata(file).num_rows, len(feature_names(pq.read_schema(file)))
        for name in (OURS, USUAL, *([SAME_ROWS] if given.same_rows else [])):
            command = [sys.executable, __file__, "--trees", str(given.trees)]
            done = subprocess.run(
                [*command, "--contender", name, str(file)],
                check=True, stdout=subprocess.PIPE, text=True, env=os.environ,
            )  # fmt: skip
            found[name] = json.loads(done.stdout)
    ours, usual = found[OURS], found[USUAL]
    print(f"{count:,} rows, {columns} features, {given.trees:.1%} of the trees\n")
    print(f"{'':18}{'seconds':>9}{'processors':>12}{'AUC':>9}{'Rank IC':>9}{'peak GB':>9}")
    for name, r in found.items():
        print(f"{name:18}{r['seconds']:9.1f}{r['processors']:12.2f}{r['auc']:9.4f}"
              f"{r['rank_ic']:9.4f}{r['peak_gb']:9.2f}")  # fmt: skip
    gained = np.array(ours["auc_by_session"]) - np.array(usual["auc_by_session"])
    low, high = mean_interval(gained[np.isfinite(gained)], HORIZON)
    speed = usual["seconds"] / ours["seconds"]
    gain = f"{ours['auc'] - usual['auc']:+.4f} [{low:+.4f}, {high:+.4f}]"
    targets = {
        f"{speed:.1f} times faster (target {SPEED_TARGET:.0f})": speed >= SPEED_TARGET,
        f"AUC {gain} (target: not below 0)": high >= 0,
        f"peak {ours['peak_gb']:.2f} GB (target {MEMORY_TARGET:.0f})": (
            ours["peak_gb"] < MEMORY_TARGET
        ),
    }
    print()
    for text, reached in targets.items():
        print(f"{'reached' if reached else 'MISSED'}  {text}")
    return 0 if all(targets.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
