"""What may change without changing a feature, a prediction or a score, and what must ring.

The probes of the warehouse alter raw rows in a copy of a built one and have dbt build it again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest
from built_warehouse import Warehouse
from panel_fixture import SIGNALS, SMALL, make_market, make_project

from ml.config import read_config
from ml.dataset import latest_session, read_panel
from ml.evaluation import pooled_auc
from ml.folds import plan_folds
from ml.gates import judge_run, read_gates
from ml.manifest import project_manifest, read_manifest
from ml.training import fit_and_score, mean_session_auc, train
from ml.warehouse import open_warehouse

# --- the warehouse ------------------------------------------------------------------------------

DROPPED = 40  # oldest sessions that the shorter history lacks
LONGEST = 272  # the deviation of a year of 20-session medians
T = 370
BREAK = 360
KEYS = ("symbol", "trade_date")
DATED = {
    "prices": "available_at",
    "fundamentals": "available_at",
    "directory": "available_at",
    "macro": "available_at",
    "short_positions": "available_at",
    "announcements": "announced_at",
    "corporate_actions": "available_at",
}


@dataclass(frozen=True)
class Probe:
    """A built market, and the same one built from altered raw rows."""

    connection: duckdb.DuckDBPyConnection
    day: date
    """A session; what it means is the probe's affair."""

    def count(self, sql: str) -> int:
        return int(self.connection.execute(sql).fetchall()[0][0])


def rebuild(market: Warehouse, folder: Path, alter) -> None:
    """The market as it is and as dbt builds it from raw rows that `alter` has changed, as files.

    It happens in the market's place, so that dbt need not parse the project again.
    """
    place, before = market.folder / "warehouse.duckdb", folder / "before.duckdb"
    shutil.copy(place, before)
    try:
        with duckdb.connect(str(place)) as connection:
            alter(connection)
        market.run(
            *("dbt", "--quiet", "build", "--select", "+fct_features_daily"),
            *("--exclude-resource-type", "test", "unit_test"),
        )
        shutil.copy(place, folder / "after.duckdb")
    finally:
        shutil.copy(before, place)


def compared(folder: Path, day: date) -> Probe:
    """Both warehouses in one connection, as `before` and `after`."""
    connection = duckdb.connect()
    for name in ("before", "after"):
        connection.execute(f"attach '{folder / name}.duckdb' as {name} (read_only)")
    return Probe(connection, day)


def session_day(market: Warehouse, index: int) -> date:
    sql = f"select trade_date from intermediate.int_sessions where session_idx = {index}"
    return market.frame(sql)["trade_date"][0].date()


def shuffle(connection) -> None:
    """Every raw row in another place."""
    for (name,) in connection.execute(
        "select table_name from information_schema.tables where table_schema = 'raw' "
        "and table_type = 'BASE TABLE'"
    ).fetchall():
        connection.execute(f"create temp table mixed as select * from raw.{name}")
        connection.execute(f"delete from raw.{name}")
        connection.execute(
            f"insert into raw.{name} select * from mixed order by md5(cast(rowid as text) || 'x')"
        )
        connection.execute("drop table mixed")


def corrupt_after(connection, day: date) -> None:
    """Other values in everything that was not known at the end of a day."""
    moment = datetime.combine(day, datetime.min.time()) + timedelta(hours=23)
    changes = {
        "prices": "open = 3 * open, high = 3 * high, low = 3 * low, close = 3 * close, "
        "volume = 5 * volume + 1000",
        "fundamentals": "pe_ratio = 2 * pe_ratio + 1, pb_ratio = pb_ratio + 9, roe = roe - 1, "
        "profit_margin = profit_margin - 1, revenue_growth_yoy = revenue_growth_yoy + 1, "
        "debt_to_equity = debt_to_equity + 3, current_ratio = current_ratio + 3",
        "directory": "market_cap = 2 * market_cap + 1e6",
        "macro": "value = value + 1",
        "short_positions": "short_pct = short_pct / 2 + 3",
        "announcements": "headline = 'Trading Halt', sentiment = 1",
        "corporate_actions": "ratio = ratio * 3",
    }
    for table, change in changes.items():
        connection.execute(f"update raw.{table} set {change} where {DATED[table]} > ?", [moment])
    connection.execute(
        "update raw.index_levels set close = close * 1.5 where trade_date > ?", [day]
    )
    connection.execute(
        "update raw.securities set delisted_on = null, delisting_available_at = null "
        "where delisting_available_at > ?",
        [moment],
    )


@pytest.fixture(scope="module")
def columns(built_market: Warehouse):
    return read_manifest(built_market.folder / "target" / "manifest.json", "ml").columns


@pytest.fixture(scope="module")
def future(built_market: Warehouse, tmp_path_factory) -> Probe:
    """Raw rows in another order, and everything after a session corrupted."""
    day = session_day(built_market, T)

    def alter(connection) -> None:
        shuffle(connection)
        corrupt_after(connection, day)

    folder = tmp_path_factory.mktemp("future")
    rebuild(built_market, folder, alter)
    return compared(folder, day)


def test_neither_the_order_of_raw_rows_nor_the_future_changes_a_bit(future: Probe) -> None:
    until = f"where trade_date <= date '{future.day}'"
    table = "marts.fct_features_daily"
    before, after = (f"select * from {which}.{table} {until}" for which in ("before", "after"))
    assert future.count(f"select count(*) from ({before})") > 15_000
    for one, other in ((before, after), (after, before)):
        assert future.count(f"select count(*) from (({one}) except all ({other}))") == 0


def test_the_corruption_reached_every_family(future: Probe, columns) -> None:
    """Else the probe would have proved nothing."""
    counts = ", ".join(
        f'count(*) filter (where b."{c.name}" is distinct from a."{c.name}")'
        for c in columns
        if c.family
    )
    row = future.connection.execute(
        f"select {counts} from before.marts.fct_features_daily as b "
        "inner join after.marts.fct_features_daily as a using (symbol, trade_date) "
        f"where trade_date > date '{future.day}'"
    ).fetchall()[0]
    families: dict[str, int] = {}
    for family, rows in zip((c.family for c in columns if c.family), row, strict=True):
        families[family] = families.get(family, 0) + rows
    assert len(families) == 7 and all(families.values()), families


@dataclass(frozen=True)
class Changed:
    """The three companies a probe alters, each in its own way."""

    scaled: str
    announced: str
    silent: str


@pytest.fixture(scope="module")
def chosen(built_market: Warehouse) -> Changed:
    """Companies without a planted event, traded in nearly every session."""
    truth = built_market.folder / "data" / "planted_truth.parquet"
    symbols = built_market.frame(
        "select symbol from marts.fct_features_daily where symbol not in "
        f"(select symbol from read_parquet('{truth}') where symbol is not null) group by symbol "
        "having count(*) filter (where is_traded) > 400 and min(exp(price_log)) > 0.1 "
        "and count(market_cap) > 150 and max(abs(ret_1d)) < 0.5 order by symbol limit 3"
    )["symbol"]
    assert len(symbols) == 3
    return Changed(*symbols)


@pytest.fixture(scope="module")
def rescaled(built_market: Warehouse, chosen: Changed, tmp_path_factory) -> Probe:
    """A shorter history, one company in other units, and two consolidations."""
    first, event = session_day(built_market, DROPPED), session_day(built_market, BREAK)

    def multiply(connection, symbol: str, factor: int, start: date) -> None:
        connection.execute(
            f"update raw.prices set open = open * {factor}, high = high * {factor}, "
            f"low = low * {factor}, close = close * {factor}, volume = volume / {factor} "
            "where symbol = ? and trade_date >= ?",
            [symbol, start],
        )

    def alter(connection) -> None:
        connection.execute("delete from raw.prices where trade_date < ?", [first])
        multiply(connection, chosen.scaled, 7, first)
        multiply(connection, chosen.announced, 10, event)
        multiply(connection, chosen.silent, 10, event)
        connection.execute(
            "insert into raw.corporate_actions "
            "(symbol, ex_date, action, ratio, available_at, source, loaded_at) "
            "values (?, ?, 'split', 0.1, ?, 'probe', now())",
            [chosen.announced, event, event - timedelta(days=20)],
        )

    folder, since = (
        tmp_path_factory.mktemp("rescaled"),
        session_day(built_market, DROPPED + LONGEST),
    )
    rebuild(built_market, folder, alter)
    return compared(folder, since)


def own_history(columns) -> list[str]:
    """Features of a company's own quotes alone, but for those that are levels on purpose."""
    level = {"atr_14", "price_log", "turnover_21"}
    return [
        c.name
        for c in columns
        if c.family in ("momentum", "volatility", "liquidity")
        and c.role == "feature"
        and c.name not in level
        and not c.name.endswith("_rank")
    ]


def differing(
    probe: Probe, names: list[str], where: str, tolerance: float = 1e-9, known_only: bool = False
) -> dict[str, int]:
    """Columns with other values beyond the longest window, and in how many rows.

    known_only: rows in which both have a value.
    """
    counts = []
    for name in names:
        b, a = f'cast(b."{name}" as double)', f'cast(a."{name}" as double)'
        near = f"abs({b} - {a}) <= {tolerance} * greatest(abs({b}), 1e-3)"
        same = f"({b} is not distinct from {a} or coalesce({near}, false))"
        known = f"{b} is not null and {a} is not null" if known_only else "true"
        counts.append(f"count(*) filter (where {known} and not {same})")
    row = probe.connection.execute(
        f"select {', '.join(counts)} from before.marts.fct_features_daily as b "
        "full join after.marts.fct_features_daily as a using (symbol, trade_date) "
        f"where trade_date >= date '{probe.day}' and {where}"
    ).fetchall()[0]
    return {name: rows for name, rows in zip(names, row, strict=True) if rows}


def test_older_sessions_than_the_longest_window_do_not_matter(
    rescaled: Probe, chosen: Changed, columns
) -> None:
    others = f"symbol not in ('{chosen.scaled}', '{chosen.announced}', '{chosen.silent}')"
    names = own_history(columns)
    assert len(names) > 30
    assert differing(rescaled, names, others) == {}


def test_units_do_not_matter(rescaled: Probe, chosen: Changed, columns) -> None:
    where = f"symbol = '{chosen.scaled}'"
    assert differing(rescaled, own_history(columns), where) == {}
    assert set(differing(rescaled, ["price_log", "atr_14"], where)) == {"price_log", "atr_14"}


def test_an_announced_consolidation_changes_nothing(
    rescaled: Probe, chosen: Changed, columns
) -> None:
    where = f"symbol = '{chosen.announced}'"
    assert differing(rescaled, own_history(columns), where) == {}
    assert "price_log" in differing(rescaled, ["price_log"], where)


def test_a_silent_consolidation_hides_values_until_the_verdict_and_changes_none(
    rescaled: Probe, chosen: Changed, columns
) -> None:
    where = f"symbol = '{chosen.silent}'"
    assert differing(rescaled, own_history(columns), where, known_only=True) == {}
    assert differing(rescaled, own_history(columns), where) != {}
    # the directory explains it some days later, and from then on the values are there
    verdict = (
        "select verdict, resolved_from_session_idx from after.intermediate.int_price_breaks "
        f"where security_id = '{chosen.silent}'"
    )
    ((word, resolved),) = rescaled.connection.execute(verdict).fetchall()
    assert word == "capital_change" and resolved is not None
    later = f"symbol = '{chosen.silent}' and a.session_idx >= {resolved}"
    assert differing(rescaled, own_history(columns), later) == {}


# --- training and evaluation --------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("invariance") / "p", make_market(), SMALL)


@pytest.fixture(scope="module")
def config(project):
    return read_config(project / "small.yml")


def load(project, config, features=None):
    manifest = project_manifest(project, project / "target" / "manifest.json")
    with open_warehouse(project) as warehouse:
        latest = latest_session(warehouse, manifest.features_daily)
        names = features or manifest.features(config.features)
        return read_panel(warehouse, manifest.panel, names, ("adv_20_median",)), latest


@pytest.fixture(scope="module")
def panel(project, config):
    return load(project, config)[0]


def out_of_fold(panel, config):
    """Rows and probabilities of every fold."""
    plan = plan_folds(panel.session_idx, config.folds)
    found = []
    for fold in plan.folds:
        rows = fold.train_rows(panel.label_end_idx)
        test = np.flatnonzero(plan.test_rows(fold, panel.session_idx, panel.label_end_idx))
        found.append((test, fit_and_score(panel, fold, rows, test, config).probability))
    return found


def session_score(panel, config) -> float:
    folds = out_of_fold(panel, config)
    rows = np.concatenate([test for test, _ in folds])
    score = np.concatenate([probability for _, probability in folds])
    return mean_session_auc(panel.session_idx[rows], score, panel.up[rows])


def test_labels_shuffled_within_sessions_score_one_half(panel, config) -> None:
    rng = np.random.default_rng(1)
    order = np.lexsort((rng.random(len(panel)), panel.session_idx))
    assert (panel.session_idx[order] == panel.session_idx).all()
    shuffled = replace(panel, up=panel.up[order], returns=panel.returns[order])
    assert session_score(panel, config) > 0.55
    assert abs(session_score(shuffled, config) - 0.5) < 0.02


def test_a_market_wide_column_alone_has_a_session_score_of_exactly_one_half(
    project, config
) -> None:
    market = load(project, config, ("rba_cash_rate",))[0]
    assert session_score(market, config) == 0.5
    folds = out_of_fold(market, config)
    pooled = pooled_auc(
        np.concatenate([p for _, p in folds]), market.up[np.concatenate([t for t, _ in folds])]
    )
    assert pooled != 0.5


def test_labels_of_the_test_fold_change_no_prediction_of_it(panel, config) -> None:
    plan = plan_folds(panel.session_idx, config.folds)
    before = out_of_fold(panel, config)
    for number, (fold, (test, probability)) in enumerate(zip(plan.folds, before, strict=True)):
        returns, up = panel.returns.copy(), panel.up.copy()
        returns[test] += 100
        up[test] = 1 - up[test]
        altered = replace(panel, returns=returns, up=up)
        rows = fold.train_rows(panel.label_end_idx)
        again = fit_and_score(altered, fold, rows, test, config).probability
        np.testing.assert_array_equal(again, probability, err_msg=f"fold {number}")


def test_a_column_that_knows_the_answer_rings_the_alarm(project, config) -> None:
    panel, latest = load(project, config)

    def alarms(which) -> set[str]:
        run = train(
            which, config, latest=latest, label="close", git_commit=None, report=lambda line: None
        )
        results = judge_run(run, read_gates(), {}, SIGNALS)
        return {r.gate.name for r in results if r.gate.level == "alarm" and not r.passed}

    noisy = panel.returns + np.random.default_rng(2).normal(0, 0.05, len(panel))
    oracle = replace(
        panel,
        features=(*panel.features, "oracle"),
        values=np.asfortranarray(np.column_stack([panel.values, noisy])),
    )
    assert "auc_too_good" not in alarms(panel)
    assert "auc_too_good" in alarms(oracle)
