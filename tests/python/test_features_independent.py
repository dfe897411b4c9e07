"""The warehouse's features against their recomputation in numpy, cell by cell.

What may differ is rounding. Running sums and windows laid out in full add in another order, so a
cell may differ by a relative 1e-9 (1e-6 for skewness and slopes, which divide small differences by
smaller ones). Columns that are a ratio minus one, or a difference of two returns, cancel: the error
is a few units in the last place of 1, not of the result, so a difference below 1e-12 counts for
nothing; no column has a value of interest there. Keys, flags, states and NULLs must be the same.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
import yaml
from built_warehouse import Warehouse, build
from conftest import PROJECT
from independent_features import (
    LABELS,
    NEVER,
    RANKED,
    RawTables,
    Recomputed,
    Securities,
    is_candidate,
    market_sessions,
    read_raw,
    recompute,
    snapped,
)
from scipy.stats import rankdata

KEYS = ["security_id", "session_idx"]
FLOOR = 1e-12
LOOSE = ("skew_ret_60", "volume_skew_60", "sma200_slope")
SAMPLE_SYMBOLS, SAMPLE_SESSIONS = 40, 420
REAL_SECURITIES, REAL_SESSIONS = 60, 30
# at which candidates of the real set: the ratio that enters the factor, None for a real move
KNOWN_EVENTS = {
    ("PDN", "2024-04-04"): 0.1,
    ("JAT", "2023-09-13"): 1 / 30,
    ("MXC", "2023-10-23"): 0.001,
    ("SDG", "2023-10-24"): None,
}


def dictionary() -> dict[str, dict]:
    """Meta of every column of the panel, from the feature dictionary."""
    path = PROJECT / "models" / "marts" / "features" / "fct_features_daily.yml"
    columns = yaml.safe_load(path.read_text(encoding="utf-8"))["models"][0]["columns"]
    return {column["name"]: column["config"]["meta"] for column in columns}


# Families of outside facts have recomputations of their own (test_outside_facts.py); of
# fundamentals only market capitalisation, which the price families use, is recomputed here.
OUTSIDE = {"macro", "sentiment", "fundamental"}
ROLES = {name: meta for name, meta in dictionary().items() if meta.get("family") not in OUTSIDE}
# knowledge times of outside facts are bookkeeping of the warehouse, judged by tests of their own
PROVENANCE = ("max_available_at", "fund_available_at", "fund_period_end", "fundamentals_basis",
              "market_cap_source")  # fmt: skip
COMPARED = [name for name in ROLES if name not in (*PROVENANCE, *KEYS)]
BETWEEN_SECURITIES = [*RANKED, "sector_rel_mom_1"]


def read_panel(warehouse: Path, securities: list[str] | None = None) -> pd.DataFrame:
    """Features and labels as the warehouse has them."""
    columns = ", ".join(
        [f"features_daily.{name}" for name in ROLES] + [f"labels.{name}" for name in LABELS]
    )
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        return connection.execute(
            f"""select {columns}
            from marts.fct_features_daily as features_daily
            inner join intermediate.int_labels as labels using (security_id, session_idx)
            where $securities is null or list_contains($securities, security_id)""",
            {"securities": securities},
        ).df()


def pair(warehouse: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """Both panels side by side; every row must be in both."""
    joined = warehouse.merge(ours, on=KEYS, how="outer", suffixes=("", "_ours"), indicator=True)
    alone = joined[joined["_merge"] != "both"]
    assert alone.empty, alone[[*KEYS, "trade_date", "trade_date_ours", "_merge"]].head(20)
    return joined


def undecided(joined: pd.DataFrame, name: str) -> pd.Series:
    """Rows whose exact answer turns on rounding: the sign of a zero, the order of a tie.

    Two returns across a capital change can be equal, or zero, on paper and a unit in the last place
    apart in binary, whichever way they are computed.
    """
    if name == "return_1m_fwd_sign":
        return joined["return_1m_fwd"].abs() < FLOOR
    if name not in RANKED:
        return pd.Series(False, index=joined.index)
    source = f"{RANKED[name]}_ours" if f"{RANKED[name]}_ours" in joined else RANKED[name]
    ranked = joined.loc[joined[name].notna(), ["session_idx", source]]
    ordered = ranked.sort_values(["session_idx", source])
    step = ordered.groupby("session_idx")[source].diff()
    near = step <= np.maximum(1e-9 * ordered[source].abs(), FLOOR)
    tied = near | near.groupby(ordered["session_idx"]).shift(-1, fill_value=False)
    return tied.reindex(joined.index, fill_value=False)


def differences(joined: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows on which the two disagree about a column."""
    theirs, ours = joined[name], joined[f"{name}_ours"]
    wrong = theirs.isna() != ours.isna()
    both = theirs.notna() & ours.notna()
    if pd.api.types.is_float_dtype(theirs):
        a, b = theirs[both].astype(float), ours[both].astype(float)
        scale = np.maximum(a.abs(), b.abs())
        tolerance = 1e-6 if name in LOOSE else 1e-9
        wrong[both] = (a - b).abs() > np.maximum(tolerance * scale, FLOOR)
    elif pd.api.types.is_datetime64_any_dtype(theirs):
        wrong[both] = theirs[both] != ours[both]
    else:
        # flags come as objects where they can be NULL; 1.0 is True
        wrong[both] = theirs[both].astype(object) != ours[both].astype(object)
    wrong &= ~undecided(joined, name)
    return joined.loc[wrong, [*KEYS, "symbol", "trade_date", name, f"{name}_ours"]]


# --------------------------------------------------------------------------------------------------
# The invented market: every cell


def stress(folder: Path) -> None:
    """Put what vendors and companies do at their worst into an invented market, in place."""
    rng = np.random.default_rng(11)
    names = ("prices", "directory", "securities", "index_levels", "corporate_actions")
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}
    prices, directory = tables["prices"], tables["directory"]
    days = np.sort(prices["trade_date"].unique())
    full = prices.groupby("symbol")["trade_date"].nunique().sort_values(kind="stable")
    # the symbols with the longest histories, so that every trouble meets full windows
    at = iter(full.index[::-1])

    # quotes without an open, a high or a low
    for name in ("open", "high", "low"):
        prices.loc[rng.random(len(prices)) < 0.004, name] = np.nan

    # a company renamed twice; another takes its first code later, without a history there
    first, reuser = next(at), next(at)
    changes = [(first, "ZZ1", days[150]), ("ZZ1", "ZZ2", days[260])]
    for table, day in ((prices, "trade_date"), (directory, "snapshot_date")):
        mine = table["symbol"] == first
        table.loc[mine & (table[day] >= days[150]), "symbol"] = "ZZ1"
        table.loc[mine & (table[day] >= days[260]), "symbol"] = "ZZ2"
        table.loc[(table["symbol"] == reuser) & (table[day] >= days[300]), "symbol"] = first
    # untraded around the renaming: the code in force changes on a carried row
    held = prices["symbol"].isin([first, "ZZ1"]) & prices["trade_date"].between(
        days[147], days[153]
    )
    prices.drop(prices.index[held], inplace=True)

    # untraded for just as long as a spell lasts, and for one session more
    for gap in (59, 60, 61):
        code = next(at)
        out = (prices["symbol"] == code) & prices["trade_date"].between(days[200], days[199 + gap])
        prices.drop(prices.index[out], inplace=True)

    # half-traded: two of five sessions
    thin = prices["symbol"] == next(at)
    prices.loc[thin & (rng.random(len(prices)) < 0.55), "volume"] = 0.0

    # an index with holes: single sessions, a month, and the benchmark's first weeks
    level = tables["index_levels"]
    hole = (rng.random(len(level)) < 0.05) | level["trade_date"].between(days[330], days[355])
    level = level[~hole & (level["trade_date"] > days[10])]

    # a directory with holes, listing-day zeros, suspensions, and companies that change sector
    newest = directory["snapshot_date"].max()
    hole = directory["snapshot_date"].between(
        newest - dt.timedelta(days=120),
        newest - dt.timedelta(days=104),
    )
    directory.loc[rng.random(len(directory)) < 0.02, "market_cap"] = np.nan
    directory.loc[rng.random(len(directory)) < 0.01, "market_cap"] = 0.0
    directory.loc[rng.random(len(directory)) < 0.02, "sector"] = None
    moved = directory["symbol"].isin([next(at), next(at)])
    late = directory["snapshot_date"] > newest - dt.timedelta(days=150)
    directory.loc[moved & late, "sector"] = "Materials"
    directory = directory[~hole]

    # actions: known late, too small for a candidate, two between two trades
    actions = []
    for code, day, ratio, days_late in (
        (next(at), 280, 0.1, 9),
        (next(at), 290, 0.8, 6),
        (next(at), 295, 3.0, -20),
    ):
        bars = (prices["symbol"] == code) & (prices["trade_date"] >= days[day])
        prices.loc[bars, ["open", "high", "low", "close"]] /= ratio
        prices.loc[bars, "volume"] *= ratio
        known_on = pd.Timestamp(days[day]) + pd.Timedelta(days=days_late)
        actions.append((code, days[day], "split", ratio, known_on))
    code = next(at)
    bars = prices["symbol"] == code
    prices.drop(
        prices.index[bars & prices["trade_date"].between(days[310], days[315])], inplace=True
    )
    for day, ratio in ((311, 0.5), (314, 0.2)):
        later = (prices["symbol"] == code) & (prices["trade_date"] >= days[day])
        prices.loc[later, ["open", "high", "low", "close"]] /= ratio
        actions.append((code, days[day], "split", ratio, pd.Timestamp(days[day - 9])))

    # a jump on the last session but one whose evidence comes after the last session's decision
    code, jump = next(at), days[-2]
    bars = (prices["symbol"] == code) & (prices["trade_date"] >= jump)
    prices.loc[bars, ["open", "high", "low", "close"]] *= 4
    directory = directory[(directory["symbol"] != code) | (directory["snapshot_date"] <= jump)]
    known = directory[directory["symbol"] == code].sort_values("snapshot_date").iloc[[-1]]
    late = pd.Timestamp(days[-1]) + pd.Timedelta("23:59:59")
    known = known.assign(snapshot_date=days[-1], available_at=late)
    directory = pd.concat([directory, known])

    # known to be delisted, and trading again four months later
    code = next(at)
    securities = tables["securities"]
    row = securities["symbol"] == code
    securities.loc[row, "delisted_on"] = days[220]
    securities.loc[row, "delisting_available_at"] = pd.Timestamp(days[223])
    out = (prices["symbol"] == code) & prices["trade_date"].between(days[219], days[250])
    prices.drop(prices.index[out], inplace=True)

    tables["index_levels"], tables["directory"] = level, directory
    tables["corporate_actions"] = pd.concat(
        [
            tables["corporate_actions"],
            pd.DataFrame(actions, columns=["symbol", "ex_date", "action", "ratio", "available_at"]),
        ]
    )
    tables["symbol_changes"] = pd.DataFrame(
        changes, columns=["old_symbol", "new_symbol", "effective_on"]
    )
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)


@pytest.fixture(scope="session", params=["invented", "stressed"])
def sample_warehouse(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A warehouse of a small invented market, as it comes and with every trouble in it."""
    folder = tmp_path_factory.mktemp(request.param)
    size = ["--symbols", str(SAMPLE_SYMBOLS), "--sessions", str(SAMPLE_SESSIONS)]
    Warehouse(folder).run("asxw", "sample-market", *size, str(folder / "market"))
    if request.param == "stressed":
        stress(folder / "market")
    return build(folder, folder / "market", "sample")


@pytest.fixture(scope="session")
def sample(sample_warehouse: Path) -> Recomputed:
    """The invented market recomputed."""
    return recompute(read_raw(sample_warehouse))


@pytest.fixture(scope="session")
def sample_pair(sample_warehouse: Path, sample: Recomputed) -> pd.DataFrame:
    """Both panels of the invented market side by side."""
    return pair(read_panel(sample_warehouse), sample.panel)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*COMPARED, *LABELS])
def test_sample_market_column(sample_pair: pd.DataFrame, name: str) -> None:
    wrong = differences(sample_pair, name)
    assert wrong.empty, f"{len(wrong)} of {len(sample_pair)} rows\n{wrong.head(10)}"
    # a column of NULLs agrees with anything
    assert sample_pair[name].notna().sum() > 1000


@pytest.mark.slow
def test_sample_market_sessions(sample_warehouse: Path, sample: Recomputed) -> None:
    with duckdb.connect(str(sample_warehouse), read_only=True) as connection:
        theirs = connection.execute(
            "select trade_date from marts.dim_sessions where session_idx is not null order by 1"
        ).df()
    assert list(theirs["trade_date"]) == list(sample.sessions["trade_date"])


def compare_breaks(warehouse: Path, ours: pd.DataFrame) -> None:
    """Candidates, verdicts, ratios and the session a verdict is known from."""
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        theirs = connection.execute(
            """select security_id, session_idx, trade_date, is_candidate, evidence, verdict,
                share_ratio, resolved_from_session_idx
            from intermediate.int_price_breaks"""
        ).df()
    joined = pair(theirs, ours)
    for name in ("is_candidate", "evidence", "verdict"):
        assert list(joined[name]) == list(joined[f"{name}_ours"]), name
    np.testing.assert_allclose(joined["share_ratio"], joined["share_ratio_ours"], rtol=1e-9)
    known_from = joined["resolved_from_session_idx_ours"].astype(float)
    known_from = known_from.where(joined["resolved_from_session_idx_ours"] < NEVER)
    np.testing.assert_array_equal(joined["resolved_from_session_idx"].astype(float), known_from)


def compare_cross_section(warehouse: Path, sessions: list[int]) -> None:
    """Ranks and sector medians from the warehouse's own values, so that ties are exact."""
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        rows = connection.execute(
            """select * from marts.fct_features_daily
            where list_contains($sessions, session_idx)""",
            {"sessions": sessions},
        ).df()
    member = rows["is_traded"] & rows["is_in_universe"]
    for rank, source in RANKED.items():
        ranked = rows[member & rows[source].notna()]
        expected = pd.Series(np.nan, index=rows.index)
        for _, values in ranked.groupby("session_idx")[source]:
            # volatilities equal to twelve places are a tie: the places after are rounding
            tied = np.floor(values * 1e12 + 0.5) if source == "vol_60" else values
            expected[values.index] = (rankdata(tied) - 0.5) / len(values)
        np.testing.assert_allclose(rows[rank], expected, rtol=1e-9, err_msg=rank)
    expected = pd.Series(np.nan, index=rows.index)
    priced = rows[member & rows["mom_1"].notna() & rows["sector"].notna()]
    for _, values in priced.groupby(["session_idx", "sector"])["mom_1"]:
        if len(values) >= 5:
            expected[values.index] = values - np.median(values)
    np.testing.assert_allclose(rows["sector_rel_mom_1"], expected, rtol=1e-9, atol=FLOOR)
    assert expected.notna().sum() > 1000


@pytest.mark.slow
def test_sample_market_ranks_and_sector_medians(sample_warehouse: Path) -> None:
    compare_cross_section(sample_warehouse, list(range(SAMPLE_SESSIONS)))


@pytest.mark.slow
def test_sample_market_breaks(sample_warehouse: Path, sample: Recomputed) -> None:
    compare_breaks(sample_warehouse, sample.breaks)
    found = set(zip(sample.breaks["evidence"], sample.breaks["verdict"], strict=True))
    assert found >= {
        ("corporate_action", "capital_change"),
        ("directory", "capital_change"),
        ("directory", "real_move"),
        ("none", "suspect_break"),
    }


# --------------------------------------------------------------------------------------------------
# The recomputation's own rules, on cases small enough to check by hand


def test_candidates_are_moves_of_more_than_three_ticks() -> None:
    assert not is_candidate(0.003, 0.006)  # double, and exactly three ticks
    assert is_candidate(0.004, 0.008)
    assert is_candidate(10.0, 5.5)  # 0.55 itself
    assert is_candidate(0.05, 0.09)  # 1.8 itself, 1.7999999999999998 in doubles
    assert not is_candidate(10.0, 5.51)
    assert not is_candidate(10.0, 17.99)


def test_ratios_snap_to_customary_ones() -> None:
    assert snapped(0.102) == 0.1
    assert snapped(2.1) == 2
    assert snapped(0.0345) == 1 / 30
    assert snapped(1500.0) == 1500.0  # nothing customary within 15 %


def test_renamed_company_keeps_its_history() -> None:
    changes = pd.DataFrame(
        {
            "old_symbol": ["AAA", "BBB"],
            "new_symbol": ["BBB", "CCC"],
            "effective_on": pd.to_datetime(["2024-01-10", "2024-02-10"]),
        }
    )
    securities = Securities(changes)
    assert securities.of("CCC", pd.Timestamp("2024-02-10")) == "AAA"
    assert securities.of("BBB", pd.Timestamp("2024-02-09")) == "AAA"
    # the codes before and after belong to others
    assert securities.of("CCC", pd.Timestamp("2024-02-09")) == "CCC"
    assert securities.of("AAA", pd.Timestamp("2024-01-10")) == "AAA@2024-01-10"


def test_thin_sessions_are_left_out() -> None:
    days = pd.date_range("2024-01-02", periods=3, freq="B")
    rows = [(f"S{i}", day) for n, day in zip((4, 4, 1), days, strict=True) for i in range(n)]
    prices = pd.DataFrame(rows, columns=["symbol", "trade_date"])
    assert list(market_sessions(prices)["trade_date"]) == list(days[:2])


# --------------------------------------------------------------------------------------------------
# The real market


@pytest.fixture(scope="session")
def real_raw(real_warehouse: Path) -> RawTables:
    """Raw tables of the real set."""
    return read_raw(real_warehouse)


@pytest.fixture(scope="session")
def real_sample(real_raw: RawTables) -> list[str]:
    """A random sample of securities, and those with known events."""
    symbols = np.sort(real_raw.prices["symbol"].unique().astype(str))
    chosen = np.random.default_rng(20260604).choice(symbols, REAL_SECURITIES, replace=False)
    return sorted({*chosen.tolist(), *(symbol for symbol, _ in KNOWN_EVENTS)})


@pytest.fixture(scope="session")
def real(real_raw: RawTables, real_sample: list[str]) -> Recomputed:
    """Sessions, breaks and the market's return of the real set, and the sample's features."""
    return recompute(real_raw, real_sample)


@pytest.fixture(scope="session")
def real_pair(real_warehouse: Path, real: Recomputed) -> pd.DataFrame:
    """Both panels of the sample side by side."""
    securities = sorted(real.panel["security_id"].unique().astype(str))
    return pair(read_panel(real_warehouse, securities), real.panel)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in [*COMPARED, *LABELS] if name not in BETWEEN_SECURITIES]
)
def test_real_market_column(real_pair: pd.DataFrame, name: str) -> None:
    wrong = differences(real_pair, name)
    assert wrong.empty, f"{len(wrong)} of {len(real_pair)} rows\n{wrong.head(10)}"


@pytest.mark.real
@pytest.mark.slow
def test_real_market_breaks(real_warehouse: Path, real: Recomputed) -> None:
    compare_breaks(real_warehouse, real.breaks)


@pytest.mark.real
@pytest.mark.slow
def test_real_candidates_by_verdict(real: Recomputed) -> None:
    assert real.breaks["is_candidate"].all()
    assert real.breaks["verdict"].value_counts().to_dict() == {
        "suspect_break": 556,
        "capital_change": 165,
        "real_move": 192,
    }


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(("event", "ratio"), KNOWN_EVENTS.items(), ids=str)
def test_real_known_events(real: Recomputed, event: tuple[str, str], ratio: float | None) -> None:
    symbol, day = event
    row = real.breaks[(real.breaks["symbol"] == symbol) & (real.breaks["trade_date"] == day)]
    assert len(row) == 1
    if ratio is None:
        assert row["verdict"].item() == "real_move"
    else:
        assert row["verdict"].item() == "capital_change"
        assert row["share_ratio"].item() == pytest.approx(ratio, rel=1e-12)


@pytest.mark.real
@pytest.mark.slow
def test_real_market_return_of_every_session(real_warehouse: Path, real: Recomputed) -> None:
    with duckdb.connect(str(real_warehouse), read_only=True) as connection:
        theirs = connection.execute(
            """select session_idx, min(mkt_ret_1d) as low, max(mkt_ret_1d) as high
            from marts.fct_features_daily group by session_idx order by session_idx"""
        ).df()
    ours = real.market.set_index("session_idx")["market_return"].reindex(theirs["session_idx"])
    for side in ("low", "high"):
        np.testing.assert_allclose(theirs[side], ours, rtol=1e-9, atol=FLOOR)
    # some sessions lack the index, and the mean of all securities stands in
    levels = real.market["level"]
    assert (levels.isna() | levels.shift().isna()).sum() > 1


@pytest.mark.real
@pytest.mark.slow
def test_real_ranks_and_sector_medians(real_warehouse: Path, real: Recomputed) -> None:
    last = int(real.sessions["session_idx"].max())
    chosen = np.random.default_rng(7).choice(np.arange(21, last + 1), REAL_SESSIONS, False)
    compare_cross_section(real_warehouse, chosen.tolist())


@pytest.mark.real
@pytest.mark.slow
def test_real_labels_are_freed_of_price_breaks(real_warehouse: Path) -> None:
    with duckdb.connect(str(real_warehouse), read_only=True) as connection:
        raw, judged = connection.execute(
            """with later as (
                select security_id, session_idx, is_traded, close,
                    lead(close, 21) over (
                        partition by security_id, spell order by session_idx) as close_21
                from marts.fct_features_daily
            )
            select stddev_samp(close_21 / close - 1), stddev_samp(return_1m_fwd)
            from later inner join intermediate.int_labels using (security_id, session_idx)
            where later.is_traded"""
        ).fetchone()
    print(f"standard deviation of the 21-session return: {raw:.2f} quoted, {judged:.3f} judged")
    assert raw > 2
    assert judged < 0.5


# --------------------------------------------------------------------------------------------------
# The American market: split-adjusted quotes, no ticks, no index

US_SECURITIES = 40
# levels of the day's quotes, which adjusted quotes do not have
US_LEVELS = ("atr_14", "adv_20_median", "adv_20_log", "price_log")
# from share counts, judged by test_fundamentals_independent.py
US_SIZES = ("market_cap", "turnover_21")


@pytest.fixture(scope="session")
def us_pair(us_warehouse: Path) -> pd.DataFrame:
    """Warehouse and recomputation of a random sample of American securities."""
    raw = read_raw(us_warehouse)
    symbols = np.sort(raw.prices["symbol"].unique().astype(str))
    chosen = np.random.default_rng(20240308).choice(symbols, US_SECURITIES, replace=False)
    ours = recompute(raw, sorted(chosen.tolist()), "XNYS", ticks=False).panel
    securities = sorted(ours["security_id"].unique().astype(str))
    return pair(read_panel(us_warehouse, securities), ours)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [name for name in [*COMPARED, *LABELS] if name not in (*BETWEEN_SECURITIES, *US_SIZES)],
)
def test_us_market_column(us_pair: pd.DataFrame, name: str) -> None:
    if name in US_LEVELS:
        assert us_pair[name].isna().all()
        return
    wrong = differences(us_pair, name)
    assert wrong.empty, f"{len(wrong)} of {len(us_pair)} rows\n{wrong.head(10)}"
