"""The fundamental family once more, in numpy and pandas, straight from the vendor's files.

Written from docs/fundamentals.md and not from the SQL, so that an error made in one of the two
shows as a difference. Sessions, spells and capital factors are those of `independent_features`.

Order of the work: files to reports, reports to share counts that can be trusted, reports to ranges
of knowledge time with what follows from them, ranges to the rows of the grid, then the columns that
compare the securities of one session. Nothing is incremental but the set of known reports.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from independent_features import (
    CUSTOMARY,
    RawTables,
    Recomputed,
    Securities,
    Spell,
    delisting_ends,
    divided,
    grid,
    market_sessions,
    price_breaks,
    traded_rows,
)
from scipy.stats import rankdata

TYPES = ("ttm", "year", "half", "quarter")
FLOWS = ("net_income", "revenue", "free_cash_flow")
VENDOR = ("pe_ratio", "pb_ratio", "eps", "roe", "debt_to_equity", "market_cap", "div_yield",
          "revenue_growth_yoy", "profit_margin", "current_ratio", "quick_ratio",
          "eps_growth")  # fmt: skip
FIGURES = (*VENDOR, *FLOWS, "equity", "total_assets", "shares_outstanding")
ALWAYS_VENDOR = ("debt_to_equity", "current_ratio", "quick_ratio", "div_yield")
COLUMNS = (
    "fund_available_at", "fund_period_end", "fundamentals_basis", "market_cap_source",
    "fund_age_days", "pe_ratio", "pb_ratio", "eps", "roe", "debt_to_equity", "market_cap",
    "div_yield", "revenue_growth_yoy", "profit_margin", "current_ratio", "quick_ratio",
    "eps_growth", "free_cash_flow", "market_cap_log", "pe_inverse", "book_to_price", "fcf_yield",
    "roe_trend_4", "eps_trend_4", "margin_trend_4",
)  # fmt: skip
BETWEEN = ("pe_ratio_zscore", "pb_ratio_zscore", "pe_inverse_zscore", "financial_health_score",
           "value_score", "quality_score")  # fmt: skip
MAX_AGE_DAYS, CAP_MAX_AGE_DAYS, MIN_MEMBERS, PERIODS = 400, 10, 20, 16
NAN = float("nan")
Report = dict[str, object]


@dataclass(frozen=True)
class Market:
    """What differs between markets."""

    calendar: str
    ticks: bool
    split_adjusted: bool
    statements: bool


US = Market("XNYS", ticks=False, split_adjusted=True, statements=True)
ASX = Market("XASX", ticks=True, split_adjusted=False, statements=False)


# --------------------------------------------------------------------------------------------------
# Files to reports and raw tables


def end_of_day(days: pd.Series) -> pd.Series:
    """The last second of a day."""
    return days + pd.Timedelta("23:59:59")


def us_reports(folder: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    """Reports of the two filing files of the US set, and how many statements were left out why."""
    quarterly = pd.read_parquet(folder / "filings_quarterly.parquet")
    statements = pd.read_parquet(folder / "filings_revenue_shares.parquet")
    for table, names in ((quarterly, ("period_end", "available_date")),
                         (statements, ("filing_date",))):  # fmt: skip
        for name in names:
            table[name] = pd.to_datetime(table[name]).astype("datetime64[us]")
    rows_of: dict[str, list[Report]] = {}
    for row in quarterly.to_dict("records"):
        rows_of.setdefault(str(row["ticker"]), []).append(row)
    lost = {"ttm": 0, "no period": 0, "disagrees": 0, "same day": 0}

    # the later label of two of one day comes last, and stays
    told: dict[tuple[str, pd.Timestamp, bool], Report] = {}
    for row in statements.sort_values("period").to_dict("records"):
        label, ticker = str(row["period"]), str(row["ticker"])
        if label.startswith("TTM"):
            lost["ttm"] += 1
            continue
        own = rows_of.get(ticker, [])
        same_day = [q for q in own if q["available_date"] == row["filing_date"]]
        near = [q for q in own if 8 <= (row["filing_date"] - q["period_end"]).days <= 100]
        if not same_day and not near:
            lost["no period"] += 1
            continue
        row["row"] = max(same_day or near, key=lambda q: q["period_end"])
        row["period_end"], row["same_day"] = row["row"]["period_end"], bool(same_day)
        key = (ticker, row["filing_date"], label.startswith("FY"))
        lost["same day"] += key in told
        told[key] = row

    reports: list[Report] = []
    quarters_of: dict[tuple[str, pd.Timestamp], list[Report]] = {}
    for (ticker, _, year), row in told.items():
        if not year:
            quarters_of.setdefault((ticker, row["period_end"]), []).append(row)
    for row in quarterly.to_dict("records"):
        said = [
            q
            for q in quarters_of.get((row["ticker"], row["period_end"]), [])
            if q["filing_date"] <= row["available_date"]
        ]
        latest = max(said, key=lambda q: q["filing_date"]) if said else None
        today = latest is not None and latest["filing_date"] == row["available_date"]
        reports.append({
            "symbol": row["ticker"], "period_end": row["period_end"], "period_type": "quarter",
            "available_at": row["available_date"],
            **{name: row[name] for name in ("net_income", "total_assets", "equity",
                                            "free_cash_flow")},
            "revenue": latest["revenue"] if latest else NAN,
            "shares_outstanding": latest["shares_outstanding"] if latest and today else NAN,
        })  # fmt: skip
    for (ticker, _, year), row in told.items():
        report = {
            "symbol": ticker, "period_end": row["period_end"],
            "period_type": "year" if year else "quarter",
            "available_at": row["filing_date"], "revenue": row["revenue"],
            "shares_outstanding": row["shares_outstanding"],
        }  # fmt: skip
        if not year:
            if row["same_day"]:
                continue  # told with its quarterly row
            report["net_income"] = row["net_income"]
            filed = row["row"]
            if filed["available_date"] <= row["filing_date"]:
                if not same(filed["net_income"], row["net_income"]):
                    lost["disagrees"] += 1
                    continue
                for name in ("total_assets", "equity", "free_cash_flow"):
                    report[name] = filed[name]
        reports.append(report)
    found = pd.DataFrame(reports).reindex(
        columns=["symbol", "period_end", "period_type", "available_at", "updated_at", *FIGURES]
    )
    found["available_at"] = end_of_day(found["available_at"]).astype("datetime64[us]")
    found["updated_at"] = found["updated_at"].astype("datetime64[us]")
    return found, lost


def same(a: float, b: float) -> bool:
    """Equal, or both unknown."""
    return a == b or (np.isnan(a) and np.isnan(b))


def contract_reports(folder: Path) -> pd.DataFrame:
    """Reports of a folder in the shape of the raw contract."""
    found = pd.read_parquet(folder / "fundamentals.parquet")
    found["symbol"] = spelled(found["symbol"])
    for name in ("period_end", "available_at", "updated_at"):
        found[name] = pd.to_datetime(found[name]).astype("datetime64[us]")
    # no publication time: 75 days after the period, at midnight
    found["available_at"] = found["available_at"].fillna(
        found["period_end"] + pd.Timedelta(days=75)
    )
    return found[["symbol", "period_end", "period_type", "available_at", "updated_at", *FIGURES]]


def spelled(symbols: pd.Series) -> pd.Series:
    """Symbols in the one spelling of the models."""
    return symbols.str.strip().str.upper().str.removesuffix(".AX").astype(str)


def us_raw(folder: Path) -> RawTables:
    """The price side of the US set, as the files have it."""
    prices = pd.read_parquet(folder / "prices.parquet").rename(columns={"date": "trade_date"})
    prices["trade_date"] = pd.to_datetime(prices["trade_date"]).astype("datetime64[us]")
    prices["symbol"] = prices["symbol"].astype(str)
    prices["available_at"] = prices["trade_date"]
    listed = pd.read_csv(folder / "constituents.csv")
    nothing, text = pd.Series(dtype="datetime64[us]"), pd.Series(dtype=str)
    return RawTables(
        prices=prices.drop(columns="adj_close"),
        directory=pd.DataFrame({"symbol": text, "snapshot_date": nothing, "available_at": nothing,
                                "market_cap": pd.Series(dtype=float), "sector": text}),
        securities=pd.DataFrame({"symbol": listed["Symbol"].astype(str), "kind": "equity",
                                 "delisted_on": pd.NaT, "delisting_available_at": pd.NaT}),
        symbol_changes=pd.DataFrame({"old_symbol": text, "new_symbol": text,
                                     "effective_on": nothing}),
        corporate_actions=pd.DataFrame({"symbol": text, "ex_date": nothing, "action": text,
                                        "ratio": pd.Series(dtype=float), "available_at": nothing}),
        index_levels=pd.DataFrame({"trade_date": nothing, "close": pd.Series(dtype=float)}),
        fundamentals=no_reports(),
    )  # fmt: skip


def contract_raw(folder: Path) -> RawTables:
    """The price side of a folder in the shape of the raw contract."""
    names = ("prices", "directory", "securities", "symbol_changes", "corporate_actions",
             "index_levels")  # fmt: skip
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}
    for table in tables.values():
        for name in table.columns:
            if name.endswith("symbol"):
                table[name] = spelled(table[name])
            elif name.endswith(("_date", "_on", "_at")):
                table[name] = pd.to_datetime(table[name]).astype("datetime64[us]")
    prices = tables["prices"].sort_values(["symbol", "trade_date", "available_at"])
    tables["prices"] = prices.drop_duplicates(["symbol", "trade_date"], keep="last")
    # the latest version of a snapshot
    directory = tables["directory"].sort_values(["symbol", "snapshot_date", "available_at"])
    tables["directory"] = directory.drop_duplicates(["symbol", "snapshot_date"], keep="last")
    return RawTables(**tables, fundamentals=no_reports())


def no_reports() -> pd.DataFrame:
    """The grid's own market cap is the directory's; what comes from reports is computed here."""
    nothing, text = pd.Series(dtype="datetime64[us]"), pd.Series(dtype=str)
    return pd.DataFrame(
        {"symbol": text, "period_end": nothing, "period_type": text, "available_at": nothing,
         "updated_at": nothing, "market_cap": pd.Series(dtype=float)}
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Share counts


@dataclass
class Count:
    """A share count filed, the figures known beside it, and what became of it."""

    filed_at: pd.Timestamp
    period_end: pd.Timestamp
    filed: float
    assets: float
    equity: float
    revenue: float
    close: float
    value: float = NAN  # in its own unit
    split: float = 1.0  # product of the splits up to this filing
    aligned: float = NAN
    reason: str = ""

    @property
    def money_like(self) -> bool:
        """Near enough to equity to be it, with or without the minorities."""
        return 0.6 * self.equity <= self.filed <= 1.65 * self.equity

    def assets_a_share(self, shares: float, market: Market) -> float:
        """The scale of a count; where quotes are as traded, by the price instead."""
        if not market.split_adjusted and self.close > 0:
            return 60 * self.assets / (shares * self.close)
        return self.assets / shares

    def in_scale(self, shares: float, market: Market) -> bool:
        """A share has a plausible part of the assets."""
        priced = not market.split_adjusted and self.close > 0
        least = 0.5 if priced or market.split_adjusted else 0.001
        return np.isnan(self.assets) or least <= self.assets_a_share(shares, market) <= 5000


def growth(now: float, then: float) -> float:
    """ln(now / then), unknown unless both are positive."""
    return float(np.log(now / then)) if now > 0 and then > 0 else NAN


def share_counts(
    reports: pd.DataFrame, bars: pd.DataFrame, rulings: pd.DataFrame, market: Market
) -> list[Count]:
    """Every count of one security in order of filing, judged; `bars` are its traded rows."""
    counts = filed_counts(reports, bars)
    latest_end = pd.Timestamp.min
    walked = []
    for count in counts:
        day = count.filed_at.normalize()
        ruled = (rulings["filed_from"] <= day) & (day < rulings["filed_to"])
        if count.filed <= 0:
            count.reason = "not positive"
        elif abs(count.filed - count.equity) < 0.01 * count.equity:
            count.reason = "equals equity"
        elif ruled.any():
            count.reason = "ruled out"
        elif count.period_end < latest_end:
            count.reason = "older period"
        else:
            walked.append(count)
        latest_end = max(latest_end, count.period_end)
    walk(walked, bars, market)

    # every filing has the basis of its day, also one whose own count is of no use
    basis, splits = 1.0, {id(count): count.split for count in walked}
    for count in counts:
        basis = count.split = splits.get(id(count), basis)
    newest = bars["trade_date"].max()
    today = 1.0
    for count in counts:
        if count.filed_at.normalize() <= newest:
            today = count.split
    for count in counts:
        if count.reason:
            continue
        count.aligned = count.value
        if market.split_adjusted:
            count.aligned *= today / count.split
        count.reason = implausible(count)
    return counts


def filed_counts(reports: pd.DataFrame, bars: pd.DataFrame) -> list[Count]:
    """One count a filing, with the figures of its period known by then."""
    order = {"quarter": 0, "half": 1, "ttm": 2, "year": 3}
    with_count = reports[reports["shares_outstanding"].notna()].copy()
    with_count["order"] = with_count["period_type"].map(order)
    with_count = with_count.sort_values(
        ["available_at", "period_end", "order"], ascending=[True, False, True]
    )
    dates, closes = bars["trade_date"].to_numpy(), bars["close"].to_numpy()
    decided = bars["decision_at"].to_numpy()
    revisions = in_revision_order(reports).to_dict("records")
    found = []
    for row in with_count.drop_duplicates("available_at").itertuples():
        of = {
            row_of["period_type"]: row_of
            for row_of in revisions
            if row_of["period_end"] == row.period_end and row_of["available_at"] <= row.available_at
        }

        def figure(name: str, times: dict[str, float], of: dict = of) -> float:
            return first(of[kind][name] * k for kind, k in times.items() if kind in of)

        level = {"quarter": 1.0, "half": 1.0, "year": 1.0, "ttm": 1.0}
        a_year = {"quarter": 4.0, "half": 2.0, "year": 1.0, "ttm": 1.0}
        day = row.available_at.normalize()
        usable = (decided <= row.available_at.to_datetime64()) & (
            dates >= (day - pd.Timedelta(days=10)).to_datetime64()
        )
        at = np.flatnonzero(usable)
        found.append(
            Count(
                filed_at=row.available_at,
                period_end=row.period_end,
                filed=float(row.shares_outstanding),
                assets=figure("total_assets", level),
                equity=figure("equity", level),
                revenue=figure("revenue", a_year),
                close=float(closes[at[-1]]) if len(at) else NAN,
            )
        )
    return found


def in_revision_order(reports: pd.DataFrame) -> pd.DataFrame:
    """Oldest revision first: by knowledge time, then by the vendor's own, unknown ones first."""
    return reports.sort_values(["available_at", "updated_at"], na_position="first", kind="stable")


def first(values: Iterable[float]) -> float:
    """The first known one."""
    return next((float(value) for value in values if not np.isnan(value)), NAN)


def walk(counts: Sequence[Count], bars: pd.DataFrame, market: Market) -> None:
    """Accept counts one after the other against the latest accepted; in place."""
    last: Count | None = None
    seen: list[tuple[float, bool]] = []  # value in its unit, money-like
    for place, count in enumerate(counts):
        following = counts[place + 1].filed if place + 1 < len(counts) else NAN
        count.reason = "unexplained jump"
        count.split = last.split if last is not None else 1.0
        value, accepted, split = count.filed, False, 1.0
        if last is not None and abs(np.log10(value / last.value)) >= 2.5:
            value /= 1000.0 ** np.round(np.log10(value / last.value) / 3)
            known = not np.isnan(count.assets)
            if known and count.in_scale(count.filed, market) and not count.in_scale(value, market):
                last, value = None, count.filed  # the level was the wrong one
        new_level = True
        if last is None:
            if not count.in_scale(value, market):
                if count.assets > 0:
                    while count.assets_a_share(value, market) >= 2000:
                        value *= 1000
                    while count.assets_a_share(value, market) < 2:
                        value /= 1000
                accepted = bool(seen) and abs(np.log(value / seen[-1][0])) <= 0.05
                accepted = accepted and not count.money_like
            else:
                accepted = not count.money_like
        else:
            again = bool(seen) and abs(np.log(value / seen[-1][0])) <= 0.05
            accepted, split, new_level = judged(count, value, last, following, again, bars, market)
            if not count.money_like and len(seen) >= 2:
                steps = (value, seen[-1][0], seen[-2][0])
                third = all(abs(np.log(a / b)) <= 0.05 for a, b in itertools.pairwise(steps))
                accepted, new_level = accepted or third, new_level or third
        seen.append((value, count.money_like))
        if accepted:
            count.value, count.reason = value, ""
        if accepted and new_level:
            count.split *= split
            last = count


def judged(
    count: Count,
    value: float,
    last: Count,
    following: float,
    again: bool,
    bars: pd.DataFrame,
    market: Market,
) -> tuple[bool, float, bool]:
    """Accepted or not, the split that explains the step, and whether the next one confirms it."""
    d = float(np.log(value / last.value))
    if -0.35 <= d <= 0.35:
        return True, 1.0, True
    steps = [growth(count.assets, last.assets), growth(count.equity, last.equity)]
    if np.isnan(steps).all():
        steps = [growth(count.revenue, last.revenue)]
    along = [np.sign(d) * step for step in steps if not np.isnan(step)]
    moved = bool(along) and max(along) >= abs(d) / 2
    if moved:
        return not count.money_like, 1.0, True
    sizes = CUSTOMARY[(CUSTOMARY > 1) & (CUSTOMARY <= 50)]
    distance = np.abs(np.log(sizes) - abs(d))
    at = int(np.argmin(distance))
    agrees = True
    if not np.isnan(following):
        scale = np.log10(following / value)
        agrees = bool(abs(scale - 3 * np.round(scale / 3)) <= 0.11)
    # ten times is also what a slipped decimal point makes: believed the second time
    believed = sizes[at] != 10 or again
    if distance[at] <= 0.05 and believed and fractions(last.filed_at, bars, market):
        return (
            True,
            (float(sizes[at]) if d > 0 else 1 / float(sizes[at])) if agrees else 1.0,
            agrees,
        )
    return False, 1.0, False


def fractions(filed_at: pd.Timestamp, bars: pd.DataFrame, market: Market) -> bool:
    """Whether the closes before a filing were divided by a later split."""
    if not market.split_adjusted:
        return True
    day = filed_at.normalize()
    dates = bars["trade_date"]
    before = bars.loc[(dates <= day) & (dates > day - pd.Timedelta(days=45)), "close"]
    cents = before * 100
    # vendors keep prices in single precision
    whole = np.abs(cents - cents.round()) < before * 1e-5
    return len(before) >= 10 and int(whole.sum()) < 0.95 * len(before)


def implausible(count: Count) -> str:
    """Why the market value that a count implies cannot be, or nothing."""
    value = count.aligned * count.close
    if np.isnan(value):
        return ""
    high, low = [], []
    if not np.isnan(count.assets):
        high.append(value > (5 if count.revenue > 0 else 15) * count.assets)
        low.append(value < 0.02 * count.assets)
    if not np.isnan(count.revenue):
        high.append(value > 100 * count.revenue)
        low.append(value < 0.02 * count.revenue)
    if not np.isnan(count.equity):
        high.append(value > 30 * count.equity)
        low.append(value < 0.02 * count.equity)
    if high and all(high):
        return "implied market value too high"
    if low and all(low):
        return "implied market value too low"
    return ""


# --------------------------------------------------------------------------------------------------
# Ranges of knowledge time


@dataclass
class Known:
    """The latest revision of each period end and type of one security."""

    rows: dict[pd.Timestamp, dict[str, Report]] = field(default_factory=dict)

    def add(self, report: Report) -> None:
        """A later revision replaces the earlier one."""
        self.rows.setdefault(report["period_end"], {})[str(report["period_type"])] = report

    def best(self, end: pd.Timestamp) -> Report:
        """Of the reports of a period end the one that counts."""
        return min(
            self.rows[end].values(),
            key=lambda row: (
                -row["available_at"].value,
                pd.isna(row["updated_at"]),
                0 if pd.isna(row["updated_at"]) else -row["updated_at"].value,
                TYPES.index(str(row["period_type"])),
            ),
        )

    def figure(self, end: pd.Timestamp, kind: str, name: str) -> float:
        """A figure of a report, unknown where there is no such report."""
        row = self.rows[end].get(kind)
        return NAN if row is None else float(row[name])


def twelve_months(known: Known, ends: Sequence[pd.Timestamp], name: str) -> list[float]:
    """A flow over the twelve months to each period end."""
    rows = {kind: [known.figure(end, kind, name) for end in ends] for kind in TYPES}
    days = [0, *((b - a).days for a, b in itertools.pairwise(ends))]
    after_quarter = [70 <= gap <= 125 for gap in days]
    after_half = [150 <= gap <= 215 for gap in days]
    in_line = [i >= 3 and all(after_quarter[i - 2 : i + 1]) for i in range(len(ends))]
    quarter, half, result = list(rows["quarter"]), list(rows["half"]), []
    for i in range(len(ends)):
        if name == "revenue":
            others = rows["quarter"][i - 3 : i] if in_line[i] else []
            halves = rows["half"][i - 1 : i] if after_half[i] else []
            for parts in (others, halves):
                left = rows["year"][i] - sum(parts)
                sizes = [abs(part) for part in parts]
                if (
                    sizes
                    and not np.isnan([left, *sizes]).any()
                    and not (0.3 * min(sizes) <= left <= 2.5 * max(sizes))
                ):
                    rows["year"][i] = NAN  # a wrong year
        if np.isnan(quarter[i]) and in_line[i]:
            quarter[i] = rows["year"][i] - sum(rows["quarter"][i - 3 : i])
        if np.isnan(half[i]) and after_half[i]:
            half[i] = rows["year"][i] - rows["half"][i - 1]
        result.append(
            first([
                rows["ttm"][i],
                rows["year"][i],
                sum(quarter[i - 3 : i + 1]) if in_line[i] else NAN,
                half[i - 1] + half[i] if after_half[i] else NAN,
            ])
        )  # fmt: skip
    return result


def over(top: float, bottom: float) -> float:
    """A ratio, NULL unless its denominator is positive."""
    return top / bottom if bottom > 0 else NAN


def trend(values: Sequence[float]) -> float:
    """Slope of the last four values; NULL unless there are four."""
    if len(values) < 4:
        return NAN
    y = np.array(values[-4:])
    x = np.arange(4) - 1.5
    return float((x * y).sum() / (x**2).sum())


def year_before(ends: Sequence[pd.Timestamp]) -> int | None:
    """Place of the period end a year before the last one."""
    for back in (4, 2, 1):
        place = len(ends) - 1 - back
        if place >= 0 and 350 <= (ends[-1] - ends[place]).days <= 380:
            return place
    return None


def range_values(known: Known, counts: Sequence[Count], at: pd.Timestamp) -> Report:
    """What follows from the reports known at a time; `counts` are those filed by then."""
    ends = sorted(known.rows)
    version = known.best(ends[-1])
    out: Report = {f"vendor_{name}": version[name] for name in (*VENDOR, "free_cash_flow")}
    out |= {"valid_from": at, "fund_available_at": version["available_at"],
            "fund_period_end": ends[-1]}  # fmt: skip
    told = [known.best(end) for end in ends]
    for name, source in {"roe": "roe", "eps": "eps", "margin": "profit_margin"}.items():
        out[f"vendor_{name}_trend_4"] = trend([row[source] for row in told])

    ends = ends[-PERIODS:]
    income, revenue, cash = (twelve_months(known, ends, name) for name in FLOWS)
    equity = [
        first(known.figure(end, kind, "equity") for kind in ("quarter", "half", "year", "ttm"))
        for end in ends
    ]
    # per share in the basis of the version's own filing
    basis = 1.0
    shares = dict.fromkeys(ends, NAN)
    aligned = NAN
    for count in counts:
        if count.filed_at <= version["available_at"]:
            basis = count.split
    for count in counts:
        if not count.reason and count.period_end in shares:
            shares[count.period_end] = count.value * basis / count.split
            if count.period_end == ends[-1]:
                aligned = count.aligned
    eps = [income[i] / shares[end] for i, end in enumerate(ends)]
    roe = [over(income[i], equity[i]) for i in range(len(ends))]
    margin = [over(income[i], revenue[i]) for i in range(len(ends))]
    ago = year_before(ends)
    out |= {
        "net_income": income[-1], "revenue": revenue[-1], "cash": cash[-1], "equity": equity[-1],
        "aligned": aligned, "eps": eps[-1], "roe": roe[-1], "profit_margin": margin[-1],
        "revenue_growth_yoy": NAN, "eps_growth": NAN,
        "roe_trend_4": trend(roe), "eps_trend_4": trend(eps), "margin_trend_4": trend(margin),
    }  # fmt: skip
    if ago is not None:
        out["revenue_growth_yoy"] = over(revenue[-1], revenue[ago]) - 1
        if eps[ago] != 0:
            out["eps_growth"] = (eps[-1] - eps[ago]) / abs(eps[ago])
    return out


def knowledge_ranges(reports: pd.DataFrame, counts: Sequence[Count]) -> pd.DataFrame:
    """One row per time at which a security published anything."""
    known, out = Known(), []
    for at, published in in_revision_order(reports).groupby("available_at"):
        for report in published.to_dict("records"):
            known.add(report)
        by_then = [count for count in counts if count.filed_at <= at]
        out.append(range_values(known, by_then, pd.Timestamp(at)))
    return pd.DataFrame(out)


# --------------------------------------------------------------------------------------------------
# Rows of the grid


def read_rulings(path: Path) -> pd.DataFrame:
    """Counts ruled out by a person."""
    rulings = pd.read_csv(path)
    for name in ("filed_from", "filed_to"):
        rulings[name] = pd.to_datetime(rulings[name]).astype("datetime64[us]")
    return rulings


@dataclass
class Fundamentals:
    """What the recomputation found."""

    panel: pd.DataFrame
    ranges: pd.DataFrame
    counts: dict[str, list[Count]]


def market_grid(raw: RawTables, market: Market) -> tuple[Recomputed, pd.DataFrame, Securities]:
    """The grid with capital factor and the session of the latest unexplained break."""
    sessions = market_sessions(raw.prices, market.calendar)
    securities = Securities(raw.symbol_changes)
    ends = delisting_ends(raw, securities, sessions)
    traded = traded_rows(raw, securities, sessions, ends)
    breaks = price_breaks(raw, securities, sessions, traded, market.ticks)
    panel = grid(traded, sessions, ends, raw, securities)
    panel["factor"], panel["blocked"] = 1.0, -1
    panel["spell_start"] = panel.groupby(["security_id", "spell"])["session_idx"].transform("min")
    parts = dict(list(panel.groupby(["security_id", "spell"])))
    for key, own in breaks.groupby(["security_id", "spell"]) if len(breaks) else ():
        part = parts[key]
        spell = Spell(part, own, np.full(len(sessions), np.nan))
        start = part["session_idx"].iloc[0]
        panel.loc[part.index, "factor"] = spell.factor
        blocked = np.where(spell.blocked >= 0, spell.blocked + start, -1)
        panel.loc[part.index, "blocked"] = blocked
    return Recomputed(sessions, breaks, panel), traded, securities


def recompute_fundamentals(
    raw: RawTables,
    reports: pd.DataFrame,
    rulings: pd.DataFrame,
    market: Market,
    compared: Collection[int] | None = None,
) -> Fundamentals:
    """Every fundamental column of every row of the grid.

    Columns that compare securities only in the sessions `compared`; None: in all.
    """
    base, traded, securities = market_grid(raw, market)
    reports = reports.copy()
    reports["security_id"] = securities.assign(
        reports["symbol"], reports["available_at"].dt.normalize()
    )
    bars_of = dict(list(traded.groupby("security_id")))
    counts, parts = {}, []
    for security, own in reports.groupby("security_id"):
        bars = bars_of.get(security, traded.iloc[:0])
        ruled = rulings[rulings["symbol"] == security]
        counts[str(security)] = share_counts(own, bars, ruled, market)
        part = knowledge_ranges(own, counts[str(security)])
        parts.append(part.assign(security_id=security))
    ranges = pd.concat(parts, ignore_index=True)
    for name in ("valid_from", "fund_available_at", "fund_period_end"):
        ranges[name] = ranges[name].astype("datetime64[us]")
    panel = add_columns(base.panel, base.sessions, ranges, market)
    between_securities(panel, compared)
    return Fundamentals(panel, ranges, counts)


def add_columns(
    panel: pd.DataFrame, sessions: pd.DataFrame, ranges: pd.DataFrame, market: Market
) -> pd.DataFrame:
    """Columns of a row that need no other security."""
    decisions = sessions["decision_at"].to_numpy()
    ranges = ranges.assign(
        # the last session decided when the report came out
        usable=np.searchsorted(decisions, ranges["fund_available_at"].to_numpy(), side="right") - 1
    )
    panel = panel.rename(columns={"market_cap": "directory_cap"}).drop(columns="sector")
    panel["decision_at"] = panel["decision_at"].astype("datetime64[us]")
    rows = pd.merge_asof(
        panel.sort_values("decision_at"),
        ranges.sort_values("valid_from"),
        left_on="decision_at", right_on="valid_from", by="security_id",
        allow_exact_matches=False,
    )  # fmt: skip
    age = (rows["trade_date"] - rows["fund_available_at"].dt.normalize()).dt.days
    facts = [name for name in ranges.columns if name not in ("security_id", "usable")]
    rows.loc[~(age <= MAX_AGE_DAYS), facts] = np.nan
    rows["fund_age_days"] = age.where(age <= MAX_AGE_DAYS)
    counts = rows["fund_available_at"].notna()

    # shares today over shares at the report
    at = rows[["security_id", "session_idx", "spell", "factor"]].rename(
        columns={"session_idx": "usable", "factor": "factor_then"}
    )
    rows = rows.merge(at, on=["security_id", "usable", "spell"], how="left")
    q = rows["factor_then"].fillna(1.0) / rows["factor"]
    q = q.mask((rows["blocked"] >= 0) & (rows["blocked"] > rows["usable"]))

    close = rows["close"].astype(float)
    income, equity, cash = rows["net_income"], rows["equity"], rows["cash"]
    derived = counts & market.statements
    derived &= income.notna() | rows["revenue"].notna() | equity.notna()
    # a size needs a count alone
    shares = rows["aligned"].where(counts & market.statements)
    from_shares = shares * close / q
    cap_source = np.select(
        [rows["directory_cap"].notna(), from_shares.notna(), rows["vendor_market_cap"].notna()],
        ["directory", "statements", "vendor"],
        default="",
    )
    cap = rows["directory_cap"].fillna(from_shares).fillna(rows["vendor_market_cap"])
    # the company's size by its count, and where an unexplained break forbids that, by another
    value = from_shares.fillna(rows["directory_cap"]).fillna(rows["vendor_market_cap"])
    own = {
        "pe_ratio": (value / income).where(income > 0),
        "pb_ratio": (value / equity).where(equity > 0),
        "pe_inverse": divided(income, value),
        "book_to_price": divided(equity, value),
        "fcf_yield": divided(cash, value),
        "free_cash_flow": cash,
    }
    own |= {name: rows[name] for name in (
        "eps", "roe", "profit_margin", "revenue_growth_yoy", "eps_growth", "roe_trend_4",
        "eps_trend_4", "margin_trend_4")}  # fmt: skip
    told = {name: rows[f"vendor_{name}"] for name in own if f"vendor_{name}" in rows}
    told |= {
        "pe_inverse": pd.Series(
            np.where(
                told["eps"].notna(), divided(told["eps"] * q, close), divided(1, told["pe_ratio"])
            )
        ),
        "book_to_price": pd.Series(divided(1, told["pb_ratio"])),
        "fcf_yield": pd.Series(divided(told["free_cash_flow"], value)),
    }
    if market.statements:  # a statement's own figure is one quarter's or half's
        told |= {name: own[name] for name in ("free_cash_flow", "fcf_yield")}
    result = rows[["security_id", "session_idx", "symbol", "trade_date", "is_traded",
                   "is_in_universe", "fund_available_at", "fund_period_end", "fund_age_days",
                   "valid_from"]].copy()  # fmt: skip
    for name in own:
        result[name] = np.where(derived, own[name], told[name])
    for name in ALWAYS_VENDOR:
        result[name] = rows[f"vendor_{name}"]
    result["fundamentals_basis"] = np.where(derived, "statements", np.where(counts, "vendor", None))
    result["market_cap"] = cap
    result["market_cap_log"] = np.log(cap)
    result["market_cap_source"] = np.where(cap_source == "", None, cap_source)
    return result.sort_values(["security_id", "session_idx"]).reset_index(drop=True)


# --------------------------------------------------------------------------------------------------
# The session's cross-section


def zscore(values: pd.Series) -> pd.Series:
    """Winsorised z-score of the known values of a session."""
    known = values.dropna()
    if len(known) < MIN_MEMBERS:
        return known * np.nan
    low, high = np.quantile(known, [0.01, 0.99])
    clipped = known.clip(low, high)
    spread = clipped.std(ddof=1)
    return (clipped - clipped.mean()) / spread if spread > 0 else known * np.nan


def rank(values: pd.Series) -> pd.Series:
    """Rank in (0, 1) of the known values of a session."""
    known = values.dropna()
    return pd.Series((rankdata(known) - 0.5) / max(len(known), 1), index=known.index)


def between_securities(panel: pd.DataFrame, sessions: Collection[int] | None) -> None:
    """Add the columns that compare the securities of a session; in place."""
    member = panel["is_traded"] & panel["is_in_universe"]
    if sessions is not None:
        member &= panel["session_idx"].isin(list(sessions))
    inputs = ["pe_ratio", "pb_ratio", "pe_inverse", "roe", "current_ratio", "debt_to_equity",
              "profit_margin", "revenue_growth_yoy"]  # fmt: skip
    out = []
    for _, day in panel.loc[member, ["session_idx", *inputs]].groupby("session_idx"):
        z = {name: zscore(day[name]) for name in inputs[:6]}
        ranks = {name: rank(day[name]) for name in ("pe_inverse", "roe", "profit_margin",
                                                    "revenue_growth_yoy")}  # fmt: skip
        ranks["pb_ratio"] = rank(-day["pb_ratio"])
        columns = pd.DataFrame(index=day.index)
        for name in ("pe_ratio", "pb_ratio", "pe_inverse"):
            columns[f"{name}_zscore"] = z[name]
        for name, terms in {
            "financial_health_score": [z["roe"], z["current_ratio"], -z["debt_to_equity"]],
            "value_score": [ranks["pe_inverse"], ranks["pb_ratio"], ranks["roe"]],
            "quality_score": [ranks["roe"], ranks["profit_margin"], ranks["revenue_growth_yoy"]],
        }.items():
            table = pd.concat(terms, axis=1).reindex(day.index)
            columns[name] = table.mean(axis=1).where(table.notna().sum(axis=1) >= 2)
        out.append(columns)
    found = pd.concat(out)
    for name in BETWEEN:
        panel[name] = found[name].reindex(panel.index)
