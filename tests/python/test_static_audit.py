"""Every rule of the static layer: models that break it are refused, the project is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from built_warehouse import Warehouse

from ml.audit.static import (
    DIALECTS,
    SQL_RULES,
    Allowed,
    Finding,
    Model,
    audit_static,
    check_graph,
    check_models,
    check_python,
    read_compiled,
    read_exceptions,
    training_code,
    without_exceptions,
)
from ml.errors import AsxwError
from ml.manifest import FEATURES_NODE, PANEL_NODE

PROJECT = Path(__file__).parents[2]

# rule: models that break it, and the same thing said in a way that looks at the past alone
BAD_MODELS = {
    "lead": [
        "select lead(close) over (partition by spell_key order by session_idx) as x from grid",
        "select lead(close, 21) over w as x from grid window w as (order by session_idx)",
        "select lag(close, -1) over (partition by spell_key order by session_idx) as x from grid",
        "select lead(session_idx, 2) over (order by session_idx) as x from grid",
        "select lead(session_idx) over (order by session_idx desc) as x from grid",
    ],
    "following": [
        "select avg(close) over (order by session_idx rows between 9 preceding and 1 following) "
        "as x from grid",
        "select avg(close) over w as x from grid window w as (partition by spell_key "
        "order by session_idx rows between unbounded preceding and unbounded following)",
        "select first_value(close) over (order by session_idx "
        "rows between current row and unbounded following) as x from grid",
    ],
    "unordered_window": [
        "select close - avg(close) over (partition by security_id) as x from grid",
        "select max(close) over () as x from grid",
        "select stddev_samp(close) over w as x from grid window w as (partition by spell_key)",
    ],
    "descending_window": [
        "select row_number() over (partition by security_id order by available_at desc) as x "
        "from reports",
        "select lag(close) over w as x from grid "
        "window w as (partition by spell_key order by session_idx desc)",
    ],
    "back_fill": [
        "select first_value(roe ignore nulls) over (order by session_idx) as x from grid",
        "select lead(roe ignore nulls) over (order by session_idx) as x from grid",
    ],
    "whole_history": [
        "select avg(mom_1) as mean, stddev_samp(mom_1) as sd from grid",
        "select security_id, max(period_end) as period_end from reports group by security_id",
        "select grid.close / (select max(close) from grid) as x from grid",
    ],
    "array_ahead": [
        "select all_close[row_at + 1] / close as x from spells",
        "select all_close[6] as x from spells",
        "select total_1_close[cardinality(all_session_idx)] as x from spells",
        "select array_max(all_close) as x from spells",
    ],
    "latest_row": [
        "select distinct on (security_id) security_id, roe from reports "
        "order by security_id, period_end desc",
    ],
    "unbounded_version": [
        "with versions as (select security_id, valid_from, roe from reports) "
        "select grid.close, versions.roe from grid inner join versions "
        "on grid.security_id = versions.security_id",
        "with versions as (select security_id, from_session_idx, before_session_idx from reports) "
        "select grid.close from grid inner join versions on grid.security_id = "
        "versions.security_id and grid.session_idx < versions.before_session_idx",
    ],
    "clock": [
        "select * from grid where trade_date <= current_date",
        "select now() as built_at from grid",
        "select close + random() * 0 as x from grid",
    ],
    "filled_label": [
        "select coalesce(price_21 / close - 1, 0) as return_1m_fwd from ahead",
        "select case when r > 0 then 1 else 0 end as return_1m_fwd_sign from ahead",
    ],
    "unlabelled_row": [
        "select a.mom_1, l.return_1m_fwd from features as a left join labels as l on a.k = l.k "
        "where a.is_traded",
        "select a.mom_1 from features as a where l.return_1m_fwd is not null or a.is_traded",
        "select a.mom_1 from features as a",
    ],
}
DUCKDB_ONLY = {
    "back_fill": ["select grid.x from grid asof join reports on grid.at <= reports.at"],
    "clock": ["select today() as built_on from grid"],
}
GOOD_MODELS = [
    "select lag(close, 5) over (partition by spell_key order by session_idx) as x from grid",
    "select valid_from, lead(valid_from) over (partition by security_id order by valid_from) "
    "as valid_to from reports",
    "select avg(close) over (order by session_idx rows between 19 preceding and current row) "
    "as x from grid",
    "select rank() over (partition by session_idx order by mom_1 desc) as x, "
    "count(*) over (partition by trade_date) as n from grid",
    "select session_idx, percentile_cont(0.5) within group (order by mom_1) as m from grid "
    "group by session_idx",
    "select min(trade_date) as first_day from grid",
    "select all_close[row_at] / all_close[row_at - 5] as x, all_close, "
    "generate_series(1, cardinality(all_session_idx)) as n from (select spell_key, "
    "array_agg(close order by session_idx) as all_close from grid group by spell_key) as spells",
    "select distinct on (security_id, session_idx) security_id, roe from reports "
    "order by security_id, session_idx, available_at desc",
    "with versions as (select security_id, valid_from, roe from reports) "
    "select versions.roe from grid inner join versions on grid.security_id = "
    "versions.security_id and grid.available_at >= versions.valid_from",
]


def model(sql: str, rule: str = "", dialect: str = "duckdb") -> Model:
    """A model of that SQL in the place the rule looks at."""
    if rule == "filled_label":
        return Model("int_labels", "intermediate/labels/int_labels.sql", sql, dialect, False)
    if rule == "unlabelled_row":
        path = "intermediate/labels/int_training_panel.sql"
        return Model("int_training_panel", path, sql, dialect, False)
    return Model("int_bad", "intermediate/features/int_bad.sql", sql, dialect, rule != "clock")


@pytest.mark.parametrize(
    ("rule", "sql", "dialect"),
    [(r, s, d) for r, many in BAD_MODELS.items() for s in many for d in ("duckdb", "postgres")
     if not ("ignore nulls" in s and d == "postgres")]
    + [(r, s, "duckdb") for r, many in DUCKDB_ONLY.items() for s in many],
)  # fmt: skip
def test_a_bad_model_is_refused_by_its_rule(rule: str, sql: str, dialect: str) -> None:
    found = check_models([model(sql, rule, dialect)])
    assert rule in {f.rule for f in found}, found


def test_every_rule_has_a_bad_model() -> None:
    assert set(BAD_MODELS) == set(SQL_RULES)


@pytest.mark.parametrize("dialect", ["duckdb", "postgres"])
@pytest.mark.parametrize("sql", GOOD_MODELS)
def test_looking_back_is_allowed(sql: str, dialect: str) -> None:
    assert check_models([model(sql, dialect=dialect)]) == []


def test_columns_behind_a_star_are_known() -> None:
    versions = Model("int_versions", "x.sql", "select k, valid_from from r", "duckdb", True)
    reader = (
        "with versions as (select * from marts.int_versions), again as (select * from versions) "
        "select grid.k from grid inner join again on grid.k = again.k"
    )
    rules = [f.rule for f in check_models([versions, model(reader)])]
    assert rules == ["unbounded_version"]


def test_a_model_that_cannot_be_parsed_is_named() -> None:
    with pytest.raises(AsxwError, match=r"int_bad\.sql: the compiled SQL cannot be parsed"):
        check_models([model("select from where (")])


def test_a_finding_names_the_place_and_the_words() -> None:
    sql = "with ahead as (select lead(close) over (order by session_idx) as x from g) select 1 as y"
    (found,) = check_models([model(sql)])
    assert (found.where, found.place) == ("int_bad", "ahead")
    assert found.what == "LEAD(close) OVER (ORDER BY session_idx NULLS LAST)"


# --- the graph ----------------------------------------------------------------------------------

LABELS = "model.asx_warehouse.int_labels"
LATEST = "model.asx_warehouse.fct_fundamentals_latest"
RUNS = "source.asx_warehouse.ml.runs"
PRICES = "source.asx_warehouse.raw.prices"


def node(path: str, *parents: str, macros: tuple[str, ...] = ()) -> dict:
    return {
        "resource_type": "model",
        "name": Path(path).stem,
        "path": path,
        "depends_on": {"nodes": list(parents), "macros": list(macros)},
    }


def graph() -> dict:
    """A small graph that keeps the rules."""
    grid = "model.asx_warehouse.int_daily_grid"
    staged = "model.asx_warehouse.stg_prices"
    return {
        "sources": {PRICES: {"columns": {"available_at": {}}}, RUNS: {"columns": {}}},
        "nodes": {
            staged: node(
                "staging/raw/stg_prices.sql", PRICES, macros=("macro.asx_warehouse.known_by",)
            ),
            grid: node("intermediate/spine/int_daily_grid.sql", staged),
            FEATURES_NODE: node("marts/features/fct_features_daily.sql", grid),
            LABELS: node("intermediate/labels/int_labels.sql", grid),
            PANEL_NODE: node("intermediate/labels/int_training_panel.sql", FEATURES_NODE, LABELS),
            LATEST: node("marts/fundamentals/fct_fundamentals_latest.sql", staged),
        },
    }


def test_the_small_graph_keeps_the_rules() -> None:
    assert check_graph(graph()) == []


@pytest.mark.parametrize(
    ("rule", "reader", "read"),
    [
        ("labels_in_features", "model.asx_warehouse.int_daily_grid", LABELS),
        ("label_readers", LATEST, LABELS),
        ("results_in_panel", PANEL_NODE, RUNS),
        ("latest_in_panel", "model.asx_warehouse.int_daily_grid", LATEST),
    ],
)
def test_reading_what_one_may_not_is_refused(rule: str, reader: str, read: str) -> None:
    content = graph()
    content["nodes"][reader]["depends_on"]["nodes"].append(read)
    assert rule in {f.rule for f in check_graph(content)}


def test_a_raw_table_read_without_its_time_is_refused() -> None:
    content = graph()
    content["nodes"]["model.asx_warehouse.stg_prices"]["depends_on"]["macros"].clear()
    assert [f.rule for f in check_graph(content)] == ["unfiltered_raw_table"]


# --- Python -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("shuffled_rows", "from sklearn.model_selection import train_test_split"),
        ("shuffled_rows", "folds = model_selection.KFold(5)"),
        ("shuffled_rows", "split(rows, shuffle=True)"),
        ("filled_values", "frame = frame.bfill()"),
        ("filled_values", "frame.fillna(0)"),
        ("shifted_back", "frame['y'] = frame['close'].shift(-21)"),
        ("latest_in_training", "sql = 'select * from marts.fct_fundamentals_latest'"),
    ],
)
def test_bad_training_code_is_refused(rule: str, text: str) -> None:
    assert rule in {f.rule for f in check_python({"ml/training.py": text})}


def test_careful_training_code_is_not() -> None:
    text = "frame.shift(21)\nsplit(rows, shuffle=False)\nsql = 'select * from fct_features_daily'"
    assert check_python({"ml/training.py": text}) == []


# --- exceptions, and the project itself ---------------------------------------------------------


def test_an_exception_covers_one_place_and_must_be_needed() -> None:
    finding = Finding("lead", "int_a", "usable", "lead(x)")
    elsewhere = Finding("lead", "int_a", "other", "lead(x)")
    allowed = Allowed("lead", "int_a", "usable", "because")
    assert without_exceptions([finding, elsewhere], [allowed]) == [elsewhere]
    (stale,) = without_exceptions([], [allowed])
    assert (stale.rule, stale.where, stale.place) == ("stale_exception", "int_a", "usable")


def test_the_project_breaks_no_rule(built_market: Warehouse) -> None:
    content, models = read_compiled(built_market.folder / "target", DIALECTS["memory"])
    assert sum(m.is_behind_panel for m in models) > 30
    findings = check_graph(content) + check_models(models) + check_python(training_code(PROJECT))
    assert without_exceptions(findings, read_exceptions()) == []


def test_the_project_breaks_no_rule_on_postgres_either(tmp_path: Path) -> None:
    audit = audit_static(PROJECT, tmp_path)
    assert audit.findings == () and audit.models > 190
