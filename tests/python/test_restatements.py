"""A past that changes is on record: corrected values, and sessions whose rows are new."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from built_warehouse import Warehouse

pytestmark = pytest.mark.slow


def test_every_corrected_bar_is_listed_with_both_values(built_market: Warehouse) -> None:
    listed = built_market.frame(
        "select symbol, dated_on, previous_value, new_value from marts.fct_restatements "
        "where dataset = 'prices' and column_name = 'close' order by all"
    )
    raw = built_market.frame("""
        select symbol, trade_date, arg_min(close, available_at), arg_max(close, available_at)
        from raw.prices group by symbol, trade_date
        having count(*) = 2 and count(distinct close) = 2 order by all
    """)
    assert len(listed) > 0 and listed.to_numpy().tolist() == raw.to_numpy().tolist()


def test_a_past_that_changed_is_seen_dated_and_unexplained(
    built_market: Warehouse, tmp_path: Path
) -> None:
    shutil.copy(built_market.folder / "warehouse.duckdb", tmp_path)
    shutil.copytree(built_market.folder / "target", tmp_path / "target")
    copy = Warehouse(tmp_path)
    assert copy.frame("select * from marts.fct_panel_restatements").empty
    sessions = copy.frame("select count(distinct trade_date) from marts.fct_features_daily")
    kept = copy.frame("select count(*) from snapshots.session_checksums")
    assert kept.iat[0, 0] == sessions.iat[0, 0] > 400

    ((symbol, day),) = copy.frame(
        "select symbol, trade_date from marts.fct_features_daily where mom_1 is not null "
        "order by trade_date, symbol limit 1 offset 1000"
    ).itertuples(index=False, name=None)
    copy.execute(
        "update marts.fct_features_daily set mom_1 = mom_1 + 1e-12 "
        f"where symbol = '{symbol}' and trade_date = '{day}'"
    )
    copy.run("dbt", "--quiet", "build", "--select", "int_session_checksums", "session_checksums",
             "fct_panel_restatements", "--exclude-resource-type", "unit_test")  # fmt: skip
    (found,) = copy.frame("select * from marts.fct_panel_restatements").to_dict("records")
    assert found["trade_date"] == day and found["reason"] == "unexplained"
    assert found["previous_seen_at"] < found["seen_at"]
    assert found["previous_checksum"] != found["new_checksum"]
    assert found["previous_panel_rows"] == found["new_panel_rows"]
