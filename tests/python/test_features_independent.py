"""The warehouse's features against their recomputation in numpy, cell by cell.

What may differ is rounding. Running sums and windows laid out in full add in another order, so a
cell may differ by a relative 1e-9 (1e-6 for skewness and slopes, which divide small differences by
smaller ones). Columns that are a ratio minus one, or a difference of two returns, cancel: the error
is a few units in the last place of 1, not of the result, so a difference below 1e-12 counts for
nothing; no column has a value of interest there. Keys, flags, states and NULLs must be the same.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
import yaml
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


def dictionary() -> dict[str, str]:
    """Role of every column of the panel, from the feature dictionary."""
    path = PROJECT / "models" / "marts" / "features" / "fct_features_daily.yml"
    columns = yaml.safe_load(path.read_text(encoding="utf-8"))["models"][0]["columns"]
    return {column["name"]: column["config"]["meta"]["role"] for column in columns}


ROLES = dictionary()
# the knowledge time of outside facts is bookkeeping of the warehouse, judged by a test of its own
COMPARED = [name for name in ROLES if name != "max_available_at" and name not in KEYS]
BETWEEN_SECURITIES = [*RANKED, "sector_rel_mom_1"]


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a program of this environment in the project folder; its output is the message."""
    program = Path(os.sys.executable).with_name(command[0])
    done = subprocess.run(
        [str(program), *command[1:]],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def build(folder: Path, data: Path, layout: str) -> Path:
    """Load a folder of files into a new warehouse, and build its models."""
    path = folder / "warehouse.duckdb"
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DBT_PROFILES_DIR", "ASXW_TARGET")
    }
    environment |= {
        "ASXW_DUCKDB_PATH": str(path),
        "DBT_TARGET_PATH": str(folder / "target"),
        "DBT_LOG_PATH": str(folder / "logs"),
    }
    run(["asxw", "load", "--layout", layout, str(data)], environment)
    run(["dbt", "build", "--exclude-resource-type", "test", "unit_test"], environment)
    return path


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
    return joined.loc[wrong, [*KEYS, "symbol", "trade_date", name, f"{name}_ours"]]


# --------------------------------------------------------------------------------------------------
# The invented market: every cell


@pytest.fixture(scope="session")
def sample_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse of a small invented market."""
    folder = tmp_path_factory.mktemp("independent")
    size = ["--symbols", str(SAMPLE_SYMBOLS), "--sessions", str(SAMPLE_SESSIONS)]
    run(["asxw", "sample-market", *size, str(folder / "market")], dict(os.environ))
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


@pytest.mark.slow
def test_sample_market_breaks(sample_warehouse: Path, sample: Recomputed) -> None:
    compare_breaks(sample_warehouse, sample.breaks)
    found = set(zip(sample.breaks["evidence"], sample.breaks["verdict"], strict=True))
    assert found == {
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
def real_warehouse(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The warehouse of the real set: ASXW_REAL_WAREHOUSE if it names one, else built now."""
    ready = os.environ.get("ASXW_REAL_WAREHOUSE")
    if ready:
        return Path(ready)
    return build(tmp_path_factory.mktemp("real"), real_data / "asx", "asx")


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
        "suspect_break": 546,
        "capital_change": 165,
        "real_move": 187,
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
def test_real_ranks_and_sector_medians(real_warehouse: Path) -> None:
    with duckdb.connect(str(real_warehouse), read_only=True) as connection:
        last = connection.execute("select max(session_idx) from marts.dim_sessions").fetchone()[0]
        chosen = np.random.default_rng(7).choice(np.arange(21, last + 1), REAL_SESSIONS, False)
        rows = connection.execute(
            """select * from marts.fct_features_daily
            where list_contains($sessions, session_idx)""",
            {"sessions": chosen.tolist()},
        ).df()
    member = rows["is_traded"] & rows["is_in_universe"]
    for rank, source in RANKED.items():
        ranked = rows[member & rows[source].notna()]
        expected = pd.Series(np.nan, index=rows.index)
        for _, values in ranked.groupby("session_idx")[source]:
            expected[values.index] = (rankdata(values) - 0.5) / len(values)
        np.testing.assert_allclose(rows[rank], expected, rtol=1e-9, err_msg=rank)
    expected = pd.Series(np.nan, index=rows.index)
    priced = rows[member & rows["mom_1"].notna() & rows["sector"].notna()]
    for _, values in priced.groupby(["session_idx", "sector"])["mom_1"]:
        if len(values) >= 5:
            expected[values.index] = values - np.median(values)
    np.testing.assert_allclose(rows["sector_rel_mom_1"], expected, rtol=1e-9, atol=FLOOR)
    assert expected.notna().sum() > 1000


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
