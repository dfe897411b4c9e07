"""The feature dictionary once more, in numpy and pandas, straight from the raw tables.

Written from the formulas and not from the SQL, so that an error made in one of the two shows as a
difference. Clarity wins over speed: every window is laid out in full, sums run in two passes, and
there are no running totals, which is also what makes it the more accurate of the two.

Order of the work: market sessions, then traded rows with their spells, then price breaks and their
verdicts, then the grid, then every spell's columns on its own, then the columns that compare the
securities of one session.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import exchange_calendars
import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

DECISION_TIME = pd.Timedelta("16:15:00")
CALENDAR = "XASX"
BENCHMARK = "ASX200"
SPELL_GAP = 60
CUSTOMARY = np.concatenate(
    [
        [1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 35, 40, 50, 60, 75, 80, 100],
        [120, 125, 150, 200, 250, 300, 400, 500, 750, 1000],
    ]
)
UNIVERSE_KINDS = ("equity", "unknown")
RANKED = {
    "mom_1_rank": "mom_1",
    "mom_12_1_rank": "mom_12_1",
    "vol_60_rank": "vol_60",
    "adv_20_rank": "adv_20_median",
    "size_rank": "market_cap",
}
LABELS = ("label_status", "label_end_idx", "label_end_date", "return_1m_fwd",
          "return_1m_fwd_sign", "return_1m_fwd_lag1")  # fmt: skip
# 1 for a session whose break is never explained
NEVER = np.iinfo(np.int64).max


@dataclass
class RawTables:
    """The raw tables the price features need."""

    prices: pd.DataFrame
    directory: pd.DataFrame
    securities: pd.DataFrame
    symbol_changes: pd.DataFrame
    corporate_actions: pd.DataFrame
    index_levels: pd.DataFrame
    fundamentals: pd.DataFrame


@dataclass
class Recomputed:
    """What the recomputation found."""

    sessions: pd.DataFrame
    breaks: pd.DataFrame
    panel: pd.DataFrame
    market: pd.DataFrame = field(default_factory=pd.DataFrame)


def read_raw(warehouse: Path) -> RawTables:
    """Raw tables of a DuckDB warehouse: symbols spelled one way, the latest bar of each day."""
    queries = {
        "prices": """select symbol, trade_date, available_at, open, high, low, close, volume
            from raw.prices""",
        "directory": "select symbol, snapshot_date, available_at, market_cap, sector "
        "from raw.directory",
        "securities": """select symbol, kind, delisted_on, delisting_available_at
            from raw.securities""",
        "symbol_changes": "select old_symbol, new_symbol, effective_on from raw.symbol_changes",
        "corporate_actions": "select symbol, ex_date, action, ratio, available_at "
        "from raw.corporate_actions",
        "index_levels": f"""select trade_date, close from raw.index_levels
            where index_code = '{BENCHMARK}'""",
        "fundamentals": """select symbol, period_end, period_type, available_at, updated_at,
            market_cap from raw.fundamentals""",
    }
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        tables = {name: connection.execute(sql).df() for name, sql in queries.items()}
    for table in tables.values():
        for name in table.columns:
            if name.endswith("symbol"):
                spelled = table[name].str.strip().str.upper().str.removesuffix(".AX")
                table[name] = spelled.astype(str)
            elif name.endswith(("_date", "_on", "_at")):
                table[name] = table[name].astype("datetime64[us]")
    prices = tables["prices"].sort_values(["symbol", "trade_date", "available_at"])
    tables["prices"] = prices.drop_duplicates(["symbol", "trade_date"], keep="last")
    return RawTables(**tables)


def reported_market_cap(
    panel: pd.DataFrame, fundamentals: pd.DataFrame, securities: Securities
) -> pd.Series:
    """The vendor's market cap in the report that counts at each row's decision time.

    Of the reports known: the latest period, then its latest revision; 400 days old at most.
    """
    reports = fundamentals.copy()
    reports["security_id"] = securities.assign(
        reports["symbol"], reports["available_at"].dt.normalize()
    )
    reports["length"] = reports["period_type"].map({"quarter": 0, "half": 1, "year": 2, "ttm": 3})
    reports["updated_at"] = reports["updated_at"].fillna(pd.Timestamp("1900-01-01"))
    order = ["period_end", "available_at", "updated_at", "length"]
    states = []
    for security, known in reports.sort_values(["available_at", *order]).groupby("security_id"):
        best: tuple | None = None
        for row in known[[*order, "market_cap"]].itertuples(index=False):
            best = max(best, tuple(row), key=lambda r: r[:4]) if best else tuple(row)
            states.append((security, row.available_at, best[1], best[4]))
    names = ["security_id", "known_at", "published_at", "reported"]
    if not states:
        return pd.Series(np.nan, index=panel.index)
    frame = pd.DataFrame(states, columns=names).drop_duplicates(names[:2], keep="last")
    frame["known_at"] = frame["known_at"].astype(panel["decision_at"].dtype)
    rows = panel[["security_id", "decision_at", "trade_date"]].reset_index()
    joined = pd.merge_asof(
        rows.sort_values("decision_at"),
        frame.sort_values("known_at"),
        left_on="decision_at",
        right_on="known_at",
        by="security_id",
        allow_exact_matches=False,
    ).set_index("index")
    age = joined["trade_date"] - joined["published_at"].dt.normalize()
    return joined["reported"].mask(age > pd.Timedelta(days=400)).reindex(panel.index)


# --------------------------------------------------------------------------------------------------
# Sessions, securities, traded rows


def market_sessions(prices: pd.DataFrame, exchange: str = CALENDAR) -> pd.DataFrame:
    """Calendar sessions that prices really cover, with their index and decision time."""
    first, last = prices["trade_date"].min(), prices["trade_date"].max()
    calendar = exchange_calendars.get_calendar(exchange, start=first, end=last)
    covered = prices.groupby("trade_date")["symbol"].nunique().rename("priced_symbols")
    days = pd.DatetimeIndex(calendar.sessions_in_range(first, last)).astype("datetime64[us]")
    covered = covered[covered.index.isin(days)].sort_index().reset_index()
    trailing = covered["priced_symbols"].rolling(60, min_periods=1).median()
    market = covered[covered["priced_symbols"] >= 0.5 * trailing].reset_index(drop=True)
    market["session_idx"] = np.arange(len(market))
    market["decision_at"] = market["trade_date"] + DECISION_TIME
    return market


class Securities:
    """Which security a symbol was on a day: a renamed company keeps the first symbol's name."""

    def __init__(self, changes: pd.DataFrame) -> None:
        self.changes = changes.sort_values("effective_on", ascending=False)

    def of(self, symbol: str, day: pd.Timestamp) -> str:
        """Follow the chain of renamings back; a code given up names another company from then."""
        while True:
            into = self.changes[
                (self.changes["new_symbol"] == symbol) & (self.changes["effective_on"] <= day)
            ]
            away = self.changes[
                (self.changes["old_symbol"] == symbol) & (self.changes["effective_on"] <= day)
            ]
            taken = into["effective_on"].max()
            given_up = away["effective_on"].max()
            if not away.empty and (into.empty or given_up >= taken):
                return f"{symbol}@{given_up:%Y-%m-%d}"
            if into.empty:
                return symbol
            symbol, day = str(into.iloc[0]["old_symbol"]), taken - pd.Timedelta(days=1)

    def rename(self, part: pd.DataFrame, dates: pd.Series) -> None:
        """Give the carried rows of a spell the code in force that day; in place."""
        codes = set(self.changes["old_symbol"])
        if not part["symbol"].isin(codes).any():
            return
        bar = dates[part.index].where(part["is_traded"]).ffill()
        for session in part.index[~part["is_traded"]]:
            code, since = part.at[session, "symbol"], bar[session]
            while True:
                left = self.changes[
                    (self.changes["old_symbol"] == code)
                    & (self.changes["effective_on"] > since)
                    & (self.changes["effective_on"] <= dates[session])
                ]
                if left.empty:
                    break
                code, since = left.iloc[-1]["new_symbol"], left.iloc[-1]["effective_on"]
            part.at[session, "symbol"] = code

    def assign(self, symbols: pd.Series, days: pd.Series) -> pd.Series:
        """`of` for two columns; only codes that were ever renamed need the walk."""
        renamed = set(self.changes["old_symbol"]) | set(self.changes["new_symbol"])
        found = symbols.copy()
        for row in np.flatnonzero(symbols.isin(renamed)):
            found.iloc[row] = self.of(symbols.iloc[row], days.iloc[row])
        return found


def delisting_ends(
    raw: RawTables, securities: Securities, sessions: pd.DataFrame
) -> dict[str, int]:
    """First session a security is known to be off the market: after its last day, and known."""
    ends: dict[str, int] = {}
    known = raw.securities.dropna(subset=["delisted_on"])
    for row in known.itertuples():
        renamed_later = (raw.symbol_changes["old_symbol"] == row.symbol) & (
            raw.symbol_changes["effective_on"] > row.delisted_on
        )
        if renamed_later.any():
            continue  # the code went, the company did not
        gone = sessions["trade_date"] > row.delisted_on
        if not pd.isna(row.delisting_available_at):
            gone &= sessions["decision_at"] > row.delisting_available_at
        if gone.any():
            security = securities.of(row.symbol, row.delisted_on)
            ends[security] = int(sessions.loc[gone, "session_idx"].iloc[0])
    return ends


def traded_rows(
    raw: RawTables, securities: Securities, sessions: pd.DataFrame, ends: dict[str, int]
) -> pd.DataFrame:
    """Bars with volume on market sessions, with security, spell and the trade before."""
    traded = raw.prices[raw.prices["volume"] > 0]
    traded = traded.drop(columns="available_at").merge(
        sessions[["trade_date", "session_idx", "decision_at"]], on="trade_date"
    )
    traded["security_id"] = securities.assign(traded["symbol"], traded["trade_date"])
    traded = traded.sort_values(["security_id", "session_idx"]).reset_index(drop=True)
    if traded.duplicated(["security_id", "session_idx"]).any():
        raise AssertionError("two bars for one security and session")
    by_security = traded.groupby("security_id")
    previous = by_security["session_idx"].shift()
    end = traded["security_id"].map(ends).astype(float)
    opens = (
        previous.isna()
        | (traded["session_idx"] - previous > SPELL_GAP)
        | ((previous < end) & (traded["session_idx"] >= end))
    )
    traded["spell"] = opens.groupby(traded["security_id"]).cumsum().astype(int)
    by_spell = traded.groupby(["security_id", "spell"])
    traded["previous_close"] = by_spell["close"].shift()
    traded["previous_trade_date"] = by_spell["trade_date"].shift()
    return traded


# --------------------------------------------------------------------------------------------------
# Price breaks


def tick_size(price: float) -> float:
    """Tick of the exchange at a price."""
    if price < 0.10:
        return 0.001
    return 0.005 if price < 2.00 else 0.01


def is_candidate(previous: float, close: float, ticks: bool = True) -> bool:
    """A move by a factor of 1.8 up or 0.55 down, and of more than three ticks where there are."""
    ratio = close / previous
    move, limit = abs(close - previous), 3 * tick_size(min(previous, close)) if ticks else 0.0
    return (ratio >= 1.8 * (1 - 1e-9) or ratio <= 0.55 * (1 + 1e-9)) and move > limit * (1 + 1e-9)


def snapped(ratio: float) -> float:
    """The nearest customary ratio within 15 %, else the ratio itself."""
    size = max(ratio, 1 / ratio)
    nearest = CUSTOMARY[np.argmin(np.abs(np.log(CUSTOMARY / size)))]
    if abs(size / nearest - 1) > 0.15:
        return ratio
    return float(nearest if ratio > 1 else 1 / nearest)


def price_breaks(
    raw: RawTables,
    securities: Securities,
    sessions: pd.DataFrame,
    traded: pd.DataFrame,
    ticks: bool = True,
) -> pd.DataFrame:
    """Every candidate and every capital change, with verdict and the session it is known from."""
    directory = raw.directory[raw.directory["market_cap"] > 0].copy()
    directory["security_id"] = securities.assign(directory["symbol"], directory["snapshot_date"])
    snapshots = {
        str(key): part.sort_values("snapshot_date")
        for key, part in directory.groupby("security_id")
    }
    actions = raw.corporate_actions[
        raw.corporate_actions["ratio"].notna() & (raw.corporate_actions["action"] != "dividend")
    ].copy()
    actions["security_id"] = securities.assign(actions["symbol"], actions["ex_date"])
    actions_of = {str(key): part for key, part in actions.groupby("security_id")}

    moved = traded.dropna(subset=["previous_close"])
    ratio = moved["close"] / moved["previous_close"]
    # a first sieve only; is_candidate decides
    suspects = moved[(ratio >= 1.79) | (ratio <= 0.56) | moved["security_id"].isin(actions_of)]
    bars_of = {
        str(key): part
        for key, part in traded[traded["security_id"].isin(suspects["security_id"])].groupby(
            "security_id"
        )
    }
    found = []
    for row in suspects.itertuples():
        candidate = is_candidate(row.previous_close, row.close, ticks)
        own = actions_of.get(row.security_id)
        if own is not None:
            own = own[
                (own["ex_date"] > row.previous_trade_date) & (own["ex_date"] <= row.trade_date)
            ]
        explained = own is not None and not own.empty
        if not candidate and not explained:
            continue
        verdict, evidence, share_ratio, known = "suspect_break", "none", np.nan, pd.NaT
        judged = None
        # without an action a small move is no event, and the directory does not judge it
        if candidate and row.security_id in snapshots:
            judged = _judge(row, snapshots[row.security_id], bars_of[row.security_id])
        told = None
        if explained:
            own = own.assign(day=[_usable_day(a, row.trade_date) for a in own["available_at"]])
            own = own[own["day"] == own["day"].min()]
            told = own["day"].iloc[0]
        # the first verdict stands; of two usable from the same day the action's
        if told is not None and (judged is None or told <= _usable_day(judged[2], row.trade_date)):
            verdict, evidence = "capital_change", "corporate_action"
            share_ratio, known = float(own["ratio"].prod()), own["available_at"].max()
        elif judged is not None:
            verdict, share_ratio, known = judged
            evidence = "directory"
        known_from = NEVER
        if not pd.isna(known):
            later = sessions.loc[sessions["decision_at"] > known, "session_idx"]
            known_from = max(int(later.iloc[0]), row.session_idx) if len(later) else NEVER
        found.append(
            {
                "security_id": row.security_id,
                "spell": row.spell,
                "session_idx": row.session_idx,
                "symbol": row.symbol,
                "trade_date": row.trade_date,
                "is_candidate": candidate,
                "evidence": evidence,
                "verdict": verdict,
                "share_ratio": share_ratio,
                "resolved_from_session_idx": known_from,
            }
        )
    return pd.DataFrame(found)


def _usable_day(known: pd.Timestamp, event: pd.Timestamp) -> pd.Timestamp:
    """First day whose decision time lies after the knowledge, the event's own at the earliest."""
    late = known - known.normalize() >= pd.Timedelta(hours=16, minutes=15)
    return max(known.normalize() + pd.Timedelta(days=int(late)), pd.Timestamp(event))


def _judge(
    row: tuple, snapshots: pd.DataFrame, bars: pd.DataFrame
) -> tuple[str, float, pd.Timestamp] | None:
    days = snapshots["snapshot_date"]
    reach = pd.Timedelta(days=10)
    before = snapshots[(days >= row.trade_date - reach) & (days <= row.trade_date)]
    after = snapshots[(days > row.trade_date) & (days <= row.trade_date + reach)]
    if before.empty or after.empty:
        return None
    last, first = before.iloc[-1], after.iloc[0]
    company = first["market_cap"] / last["market_cap"]
    price = row.close / row.previous_close
    known = max(last["available_at"], first["available_at"])
    if abs(np.log(company)) >= abs(np.log(price)) / 3:
        return "real_move", np.nan, known
    shares = []
    for snapshot in (last, first):
        earlier = bars.loc[bars["trade_date"] < snapshot["snapshot_date"], "close"]
        shares.append(snapshot["market_cap"] / earlier.iloc[-1] if len(earlier) else np.nan)
    return "capital_change", snapped(shares[1] / shares[0]), known


# --------------------------------------------------------------------------------------------------
# The grid


def grid(
    traded: pd.DataFrame,
    sessions: pd.DataFrame,
    ends: dict[str, int],
    raw: RawTables,
    securities: Securities,
) -> pd.DataFrame:
    """One row per security and market session from the first trade of a spell to its end."""
    last_session = int(sessions["session_idx"].max())
    dates = sessions.set_index("session_idx")["trade_date"]
    parts = []
    for (security, spell), bars in traded.groupby(["security_id", "spell"]):
        first, last = int(bars["session_idx"].iloc[0]), int(bars["session_idx"].iloc[-1])
        final = min(last + SPELL_GAP, last_session)
        end = ends.get(str(security))
        if end is not None and last < end:
            final = min(final, end - 1)
        part = bars.set_index("session_idx")[
            ["symbol", "open", "high", "low", "close", "volume"]
        ].reindex(range(first, final + 1))
        part["is_traded"] = part["volume"].notna()
        part["volume"] = part["volume"].fillna(0.0)
        part[["symbol", "close"]] = part[["symbol", "close"]].ffill()
        securities.rename(part, dates)
        for name in ("open", "high", "low"):
            part[name] = part[name].where(part["is_traded"], part["close"])
        part["security_id"], part["spell"] = security, spell
        part["sessions_of_history"] = np.arange(1, len(part) + 1)
        parts.append(part.reset_index())
    panel = pd.concat(parts, ignore_index=True)
    panel = panel.merge(sessions[["session_idx", "trade_date", "decision_at"]], on="session_idx")
    panel = panel.merge(
        raw.securities[["symbol", "kind"]].drop_duplicates("symbol"), on="symbol", how="left"
    )
    panel["kind"] = panel["kind"].fillna("unknown")
    panel["is_in_universe"] = panel["kind"].isin(UNIVERSE_KINDS)

    directory = raw.directory.copy()
    directory["security_id"] = securities.assign(directory["symbol"], directory["snapshot_date"])
    directory["market_cap"] = directory["market_cap"].where(directory["market_cap"] > 0)
    directory = directory.sort_values("snapshot_date").rename(columns={"snapshot_date": "day"})
    panel = panel.sort_values("trade_date")
    # strictly before the session: a snapshot counts from the session after its day
    as_of = {"left_on": "trade_date", "right_on": "day", "by": "security_id"}
    panel = pd.merge_asof(
        panel, directory[["day", "security_id", "market_cap"]], allow_exact_matches=False, **as_of
    )
    too_old = panel["trade_date"] - panel["day"] > pd.Timedelta(days=10)
    panel["market_cap"] = panel["market_cap"].mask(too_old)
    panel = panel.drop(columns="day")
    panel["market_cap"] = panel["market_cap"].fillna(
        reported_market_cap(panel, raw.fundamentals, securities)
    )
    panel = pd.merge_asof(
        panel,
        directory.loc[directory["sector"].notna(), ["day", "security_id", "sector"]],
        allow_exact_matches=False,
        **as_of,
    ).drop(columns="day")
    return panel.sort_values(["security_id", "session_idx"]).reset_index(drop=True)


# --------------------------------------------------------------------------------------------------
# Columns of one spell


def lagged(x: Array, k: int) -> Array:
    """The value k rows earlier; NaN where there is none."""
    out = np.full(len(x), np.nan)
    if len(x) > k:
        out[k:] = x[: len(x) - k]
    return out


def rolled(x: Array, n: int, statistic: Callable[[Array], Array]) -> Array:
    """A statistic over the current row and the n - 1 before it; NaN until there are n."""
    out = np.full(len(x), np.nan)
    if len(x) >= n:
        out[n - 1 :] = statistic(sliding_window_view(x, n))
    return out


def deviation(windows: Array) -> Array:
    """Sample standard deviation; a window of one value has exactly none."""
    result = np.std(windows, axis=1, ddof=1)
    return np.where(np.ptp(windows, axis=1) == 0, 0.0, result)


def skewness(windows: Array) -> Array:
    """Bias-corrected sample skewness G1; NaN where all values are one."""
    n = windows.shape[1]
    centred = windows - windows.mean(axis=1, keepdims=True)
    m2, m3 = (centred**2).mean(axis=1), (centred**3).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        g1 = np.sqrt(n * (n - 1)) / (n - 2) * m3 / m2**1.5
    return np.where(np.ptp(windows, axis=1) == 0, np.nan, g1)


def slope(windows: Array) -> Array:
    """Least-squares slope on 0, 1, 2, ..."""
    x = np.arange(windows.shape[1]) - (windows.shape[1] - 1) / 2
    centred = windows - windows.mean(axis=1, keepdims=True)
    return (centred * x).sum(axis=1) / (x**2).sum()


def mean(windows: Array) -> Array:
    """Mean of each window."""
    return windows.mean(axis=1)


def divided(a: Array, b: Array) -> Array:
    """a / b; NaN where b is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b == 0, np.nan, a / b)


@dataclass
class Spell:
    """One spell of one security, and the two rules every column obeys."""

    rows: pd.DataFrame
    breaks: pd.DataFrame
    market_return: Array

    def __post_init__(self) -> None:
        first = int(self.rows["session_idx"].iloc[0])
        size = len(self.rows)
        self.traded: Flags = self.rows["is_traded"].to_numpy(bool)
        self.factor = np.ones(size)
        # the latest break that the row cannot explain, as a row number
        self.blocked = np.full(size, -1, dtype=np.int64)
        self.unexplained = np.zeros(size, dtype=bool)
        for row in self.breaks.itertuples():
            at = row.session_idx - first
            if row.verdict == "capital_change":
                self.factor[at:] *= row.share_ratio
            self.unexplained[at] = row.verdict == "suspect_break"
            known = min(row.resolved_from_session_idx - first, size)
            self.blocked[at:known] = np.maximum(self.blocked[at:known], at)

    def guarded(self, x: Array, reach: int, sessions: int | None) -> Array:
        """NULL where an unexplained break is in reach, or few of the last `sessions` were traded.

        A break at row b is in reach of row t if b > t - reach. `sessions` None: only the first.
        """
        rows = np.arange(len(x))
        out = np.where(self.blocked > rows - reach, np.nan, x)
        return out if sessions is None else self.half_traded(out, sessions)

    def half_traded(self, x: Array, sessions: int) -> Array:
        """NULL where fewer than half of the last `sessions` rows were traded."""
        count = rolled(self.traded.astype(float), sessions, lambda w: w.sum(axis=1))
        return np.where(count * 2 < sessions, np.nan, x)

    def ratio(self, top: Array, k: int) -> Array:
        """Quote now over the close k rows ago, adjusted by the factor between."""
        close = self.rows["close"].to_numpy(float)
        return (top / lagged(close, k)) * (self.factor / lagged(self.factor, k))


def spell_columns(spell: Spell) -> dict[str, Array]:
    """Columns of the families momentum, volatility and liquidity, and beta and its residual."""
    rows, factor = spell.rows, spell.factor
    quote = {name: rows[name].to_numpy(float) for name in ("open", "high", "low", "close")}
    c = quote["close"]
    high, low, close = (quote[name] * factor for name in ("high", "low", "close"))
    volume = rows["volume"].to_numpy(float)
    adjusted_volume, value = volume / factor, c * volume
    cap = rows["market_cap"].to_numpy(float)
    # a window uses returns whose break was explained by the time of its last row, so the guard is
    # applied to the window and not to the returns in it
    ret = spell.ratio(c, 1) - 1
    out: dict[str, Array] = {"capital_factor": factor}

    out["ret_1d"] = spell.guarded(ret, 1, None)
    for name, k in {"mom_5": 5, "mom_1": 21, "mom_3": 63, "mom_6": 126, "mom_12": 252}.items():
        out[name] = spell.guarded(spell.ratio(c, k) - 1, k, k)
    skip = (lagged(c, 21) / lagged(c, 252)) * (lagged(factor, 21) / lagged(factor, 252)) - 1
    out["mom_12_1"] = spell.guarded(skip, 252, 252)
    sma_50 = spell.half_traded(rolled(close, 50, mean), 50)
    sma_200 = spell.half_traded(rolled(close, 200, mean), 200)
    out["sma_ratio"] = spell.guarded(divided(sma_50, sma_200), 199, None)
    out["price_to_sma_50"] = spell.guarded(divided(close, sma_50) - 1, 49, None)
    out["price_to_sma_200"] = spell.guarded(divided(close, sma_200) - 1, 199, None)
    above = np.where(np.isnan(sma_200), np.nan, close > sma_200 * (1 + 1e-12))
    out["trend_200"] = spell.guarded(above, 199, None)
    rise = spell.guarded(divided(rolled(sma_200, 20, slope), sma_200), 218, None)
    out["sma200_slope"] = rise
    out["sma200_slope_pos"] = np.where(np.isnan(rise), np.nan, rise > 1e-12)
    top = rolled(close, 252, lambda w: w.max(axis=1))
    out["drawdown_252"] = spell.guarded(divided(close, top) - 1, 251, 252)
    top, bottom = (
        rolled(high, 20, lambda w: w.max(axis=1)),
        rolled(low, 20, lambda w: w.min(axis=1)),
    )
    out["range_pos_20"] = spell.guarded(divided(close - bottom, top - bottom), 19, 20)
    change = close - lagged(close, 1)
    gain, loss = (rolled(np.maximum(sign * change, 0), 14, mean) for sign in (1, -1))
    out["rsi_14"] = spell.guarded(divided(100 * gain, gain + loss), 14, 14)
    out["gap_1d"] = spell.guarded(spell.ratio(quote["open"], 1) - 1, 1, None)

    for n in (30, 60, 90):
        out[f"vol_{n}"] = spell.guarded(rolled(ret, n, deviation), n, n)
    out["vol_ratio_30_90"] = divided(out["vol_30"], out["vol_90"])
    downside = np.sqrt(rolled(np.minimum(ret, 0) ** 2, 60, mean))
    out["downside_vol_60"] = spell.guarded(downside, 60, 60)
    out["skew_ret_60"] = spell.guarded(rolled(ret, 60, skewness), 60, 60)
    out["max_ret_21"] = spell.guarded(rolled(ret, 21, lambda w: w.max(axis=1)), 21, 21)
    before = lagged(close, 1)
    true_range = np.maximum(high - low, np.maximum(np.abs(high - before), np.abs(low - before)))
    out["atr_pct"] = spell.guarded(divided(rolled(true_range, 14, mean), close), 14, 14)
    out["atr_14"] = out["atr_pct"] * c

    out["adv_20_median"] = spell.half_traded(rolled(value, 20, lambda w: np.median(w, axis=1)), 20)
    log_value = np.log1p(out["adv_20_median"])
    out["adv_20_log"] = log_value
    out["adv_zscore"] = divided(
        log_value - rolled(log_value, 252, mean), rolled(log_value, 252, deviation)
    )
    recent, usual = rolled(adjusted_volume, 5, mean), rolled(adjusted_volume, 60, mean)
    out["volume_ratio_5_60"] = spell.guarded(spell.half_traded(divided(recent, usual), 5), 59, 60)
    out["volume_skew_60"] = spell.guarded(rolled(adjusted_volume, 60, skewness), 59, 60)
    # a session without a trade has no price impact to average, but its return must be known
    impact = np.where(value > 0, divided(np.abs(ret), value), 0.0)
    impact = np.where(np.isnan(ret), np.nan, impact)
    trades = rolled((value > 0).astype(float), 21, lambda w: w.sum(axis=1))
    amihud = divided(rolled(impact, 21, lambda w: w.sum(axis=1)), trades) * 1e6
    out["amihud_21"] = spell.guarded(amihud, 21, 21)
    # zero is meant, not rounded: a price that halves while shares double has not moved
    still = np.where(np.isnan(ret), np.nan, np.abs(ret) < 1e-12)
    out["zero_ret_frac_60"] = spell.guarded(rolled(still, 60, mean), 60, None)
    out["traded_frac_60"] = rolled(spell.traded.astype(float), 60, mean)
    out["turnover_21"] = spell.guarded(rolled(divided(value, cap), 21, mean), 20, 21)
    out["price_log"] = np.log(c)

    out.update(_relative(spell, ret))
    return out


def _relative(spell: Spell, ret: Array) -> dict[str, Array]:
    first = int(spell.rows["session_idx"].iloc[0])
    market = spell.market_return[first : first + len(ret)]
    beta, idio = np.full(len(ret), np.nan), np.full(len(ret), np.nan)
    if len(ret) >= 252:
        own, index = sliding_window_view(ret, 252), sliding_window_view(market, 252)
        own_c = own - own.mean(axis=1, keepdims=True)
        index_c = index - index.mean(axis=1, keepdims=True)
        beta[251:] = divided((own_c * index_c).sum(axis=1), (index_c**2).sum(axis=1))
        residual = (
            sliding_window_view(ret, 60)[192:]
            - beta[251:, None] * (sliding_window_view(market, 60)[192:])
        )
        idio[251:] = deviation(residual)
    beta = spell.guarded(beta, 252, 252)
    idio = np.where(np.isnan(beta), np.nan, spell.guarded(idio, 60, 60))
    return {"beta_252": beta, "idio_vol_60": idio}


# --------------------------------------------------------------------------------------------------
# Labels


def spell_labels(spell: Spell, last_session: int, last_trade: int) -> dict[str, np.ndarray]:
    """Labels of one spell; `last_trade` is the security's last traded session in any spell.

    The delayed return keeps the rules of the day it is decided on: only where that day has a label,
    and no unexplained break until its own end, which must have come.
    """
    first = int(spell.rows["session_idx"].iloc[0])
    close, factor = spell.rows["close"].to_numpy(float), spell.factor
    size = len(close)

    def change(start: int, end: int) -> float:
        return (close[end] / close[start]) * (factor[end] / factor[start]) - 1

    status = np.empty(size, dtype=object)
    now, delayed = np.full(size, np.nan), np.full(size, np.nan)
    for row in range(size):
        goal = row + 21
        if spell.unexplained[row + 1 : goal + 1].any():
            status[row] = "suspect_break"
        elif first + goal > last_session:
            status[row] = "immature"
        elif last_trade < first + goal:
            status[row] = "delisted"
        elif goal >= size or not spell.traded[goal - 4 : goal + 1].any():
            status[row] = "suspended"
        else:
            status[row] = "ok"
        if status[row] not in ("ok", "delisted"):
            continue
        # the rows after a last trade carry its close, and so does the end of the horizon
        if last_trade < first + size:
            goal = min(goal, size - 1)
        if goal < size:
            now[row] = change(row, goal)
        later = row + 22
        if spell.unexplained[row + 1 : later + 1].any() or first + later > last_session:
            continue
        if last_trade < first + size:
            later = min(later, size - 1)
        # nothing to buy after the last trade
        if later < size and first + row < last_trade:
            delayed[row] = change(row + 1, later)
    return {
        "label_status": status,
        "return_1m_fwd": now,
        "return_1m_fwd_sign": np.where(np.isnan(now), np.nan, now > 0),
        "return_1m_fwd_lag1": delayed,
    }


# --------------------------------------------------------------------------------------------------
# The market and the session's cross-section


def market_returns(
    panel: pd.DataFrame, sessions: pd.DataFrame, levels: pd.DataFrame
) -> pd.DataFrame:
    """Return of the benchmark per market session, and of the equal-weighted mean where it lacks."""
    market = sessions[["session_idx", "trade_date"]].merge(
        levels.rename(columns={"close": "level"}), on="trade_date", how="left"
    )
    index_return = market["level"] / market["level"].shift() - 1
    members = panel[panel["is_traded"] & panel["is_in_universe"]]
    equal = members["ret_1d"].clip(-0.5, 0.5).groupby(members["session_idx"]).mean()
    market["equal_weighted"] = market["session_idx"].map(equal)
    market["market_return"] = index_return.fillna(market["equal_weighted"])
    growth = (1 + market["market_return"]).to_numpy()
    for name, k in {"index_mom_1": 21, "index_mom_3": 63}.items():
        direct = market["level"] / market["level"].shift(k) - 1
        chained = rolled(growth, k, lambda w: w.prod(axis=1)) - 1
        market[name] = direct.fillna(pd.Series(chained, index=market.index))
    return market


def cross_section(panel: pd.DataFrame) -> None:
    """Add the ranks and the distance to the sector's median, over the traded universe."""
    member = panel["is_traded"] & panel["is_in_universe"]
    for rank, source in RANKED.items():
        panel[rank] = np.nan
        ranked = panel.loc[member & panel[source].notna(), ["session_idx", source]]
        for _, values in ranked.groupby("session_idx")[source]:
            panel.loc[values.index, rank] = (rankdata(values) - 0.5) / len(values)
    panel["sector_rel_mom_1"] = np.nan
    priced = panel.loc[
        member & panel["mom_1"].notna() & panel["sector"].notna(),
        ["session_idx", "sector", "mom_1"],
    ]
    for _, values in priced.groupby(["session_idx", "sector"])["mom_1"]:
        if len(values) >= 5:
            panel.loc[values.index, "sector_rel_mom_1"] = values - np.median(values)


# --------------------------------------------------------------------------------------------------
# All of it


def recompute(
    raw: RawTables,
    only: Collection[str] | None = None,
    exchange: str = CALENDAR,
    ticks: bool = True,
) -> Recomputed:
    """Recompute sessions, breaks, features and labels.

    `only` names securities whose windows are computed; the grid, the breaks and the market's return
    still come from all of them. Columns that compare securities are then left out.
    """
    sessions = market_sessions(raw.prices, exchange)
    securities = Securities(raw.symbol_changes)
    ends = delisting_ends(raw, securities, sessions)
    traded = traded_rows(raw, securities, sessions, ends)
    breaks = price_breaks(raw, securities, sessions, traded, ticks)
    panel = grid(traded, sessions, ends, raw, securities)
    no_breaks = breaks.iloc[:0]
    breaks_of = dict(list(breaks.groupby(["security_id", "spell"])))

    unknown = np.full(len(sessions), np.nan)
    parts = {
        key: Spell(part, breaks_of.get(key, no_breaks), unknown)
        for key, part in panel.groupby(["security_id", "spell"])
    }
    panel["ret_1d"] = np.nan
    panel["is_suspect_break"] = False
    for part in parts.values():
        ret = part.ratio(part.rows["close"].to_numpy(float), 1) - 1
        panel.loc[part.rows.index, "ret_1d"] = part.guarded(ret, 1, None)
        panel.loc[part.rows.index, "is_suspect_break"] = part.blocked == np.arange(len(ret))
    market = market_returns(panel, sessions, raw.index_levels)
    returns = market["market_return"].to_numpy(float)

    last_session = int(sessions["session_idx"].max())
    last_trade_of = traded.groupby("security_id")["session_idx"].max()
    computed = []
    for (security, _), part in parts.items():
        if only is not None and security not in only:
            continue
        part.market_return = returns
        columns = spell_columns(part)
        columns.update(spell_labels(part, last_session, int(last_trade_of[security])))
        computed.append(pd.DataFrame(columns, index=part.rows.index))
    columns = pd.concat(computed)
    panel = panel.loc[columns.index].drop(columns="ret_1d").join(columns)
    dates = sessions.set_index("session_idx")["trade_date"]
    panel["label_end_idx"] = panel["session_idx"] + 21
    panel["label_end_date"] = panel["label_end_idx"].map(dates)
    at = market.set_index("session_idx")
    panel["mkt_ret_1d"] = panel["session_idx"].map(at["market_return"])
    for name in ("mom_1", "mom_3"):
        panel[f"rel_{name}"] = panel[name] - panel["session_idx"].map(at[f"index_{name}"])
    if only is None:
        cross_section(panel)
    return Recomputed(sessions, breaks, panel, market)
