"""A small warehouse with a planted signal, and the dbt manifest that describes it.

The tables are those that training, scoring and export read; their rows are made up here, so that
the tests need neither dbt nor market data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import yaml

from ml.manifest import FEATURES_NODE, PANEL_NODE, RESULTS_NODE

REPOSITORY = Path(__file__).resolve().parents[2]
HORIZON = 21
ROLES = {
    "symbol": ("key", None),
    "trade_date": ("key", None),
    "session_idx": ("key", None),
    "security_id": ("key", None),
    "is_traded": ("flag", None),
    "is_in_universe": ("flag", None),
    "ret_1d": ("feature", "momentum"),
    "mom_1": ("feature", "momentum"),
    "mom_12_1": ("feature", "momentum"),
    "trend_200": ("feature", "momentum"),
    "vol_60": ("feature", "volatility"),
    "adv_20_median": ("feature", "liquidity"),
    "signal": ("feature", "fundamental"),
    "noise": ("feature", "fundamental"),
    "always_null": ("feature", "fundamental"),
    "rarely_known": ("feature", "sentiment"),
    "rba_cash_rate": ("context", "macro"),
    "max_available_at": ("provenance", None),
}
FEATURES = tuple(name for name, (role, _) in ROLES.items() if role == "feature")

SIGNALS = {
    "signal_strong_buy_probability": 0.60,
    "signal_buy_probability": 0.53,
    "signal_sell_probability": 0.42,
    "signal_strong_sell_probability": 0.36,
    "signal_buy_return": 0.0,
    "signal_sell_return": 0.0,
}
SMALL = {
    "classifier": {"trees_final": 12, "trees_fold": 10},
    "regressor": {"trees_final": 12, "trees_fold": 10},
    "lightgbm": {"num_leaves": 8},
    "folds": {"blocks": 4, "holdout": 63},
    "evaluation": {"replicates": 60},
    "threads": 1,
}


@dataclass(frozen=True)
class Market:
    """Rows of the two tables the Python package reads."""

    features_daily: pa.Table
    panel: pa.Table


def make_market(
    symbols: int = 60, sessions: int = 500, strength: float = 0.5, seed: int = 11
) -> Market:
    """Daily rows of a made-up market.

    `signal` moves the 21-session return with the weight `strength`; 0 is a null panel. One symbol
    in ten is not in the universe, one in ten is delisted half way.
    """
    rng = np.random.default_rng(seed)
    days = np.array(
        [
            d
            for d in (date(2022, 1, 3) + timedelta(i) for i in range(2 * sessions))
            if d.weekday() < 5
        ]
    )[:sessions]
    s, t = np.meshgrid(np.arange(symbols), np.arange(sessions), indexing="ij")
    s, t = s.ravel(), t.ravel()
    shape = (symbols, sessions)
    slow = rng.normal(size=(symbols, sessions // 10 + 1)).repeat(10, axis=1)[:, :sessions]
    vol = np.exp(rng.normal(-3.8, 0.4, size=(symbols, 1))) * np.ones(shape)
    daily = vol * rng.normal(size=shape)
    daily[:, 1:] += strength * 0.01 * slow[:, :-1]
    log_price = np.cumsum(daily, axis=1)

    def past(lag: int) -> np.ndarray:
        out = np.full(shape, np.nan)
        out[:, lag:] = np.expm1(log_price[:, lag:] - log_price[:, :-lag])
        return out

    def masked(values: np.ndarray, unknown: np.ndarray) -> pa.Array:
        return pa.array(values.ravel(), mask=(unknown | np.isnan(values)).ravel())

    never = np.zeros(shape, dtype=bool)
    mom_12_1 = np.full(shape, np.nan)
    mom_12_1[:, 252:] = np.expm1(log_price[:, 231:-21] - log_price[:, :-252])
    universe = (np.arange(symbols) % 10 != 9)[:, None] & np.ones(shape, dtype=bool)
    gone = np.where(np.arange(symbols) % 10 == 7, sessions // 2, sessions)[:, None]
    listed = np.arange(sessions)[None, :] < gone
    adv = np.exp(rng.normal(12, 2, size=(symbols, 1))) * np.ones(shape)
    names = np.array([f"S{i:03d}" for i in range(symbols)])
    columns = {
        "symbol": pa.array(names[s]),
        "trade_date": pa.array(days[t]),
        "session_idx": pa.array(t),
        "security_id": pa.array(names[s]),
        "is_traded": pa.array(listed.ravel()),
        "is_in_universe": pa.array((universe & listed).ravel()),
        "ret_1d": masked(past(1), never),
        "mom_1": masked(past(21), never),
        "mom_12_1": masked(mom_12_1, never),
        "trend_200": pa.array((log_price > 0).ravel()),
        "vol_60": masked(vol, np.broadcast_to(np.arange(sessions) < 30, shape)),
        "adv_20_median": masked(adv, never),
        "signal": masked(slow, rng.random(shape) < 0.05),
        "noise": masked(rng.normal(size=shape), never),
        "always_null": pa.nulls(s.size, pa.float64()),
        "rarely_known": masked(rng.normal(size=shape), rng.random(shape) < 0.9),
        "rba_cash_rate": masked(np.broadcast_to(np.arange(sessions) * 0.01, shape), never),
        "max_available_at": pa.nulls(s.size, pa.timestamp("us")),
    }
    rows = pa.table(columns).filter(pa.array(listed.ravel()))

    last = gone - 1
    end = np.minimum(np.arange(sessions)[None, :] + HORIZON, last)
    mature = (np.arange(sessions)[None, :] + HORIZON < sessions) & listed & universe
    returns = np.expm1(np.take_along_axis(log_price, end, axis=1) - log_price)
    end = np.broadcast_to(end, shape)
    kept = [c for c, (role, _) in ROLES.items() if role in ("feature", "context")]
    panel = pa.table(
        {c: columns[c] for c in ("symbol", "security_id", "trade_date", "session_idx", *kept)}
        | {
            "return_1m_fwd": pa.array(returns.ravel()),
            "return_1m_fwd_sign": pa.array((returns > 0).astype(np.int64).ravel()),
            "label_end_date": pa.array(days[end.ravel()]),
            "label_end_idx": pa.array(end.ravel().astype(np.int64)),
            "label_status": pa.array(
                np.where(end == np.arange(sessions) + HORIZON, "ok", "delisted").ravel()
            ),
        }
    ).filter(pa.array(mature.ravel()))
    return Market(rows, panel)


def write_market(path: Path, market: Market) -> None:
    """Create or replace the two tables in a DuckDB file."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema if not exists marts")
        connection.execute("create schema if not exists intermediate")
        for name, rows in (
            ("marts.fct_features_daily", market.features_daily),
            ("intermediate.int_training_panel", market.panel),
        ):
            connection.register("incoming", rows)
            connection.execute(f"create or replace table {name} as select * from incoming")
            connection.unregister("incoming")


def manifest_content(prefix: str = "") -> dict:
    """dbt's manifest, as far as it is read."""
    columns = {
        name: {
            "name": name,
            "data_type": "double precision",
            "config": {
                "meta": {
                    "role": role,
                    **({"family": family, "lookback": 21, "unit": "fraction"} if family else {}),
                }
            },
        }
        for name, (role, family) in ROLES.items()
    }
    return {
        "nodes": {
            PANEL_NODE: {
                "schema": f"{prefix}intermediate",
                "alias": "int_training_panel",
                "columns": {},
            },
            FEATURES_NODE: {
                "schema": f"{prefix}marts",
                "alias": "fct_features_daily",
                "columns": columns,
            },
        },
        "sources": {RESULTS_NODE: {"schema": f"{prefix}ml", "identifier": "runs"}},
    }


def make_project(folder: Path, market: Market, overlay: dict | None = None) -> Path:
    """A project folder with its warehouse, manifest, profile and a small model."""
    folder.mkdir(parents=True, exist_ok=True)
    contract = folder / "models" / "staging" / "ml" / "_sources.yml"
    contract.parent.mkdir(parents=True)
    source = REPOSITORY / "models" / "staging" / "ml" / "_sources.yml"
    contract.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "dbt_project.yml").write_text(
        "name: asx_warehouse\nprofile: asx_warehouse\n"
        + yaml.safe_dump({"vars": {"schema_prefix": "", "label_price": "close", **SIGNALS}}),
        encoding="utf-8",
    )
    (folder / "profiles.yml").write_text(
        "asx_warehouse:\n  target: duckdb\n  outputs:\n"
        "    duckdb: {type: duckdb, path: warehouse.duckdb}\n",
        encoding="utf-8",
    )
    target = folder / "target"
    target.mkdir()
    (target / "manifest.json").write_text(json.dumps(manifest_content()), encoding="utf-8")
    (folder / "small.yml").write_text(yaml.safe_dump(overlay or SMALL), encoding="utf-8")
    write_market(folder / "warehouse.duckdb", market)
    return folder
