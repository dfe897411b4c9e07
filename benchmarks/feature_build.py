"""How long the technical features take in SQL, pandas and Polars, and the whole build.

    python benchmarks/feature_build.py                # the same columns three ways
    python benchmarks/feature_build.py --full-build   # load, dbt build with every test

Part one goes from the stored grid to stored features: DuckDB reads the grid from its file and
writes its tables there, pandas and Polars read it from Parquet and write Parquet. What the two need
in memory alone, without reading and writing, is printed beside it. All three obey the same rules
(half-traded windows, break guard), and a sample of rows is compared column by column, so that
nobody is fast by computing something else.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import psutil

from ml.warehouse import read_target

PROJECT = Path(__file__).resolve().parents[1]
FAMILIES = [
    "int_momentum_features",
    "int_volatility_features",
    "int_liquidity_features",
    "int_relative_features",
    "int_rank_features",
]
KEYS = ["spell_key", "session_idx"]
REFERENCE_SYMBOLS, REFERENCE_SESSIONS = 2394, 520
PANDAS_TARGET, POLARS_TARGET = 12.0, 2.5
# share of the sampled cells that rounding may tip over
DIFFERENT_SHARE = 5e-3
BUILD_SECONDS, BUILD_GIGABYTES = 60.0, 3.0

# What everyone starts from. The market's return and the directory's size come joined: those joins
# are not what is measured.
GRID = """
    select
        daily_grid.spell_key, daily_grid.session_idx, daily_grid.spell_session,
        daily_grid.open, daily_grid.high, daily_grid.low, daily_grid.close, daily_grid.volume,
        daily_grid.capital_factor, daily_grid.traded_sessions, daily_grid.sessions_since_break,
        daily_grid.return_1d,
        universe.is_member as ranked,
        fundamental_daily.market_cap, universe.sector, market_returns.market_return_1d
    from intermediate.int_daily_grid as daily_grid
    inner join intermediate.int_universe as universe using (spell_key, session_idx)
    inner join intermediate.int_market_returns as market_returns using (session_idx)
    inner join intermediate.int_fundamental_daily as fundamental_daily
        using (spell_key, session_idx)
    order by spell_key, session_idx
"""


@dataclass
class Timing:
    """Seconds on the clock and on the processors."""

    wall: float
    cpu: float

    @property
    def processors(self) -> float:
        """Processors kept busy on average; below 1 the machine was waiting or shared."""
        return self.cpu / self.wall if self.wall else 0.0


def timed(work: Callable[[], object]) -> Timing:
    """Run once."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def median(timings: list[Timing]) -> Timing:
    """The run in the middle."""
    return sorted(timings, key=lambda t: t.wall)[len(timings) // 2]


# --------------------------------------------------------------------------------------------------
# Input


def environment(warehouse: Path, folder: Path) -> dict[str, str]:
    """Environment of a dbt call on a warehouse of its own."""
    kept = {k: v for k, v in os.environ.items() if k not in ("DBT_PROFILES_DIR", "ASXW_TARGET")}
    return kept | {
        "ASXW_DUCKDB_PATH": str(warehouse),
        "DBT_TARGET_PATH": str(folder / "target"),
        "DBT_LOG_PATH": str(folder / "logs"),
    }


def run(command: list[str], env: dict[str, str], project: Path = PROJECT) -> None:
    """Run one of the project's programs; its output is shown only if it fails."""
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [str(program), *command[1:]],
        cwd=project, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")


def sample_market(arguments: argparse.Namespace, cache: Path) -> Path:
    """Folder with the market's files, written once per size."""
    if arguments.input:
        return Path(arguments.input)
    folder = cache / f"market_{arguments.symbols}x{arguments.sessions}"
    if not (folder / "prices.parquet").is_file():
        size = ["--symbols", str(arguments.symbols), "--sessions", str(arguments.sessions)]
        run(["asxw", "sample-market", *size, str(folder)], dict(os.environ))
    return folder


# --------------------------------------------------------------------------------------------------
# SQL


def compiled_models(folder: Path) -> dict[str, str]:
    """The family models' SQL as dbt compiled it."""
    nodes = json.loads((folder / "target" / "manifest.json").read_text(encoding="utf-8"))["nodes"]
    return {name: nodes[f"model.asx_warehouse.{name}"]["compiled_code"] for name in FAMILIES}


def connect(warehouse: Path) -> duckdb.DuckDBPyConnection:
    """Open the warehouse as the project's profile does."""
    output = read_target(PROJECT, "duckdb").settings
    connection = duckdb.connect(str(warehouse), config=output.get("config_options", {}))
    for name, value in output.get("settings", {}).items():
        connection.execute(f"set {name} = '{value}'")
    # the name of the file is the name of the database inside compiled SQL
    return connection


def sql_features(
    connection: duckdb.DuckDBPyConnection, models: dict[str, str]
) -> dict[str, Timing]:
    """Build every family model as a table, the way dbt does."""
    taken = {
        name: timed(
            lambda name=name, sql=sql: connection.execute(
                f"create or replace table intermediate.{name} as ({sql})"
            )
        )
        for name, sql in models.items()
    }
    # what of the tables is not in the file yet
    return taken | {"checkpoint": timed(lambda: connection.execute("checkpoint"))}


# What the finished tables are copied with, to see what storing their values costs.
FLOORS = {
    "storing the values alone": "",
    "storing them, one lag() each": (
        ", lag(session_idx) over (partition by spell_key order by session_idx) as one_window"
    ),
}


def sql_floor(
    connection: duckdb.DuckDBPyConnection, models: dict[str, str], computed: str
) -> Timing:
    """Copy the finished tables, with nothing computed or one more column."""

    def copy() -> None:
        for name in models:
            connection.execute(
                f"create table {name}_copy as select *{computed} from intermediate.{name}"
            )
        connection.execute("checkpoint")

    taken = timed(copy)
    for name in models:
        connection.execute(f"drop table {name}_copy")
    return taken


SQL_RESULT = """
    select momentum.*, volatility.* exclude (spell_key, session_idx),
        liquidity.* exclude (spell_key, session_idx),
        relative.beta_252, relative.idio_vol_60, ranks.* exclude (spell_key, session_idx)
    from intermediate.int_momentum_features as momentum
    inner join intermediate.int_volatility_features as volatility using (spell_key, session_idx)
    inner join intermediate.int_liquidity_features as liquidity using (spell_key, session_idx)
    inner join intermediate.int_relative_features as relative using (spell_key, session_idx)
    left join intermediate.int_rank_features as ranks using (spell_key, session_idx)
    order by spell_key, session_idx
"""


# --------------------------------------------------------------------------------------------------
# pandas, the way it is usually written


def pandas_features(grid: pd.DataFrame) -> pd.DataFrame:
    """Groupby-transform with rolling windows, a column at a time."""
    d = grid.copy()
    by = d["spell_key"]
    d["c"], d["h"], d["l"] = (d[x] * d["capital_factor"] for x in ("close", "high", "low"))
    d["v"] = d["volume"] / d["capital_factor"]
    d["dv"] = d["close"] * d["volume"]

    def roll(column: str, f: Callable[[pd.Series], pd.Series]) -> pd.Series:
        return d.groupby("spell_key")[column].transform(f)

    lags = {n: d.groupby("spell_key")["traded_sessions"].shift(n).fillna(0)
            for n in (5, 14, 20, 21, 30, 50, 60, 63, 90, 126, 200, 252)}  # fmt: skip

    def half(x: pd.Series, n: int) -> pd.Series:
        return x.where(2 * (d["traded_sessions"] - lags[n]) >= n)

    def unbroken(x: pd.Series, n: int) -> pd.Series:
        return x.where(~(d["sessions_since_break"] < n))

    def lagged(column: str, k: int) -> pd.Series:
        return d.groupby("spell_key")[column].shift(k)

    o = d[KEYS].copy()
    o["ret_1d"] = unbroken(d["return_1d"], 1)
    for name, k in {"mom_5": 5, "mom_1": 21, "mom_3": 63, "mom_6": 126, "mom_12": 252}.items():
        ratio = (d["close"] / lagged("close", k)) * (
            d["capital_factor"] / lagged("capital_factor", k)
        )
        o[name] = half(unbroken(ratio - 1, k), k)
    ratio = (lagged("close", 21) / lagged("close", 252)) * (
        lagged("capital_factor", 21) / lagged("capital_factor", 252)
    )
    o["mom_12_1"] = half(unbroken(ratio - 1, 252), 252)
    sma_50 = half(roll("c", lambda s: s.rolling(50).mean()), 50)
    d["sma_200"] = half(roll("c", lambda s: s.rolling(200).mean()), 200)
    o["sma_ratio"] = unbroken(sma_50 / d["sma_200"], 199)
    o["price_to_sma_50"] = unbroken(d["c"] / sma_50 - 1, 49)
    o["price_to_sma_200"] = unbroken(d["c"] / d["sma_200"] - 1, 199)
    above = (d["c"] > d["sma_200"] * (1 + 1e-12)).astype(float).where(d["sma_200"].notna())
    o["trend_200"] = unbroken(above, 199)
    x = np.arange(20) - 9.5
    x = x / (x**2).sum()
    slope = roll("sma_200", lambda s: s.rolling(20).apply(lambda y: np.dot(x, y), raw=True))
    o["sma200_slope"] = unbroken(slope / d["sma_200"], 218)
    rising = (o["sma200_slope"] > 1e-12).astype(float)
    o["sma200_slope_pos"] = rising.where(o["sma200_slope"].notna())
    top = roll("c", lambda s: s.rolling(252).max())
    o["drawdown_252"] = half(unbroken(d["c"] / top - 1, 251), 252)
    high, low = roll("h", lambda s: s.rolling(20).max()), roll("l", lambda s: s.rolling(20).min())
    inside = (d["c"] - low) / (high - low).replace(0, np.nan)
    o["range_pos_20"] = half(unbroken(inside, 19), 20)
    change = d.groupby("spell_key")["c"].diff()
    d["gain"], d["loss"] = change.clip(lower=0), (-change).clip(lower=0)
    gain = roll("gain", lambda s: s.rolling(14).mean())
    loss = roll("loss", lambda s: s.rolling(14).mean())
    o["rsi_14"] = half(unbroken(100 * gain / (gain + loss).replace(0, np.nan), 14), 14)
    gap = (d["open"] / lagged("close", 1)) * (d["capital_factor"] / lagged("capital_factor", 1))
    o["gap_1d"] = unbroken(gap - 1, 1)

    for n in (30, 60, 90):
        deviation = roll("return_1d", lambda s, n=n: s.rolling(n).std())
        o[f"vol_{n}"] = half(unbroken(deviation, n), n)
    o["vol_ratio_30_90"] = o["vol_30"] / o["vol_90"].replace(0, np.nan)
    d["down"] = d["return_1d"].clip(upper=0) ** 2
    downside = np.sqrt(roll("down", lambda s: s.rolling(60).mean()).clip(lower=0))
    o["downside_vol_60"] = half(unbroken(downside, 60), 60)
    skew = roll("return_1d", lambda s: s.rolling(60).skew()).where(o["vol_60"] > 0)
    o["skew_ret_60"] = half(unbroken(skew, 60), 60)
    best = roll("return_1d", lambda s: s.rolling(21).max())
    o["max_ret_21"] = half(unbroken(best, 21), 21)
    before = lagged("c", 1)
    ranges = [d["h"] - d["l"], (d["h"] - before).abs(), (d["l"] - before).abs()]
    d["range"] = pd.concat(ranges, axis=1).max(axis=1, skipna=False)
    atr = roll("range", lambda s: s.rolling(14).mean()) / d["c"]
    o["atr_pct"] = half(unbroken(atr, 14), 14)
    o["atr_14"] = o["atr_pct"] * d["close"]

    o["adv_20_median"] = half(roll("dv", lambda s: s.rolling(20).median()), 20)
    o["adv_20_log"] = d["log"] = np.log1p(o["adv_20_median"])
    mean, sd = (
        roll("log", lambda s: s.rolling(252).mean()),
        roll("log", lambda s: s.rolling(252).std()),
    )
    o["adv_zscore"] = (d["log"] - mean) / sd.replace(0, np.nan)
    recent = roll("v", lambda s: s.rolling(5).mean())
    usual = roll("v", lambda s: s.rolling(60).mean())
    turnover = recent / usual.replace(0, np.nan)
    o["volume_ratio_5_60"] = half(half(unbroken(turnover, 59), 5), 60)
    skew = roll("v", lambda s: s.rolling(60).skew())
    o["volume_skew_60"] = half(unbroken(skew, 59), 60)
    d["impact"] = d["return_1d"].abs() / d["dv"].replace(0, np.nan)
    impact = roll("impact", lambda s: s.rolling(21, min_periods=1).mean()) * 1e6
    o["amihud_21"] = half(unbroken(impact, 21), 21).where(d["spell_session"] > 21)
    d["still"] = (d["return_1d"].abs() < 1e-12).astype(float).where(d["return_1d"].notna())
    o["zero_ret_frac_60"] = unbroken(roll("still", lambda s: s.rolling(60).mean()), 60)
    traded = (d["traded_sessions"] - lags[60]) / 60
    o["traded_frac_60"] = traded.where(d["spell_session"] >= 60)
    d["turned"] = d["dv"] / d["market_cap"]
    o["turnover_21"] = half(unbroken(roll("turned", lambda s: s.rolling(21).mean()), 20), 21)
    o["price_log"] = np.log(d["close"])

    # both moments over the same windows: the first row of a spell has no return
    d["market"] = d["market_return_1d"].where(d["return_1d"].notna())
    d["product"] = d["return_1d"] * d["market"]

    def moments(n: int) -> tuple[pd.Series, pd.Series]:
        mean = {x: roll(x, lambda s: s.rolling(n).mean())
                for x in ("return_1d", "market", "product")}  # fmt: skip
        covariance = (mean["product"] - mean["return_1d"] * mean["market"]) * n / (n - 1)
        return covariance, roll("market", lambda s: s.rolling(n).var())

    covariance, variance = moments(252)
    beta = o["beta_252"] = half(unbroken(covariance / variance, 252), 252)
    covariance, variance = moments(60)
    own = roll("return_1d", lambda s: s.rolling(60).var())
    rest = own - 2 * beta * covariance + beta**2 * variance
    o["idio_vol_60"] = half(np.sqrt(rest.clip(lower=0)), 60)

    member = d["ranked"]
    d["mom_1"] = o["mom_1"].where(member)
    by = [d["session_idx"], d["sector"]]
    middle = d.groupby(by)["mom_1"].transform("median")
    o["sector_rel_mom_1"] = (d["mom_1"] - middle).where(
        d.groupby(by)["mom_1"].transform("count") >= 5
    )
    d["size"] = d["market_cap"]
    for name, column in {
        "mom_1_rank": o["mom_1"], "mom_12_1_rank": o["mom_12_1"], "vol_60_rank": o["vol_60"],
        "adv_20_rank": o["adv_20_median"], "size_rank": d["market_cap"],
    }.items():  # fmt: skip
        d["value"] = column.where(member)
        values = d.groupby("session_idx")["value"]
        o[name] = (values.rank() - 0.5) / values.transform("count")
    return o


def pandas_job(stored: Path, target: Path, columns: list[str]) -> Timing:
    """From the stored grid to stored features; the timing is of the part between the two."""
    grid = pd.read_parquet(stored)
    frames: list[pd.DataFrame] = []
    computed = timed(lambda: frames.append(pandas_features(grid)))
    frames[0][columns].to_parquet(target)
    return computed


# --------------------------------------------------------------------------------------------------
# Polars


def polars_features(grid: pl.DataFrame) -> pl.DataFrame:
    """Window expressions over the spell, in four lazy steps."""
    spell, col = "spell_key", pl.col

    def lag(x: pl.Expr, k: int) -> pl.Expr:
        return x.shift(k).over(spell)

    def half(x: pl.Expr, n: int) -> pl.Expr:
        before = lag(col("traded_sessions"), n).fill_null(0)
        return pl.when(2 * (col("traded_sessions") - before) >= n).then(x)

    def unbroken(x: pl.Expr, n: int) -> pl.Expr:
        return pl.when(col("sessions_since_break").is_null() | (col("sessions_since_break") >= n)
                       ).then(x)  # fmt: skip

    def nonzero(x: pl.Expr) -> pl.Expr:
        return pl.when(x != 0).then(x)

    def covariance(a: str, b: str, n: int) -> pl.Expr:
        return pl.rolling_cov(col(a), col(b), window_size=n, min_samples=n).over(spell)

    close, factor, ret = col("close"), col("capital_factor"), col("return_1d")
    momenta = {"mom_5": 5, "mom_1": 21, "mom_3": 63, "mom_6": 126, "mom_12": 252}
    frame = grid.lazy().with_columns(
        c=close * factor, h=col("high") * factor, l=col("low") * factor,
        v=col("volume") / factor, dv=close * col("volume"),
        session=col("session_idx").cast(pl.Float64),
        market=pl.when(ret.is_not_null()).then(col("market_return_1d")),
    ).with_columns(
        change=col("c") - lag(col("c"), 1), before=lag(col("c"), 1),
        sma_50=half(col("c").rolling_mean(50).over(spell), 50),
        sma_200=half(col("c").rolling_mean(200).over(spell), 200),
        impact=ret.abs() / nonzero(col("dv")), turned=col("dv") / col("market_cap"),
        adv_20_median=half(col("dv").rolling_median(20).over(spell), 20),
    ).with_columns(
        range=pl.when(col("h").is_not_null() & col("l").is_not_null() & col("before").is_not_null())
        .then(pl.max_horizontal(col("h") - col("l"), (col("h") - col("before")).abs(),
                                (col("l") - col("before")).abs())),
        adv_20_log=col("adv_20_median").log1p(),
        gain=col("change").clip(lower_bound=0).rolling_mean(14).over(spell),
        loss=(-col("change")).clip(lower_bound=0).rolling_mean(14).over(spell),
        beta_252=half(unbroken(covariance("return_1d", "market", 252)
                               / col("market").rolling_var(252).over(spell), 252), 252),
        high_20=col("h").rolling_max(20).over(spell), low_20=col("l").rolling_min(20).over(spell),
    )  # fmt: skip
    vols = {f"vol_{n}": half(unbroken(ret.rolling_std(n).over(spell), n), n) for n in (30, 60, 90)}
    frame = frame.with_columns(
        ret_1d=unbroken(ret, 1),
        **{name: half(unbroken((close / lag(close, k)) * (factor / lag(factor, k)) - 1, k), k)
           for name, k in momenta.items()},
        mom_12_1=half(unbroken((lag(close, 21) / lag(close, 252))
                               * (lag(factor, 21) / lag(factor, 252)) - 1, 252), 252),
        sma_ratio=unbroken(col("sma_50") / col("sma_200"), 199),
        price_to_sma_50=unbroken(col("c") / col("sma_50") - 1, 49),
        price_to_sma_200=unbroken(col("c") / col("sma_200") - 1, 199),
        trend_200=unbroken(col("c") > col("sma_200") * (1 + 1e-12), 199).cast(pl.Float64),
        sma200_slope=unbroken(covariance("sma_200", "session", 20) / 35.0 / col("sma_200"), 218),
        drawdown_252=half(unbroken(col("c") / col("c").rolling_max(252).over(spell) - 1, 251), 252),
        range_pos_20=half(unbroken((col("c") - col("low_20"))
                                   / nonzero(col("high_20") - col("low_20")), 19), 20),
        rsi_14=half(unbroken(100 * col("gain") / nonzero(col("gain") + col("loss")), 14), 14),
        gap_1d=unbroken((col("open") / lag(close, 1)) * (factor / lag(factor, 1)) - 1, 1),
        **vols,
        downside_vol_60=half(unbroken(
            (ret.clip(upper_bound=0) ** 2).rolling_mean(60).over(spell)
            .clip(lower_bound=0).sqrt(), 60), 60),
        skew_60=ret.rolling_skew(60, bias=False).over(spell),
        max_ret_21=half(unbroken(ret.rolling_max(21).over(spell), 21), 21),
        atr_pct=half(unbroken(col("range").rolling_mean(14).over(spell) / col("c"), 14), 14),
        adv_zscore=(col("adv_20_log") - col("adv_20_log").rolling_mean(252).over(spell))
        / nonzero(col("adv_20_log").rolling_std(252).over(spell)),
        volume_ratio_5_60=half(half(unbroken(
            col("v").rolling_mean(5).over(spell)
            / nonzero(col("v").rolling_mean(60).over(spell)), 59), 5), 60),
        volume_skew_60=half(unbroken(col("v").rolling_skew(60, bias=False).over(spell), 59), 60),
        amihud_21=pl.when(col("spell_session") > 21).then(half(unbroken(
            col("impact").rolling_mean(21, min_samples=1).over(spell) * 1e6, 21), 21)),
        zero_ret_frac_60=unbroken(
            (ret.abs() < 1e-12).cast(pl.Float64).rolling_mean(60).over(spell), 60),
        traded_frac_60=pl.when(col("spell_session") >= 60).then(
            (col("traded_sessions") - lag(col("traded_sessions"), 60).fill_null(0)) / 60),
        turnover_21=half(unbroken(col("turned").rolling_mean(21).over(spell), 20), 21),
        price_log=close.log(),
        idio_vol_60=half((
            ret.rolling_var(60).over(spell)
            - 2 * col("beta_252") * covariance("return_1d", "market", 60)
            + col("beta_252") ** 2 * col("market").rolling_var(60).over(spell)
        ).clip(lower_bound=0).sqrt(), 60),
    )  # fmt: skip
    frame = frame.with_columns(
        sma200_slope_pos=(col("sma200_slope") > 1e-12).cast(pl.Float64),
        vol_ratio_30_90=col("vol_30") / nonzero(col("vol_90")),
        skew_ret_60=pl.when(col("vol_60") > 0).then(half(unbroken(col("skew_60"), 60), 60)),
        atr_14=col("atr_pct") * close,
    )
    ranked = {
        "mom_1_rank": "mom_1", "mom_12_1_rank": "mom_12_1", "vol_60_rank": "vol_60",
        "adv_20_rank": "adv_20_median", "size_rank": "market_cap",
    }  # fmt: skip
    member = {name: pl.when(col("ranked")).then(col(source)) for name, source in ranked.items()}
    by = ["session_idx", "sector"]
    return frame.with_columns(
        **{name: ((x.rank("average") - 0.5) / x.count()).over("session_idx")
           for name, x in member.items()},
        sector_rel_mom_1=pl.when(
            col("sector").is_not_null() & (member["mom_1_rank"].count().over(by) >= 5)
        ).then(member["mom_1_rank"] - member["mom_1_rank"].median().over(by)),
    ).collect()  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Do they agree?


def disagreements(
    sql: pd.DataFrame, others: dict[str, pd.DataFrame], rows: int
) -> list[tuple[str, str, float, int]]:
    """Per column and library: the typical relative difference on a sample, and cells that differ.

    The libraries update their sums by adding and taking away, which costs them digits: a cell
    differs beyond a relative 1e-6 (and 1e-9 at all), or if one side is NULL. Where two values are
    equal but for rounding, a rank or a test for zero falls either way, so a few cells may differ.
    """
    chosen = np.sort(np.random.default_rng(1).choice(len(sql), min(rows, len(sql)), replace=False))
    found = []
    for name in [column for column in sql.columns if column not in KEYS]:
        expected = sql[name].iloc[chosen].astype(float).to_numpy()
        for library, frame in others.items():
            value = frame[name].iloc[chosen].astype(float).to_numpy()
            apart = np.abs(expected - value)
            scale = np.maximum(np.abs(expected), np.abs(value))
            wrong = (apart > np.maximum(1e-6 * scale, 1e-9)) | (
                np.isnan(expected) != np.isnan(value)
            )
            with np.errstate(invalid="ignore", divide="ignore"):
                relative = np.where(apart > 1e-9, apart / scale, 0.0)
            typical = float(np.nanquantile(relative, 0.99)) if len(relative) else 0.0
            found.append((name, library, typical, int(wrong.sum())))
    return found


def _ratio(sql: Timing, other: Timing) -> str:
    """How SQL's time compares, in words."""
    if sql.wall > other.wall:
        return f"{sql.wall / other.wall:.2f} x slower"
    return f"{other.wall / sql.wall:.2f} x faster"


def compare(arguments: argparse.Namespace, cache: Path) -> None:
    """Part one: the same columns three ways."""
    market = sample_market(arguments, cache)
    folder = cache / f"build_{arguments.symbols}x{arguments.sessions}"
    folder.mkdir(parents=True, exist_ok=True)
    warehouse = folder / "warehouse.duckdb"
    env = environment(warehouse, folder)
    if not arguments.reuse or not warehouse.is_file():
        warehouse.unlink(missing_ok=True)
        run(["asxw", "load", "--layout", arguments.layout, str(market)], env)
        wanted = [f"+{name}" for name in FAMILIES]
        exclude = ["--exclude-resource-type", "test", "unit_test"]
        run(["dbt", "build", *exclude, "--select", *wanted], env)
    else:
        run(["dbt", "compile", "--select", *FAMILIES], env)
    models = compiled_models(folder)

    connection = connect(warehouse)
    sql_features(connection, models)
    frame = connection.sql(GRID).to_arrow_table()
    sql_values = connection.execute(SQL_RESULT).df()
    connection.close()

    stored = folder / "grid.parquet"
    pl.DataFrame(frame).write_parquet(stored)
    results: dict[str, pd.DataFrame] = {}

    def stored_to_stored(library: str) -> tuple[Timing, Timing]:
        """One run from file to file; and the part of it between reading and writing."""
        target = folder / f"features_{library}.parquet"
        computed = Timing(0, 0)

        def work() -> None:
            nonlocal computed
            if library == "polars":
                grid = pl.read_parquet(stored)
                features: list[pl.DataFrame] = []
                computed = timed(lambda: features.append(polars_features(grid)))
                features[0].select(columns).write_parquet(target)
            else:
                computed = pandas_job(stored, target, columns)

        whole = timed(work)
        results[library] = pd.read_parquet(target)
        return whole, computed

    columns = list(sql_values.columns)
    sql_runs, polars_runs = [], []
    pandas_runs: list[tuple[Timing, Timing]] = []
    floor_runs: dict[str, list[Timing]] = {name: [] for name in FLOORS}
    # taken in turn, so that a busy minute of the machine meets all three
    for number in range(arguments.repeats):
        connection = connect(warehouse)
        sql_runs.append(sql_features(connection, models))
        for name, computed in FLOORS.items():
            floor_runs[name].append(sql_floor(connection, models, computed))
        connection.close()
        polars_runs.append(stored_to_stored("polars"))
        if number == 0 or pandas_runs[0][0].wall <= 60:
            pandas_runs.append(stored_to_stored("pandas"))
    sql_total = median(
        [Timing(sum(t.wall for t in r.values()), sum(t.cpu for t in r.values())) for r in sql_runs]
    )
    polars_total, polars_memory = (median([run[i] for run in polars_runs]) for i in (0, 1))
    pandas_total, pandas_memory = (median([run[i] for run in pandas_runs]) for i in (0, 1))

    once = "" if len(pandas_runs) > 1 else " (pandas once: it takes more than a minute)"
    print(f"\n{len(sql_values):,} rows, {len(columns) - len(KEYS)} columns, ", end="")
    print(f"{os.cpu_count()} processors, median of {arguments.repeats}{once}\n")
    print(f"{'from stored grid to stored features':38}{'seconds':>9}{'processors':>12}"
          f"{'SQL is':>18}{'target':>9}{'in memory':>12}{'SQL is':>18}")  # fmt: skip
    print(f"{'SQL, five family models':38}{sql_total.wall:9.2f}{sql_total.processors:12.2f}")
    for name, whole, memory, target in (
        ("Polars", polars_total, polars_memory, f"<= {POLARS_TARGET:g}"),
        ("pandas", pandas_total, pandas_memory, f">= {PANDAS_TARGET:g}"),
    ):
        stored_ratio, memory_ratio = (_ratio(sql_total, other) for other in (whole, memory))
        print(f"{name:38}{whole.wall:9.2f}{whole.processors:12.2f}{stored_ratio:>18}{target:>9}"
              f"{memory.wall:12.2f}{memory_ratio:>18}")  # fmt: skip
    for name, runs in floor_runs.items():
        floor = median(runs)
        print(f"{'SQL, ' + name:38}{floor.wall:9.2f}{floor.processors:12.2f}")
    print(f"pandas / {PANDAS_TARGET:g}{pandas_total.wall / PANDAS_TARGET:36.2f}\n")
    for name in [*FAMILIES, "checkpoint"]:
        wall = statistics.median(r[name].wall for r in sql_runs)
        print(f"  {name:26}{wall:9.2f}")

    found = disagreements(sql_values, results, arguments.sample_rows)
    compared = min(arguments.sample_rows, len(sql_values))
    print(f"\nagreement on {compared:,} rows (99 % of the relative differences; cells that differ)")
    for library in ("pandas", "polars"):
        mine = sorted((f for f in found if f[1] == library), key=lambda f: (-f[3], -f[2]))
        worst = ", ".join(f"{f[0]} {f[2]:.0e}/{f[3]}" for f in mine[:4])
        print(f"  {library}: {len(mine)} columns; worst {worst}")
    wrong = [f for f in found if f[3] > compared * DIFFERENT_SHARE]
    if wrong:
        for name, library, relative, cells in wrong:
            print(f"  DIFFERENT {name} {library}: {cells} cells, relative {relative:.1e}")
        sys.exit("the three do not compute the same thing")
    print("  all three compute the same thing")


# --------------------------------------------------------------------------------------------------
# The whole build


def measured(command: list[str], env: dict[str, str], log: Path) -> tuple[float, float, float]:
    """Run a program; seconds, processor seconds and peak memory (bytes, it and its children)."""
    program = Path(sys.executable).with_name(command[0])
    peak = 0
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with log.open("w") as out:
        child = subprocess.Popen(
            [str(program), *command[1:]], cwd=PROJECT, env=env, stdout=out, stderr=out
        )
        process, done = psutil.Process(child.pid), threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.05):
                try:
                    family = [process, *process.children(recursive=True)]
                    peak = max(peak, sum(member.memory_info().rss for member in family))
                except psutil.NoSuchProcess:
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = child.wait()
        done.set()
        watcher.join()
    seconds = time.perf_counter() - started
    if code != 0:
        sys.exit(f"{' '.join(command)} failed:\n{log.read_text()[-4000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, peak


def full_build(arguments: argparse.Namespace, cache: Path) -> None:
    """Part two: load, then the whole build with every test, in a new file.

    "no wait" is what the build would take if no processor ever stood idle after dbt has read the
    project: less than that needs less work, not another order of it.

    Before it the same build of an empty file: what dbt itself takes, however fast the SQL is.
    After it the same build twice more, as on a later day, when dbt has read the project before:
    with every test, and without those of the code, whose answers cannot have changed.
    """
    market = sample_market(arguments, cache)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        folder = Path(temporary)
        (folder / "empty").mkdir()
        empty = measured(
            ["dbt", "--no-use-colors", "build"],
            environment(folder / "empty" / "warehouse.duckdb", folder / "empty"),
            folder / "empty.txt",
        )
        env = environment(folder / "warehouse.duckdb", folder)
        load = measured(
            ["asxw", "load", "--layout", arguments.layout, str(market)], env, folder / "load.txt"
        )
        build = measured(["dbt", "--no-use-colors", "build"], env, folder / "build.txt")
        results = json.loads((folder / "target" / "run_results.json").read_text(encoding="utf-8"))
        again = measured(["dbt", "--no-use-colors", "build"], env, folder / "again.txt")
        data = measured(
            ["dbt", "--no-use-colors", "build", "--exclude-resource-type", "unit_test"],
            env,
            folder / "data.txt",
        )
        log = (folder / "build.txt").read_text(encoding="utf-8")
        size = (folder / "warehouse.duckdb").stat().st_size
    rows = {
        "asxw load": load,
        "dbt build": build,
        "once more": again,
        "data tests": data,
        "of no data": empty,
    }
    for name, (seconds, cpu, peak) in rows.items():
        print(f"{name:12}{seconds:8.1f} s{cpu / seconds:8.2f} processors{peak / 1e9:8.2f} GB peak")
    print(
        f"target       {BUILD_SECONDS:7.0f} s{BUILD_GIGABYTES:28.2f} GB; file {size / 1e9:.2f} GB"
    )
    # one processor while dbt reads the project, then all of them, if no node waits for another
    seconds, cpu, _ = build
    reading = seconds - results["elapsed_time"]
    processors = len(os.sched_getaffinity(0))
    print(
        f"no wait      {reading + (cpu - reading) / processors:7.1f} s  the same work with all "
        f"{processors} processors busy once dbt has read the project ({reading:.0f} s)"
    )
    print([line for line in log.splitlines() if "PASS=" in line][-1].split("  ")[-1])
    spent = sorted(results["results"], key=lambda r: -r["execution_time"])
    kinds: dict[str, float] = {}
    for result in spent:
        kind = result["unique_id"].split(".")[0]
        kinds[kind] = kinds.get(kind, 0) + result["execution_time"]
    print(", ".join(f"{kind} {seconds:.1f} s" for kind, seconds in kinds.items()))
    for result in spent[:20]:
        print(f"  {result['execution_time']:7.2f}  {result['unique_id']}")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--symbols", type=int, default=REFERENCE_SYMBOLS)
    parser.add_argument("--sessions", type=int, default=REFERENCE_SESSIONS)
    parser.add_argument("--input", help="folder of files to load instead of an invented market")
    parser.add_argument("--layout", default="sample", help="layout of those files")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sample-rows", type=int, default=50_000)
    parser.add_argument("--reuse", action="store_true", help="keep the warehouse of the last run")
    parser.add_argument("--full-build", action="store_true", help="time the whole dbt build")
    arguments = parser.parse_args()
    cache = Path(tempfile.gettempdir()) / "asx_warehouse_benchmark"
    cache.mkdir(exist_ok=True)
    if arguments.full_build:
        full_build(arguments, cache)
    else:
        compare(arguments, cache)


if __name__ == "__main__":
    main()
