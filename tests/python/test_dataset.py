"""The panel in memory: types, order, checksum, and refusals before LightGBM could abort."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest
from panel_fixture import FEATURES, make_market, write_market

from ml.dataset import as_read, coverage, latest_session, read_panel
from ml.errors import AsxwError
from ml.manifest import Relation
from ml.warehouse import DuckDBWarehouse

PANEL = Relation("intermediate", "int_training_panel")
DAILY = Relation("marts", "fct_features_daily")
MARKET = make_market(12, 300)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "w.duckdb"
    write_market(file, MARKET)
    return file


def read(path, features=FEATURES, extra=()):
    with DuckDBWarehouse(path) as warehouse:
        return read_panel(warehouse, PANEL, features, extra)


def alter(path, sql):
    with duckdb.connect(str(path)) as connection:
        connection.execute(sql)


def test_values_are_those_of_the_table(path):
    panel = read(path, extra=("rba_cash_rate", "not_there"))
    expected = MARKET.panel.sort_by([("trade_date", "ascending"), ("symbol", "ascending")])
    assert len(panel) == expected.num_rows
    assert panel.symbol.to_pylist() == expected.column("symbol").to_pylist()
    assert panel.trade_date.tolist() == expected.column("trade_date").to_pylist()
    assert panel.values.dtype == np.float64 and panel.features == FEATURES
    for name in (*FEATURES, "rba_cash_rate"):
        wanted = [np.nan if v is None else float(v) for v in expected.column(name).to_pylist()]
        read_as = panel.column(name)
        # seven digits of it; the segments' column, below, has them all
        np.testing.assert_allclose(read_as, wanted, rtol=6e-8, atol=1e-13)
        np.testing.assert_array_equal(read_as, np.float32(read_as))
    assert panel.column("not_there") is None
    assert coverage(panel.values)[FEATURES.index("always_null")] == 0.0


def test_checksum_ignores_the_order_of_rows_and_columns_and_sees_every_value(path):
    first = read(path).checksum
    alter(path, "create or replace table intermediate.int_training_panel as "
                "select * from intermediate.int_training_panel order by random()")  # fmt: skip
    assert read(path).checksum == first
    assert read(path, FEATURES[::-1]).checksum == first
    assert read(path, FEATURES[1:]).checksum != first
    alter(path, "update intermediate.int_training_panel set signal = signal + 1e-6 "
                "where symbol = 'S003' and session_idx = 100")  # fmt: skip
    changed = read(path).checksum
    assert changed != first
    alter(path, "update intermediate.int_training_panel set symbol = 'S999' where symbol = 'S003'")
    assert read(path).checksum not in (first, changed)


def test_last_bits_and_rounding_around_zero_are_not_read(path):
    """What differs between engines that add in different orders is one number to a model."""
    alter(path, "update intermediate.int_training_panel set mom_1 = 0 where session_idx % 7 = 0")
    first = read(path, extra=("adv_20_median",))
    alter(path, "update intermediate.int_training_panel set "
                "signal = signal * (1 + 4e-16), adv_20_median = adv_20_median * (1 + 4e-16), "
                "mom_1 = case when session_idx % 7 = 0 then -2e-16 else mom_1 end")  # fmt: skip
    second = read(path, extra=("adv_20_median",))
    assert second.checksum == first.checksum
    np.testing.assert_array_equal(first.values, second.values)
    # compared with thresholds, in SQL too: all its bits, the feature of that name aside
    read_as = first.values[:, FEATURES.index("adv_20_median")]
    exact = first.column("adv_20_median")
    np.testing.assert_array_equal(as_read(exact), read_as)
    assert (exact != read_as).any() and (exact != second.column("adv_20_median")).any()


def test_numbers_as_models_read_them():
    given = np.array([0.1, -0.0, 9e-14, -9e-14, 2e-13, 1e39, -np.inf, np.nan, 123456789.0])
    wanted = [np.float32(0.1), 0, 0, 0, np.float32(2e-13), np.inf, -np.inf, np.nan, 123456792.0]
    read_as = as_read(given)
    np.testing.assert_array_equal(read_as, np.array(wanted, dtype=np.float64))
    np.testing.assert_array_equal(as_read(read_as), read_as)
    assert given[0] == 0.1  # in a copy


def test_null_and_not_a_number_are_the_same_unknown(path):
    first = read(path).checksum
    alter(path, "update intermediate.int_training_panel set signal = 'nan' where signal is null")
    assert read(path).checksum == first


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("alter table intermediate.int_training_panel drop column vol_60", "lacks vol_60 .*dbt b"),
        ("alter table intermediate.int_training_panel alter signal type varchar", "signal .VARCH"),
        ("alter table intermediate.int_training_panel alter mom_1 type decimal(9, 4)", "mom_1 .D"),
        ("delete from intermediate.int_training_panel", "is empty"),
        ("drop table intermediate.int_training_panel", "no table .*run `dbt build`"),
        (
            "update intermediate.int_training_panel set return_1m_fwd = null where symbol = 'S001'",
            "return_1m_fwd is null",
        ),
        (
            "update intermediate.int_training_panel set return_1m_fwd = 'inf' "
            "where symbol = 'S001'",
            "infinite",
        ),
        ("update intermediate.int_training_panel set return_1m_fwd_sign = -1", "must be 0 or 1"),
    ],
)
def test_a_panel_that_cannot_be_used_is_refused_by_name(path, sql, message):
    if "decimal" in sql:
        alter(path, "update intermediate.int_training_panel set mom_1 = 0.5")
    alter(path, sql)
    if "decimal" in sql:
        # decimals are numbers to a person, but LightGBM ends the process on them
        with pytest.raises(AsxwError, match=message):
            read(path)
        return
    with pytest.raises(AsxwError, match=message):
        read(path)


def test_latest_session(path):
    with DuckDBWarehouse(path) as warehouse:
        index, day = latest_session(warehouse, DAILY)
    assert index == 299
    assert day == max(MARKET.features_daily.column("trade_date").to_pylist())
    alter(path, "delete from marts.fct_features_daily")
    with DuckDBWarehouse(path) as warehouse, pytest.raises(AsxwError, match="is empty"):
        latest_session(warehouse, DAILY)


def test_rows_of_a_matrix_are_those_asked_for(path):
    panel = read(path)
    rows = panel.session_idx % 7 == 0
    kept = np.array([4, 1])
    np.testing.assert_array_equal(panel.matrix(rows, kept), panel.values[rows][:, kept])
