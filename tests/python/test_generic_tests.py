"""The tests of the data are tested: each must fail on wrong data, and pass on right data."""

from __future__ import annotations

import json
import shutil

import pytest
from built_warehouse import NO_TESTS, PROJECT, Warehouse

GENERIC = PROJECT / "tests" / "generic"


def values(columns: str, *rows: str) -> str:
    listed = ", ".join(f"({row})" for row in rows)
    return f"select * from (values {listed}) as given ({columns})"


def doubles(*texts: str) -> str:
    listed = ", ".join(f"(cast('{text}' as double precision))" for text in texts)
    return f"select * from (values {listed}, (null)) as given (x)"


# test, its arguments, the column it stands on (None: the model), the data, rows that must fail
GRAIN = {"columns": ["k", "day"]}
RANGE = {"min_value": 0, "max_value": 1}
OTHER = {"other": "ref('three_rows')"}
SHARE = {"share": "share", "minimum": "minimum"}
HOLE = {"share": "share", "due_rows": "due_rows", "minimum_rows": 20, "share_of_median": 0.5}
SPAN = {"key": ["k"], "range_from": "valid_from", "range_to": "valid_to"}
STATIC = {"sessions": 3, "share": 0.5}
STEPS = {"group_by": ["k"], "column": "n"}
REACH = {"other": "ref('three_rows')", "other_column": "n"}
LABELS = "security_id, session_idx, label_status, return_1m_fwd, return_1m_fwd_sign"

CASES = {
    "unique_grain": (
        ("unique_combination", GRAIN, None),
        values("k, day", "1, 1", "1, 2", "2, 1"),
        0,
    ),
    "unique_twice": (
        ("unique_combination", GRAIN, None),
        values("k, day", "1, 1", "1, 1", "1, 1", "2, 1", "2, 1", "2, 2"),
        2,
    ),
    "count_same": (("same_row_count", OTHER, None), values("n", "7", "8", "9"), 0),
    "count_lost": (("same_row_count", OTHER, None), values("n", "1", "2"), 1),
    "count_doubled": (("same_row_count", OTHER, None), values("n", "1", "2", "3", "3"), 1),
    "count_same_condition": (
        ("same_row_count", OTHER | {"condition": "n > 1"}, None),
        values("n", "1", "2"),
        0,
    ),
    "count_lost_condition": (
        ("same_row_count", OTHER | {"condition": "n > 1"}, None),
        values("n", "1"),
        1,
    ),
    "before_right": (
        ("before", {"earlier": "a", "later": "b"}, None),
        values("a, b", "1, 2", "null, 2", "1, null"),
        0,
    ),
    "before_equal_or_after": (
        ("before", {"earlier": "a", "later": "b"}, None),
        values("a, b", "1, 2", "2, 2", "3, 2"),
        2,
    ),
    "range_inside": (
        ("accepted_range", RANGE, "x"),
        doubles("0", "0.5", "1"),
        0,
    ),
    "range_outside": (
        ("accepted_range", RANGE, "x"),
        doubles("-0.001", "1.001", "0.5"),
        2,
    ),
    "range_not_finite": (
        ("accepted_range", {}, "x"),
        doubles("nan", "infinity", "-infinity", "1e300", "-1e300"),
        3,
    ),
    "range_above_only": (
        ("accepted_range", {"min_value": 0}, "x"),
        doubles("nan", "-1", "9"),
        2,
    ),
    "ranges_inside": (
        ("accepted_ranges", {"ranges": {"x": [0, 1], "y": [None, None]}}, None),
        values("x, y", "0.0, 1e300", "1.0, -1e300", "null, null"),
        0,
    ),
    "ranges_outside": (
        ("accepted_ranges", {"ranges": {"x": [0, 1], "y": [None, 1], "z": [-1, None]}}, None),
        values("x, y, z", "0.5, 2.0, -1.0", "1.5, 3.0, 0.0", "-0.5, 0.0, null"),
        2,
    ),
    "ranges_not_finite": (
        ("accepted_ranges", {"ranges": {"x": [None, None], "y": [0, None]}}, None),
        "select x, x as y from (" + doubles("1", "nan") + ") as numbers",
        2,
    ),
    "ranges_infinite": (
        ("accepted_ranges", {"ranges": {"x": [None, None], "y": [None, 5]}}, None),
        "select x, 5.0 as y from (" + doubles("-infinity", "1e300") + ") as numbers",
        1,
    ),
    "coverage_enough": (
        ("coverage_at_least", SHARE, None),
        values("share, minimum", "0.9, 0.9", "1, 0.9", "null, 0.9"),
        0,
    ),
    "coverage_lost": (
        ("coverage_at_least", SHARE, None),
        values("share, minimum", "0.25, 0.9", "0.89, 0.9", "0.95, 0.9"),
        2,
    ),
    # sessions with few rows are not judged, nor is a feature that is rare on every session
    "hole_none": (
        ("no_hole_in_time", HOLE, None),
        values(
            "feature, trade_date, share, due_rows",
            *(f"'often', {day}, 0.9, 20" for day in range(5)),
            *(f"'rare', {day}, 0.1, 20" for day in range(5)),
            "'often', 6, 0.0, 19",
            "'often', 7, null, 0",
            "'often', 8, 0.45, 20",
        ),
        0,
    ),
    "hole_two_sessions": (
        ("no_hole_in_time", HOLE, None),
        values(
            "feature, trade_date, share, due_rows",
            *(f"'often', {day}, 0.9, 20" for day in range(5)),
            "'often', 6, 0.0, 20",
            "'often', 7, 0.44, 500",
        ),
        2,
    ),
    "overlap_none": (
        ("no_overlap", SPAN, None),
        values("k, valid_from, valid_to", "1, 0, 5", "1, 5, 9", "1, 9, null", "2, 0, null"),
        0,
    ),
    "overlap_closed": (
        ("no_overlap", SPAN, None),
        values("k, valid_from, valid_to", "1, 0, 6", "1, 5, 9", "2, 0, 6"),
        1,
    ),
    "overlap_open": (
        ("no_overlap", SPAN, None),
        values("k, valid_from, valid_to", "1, 0, null", "1, 5, 9"),
        1,
    ),
    "overlap_same_start": (
        ("no_overlap", SPAN, None),
        values("k, valid_from, valid_to", "1, 0, 6", "1, 0, 9"),
        2,
    ),
    "gap_none": (
        ("no_gap", SPAN, None),
        values("k, valid_from, valid_to", "1, 0, 5", "1, 5, 9", "1, 9, null", "2, 3, null"),
        0,
    ),
    "gap_of_one_and_overlap_and_after_the_open_one": (
        ("no_gap", SPAN, None),
        values("k, valid_from, valid_to", "1, 0, 5", "1, 6, 9", "1, 8, null", "1, 9, null"),
        3,
    ),
    "open_one_each": (
        ("one_open_row", {"key": ["k"], "range_to": "valid_to"}, None),
        values("k, valid_to", "1, 5", "1, null", "2, null"),
        0,
    ),
    "open_none_and_two": (
        ("one_open_row", {"key": ["k"], "range_to": "valid_to"}, None),
        values("k, valid_to", "1, 5", "1, 6", "2, null", "2, null", "3, null"),
        2,
    ),
    # x moves for most; y is the same for all, or nothing, or too short to judge
    "static_none": (
        ("no_static_feature", STATIC | {"columns": ["x", "y", "z"]}, None),
        values(
            "symbol, x, y, z",
            *(f"'moves', {day}, 1, 0" for day in range(4)),
            *["'stays', 7, 1, 0"] * 4,
            *(f"'short', 5, 1, {day}" for day in range(3)),
        ),
        0,
    ),
    "static_most": (
        ("no_static_feature", STATIC | {"columns": ["x", "y"]}, None),
        values(
            "symbol, x, y",
            *(f"'moves', {day}, {day}" for day in range(4)),
            *(f"'stays', 7, {day}" for day in range(4)),
            *["'too', 8, null"] * 4,
        ),
        1,
    ),
    "steps_of_one": (
        ("contiguous", STEPS, None),
        values("k, n", "1, 5", "1, 6", "1, 7", "2, 1", "2, 2", "3, 9"),
        0,
    ),
    "steps_gap_and_repeat": (
        ("contiguous", STEPS, None),
        values("k, n", "1, 5", "1, 7", "1, 8", "2, 1", "2, 1"),
        2,
    ),
    "reach_as_far": (("reaches_as_far_as", REACH, "day"), values("day", "1", "3"), 0),
    "reach_short": (("reaches_as_far_as", REACH, "day"), values("day", "1", "2"), 1),
    "reach_nothing": (
        ("reaches_as_far_as", REACH, "day"),
        "select cast(null as integer) as day",
        1,
    ),
    "reach_condition": (
        ("reaches_as_far_as", REACH | {"condition": "n < 3"}, "day"),
        values("day", "2"),
        0,
    ),
    "labels_agree": (
        ("label_status_agrees", {}, None),
        values(
            LABELS,
            "'a', 0, 'ok', 0.5, 1",
            "'a', 1, 'ok', 0.0, 0",
            "'a', 2, 'ok', -0.5, 0",
            "'a', 3, 'delisted', -1.0, 0",
            "'a', 4, 'delisted', null, null",
            "'a', 5, 'immature', null, null",
            "'a', 6, 'suspended', null, null",
            "'a', 7, 'suspect_break', null, null",
        ),
        0,
    ),
    "labels_disagree": (
        ("label_status_agrees", {}, None),
        values(
            LABELS,
            "'no label', 0, 'ok', null, null",
            "'immature', 1, 'immature', 0.5, 1",
            "'break', 2, 'suspect_break', 0.5, 1",
            "'suspended', 3, 'suspended', 0.0, 0",
            "'unknown is down', 4, 'immature', null, 0",
            "'up is down', 5, 'ok', 0.5, 0",
            "'flat is up', 6, 'ok', 0.0, 1",
            "'no sign', 7, 'ok', 0.5, null",
        ),
        8,
    ),
}


def results_of(warehouse: Warehouse, *arguments: str) -> dict[str, dict]:
    """Runs dbt and returns the results of its tests by name."""
    done = warehouse.run("dbt", *arguments, check=False)
    # 0: all green, 1: something failed; 2 is a broken project
    assert done.returncode in (0, 1), done.stdout + done.stderr
    results = json.loads((warehouse.target / "run_results.json").read_text())["results"]
    errors = [result["message"] for result in results if result["status"] == "error"]
    assert not errors, errors
    return {
        result["unique_id"].split(".")[2]: result
        for result in results
        if result["unique_id"].startswith("test.")
    }


@pytest.fixture(scope="module")
def generic_results(tmp_path_factory):
    """One build of a throw-away project with a model and a test per case."""
    folder = tmp_path_factory.mktemp("generic")
    shutil.copytree(GENERIC, folder / "tests" / "generic")
    (folder / "macros").mkdir()
    shutil.copy(PROJECT / "macros" / "portable" / "outside_range.sql", folder / "macros")
    (folder / "dbt_project.yml").write_text(
        "name: cases\nprofile: cases\nconfig-version: 2\nmodel-paths: [models]\n"
    )
    (folder / "profiles.yml").write_text(
        "cases: {target: dev, outputs: {dev: {type: duckdb, path: warehouse.duckdb}}}\n"
    )
    models = folder / "models"
    models.mkdir()
    (models / "three_rows.sql").write_text(values("n", "1", "2", "3"))
    described = []
    for name, ((test, arguments, column), sql, _) in CASES.items():
        (models / f"{name}.sql").write_text(sql)
        check = [{test: {"name": f"{name}_is_tested", "arguments": arguments}}]
        model = {"name": name}
        if column is None:
            model["data_tests"] = check
        else:
            model["columns"] = [{"name": column, "data_tests": check}]
        described.append(model)
    # JSON is YAML
    (models / "models.yml").write_text(json.dumps({"version": 2, "models": described}))
    return results_of(Warehouse(folder, project=folder), "build")


@pytest.mark.parametrize("name", CASES)
def test_generic_test_tells_wrong_from_right(generic_results, name):
    expected = CASES[name][2]
    result = generic_results[f"{name}_is_tested"]
    assert result["failures"] == expected
    assert result["status"] == ("fail" if expected else "pass")


def test_every_generic_test_fails_and_passes_somewhere():
    outcomes = {(test, failures > 0) for (test, _, _), _, failures in CASES.values()}
    names = {path.stem for path in GENERIC.glob("*.sql")}
    assert outcomes == {(name, fails) for name in names for fails in (True, False)}


def test_every_generic_test_is_described():
    text = (GENERIC / "README.md").read_text()
    for path in GENERIC.glob("*.sql"):
        assert f"`{path.stem}`" in text


# eighty companies: medians and z-scores need fewer members than in a whole market
VARS = ("--vars", "{sector_min_members: 1, zscore_min_members: 2}")
QUALITY = ("fct_pipeline_funnel", "fct_feature_coverage_by_session", "fct_feature_coverage")
SELECTED = (
    "fct_pipeline_funnel",
    "fct_feature_coverage_by_session",
    "fct_feature_coverage",
    "fct_features_daily",
    "int_labels",
    "int_training_panel",
    "test_type:singular",
)
TAMPER = """
    -- a family lost three quarters of its rows, on every session alike
    update marts.fct_features_daily
    set vol_30 = null, vol_60 = null, vol_90 = null, vol_ratio_30_90 = null,
        downside_vol_60 = null, skew_ret_60 = null, max_ret_21 = null, atr_pct = null, atr_14 = null
    where symbol not in (
        select symbol
        from (select symbol, row_number() over (order by symbol) as n from marts.dim_securities)
        where n % 4 = 0
    );
    -- and another one ten sessions, which an average does not show
    update marts.fct_features_daily set mom_5 = null where session_idx between 200 and 209;
    -- a value that cannot be, and one that was not known
    update marts.fct_features_daily set mom_1 = 'nan' where session_idx = 150;
    update marts.fct_features_daily set max_available_at = trade_date + interval 17 hour
    where session_idx = 160;
    -- rows lost on the way, the latest session with them
    delete from marts.fct_features_daily where session_idx = 170 or session_idx > 320;
    -- today's fundamentals joined to history
    update marts.fct_features_daily set eps = latest.eps, roe = latest.roe
    from marts.fct_fundamentals_latest as latest
    where latest.symbol = fct_features_daily.symbol;
    -- and then the latest table of a query that kept one symbol
    delete from marts.fct_fundamentals_latest
    where symbol > (select min(symbol) from marts.fct_fundamentals_latest);
    -- an unknown outcome taken for a fall
    update intermediate.int_labels set return_1m_fwd_sign = 0 where label_status = 'immature';
    -- prices beyond the calendar
    insert into staging.stg_prices (symbol, trade_date, close, volume)
    values ('AAA', date '2099-01-05', 1, 1), ('AAA', date '2009-01-05', 1, 1);
    -- American prices in a warehouse that is built for the Australian market
    insert into raw.loaded_layouts (layout, timezone) values ('us', 'America/New_York');
    -- more announcements of a session than a packed sum has room for, and just as many
    insert into intermediate.int_announcements (security_id, session_idx)
    select 'flood', 100 from generate_series(1, 1041)
    union all select 'brook', 100 from generate_series(1, 1040);
    -- the last training label ends four sessions before the test block, or five, or six; with an
    -- embargo of three, three or four; and once no run says what the embargo was
    insert into ml.runs (run_id, parameters_json)
    values
        ('leaks', '{"folds": {"embargo": 5, "holdout": 0}}'),
        ('purged', '{"folds": {"embargo": 5, "holdout": 0}}'),
        ('short', '{"folds": {"embargo": 3, "holdout": 0}}');
    insert into ml.folds
        (run_id, fold, role, first_session_idx, last_session_idx, last_label_end_idx)
    values
        ('leaks', 1, 'train', 0, 75, 96), ('leaks', 1, 'test', 100, 120, 141),
        ('leaks', 2, 'train', 0, 74, 95), ('leaks', 2, 'test', 100, 120, 141),
        ('purged', 1, 'train', 0, 73, 94), ('purged', 1, 'test', 100, 120, 141),
        ('short', 1, 'train', 0, 76, 97), ('short', 1, 'test', 100, 120, 141),
        ('short', 2, 'train', 0, 75, 96), ('short', 2, 'test', 100, 120, 141),
        ('untold', 1, 'train', 0, 9, 30), ('untold', 1, 'test', 100, 120, 141);
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A small invented market, loaded and built; its tests, then those after the damage."""
    warehouse = Warehouse(tmp_path_factory.mktemp("damage"))
    market = str(warehouse.folder / "market")
    warehouse.run("asxw", "sample-market", market, "--symbols", "80", "--sessions", "330")
    warehouse.run("asxw", "load", market, "--layout", "sample")
    warehouse.run("dbt", "build", *NO_TESTS, *VARS)
    healthy = results_of(warehouse, "test", "--select", *SELECTED, *VARS)
    warehouse.execute(TAMPER)
    warehouse.run("dbt", "run", "--select", *QUALITY, *VARS)
    damaged = results_of(warehouse, "test", "--select", *SELECTED, *VARS)
    uncovered = warehouse.rows(
        "select feature from marts.fct_feature_coverage where due_coverage < min_coverage"
    )
    return healthy, damaged, {feature for (feature,) in uncovered}


def failing(results: dict[str, dict]) -> set[str]:
    return {name for name, result in results.items() if result["status"] == "fail"}


@pytest.mark.slow
def test_nothing_fails_before_the_damage(built):
    healthy, _, _ = built
    assert not failing(healthy)
    assert healthy["assert_market_days_are_covered"]["status"] == "warn"


@pytest.mark.slow
def test_a_family_that_lost_three_quarters_of_its_rows_fails(built):
    _, damaged, uncovered = built
    lost = {"vol_30", "vol_60", "vol_90", "downside_vol_60", "max_ret_21", "atr_pct", "atr_14"}
    assert lost <= uncovered
    assert "mom_5" not in uncovered
    assert any(name.startswith("coverage_at_least_") for name in failing(damaged))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("test", "rows"),
    [
        ("no_hole_in_time_fct_feature_coverage_by_session", 10),
        ("same_row_count_fct_features_daily", 1),
        ("reaches_as_far_as_fct_features_daily", 1),
        ("accepted_ranges_fct_features_daily", 1),
        ("before_fct_features_daily", None),
        ("no_static_feature_fct_features_daily", 2),
        ("assert_every_reporter_has_a_latest_row", None),
        ("label_status_agrees_int_labels", None),
        ("assert_funnel_adds_up", None),
        ("assert_calendar_reaches_prices", 2),
        ("assert_layouts_are_of_the_market", 1),
        ("assert_folds_are_purged", 4),
        ("assert_announcements_fit_their_sums", 1),
    ],
)
def test_damage_is_found(built, test, rows):
    healthy, damaged, _ = built
    names = [name for name in damaged if name.startswith(test)]
    assert len(names) >= 1 and set(names) <= set(healthy)
    failed = [damaged[name] for name in names if damaged[name]["status"] == "fail"]
    assert len(failed) == 1
    if rows is not None:
        assert failed[0]["failures"] == rows
