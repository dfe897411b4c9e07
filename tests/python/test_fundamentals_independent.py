"""The warehouse's fundamental columns against their recomputation from the vendor's files.

Cells may differ by rounding: a relative 1e-9, 1e-6 for slopes. Provenance and NULLs must be the
same. Two invented markets run everywhere: one with the vendor's ratios as it comes, and one whose
ratios are derived, with every trouble in its reports. The real set compares 2,000 random cells of
each column; ASXW_REAL_US_WAREHOUSE names a warehouse of it that is built already.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from built_warehouse import Warehouse, build
from conftest import PROJECT
from independent_fundamentals import (
    ASX,
    BETWEEN,
    COLUMNS,
    US,
    Count,
    Fundamentals,
    Known,
    Market,
    contract_raw,
    contract_reports,
    fractions,
    implausible,
    read_rulings,
    recompute_fundamentals,
    trend,
    twelve_months,
    us_raw,
    us_reports,
    walk,
)
from test_features_independent import KEYS, dictionary, pair

RULINGS = PROJECT / "seeds" / "share_count_rulings.csv"
CELLS, SESSIONS = 2000, 100
FLOOR = 1e-12
# nothing is known of these on the real set: the statements have no debt, assets due or dividends
UNKNOWN_US = {"debt_to_equity", "current_ratio", "quick_ratio", "div_yield",
              "financial_health_score"}  # fmt: skip


def test_every_column_of_the_family_is_compared() -> None:
    path = PROJECT / "models" / "marts" / "features" / "fct_features_daily.yml"
    text = path.read_text(encoding="utf-8")
    names = [name for name in dictionary() if f"- name: {name}\n" in text]
    family = {name for name in names if "family: fundamental," in text.split(f"name: {name}\n")[1]
              .split("- name:")[0]}  # fmt: skip
    assert family <= set(COLUMNS) | set(BETWEEN)
    assert len(family) > 25


def read_columns(warehouse: Path) -> pd.DataFrame:
    """The panel's fundamental columns as the warehouse has them."""
    names = ", ".join([*KEYS, "symbol", "trade_date", "max_available_at", *COLUMNS, *BETWEEN])
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        return connection.execute(f"select {names} from marts.fct_features_daily").df()


def wrong_rows(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows on which warehouse and recomputation disagree about a column."""
    theirs, ours = rows[name], rows[f"{name}_ours"]
    wrong = theirs.isna() != ours.isna()
    both = theirs.notna() & ours.notna()
    if pd.api.types.is_numeric_dtype(theirs):
        a, b = theirs[both].astype(float), ours[both].astype(float)
        tolerance = 1e-6 if name.endswith("_trend_4") else 1e-9
        scale = np.maximum(a.abs(), b.abs())
        wrong[both] = (a - b).abs() > np.maximum(tolerance * scale, FLOOR)
    else:
        wrong[both] = theirs[both].astype(object) != ours[both].astype(object)
    return rows.loc[wrong, [*KEYS, "symbol", "trade_date", "fund_available_at", name,
                            f"{name}_ours"]]  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Invented markets: every cell


def stress(folder: Path) -> None:
    """Put what companies file at their worst into the reports of an invented market, in place."""
    rng = np.random.default_rng(23)
    path = folder / "fundamentals.parquet"
    reports = pd.read_parquet(path)
    for name in ("period_end", "available_at", "updated_at"):
        reports[name] = pd.to_datetime(reports[name]).astype("datetime64[us]")
    prices = pd.read_parquet(folder / "prices.parquet", columns=["symbol", "trade_date", "close"])
    days = pd.DatetimeIndex(np.sort(pd.to_datetime(prices["trade_date"]).unique()))
    closes = prices.groupby("symbol")["close"]
    usual_close, lowest = closes.median(), closes.min()
    codes = np.sort(reports["symbol"].unique())
    figures = ["net_income", "revenue", "equity", "total_assets", "free_cash_flow",
               "shares_outstanding", "eps", "roe", "profit_margin"]  # fmt: skip
    # companies with less than 50 cents of assets a share: their counts are for `cases`
    per_share = reports["total_assets"] / reports["shares_outstanding"]
    small = per_share.groupby(reports["symbol"]).median() < 0.6
    reports.loc[reports["symbol"].map(small), "shares_outstanding"] = np.nan

    # some companies report quarters, the fourth only inside the year
    quarterly = [code for code in codes if lowest.get(code, 0.0) > 0.1][::2]
    made = []
    for place, code in enumerate(quarterly):
        assets = float(10 ** rng.uniform(8, 10))
        shares = assets / max(2.0, 1.5 * float(usual_close.get(code, 1.0)))
        ends = pd.date_range(days[0] - pd.Timedelta(days=900), days[-1], freq="QE")
        for number, end in enumerate(ends):
            assets *= float(np.exp(rng.normal(0.01, 0.05)))
            shares *= float(np.exp(rng.normal(0.0, 0.02)))
            if place == 2 and number == 9:
                shares *= 4  # a split
            if place == 3 and number == 9:
                shares *= 2.2  # a merger
                assets *= 2.1
            last = number % 4 == 3
            report = {
                "symbol": code, "period_end": end, "period_type": "quarter",
                "available_at": end + pd.Timedelta(days=int(rng.integers(30, 60)), hours=17),
                "net_income": assets * rng.normal(0.01, 0.01), "revenue": assets * 0.1,
                "equity": assets * rng.normal(0.4, 0.2), "total_assets": assets,
                "free_cash_flow": assets * 0.01, "shares_outstanding": shares,
            }  # fmt: skip
            year = report | {"period_type": "year", "revenue": assets * 0.41,
                             "net_income": assets * 0.05, "free_cash_flow": np.nan}  # fmt: skip
            if last:
                report |= {"revenue": np.nan, "net_income": np.nan, "free_cash_flow": np.nan}
                if place % 2:
                    year["shares_outstanding"] = np.nan
                else:
                    report["shares_outstanding"] = np.nan
                made.append(year)
            made.append(report)
            if rng.random() < 0.15:  # restated after the next quarter is out
                later = report["available_at"] + pd.Timedelta(days=int(rng.integers(60, 140)))
                made.append(report | {"available_at": later, "updated_at": later,
                                      "net_income": report["net_income"] * 1.3})  # fmt: skip
            if place == 4 and number == 5:
                made.append(report | {"period_type": "ttm", "net_income": assets * 0.04,
                                      "revenue": assets * 0.39})  # fmt: skip
    reports = reports[~reports["symbol"].isin(quarterly)]
    reports = pd.concat([reports, pd.DataFrame(made)], ignore_index=True)

    # figures that are missing, and counts in the wrong unit, of the wrong thing, or of nothing
    for name in figures:
        reports.loc[rng.random(len(reports)) < 0.03, name] = np.nan
    for factor, share in ((1000.0, 0.02), (1e-6, 0.02), (-1.0, 0.01), (7.3, 0.02)):
        # the first counts set the level: see `cases`
        hit = (rng.random(len(reports)) < share) & (reports["available_at"] > days[0])
        reports.loc[hit, "shares_outstanding"] *= factor
    hit = rng.random(len(reports)) < 0.02
    reports.loc[hit, "shares_outstanding"] = reports.loc[hit, "equity"]
    thousands = (reports["symbol"] == quarterly[0]) & (reports["available_at"] > days[0])
    reports.loc[thousands, "shares_outstanding"] /= 1000

    # an old period restated after everything else; companies that fall silent
    silent = reports["symbol"].isin(codes[1::8]) & (reports["available_at"] > days[60])
    reports = reports[~silent]
    known = reports[reports["available_at"] < days[-40]]
    old = known.sort_values("period_end").groupby("symbol").nth(-3)
    restated = old.assign(
        available_at=days[-30] + pd.Timedelta("10:00:00"), updated_at=days[-30], eps=old["eps"] * 2
    )
    # of two revisions of one moment the longer period counts
    twice = known.groupby("symbol").tail(1).iloc[::2]
    twice = twice[twice["period_type"] == "half"].assign(period_type="year")
    reports = pd.concat([reports, restated, twice], ignore_index=True)
    key = ["symbol", "period_end", "period_type", "available_at"]
    reports = reports.drop_duplicates(key).reset_index(drop=True)
    reports["period_end"] = reports["period_end"].dt.date
    reports.to_parquet(path, index=False)


SETTINGS = {
    "vendor": ASX,
    "statements": Market(ASX.calendar, ASX.ticks, ASX.split_adjusted, statements=True),
}


@pytest.fixture(scope="session", params=list(SETTINGS))
def invented(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Path]:
    """Which ratios, the folder of files and the warehouse of an invented market."""
    name = str(request.param)
    folder = tmp_path_factory.mktemp(name)
    market = folder / "market"
    size = ["--symbols", "100", "--sessions", "420"]
    Warehouse(folder).run("asxw", "sample-market", *size, str(market))
    if name == "statements":
        stress(market)
    return (
        name,
        market,
        build(folder, market, "sample", {"fundamental_ratios": name}, "+fct_features_daily"),
    )


@pytest.fixture(scope="session")
def invented_ours(invented: tuple[str, Path, Path]) -> Fundamentals:
    """The invented market recomputed from its files."""
    name, folder, _ = invented
    return recompute_fundamentals(
        contract_raw(folder), contract_reports(folder), read_rulings(RULINGS), SETTINGS[name]
    )


@pytest.fixture(scope="session")
def invented_pair(
    invented: tuple[str, Path, Path], invented_ours: Fundamentals
) -> tuple[str, pd.DataFrame]:
    """Warehouse and recomputation side by side."""
    return invented[0], pair(read_columns(invented[2]), invented_ours.panel)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*COLUMNS, *BETWEEN])
def test_invented_market_column(invented_pair: tuple[str, pd.DataFrame], name: str) -> None:
    ratios, rows = invented_pair
    wrong = wrong_rows(rows, name)
    assert wrong.empty, f"{len(wrong)} of {len(rows)} rows\n{wrong.head(10)}"
    # a column of NULLs agrees with anything
    unknown = {"financial_health_score"} if ratios == "statements" else set()
    assert name in unknown or rows[name].notna().sum() > 1000


@pytest.mark.slow
def test_invented_reports_are_dated_and_stale(invented_pair: tuple[str, pd.DataFrame]) -> None:
    _, rows = invented_pair
    told = rows[rows["fund_available_at"].notna()]
    # what a row knows is at least as new as its report, and older than its decision
    assert (told["max_available_at"] >= told["valid_from"]).all()
    assert (told["fund_age_days"] <= 400).all()


@pytest.mark.slow
def test_invented_share_counts_meet_every_rule(
    invented: tuple[str, Path, Path], invented_ours: Fundamentals
) -> None:
    if invented[0] == "vendor":
        pytest.skip("its counts are clean")
    reasons = {count.reason for counts in invented_ours.counts.values() for count in counts}
    assert reasons >= {"", "not positive", "equals equity", "older period", "unexplained jump"}
    assert any(count.split != 1 for counts in invented_ours.counts.values() for count in counts)


# --------------------------------------------------------------------------------------------------
# Cases the two agree on, or did, and that are nevertheless wrong


def case(symbol: str, known_at: pd.Timestamp, period_end: str, **figures: object) -> dict:
    """A report of a company in `cases`."""
    return {"symbol": symbol, "period_end": pd.Timestamp(period_end).date(),
            "period_type": "half", "available_at": known_at} | figures  # fmt: skip


@dataclass
class Cases:
    """A warehouse of made-up companies, its sessions, and where in it things happen."""

    warehouse: Path
    days: pd.DatetimeIndex

    def cell(self, symbol: str, day: int, name: str) -> float | None:
        """One cell of the panel."""
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            (value,) = connection.execute(
                f"select {name} from marts.fct_features_daily where symbol = ? and trade_date = ?",
                [symbol, self.days[day]],
            ).fetchone()
        return value

    def counts(self, symbol: str) -> list[tuple]:
        """Shares as repaired, and why not, in order of filing."""
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            return connection.execute(
                """select shares, rejected_because from intermediate.int_share_counts
                where symbol = ? order by available_at""",
                [symbol],
            ).fetchall()


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    """Companies at a steady 10.00, SPLT and EVES consolidated 10:1 on day 40, PNNY at 0.08."""
    folder = tmp_path_factory.mktemp("cases")
    market = folder / "market"
    size = ["--symbols", "8", "--sessions", "100"]
    Warehouse(folder).run("asxw", "sample-market", *size, str(market))
    bars = pd.read_parquet(market / "prices.parquet")
    days = pd.DatetimeIndex(np.sort(pd.to_datetime(bars["trade_date"]).unique()))
    made = []
    for symbol in ("SPLT", "PNNY", "UNIT", "LIVE", "HIST", "TINY", "SIZE", "LVL0", "EVES"):
        close = np.full(len(days), 0.08 if symbol == "PNNY" else 10.0)
        if symbol in ("SPLT", "EVES"):
            close[:40] = 1.0
        made.append(pd.DataFrame({
            "symbol": symbol, "trade_date": days.date, "open": close, "high": close, "low": close,
            "close": close, "volume": 1000, "available_at": days + pd.Timedelta("16:15:00"),
        }))  # fmt: skip
    pd.concat([bars, *made]).reindex(columns=bars.columns).to_parquet(
        market / "prices.parquet", index=False
    )
    actions = pd.read_parquet(market / "corporate_actions.parquet")
    split = {"ex_date": days[40].date(), "action": "split", "ratio": 0.1, "available_at": days[20]}
    splits = pd.DataFrame([{"symbol": symbol} | split for symbol in ("SPLT", "EVES")])
    pd.concat([actions, splits]).reindex(columns=actions.columns).to_parquet(
        market / "corporate_actions.parquet", index=False
    )

    at = [day + pd.Timedelta("09:00:00") for day in days]
    before = at[0] - pd.Timedelta(days=120)
    big = {"total_assets": 1.2e11, "equity": 2e9, "revenue": 9e10, "net_income": 1e9}
    company = {"total_assets": 1e9, "equity": 4e8, "revenue": 5e8, "net_income": 3e7}
    small = {"total_assets": 1.5e8, "equity": 8e7, "revenue": 4e7, "net_income": 3e6}
    first, second = "2025-06-30", "2025-12-31"
    reports = [
        # eps before the consolidation; the half before it is restated after
        case("SPLT", at[2], first, eps=0.09),
        case("SPLT", at[10], second, eps=0.1),
        case("SPLT", at[60], first, eps=0.08),
        # published after the last close before the consolidation
        case("EVES", days[39] + pd.Timedelta("17:00:00"), second, eps=0.1),
        # 1.9 bn shares at 8 cents, 8 cents of assets each
        case("PNNY", before, first, shares_outstanding=1.9e9, **small),
        case("PNNY", at[5], second, shares_outstanding=1.9e9, **small),
        # in thousands from the first filing on: the second confirms the first
        case("UNIT", before, first, shares_outstanding=1.0e4, **company),
        case("UNIT", at[5], second, shares_outstanding=1.0e4, **company),
        # the same until day 50, when HIST files again
        *(case(symbol, before, first, shares_outstanding=7.71e8, **big)
          for symbol in ("LIVE", "HIST")),
        *(case(symbol, at[5], second, shares_outstanding=7.71e9, **big)
          for symbol in ("LIVE", "HIST")),
        case("HIST", at[50], "2026-03-01", shares_outstanding=7.8e8, **big),
        # worth 1.5 % of its assets and of its revenue, equity unknown
        case("TINY", at[5], second, shares_outstanding=1.5e6, total_assets=1e9, revenue=5e8),
        # a first count in millions, assets unknown, then counts as they should be
        case("LVL0", before, first, shares_outstanding=10.0),
        case("LVL0", at[5], second, shares_outstanding=1.0e7, **company),
        case("LVL0", at[30], "2026-01-31", shares_outstanding=1.0e7, **company),
        # a count and nothing else
        case("SIZE", at[5], second, shares_outstanding=2e7),
    ]  # fmt: skip
    shape = pd.read_parquet(market / "fundamentals.parquet")
    pd.DataFrame(reports).reindex(columns=shape.columns).to_parquet(
        market / "fundamentals.parquet", index=False
    )
    variables: dict[str, object] = {"fundamental_ratios": "statements"}
    return Cases(build(folder, market, "sample", variables, "+fct_features_daily"), days)


@pytest.mark.slow
def test_restating_an_old_period_leaves_the_share_basis_of_the_report(cases: Cases) -> None:
    # 0.10 a share before 10:1 is 1.00 after it, at 10.00: an earnings yield of 10 % throughout
    assert cases.cell("SPLT", 30, "pe_inverse") == pytest.approx(0.1)
    assert cases.cell("SPLT", 50, "pe_inverse") == pytest.approx(0.1)
    assert cases.cell("SPLT", 70, "pe_inverse") == pytest.approx(0.1)


@pytest.mark.slow
def test_a_report_of_the_eve_is_in_the_shares_of_the_eve(cases: Cases) -> None:
    assert cases.cell("EVES", 50, "pe_inverse") == pytest.approx(0.1)


@pytest.mark.slow
def test_counts_of_penny_stocks_are_not_divided(cases: Cases) -> None:
    assert cases.counts("PNNY") == [(1.9e9, None), (1.9e9, None)]
    assert cases.cell("PNNY", 20, "market_cap") == pytest.approx(1.9e9 * 0.08)


@pytest.mark.slow
def test_second_of_two_counts_in_thousands_is_accepted(cases: Cases) -> None:
    assert cases.counts("UNIT")[1] == (1.0e7, None)


@pytest.mark.slow
def test_a_later_filing_changes_nothing_before_it(cases: Cases) -> None:
    for day in (3, 20, 49):
        assert cases.cell("LIVE", day, "market_cap") == cases.cell("HIST", day, "market_cap")


@pytest.mark.slow
def test_a_wrong_first_count_does_not_rule_the_later_ones(cases: Cases) -> None:
    assert cases.counts("LVL0")[-1] == (1.0e7, None)


@pytest.mark.slow
def test_unknown_figures_are_left_out_of_the_check(cases: Cases) -> None:
    assert cases.counts("TINY") == [(None, "implied market value too low")]


@pytest.mark.slow
def test_size_needs_no_income_statement(cases: Cases) -> None:
    assert cases.cell("SIZE", 20, "market_cap") == pytest.approx(2e8)


# --------------------------------------------------------------------------------------------------
# The recomputation's own rules, on cases small enough to check by hand


def report(end: str, kind: str, known_at: str, **figures: float) -> dict[str, object]:
    """A report with a few figures, the rest unknown."""
    names = ("net_income", "revenue", "free_cash_flow", "equity")
    return dict.fromkeys(names, float("nan")) | figures | {
        "period_end": pd.Timestamp(end), "period_type": kind,
        "available_at": pd.Timestamp(known_at), "updated_at": pd.NaT,
    }  # fmt: skip


def test_fourth_quarter_is_the_year_less_three_quarters() -> None:
    # COST, docs/fundamentals.md: 152.703 less 35.069, 35.396 and 34.740 is 47.498
    known = Known()
    quarters = {"2018-11-25": 35.069, "2019-02-17": 35.396, "2019-05-12": 34.740}
    for end, revenue in quarters.items():
        known.add(report(end, "quarter", "2019-06-06", revenue=revenue))
    known.add(report("2019-09-01", "year", "2019-10-11", revenue=152.703))
    known.add(report("2019-11-24", "quarter", "2019-12-23", revenue=37.040))
    twelve = twelve_months(known, sorted(known.rows), "revenue")
    np.testing.assert_allclose(twelve[3:], [152.703, 152.703 - 35.069 + 37.040])
    assert np.isnan(twelve[:3]).all()


def test_trend_is_the_slope_of_four_values() -> None:
    values = [9.0, 1.0, 4.0, 2.0, 7.0]
    assert trend(values) == pytest.approx(np.polyfit(range(4), values[-4:], 1)[0])
    assert np.isnan(trend(values[:3]))
    assert np.isnan(trend([1.0, 2.0, float("nan"), 4.0]))


def counted(*filed: float, assets: float = 1e9, equity: float = 4e8) -> list[Count]:
    """Counts filed a quarter apart by a company that stays as it is."""
    return [
        Count(pd.Timestamp("2020-01-31") + pd.Timedelta(days=91 * i), pd.Timestamp("2019-12-31"),
              count, assets, equity, 5e8, 10.0)
        for i, count in enumerate(filed)
    ]  # fmt: skip


NO_BARS = pd.DataFrame({"trade_date": pd.Series(dtype="datetime64[us]"),
                        "close": pd.Series(dtype=float)})  # fmt: skip


def test_walk_repairs_units_and_finds_splits() -> None:
    counts = counted(1e7, 1.01e4, 4.04e7, 4.0e7)
    walk(counts, NO_BARS, ASX)
    assert [count.value for count in counts] == [1e7, 1.01e7, 4.04e7, 4.0e7]
    assert [count.split for count in counts] == [1, 1, 4, 4]


def test_walk_accepts_the_third_of_a_new_level() -> None:
    counts = counted(1e7, 1.7e7, 1.71e7, 1.72e7)
    walk(counts, NO_BARS, ASX)
    assert [count.reason == "" for count in counts] == [True, False, False, True]


def test_implausible_market_values() -> None:
    (count,) = counted(1e7)
    count.aligned, count.close = 1e7, 1.0
    assert implausible(count) == ""
    count.close = 1e4
    assert implausible(count) == "implied market value too high"
    count.close = 1e-3
    assert implausible(count) == "implied market value too low"


def test_whole_cents_were_not_divided() -> None:
    days = pd.bdate_range("2020-01-02", periods=20).astype("datetime64[us]")
    whole = pd.DataFrame({"trade_date": days, "close": np.float32(10 + np.arange(20) / 100)})
    whole["close"] = whole["close"].astype(float)
    divided = whole.assign(close=whole["close"] / 7)
    filed = pd.Timestamp("2020-02-03 23:59:59")
    assert not fractions(filed, whole, US)
    assert fractions(filed, divided, US)
    assert not fractions(filed, divided.head(9), US)


# --------------------------------------------------------------------------------------------------
# The real set


@pytest.fixture(scope="session")
def us_filings(us_folder: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    """Reports of the two filing files, and statements left out."""
    return us_reports(us_folder)


@pytest.fixture(scope="session")
def us_rows(
    us_folder: Path, us_warehouse: Path, us_filings: tuple[pd.DataFrame, dict[str, int]]
) -> pd.DataFrame:
    """Warehouse and recomputation side by side; the cross-section in a hundred sessions."""
    theirs = read_columns(us_warehouse)
    sessions = np.random.default_rng(41).choice(theirs["session_idx"].unique(), SESSIONS, False)
    ours = recompute_fundamentals(
        us_raw(us_folder), us_filings[0], read_rulings(RULINGS), US, set(sessions.tolist())
    )
    rows = pair(theirs, ours.panel)
    rows["compared"] = rows["session_idx"].isin(sessions)
    return rows


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", [*COLUMNS, *BETWEEN])
def test_real_market_column(us_rows: pd.DataFrame, name: str) -> None:
    rows = us_rows[us_rows["compared"]] if name in BETWEEN else us_rows
    known = rows[rows[name].notna() | rows[f"{name}_ours"].notna()]
    cells = rows.sample(CELLS, random_state=17)
    if name not in UNKNOWN_US:
        # NULL agrees with NULL easily: as many cells again that say something
        cells = pd.concat([cells, known.sample(min(CELLS, len(known)), random_state=18)])
        assert len(known) >= CELLS
    wrong = wrong_rows(cells, name)
    assert wrong.empty, f"{len(wrong)} of {len(cells)} cells\n{wrong.head(10)}"


@pytest.mark.real
@pytest.mark.slow
def test_real_reports_of_the_loader(
    us_warehouse: Path, us_filings: tuple[pd.DataFrame, dict[str, int]]
) -> None:
    """Every report of the files is in the warehouse with the same figures, and no other."""
    names = ["net_income", "revenue", "free_cash_flow", "equity", "total_assets",
             "shares_outstanding"]  # fmt: skip
    key = ["symbol", "period_end", "period_type", "available_at"]
    ours, lost = us_filings
    with duckdb.connect(str(us_warehouse), read_only=True) as connection:
        theirs = connection.execute(f"select {', '.join(key + names)} from raw.fundamentals").df()
    for table in (theirs, ours):
        table["period_end"] = table["period_end"].astype("datetime64[us]")
        table[["symbol", "period_type"]] = table[["symbol", "period_type"]].astype(str)
    both = theirs.merge(ours, on=key, how="outer", suffixes=("", "_ours"), indicator=True)
    assert (both["_merge"] == "both").all(), both.loc[both["_merge"] != "both", [*key, "_merge"]]
    for name in names:
        np.testing.assert_array_equal(both[name], both[f"{name}_ours"], err_msg=name)
    assert lost == {"ttm": 256, "no period": 2323, "disagrees": 96, "same day": 2}
