"""What the coverage marts say, and that the panel is as wide and as full as it promises."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pytest
import yaml
from built_warehouse import Warehouse, build
from conftest import PROJECT

from ml.config import read_config

WINDOW = ("2023-12-18", "2026-01-09")
REASONS = {
    "absent_rows": "source absent",
    "before_rows": "source starts later",
    "after_rows": "source ended",
    "gap_rows": "vendor gap",
    "warming_up_rows": "warm-up",
    "inapplicable_rows": "does not apply",
    "unreported_rows": "not reported",
}


def dictionary() -> dict[str, dict]:
    """Meta of every column of the panel."""
    path = PROJECT / "models" / "marts" / "features" / "fct_features_daily.yml"
    columns = yaml.safe_load(path.read_text(encoding="utf-8"))["models"][0]["columns"]
    return {column["name"]: column["config"]["meta"] for column in columns}


def test_panel_has_72_columns_besides_keys() -> None:
    assert sum(meta["role"] != "key" for meta in dictionary().values()) >= 72


def test_macro_is_context_and_context_is_off_by_default() -> None:
    macro = {
        name: meta["role"] for name, meta in dictionary().items() if meta.get("family") == "macro"
    }
    assert len(macro) == 10
    assert set(macro.values()) == {"context"}
    assert read_config().features.roles == ("feature",)


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A market of 230 sessions whose sources are absent, late, over early or full of holes."""
    folder = tmp_path_factory.mktemp("poor")
    market = folder / "market"
    size = ("--symbols", "20", "--sessions", "230")
    Warehouse(folder).run("asxw", "sample-market", *size, str(market))
    days = pd.to_datetime(
        pd.Series(pd.read_parquet(market / "prices.parquet")["trade_date"].unique())
    )
    days = days.sort_values(ignore_index=True)

    def keep(name: str, column: str, kept: object) -> None:
        rows = pd.read_parquet(market / f"{name}.parquet")
        rows[kept(pd.to_datetime(rows[column]))].to_parquet(market / f"{name}.parquet", index=False)

    (market / "short_positions.parquet").unlink()
    keep("announcements", "announced_at", lambda at: at >= days[180])
    # the directory is there for a fortnight at the start of its time, and a fortnight at the end
    first = pd.to_datetime(pd.read_parquet(market / "directory.parquet")["snapshot_date"]).min()
    early, late = first + pd.Timedelta(days=14), days.iloc[-1] - pd.Timedelta(days=14)
    keep("directory", "snapshot_date", lambda day: (day < early) | (day > late))
    return build(folder, market, "sample")


def coverage(warehouse: Path) -> pd.DataFrame:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        return connection.execute("select * from marts.fct_feature_coverage").df()


@pytest.mark.slow
def test_reasons_of_low_coverage(poor: Path) -> None:
    rows = coverage(poor).set_index("feature")
    assert rows.loc["short_pct", "low_coverage_reason"] == "source absent"
    assert rows.loc["ann_count_1d", "low_coverage_reason"] == "source starts later"
    assert rows.loc["sector_rel_mom_1", ["before_rows", "gap_rows"]].min() > 0
    assert rows.loc["mom_12", "low_coverage_reason"] == "warm-up"
    assert pd.isna(rows.loc["ret_1d", "low_coverage_reason"])
    assert rows.loc["short_pct", "coverage"] == 0
    # every missing value has one reason, and the one named is the most frequent
    missing = rows["universe_rows"] - rows["non_null_rows"]
    assert (rows[list(REASONS)].sum(axis=1) == missing).all()
    poor_rows = rows[rows["coverage"] < 0.4]
    assert len(poor_rows) > 20
    named = poor_rows[list(REASONS)].idxmax(axis=1).map(REASONS)
    assert (named == poor_rows["low_coverage_reason"]).all()
    assert rows.loc[rows["coverage"] >= 0.4, "low_coverage_reason"].isna().all()


@pytest.mark.slow
def test_a_loss_has_no_price_over_earnings_and_is_not_due(poor: Path) -> None:
    rows = coverage(poor).set_index("feature").loc["pe_ratio"]
    with duckdb.connect(str(poor), read_only=True) as connection:
        losses, others = connection.execute(
            "select count(*) filter (pe_inverse <= 0), count(*) filter (pe_inverse > 0) "
            "from marts.fct_features_daily inner join intermediate.int_source_sessions "
            "using (session_idx) where is_traded and is_in_universe "
            "and source_name = 'fundamentals' and source_status = 'covered'"
        ).fetchall()[0]
    assert losses > 100 and others > 100
    assert rows["inapplicable_rows"] == losses
    # what is unknown stays due: it may have been lost
    assert rows["due_rows"] > others


@pytest.mark.slow
def test_source_sessions_of_the_poor_market(poor: Path) -> None:
    with duckdb.connect(str(poor), read_only=True) as connection:
        rows = connection.execute(
            "select source_name, source_status, count(*) as sessions, max(covered_sessions) as run "
            "from intermediate.int_source_sessions group by all"
        ).df()
    status = {(r.source_name, r.source_status): (r.sessions, r.run) for r in rows.itertuples()}
    assert {key for key in status if key[0] == "short_positions"} == {("short_positions", "absent")}
    assert status["announcements", "covered"][0] < 60
    assert status["directory", "gap"][0] > 20
    assert status["directory", "gap"][1] == 0
    assert status["quoted_prices", "covered"][0] == status["rba_cash_rate", "covered"][0]


@pytest.mark.slow
def test_families_add_up(poor: Path) -> None:
    with duckdb.connect(str(poor), read_only=True) as connection:
        families = connection.execute("select * from marts.fct_family_coverage").df()
    features = coverage(poor)
    tiers = [f"{tier}_features" for tier in ("excellent", "good", "moderate", "poor")]
    assert (families[tiers].sum(axis=1) == families["features"]).all()
    mean = features.groupby("family")["coverage"].mean()
    assert families.set_index("family")["mean_coverage"].to_dict() == pytest.approx(mean.to_dict())


@pytest.mark.real
@pytest.mark.slow
def test_real_panel_has_35_features_at_40_per_cent(real_warehouse: Path) -> None:
    with duckdb.connect(str(real_warehouse), read_only=True) as connection:
        rows = connection.execute(
            """select feature, sum(non_null_rows) / sum(universe_rows) as coverage
            from marts.fct_feature_coverage_by_session
            where trade_date between $first and $last group by feature""",
            {"first": WINDOW[0], "last": WINDOW[1]},
        ).df()
    features = {name for name, meta in dictionary().items() if meta["role"] == "feature"}
    rows = rows[rows["feature"].isin(features)]
    covered = rows[rows["coverage"] >= 0.4]
    print(f"{len(covered)} of {len(rows)} features at 40 % or more from {WINDOW[0]} to {WINDOW[1]}")
    assert len(covered) >= 35


@pytest.mark.real
@pytest.mark.slow
def test_real_directory_feeds_listings_and_the_universe(
    real_warehouse: Path, real_data: Path
) -> None:
    directory = pd.read_parquet(real_data / "asx" / "directory_daily.parquet")
    seen = pd.to_datetime(directory.groupby("code")["snapshot_date"].max())
    gone = seen[seen <= seen.max() - pd.Timedelta(days=7)]
    with duckdb.connect(str(real_warehouse), read_only=True) as connection:
        securities = connection.execute(
            "select symbol, kind, listed_on, delisted_on from marts.dim_securities"
        ).df()
        kinds = connection.execute(
            """select kind, is_in_universe, count(*) as n
            from marts.fct_features_daily group by all"""
        ).df()
    # a code that the directory no longer has is delisted on its last day there, and no other is
    delisted = securities.set_index("symbol")["delisted_on"].dropna()
    assert delisted.to_dict() == gone.to_dict()
    assert securities.set_index("symbol").loc[seen.index, "listed_on"].notna().mean() > 0.95
    # funds, second lines and products are in the panel and not in the universe
    assert set(kinds["kind"]) >= {"equity", "etf", "fund", "unknown"}
    inside = kinds[kinds["is_in_universe"]]
    assert set(inside["kind"]) == {"equity", "unknown"}
    assert not set(kinds[~kinds["is_in_universe"]]["kind"]) & {"equity", "unknown"}
    lines = securities[securities["symbol"].isin(seen.index) & (securities["symbol"].str.len() > 3)]
    assert set(lines["kind"]) <= {"other", "etf"}
