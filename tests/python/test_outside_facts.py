"""Macro, announcements and short positions against a recomputation from the files, cell by cell.

A cell is one security at one session. Its decision times come from the panel's sessions; everything
else (which facts were known, what a headline says, how long a report lasts) is worked out here from
the rules in words, with loops and not with the warehouse's SQL.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
import yaml
from built_warehouse import Warehouse, build
from conftest import PROJECT

CELLS = 2_000
DECISION = pd.Timedelta("16:15:00")
GAP = 5
MAX_AGE = 15
TONE = {"bullish": 1.0, "neutral": 0.0, "bearish": -1.0}
EVENTS = ["guidance", "dividend", "acquisition", "earnings", "capital_raising", "trading_halt"]
SERIES = ["rba_cash_rate", "cpi_yoy", "unemployment", "yield_2y", "yield_10y"]


@functools.cache
def family(name: str) -> list[str]:
    """Columns of a family, from the feature dictionary."""
    path = PROJECT / "models" / "marts" / "features" / "fct_features_daily.yml"
    columns = yaml.safe_load(path.read_text(encoding="utf-8"))["models"][0]["columns"]
    return [c["name"] for c in columns if c["config"]["meta"].get("family") == name]


def close(a: float | None, b: float | None) -> bool:
    """Equal to a relative 1e-9, or both unknown."""
    if pd.isna(a) or pd.isna(b):
        return bool(pd.isna(a) and pd.isna(b))
    return abs(a - b) <= 1e-9 * max(abs(a), abs(b)) + 1e-12


# --------------------------------------------------------------------------------------------------
# The facts, from the files as they were delivered


@dataclass
class Facts:
    """What was published, with the time it was known."""

    announcements: pd.DataFrame  # symbol, announced_at, headline, price_sensitive, sentiment, conf.
    shorts: pd.DataFrame  # symbol, trade_date, available_at, short_pct
    macro: pd.DataFrame  # series_id, reference_date, available_at, value
    renamed: dict[str, str]  # later symbol to the security it was before


def sample_facts(folder: Path) -> Facts:
    """The invented market's own files; the tests choose securities that were never renamed."""
    return Facts(
        pd.read_parquet(folder / "announcements.parquet"),
        pd.read_parquet(folder / "short_positions.parquet"),
        pd.read_parquet(folder / "macro.parquet"),
        {},
    )


def weekdays_after(days: pd.Series, n: int) -> pd.Series:
    """The date n weekdays later; a weekend counts from its Friday."""
    shifted = np.busday_offset(days.to_numpy().astype("datetime64[D]"), n, roll="backward")
    return pd.Series(shifted.astype("datetime64[us]"), index=days.index)


def real_facts(folder: Path) -> Facts:
    """The Australian files, with the lags of docs/load.md."""
    announcements = pd.read_parquet(folder / "announcements.parquet").dropna(subset=["code"])
    announcements = announcements.rename(columns={"code": "symbol"})
    announcements["sentiment"] = np.nan
    announcements["confidence"] = np.nan
    shorts = pd.read_parquet(folder / "short_positions.parquet").rename(columns={"code": "symbol"})
    shorts["trade_date"] = pd.to_datetime(shorts["trade_date"])
    shorts["available_at"] = weekdays_after(shorts["trade_date"], 4) + pd.Timedelta("10:00:00")
    return Facts(announcements, shorts, real_macro(folder), {"ZIP": "Z1P"})


def real_macro(folder: Path) -> pd.DataFrame:
    """Five series of the RBA and the ABS, long."""
    morning, noon = pd.Timedelta("09:00:00"), pd.Timedelta("11:30:00")
    parts = []

    def add(name: str, dates: pd.Series, values: pd.Series, known: pd.Series) -> None:
        number = pd.to_numeric(values, errors="coerce")
        part = pd.DataFrame(
            {"series_id": name, "reference_date": dates, "available_at": known, "value": number}
        )
        parts.append(part.dropna())

    cash = pd.read_csv(folder / "rba_cash_rate_target.csv", parse_dates=["date"])
    announced = cash["date"] - pd.Timedelta(days=1) + pd.Timedelta("14:30:00")
    add("rba_cash_rate", cash["date"], cash["value"], announced)
    daily = pd.read_csv(folder / "rba_f2_bond_yields_daily.csv", parse_dates=["Date"])
    monthly = pd.read_csv(folder / "rba_f2_1_bond_yields_monthly.csv", parse_dates=["month_end"])
    new = ~monthly["month_end"].dt.to_period("M").isin(set(daily["Date"].dt.to_period("M")))
    monthly = monthly[new]
    for years in (2, 10):
        name = f"yield_{years}y"
        known = weekdays_after(daily["Date"], 1) + morning
        add(name, daily["Date"], daily[f"AG_{years} yrs"], known)
        known = weekdays_after(monthly["month_end"], 1) + morning
        add(name, monthly["month_end"], monthly[f"ag_{years}y"], known)
    cpi = pd.read_csv(folder / "rba_g1_cpi.csv", encoding="cp1252", skiprows=10)
    quarters = pd.to_datetime(cpi["Series ID"], format="%d/%m/%Y", errors="coerce")
    add("cpi_yoy", quarters, cpi["GCPIAGYP"], quarters + pd.Timedelta(days=28) + noon)
    jobless = pd.read_csv(folder / "abs_unemployment_rate.csv", parse_dates=["date"])
    month_end = jobless["date"] + pd.offsets.MonthEnd(0)
    known = month_end + pd.Timedelta(days=21) + noon
    add("unemployment", jobless["date"], jobless["unemployment_rate_sa"], known)
    return pd.concat(parts, ignore_index=True)


# --------------------------------------------------------------------------------------------------
# What a cell should say


class Headlines:
    """The rule table, read as docs/announcements.md describes it."""

    def __init__(self) -> None:
        rules = pd.read_csv(PROJECT / "seeds" / "announcement_rules.csv").sort_values("priority")
        self.rules = [
            (self._regex(rule.pattern), rule.event, rule.stance, float(rule.weight))
            for rule in rules.itertuples()
        ]
        self.judged: dict[str, tuple[str, str, float]] = {}

    @staticmethod
    def _regex(pattern: str) -> re.Pattern[str]:
        parts = {"%": ".*", "_": "."}
        return re.compile("".join(parts.get(c, re.escape(c)) for c in pattern), re.DOTALL)

    @staticmethod
    def words(headline: str) -> str:
        kept = [c if c == "$" or (c.isascii() and c.isalnum()) else " " for c in headline.lower()]
        return f" {' '.join(''.join(kept).split())} "

    def judge(self, headline: str) -> tuple[str, str, float]:
        """Event, stance and weight of the first rule that matches."""
        if headline not in self.judged:
            words = self.words(headline)
            self.judged[headline] = next(
                rest for regex, *rest in self.rules if regex.fullmatch(words)
            )
        return self.judged[headline]


class Macro:
    """Macro columns of every session."""

    def __init__(self, releases: pd.DataFrame, decisions: np.ndarray) -> None:
        in_order = releases.sort_values("available_at", kind="stable")
        self.releases = {
            name: [rows[c].to_numpy() for c in ("available_at", "reference_date", "value")]
            for name, rows in in_order.groupby("series_id")
        }
        self.decisions = decisions

    def at(self, t: int) -> dict[str, float | None]:
        """Every macro column at one session."""
        now, before = self._levels(t), self._levels(t - 21) if t >= 21 else {}
        cpi = self._latest("cpi_yoy", t, 2)
        out = {name: now.get(name) for name in [*SERIES, "yield_curve_slope"]}
        out["delta_cpi"] = cpi[0] - cpi[1] if len(cpi) == 2 else None
        for name, source in (
            ("delta_rba_rate", "rba_cash_rate"),
            ("delta_yield_10y", "yield_10y"),
            ("delta_yield_curve_slope", "yield_curve_slope"),
        ):
            both = now.get(source) is not None and before.get(source) is not None
            out[name] = now[source] - before[source] if both else None
        return out

    def _levels(self, t: int) -> dict[str, float]:
        levels = {name: found[0] for name in SERIES if (found := self._latest(name, t, 1))}
        if "yield_2y" in levels and "yield_10y" in levels:
            levels["yield_curve_slope"] = levels["yield_10y"] - levels["yield_2y"]
        return levels

    def _latest(self, name: str, t: int, n: int) -> list[float]:
        """Values of the latest n reference dates known, newest first, each as last released."""
        if name not in self.releases:
            return []
        available, days, values = self.releases[name]
        known = available < self.decisions[t]
        days, values = days[known], values[known]
        found: list[float] = []
        while len(days) and len(found) < n:
            newest = days == days.max()
            found.append(float(values[newest][-1]))
            days, values = days[~newest], values[~newest]
        return found


class Expected:
    """Cells recomputed for one market."""

    def __init__(self, facts: Facts, panel: pd.DataFrame, sessions: pd.DataFrame) -> None:
        self.facts = facts
        self.headlines = Headlines()
        self.days = sessions["trade_date"].to_numpy()
        self.decisions = (sessions["trade_date"] + DECISION).to_numpy()
        self.traded = {
            key: rows.set_index("session_idx")["is_traded"]
            for key, rows in panel.groupby(["security_id", "spell"])
        }
        told = facts.announcements.assign(
            security_id=facts.announcements["symbol"].replace(facts.renamed)
        )
        self.told = {key: rows for key, rows in told.groupby("security_id")}
        self.first_told = self._session_of(told["announced_at"].min())
        flagged = told.loc[told["price_sensitive"].notna(), "announced_at"].min()
        self.first_flagged = self._session_of(flagged)
        # neither market has a hole of its own, which the recomputation relies on
        arrival = np.unique(np.searchsorted(self.decisions, told["announced_at"], side="right"))
        assert np.diff(arrival).max() <= GAP
        self.macro = Macro(facts.macro, self.decisions)
        shorts = facts.shorts.assign(security_id=facts.shorts["symbol"].replace(facts.renamed))
        self.shorts = {key: rows for key, rows in shorts.groupby("security_id")}

    def _session_of(self, moment: pd.Timestamp) -> int:
        """First session decided after a moment."""
        return int(np.searchsorted(self.decisions, np.datetime64(moment), side="right"))

    def _half_traded(self, security: str, spell: int, t: int, n: int) -> bool:
        traded = self.traded[security, spell]
        return bool(2 * traded.loc[t - n + 1 : t].sum() >= n)

    def announcements(self, security: str, spell: int, t: int) -> dict[str, float | None]:
        """Every column of the announcements at one cell."""
        start = int(self.traded[security, spell].index[0])
        rows = self.told.get(security)

        def window(n: int) -> pd.DataFrame | None:
            """Announcements of n sessions, None where they cannot all be known."""
            if t - n + 1 < start or t - n < self.first_told:
                return None
            if n > 1 and not self._half_traded(security, spell, t, n):
                return None
            if rows is None:
                return self.facts.announcements.iloc[:0]
            after = rows["announced_at"] >= self.decisions[t - n]
            return rows[after & (rows["announced_at"] < self.decisions[t])]

        out: dict[str, float | None] = dict.fromkeys(family("sentiment"))
        day, month, quarter = window(1), window(21), window(63)
        if day is not None:
            out["ann_count_1d"] = len(day)
        if month is not None:
            out["ann_count_21d"] = len(month)
            if t - 21 >= self.first_flagged:
                out["price_sensitive_21d"] = int((month["price_sensitive"] == True).sum())  # noqa: E712
            scores = [self._score(row) for row in month.itertuples()]
            if scores:
                weight = sum(confidence for _, confidence in scores)
                out["ann_confidence_21d"] = weight / len(scores)
                out["ann_sentiment_21d"] = sum(s * c for s, c in scores) / weight
        if quarter is not None:
            judged = [self.headlines.judge(h) for h in quarter["headline"]]
            for event in EVENTS:
                out[f"event_{event}_63d"] = sum(e == event for e, _, _ in judged)
            counts = {s: sum(stance == s for _, stance, _ in judged) for s in TONE}
            for stance, count in counts.items():
                out[f"stance_{stance}_63d"] = count
            if judged:
                balance = counts["bullish"] - counts["bearish"]
                out["sentiment_composite"] = balance / sum(counts.values())
        if rows is not None and t > self.first_flagged:
            opened = (
                self.decisions[start - 1] if start else self.decisions[0] - np.timedelta64(1, "D")
            )
            after = rows["announced_at"] >= opened
            known = rows[after & (rows["announced_at"] < self.decisions[t])]
            sensitive = known[known["price_sensitive"] == True]  # noqa: E712
            if len(sensitive):
                last = sensitive["announced_at"].max().normalize()
                out["days_since_price_sensitive"] = (pd.Timestamp(self.days[t]) - last).days
        return out

    def _score(self, row: tuple) -> tuple[float, float]:
        _, stance, weight = self.headlines.judge(row.headline)
        if not pd.isna(row.sentiment):
            return row.sentiment, weight if pd.isna(row.confidence) else row.confidence
        return TONE[stance], weight

    def short_pct(self, security: str, t: int) -> float | None:
        """The latest report known, if it is young enough and possible."""
        rows = self.shorts.get(security)
        if t < 0 or rows is None:
            return None
        known = rows[(rows["available_at"] < self.decisions[t])]
        if known.empty:
            return None
        report = known.sort_values("trade_date").iloc[-1]
        reported = int(np.searchsorted(self.days, np.datetime64(report["trade_date"])))
        value = report["short_pct"]
        return value if t - reported <= MAX_AGE and 0 <= value <= 100 else None

    def short_positions(self, security: str, spell: int, t: int) -> dict[str, float | None]:
        """short_pct and its change."""
        start = int(self.traded[security, spell].index[0])
        now, before = self.short_pct(security, t), self.short_pct(security, t - 21)
        known = now is not None and before is not None and t - 21 >= start
        if known:
            known = self._half_traded(security, spell, t, 21)
        return {"short_pct": now, "short_pct_chg_21d": now - before if known else None}


# --------------------------------------------------------------------------------------------------
# Comparison


@dataclass
class Market:
    """A built warehouse and what its cells should say."""

    panel: pd.DataFrame
    expected: Expected
    first_cell: int

    def cells(self, seed: int, condition: Callable[[pd.DataFrame], pd.Series] | None = None):
        """2,000 random rows of the panel."""
        rows = self.panel[self.panel["session_idx"] >= self.first_cell]
        if condition is not None:
            rows = rows[condition(rows)]
        return rows.sample(min(CELLS, len(rows)), random_state=seed)


def read_market(warehouse: Path, facts: Facts, first_cell: int = 0) -> Market:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        panel = connection.execute(
            f"""select symbol, security_id, spell, session_idx, trade_date, is_traded,
                {", ".join(family("macro") + family("sentiment"))}
            from marts.fct_features_daily
            order by security_id, session_idx"""
        ).df()
        sessions = connection.execute(
            "select trade_date from marts.dim_sessions where session_idx is not null order by 1"
        ).df()
    panel["trade_date"] = panel["trade_date"].astype("datetime64[us]")
    sessions["trade_date"] = sessions["trade_date"].astype("datetime64[us]")
    # announcements of a code that another company took over cannot be told apart
    panel = panel[~panel["security_id"].str.contains("@")]
    return Market(panel, Expected(facts, panel, sessions), first_cell)


def compare(
    cells: pd.DataFrame, columns: list[str], expected: Callable[[object], dict[str, float | None]]
) -> None:
    """Every column of every cell; and no column may be unknown throughout."""
    wrong, known = [], dict.fromkeys(columns, 0)
    for row in cells.itertuples():
        cell = expected(row)
        for name in columns:
            theirs = getattr(row, name)
            known[name] += not pd.isna(theirs)
            if not close(theirs, cell[name]):
                wrong.append((row.security_id, row.trade_date, name, theirs, cell[name]))
    assert not wrong, f"{len(wrong)} values differ, such as {wrong[:10]}"
    assert min(known.values()) > 50, known


def compare_announcements(market: Market) -> None:
    shorts = ("short_pct", "short_pct_chg_21d")
    columns = [name for name in family("sentiment") if name not in shorts]
    cells = market.cells(1)
    compare(
        cells,
        columns,
        lambda row: market.expected.announcements(row.security_id, row.spell, row.session_idx),
    )


def compare_shorts(market: Market) -> None:
    # half of them where there is a value, for most companies are never sold short
    cells = pd.concat([market.cells(2), market.cells(3, lambda rows: rows["short_pct"].notna())])
    compare(
        cells,
        ["short_pct", "short_pct_chg_21d"],
        lambda row: market.expected.short_positions(row.security_id, row.spell, row.session_idx),
    )


def compare_macro(market: Market) -> None:
    every_session = market.panel.drop_duplicates("session_idx")
    columns = family("macro")
    compare(every_session, columns, lambda row: market.expected.macro.at(row.session_idx))
    # a market-wide value is the same in every row of its session
    of_session = every_session.set_index("session_idx")[columns].loc[market.panel["session_idx"]]
    pd.testing.assert_frame_equal(
        market.panel[columns].reset_index(drop=True), of_session.reset_index(drop=True),
        check_exact=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Market:
    """An invented market of 40 companies."""
    folder = tmp_path_factory.mktemp("outside")
    size = ["--symbols", "40", "--sessions", "420"]
    Warehouse(folder).run("asxw", "sample-market", *size, str(folder / "market"))
    market = read_market(
        build(folder, folder / "market", "sample"), sample_facts(folder / "market")
    )
    changes = pd.read_parquet(folder / "market" / "symbol_changes.parquet")
    renamed = {*changes["old_symbol"], *changes["new_symbol"]}
    market.panel = market.panel[~market.panel["security_id"].isin(renamed)]
    return market


@pytest.mark.slow
def test_sample_announcements(sample: Market) -> None:
    compare_announcements(sample)


@pytest.mark.slow
def test_sample_short_positions(sample: Market) -> None:
    compare_shorts(sample)


@pytest.mark.slow
def test_sample_macro(sample: Market) -> None:
    compare_macro(sample)


@pytest.fixture(scope="module")
def real(real_warehouse: Path, real_data: Path) -> Market:
    """The Australian market; announcements begin at session 800."""
    return read_market(real_warehouse, real_facts(real_data / "asx"), first_cell=790)


@pytest.mark.real
@pytest.mark.slow
def test_real_announcements(real: Market) -> None:
    compare_announcements(real)


@pytest.mark.real
@pytest.mark.slow
def test_real_short_positions(real: Market) -> None:
    compare_shorts(real)


@pytest.mark.real
@pytest.mark.slow
def test_real_macro(real: Market) -> None:
    compare_macro(real)


def us_macro(folder: Path) -> pd.DataFrame:
    """Three American series, long, with the lags of docs/load.md."""
    parts = []
    for name, code in (("yield_2y", "DGS2"), ("yield_10y", "DGS10"), ("unemployment", "UNRATE")):
        rows = pd.read_csv(folder / f"us_fred_{code}.csv", parse_dates=["observation_date"])
        day = rows["observation_date"]
        if name == "unemployment":
            day = day + pd.offsets.MonthEnd(0) + pd.Timedelta(days=6)
        value = pd.to_numeric(rows[code], errors="coerce")
        known = day + pd.Timedelta(days=1, hours=9)
        columns = {"series_id": name, "reference_date": rows["observation_date"]}
        parts.append(pd.DataFrame({**columns, "available_at": known, "value": value}).dropna())
    return pd.concat(parts, ignore_index=True)


@pytest.mark.real
@pytest.mark.slow
def test_real_us_macro(us_folder: Path, us_warehouse: Path) -> None:
    """American yields and unemployment; there is no cash rate and no inflation."""
    with duckdb.connect(str(us_warehouse), read_only=True) as connection:
        rows = connection.sql(
            "select * from intermediate.int_macro_daily order by session_idx"
        ).df()
    rows["security_id"] = "market"
    decisions = (rows["trade_date"].astype("datetime64[us]") + DECISION).to_numpy()
    expected = Macro(us_macro(us_folder), decisions)
    known = [name for name in family("macro") if not name.startswith(("rba", "cpi", "delta_cpi"))]
    known.remove("delta_rba_rate")
    cells = rows[rows["session_idx"] % 3 == 0]
    compare(cells, known, lambda row: expected.at(row.session_idx))
    assert rows[["rba_cash_rate", "cpi_yoy", "delta_cpi", "delta_rba_rate"]].isna().all().all()
