"""Unit tests of dbt with the project's fixtures, on both engines: right passes, wrong fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from built_warehouse import PROJECT, Warehouse
from postgres_fixture import Database

# as a staging view declares them; a string has no length
GIVEN = """
select
    cast(null as bigint) as n,
    cast(null as double precision) as x,
    cast(null as boolean) as flag,
    cast(null as date) as day,
    cast(null as timestamp) as moment,
    cast(null as text) as words
"""
TESTED = """
with given as (

    select * from {{ ref('given') }}

),

other as (

    select * from {{ ref('other') }}

)

select
    given.*,
    (select count(*) from other) as others
from given
"""
ROW = {
    "n": 9007199254740993,
    "x": 0.1,
    "flag": True,
    "day": "2024-02-29",
    "moment": "2024-02-29 16:30:00.5",
    "words": 'it\'s "50 %", {a; b} -- c',
}
LONG = "x" * 400
CSV = (
    "n,x,flag,day,moment,words\n"
    '9007199254740993,0.1,true,2024-02-29,2024-02-29 16:30:00.5,"it\'s ""50 %"", {a; b} -- c"\n'
    ",,,,,\n"
)
EMPTY_ROW: dict[str, Any] = dict.fromkeys(ROW)
SQL = (
    "select cast(1 as bigint) as n, cast(0.5 as double precision) as x, true as flag, "
    "date '2024-01-01' as day, timestamp '2024-01-01 10:00:00' as moment, 'a' as words"
)


def case(given: Any, expected: Any, other: Any = ()) -> dict[str, Any]:
    def rows(values: Any) -> dict[str, Any]:
        if isinstance(values, str):
            return {"format": "sql" if values.startswith("select") else "csv", "rows": values}
        return {"rows": list(values)}

    return {
        "model": "tested",
        "given": [
            {"input": "ref('given')", **rows(given)},
            {"input": "ref('other')", **rows(other)},
        ],
        "expect": rows(expected),
    }


PASSES = {
    "every_type": case([ROW], [ROW]),
    "csv_as_rows": case(CSV, [ROW, EMPTY_ROW]),
    "rows_as_csv": case([EMPTY_ROW, ROW], CSV),
    "sql_as_rows": case(SQL, [{"n": 1, "x": 0.5, "flag": True, "words": "a"}]),
    "rows_as_sql": case(
        [{"n": 1}],
        f"select *, 0 as others from ({SQL}) as s where false union all "
        "select 1, null, null, null, null, null, 0",
    ),
    "columns_not_named_are_null": case([{"words": "a"}], [{"n": None, "x": None, "words": "a"}]),
    "columns_of_some_rows": case(
        [{"n": 1}, {"x": 2.5}], [{"n": 1, "x": None}, {"n": None, "x": 2.5}]
    ),
    "columns_in_capitals": case([{"N": 1}, {"n": 2}], [{"n": 1}, {"N": 2}]),
    "fewer_columns_expected": case([ROW], [{"day": "2024-02-29"}]),
    "no_rows": case([], []),
    "no_rows_of_another": case([{"n": 1}], [{"n": 1, "others": 0}]),
    "rows_of_another": case([{"n": 1}], [{"n": 1, "others": 2}], other=[{"k": 1}, {"k": 1}]),
    "rows_in_another_order": case([{"n": 1}, {"n": 2}], [{"n": 2}, {"n": 1}]),
    "long_text": case([{"words": LONG}], [{"words": LONG}]),
}
FAILS = {
    "other_value": case([ROW], [ROW | {"n": 9007199254740992}]),
    "last_digit": case([{"x": 0.1}], [{"x": 0.10000000000000002}]),
    "null_is_not_zero": case([{"x": None}], [{"x": 0}]),
    "null_is_not_false": case([{"flag": None}], [{"flag": False}]),
    "empty_text_is_not_null": case([{"words": ""}], [{"words": None}]),
    "row_lost": case([{"n": 1}], [{"n": 1}, {"n": 2}]),
    "row_added": case([{"n": 1}, {"n": 2}], [{"n": 1}]),
    "row_twice": case([{"n": 1}, {"n": 1}], [{"n": 1}]),
    "none_expected": case([{"n": 1}], []),
    "none_found": case([], [{"n": 1}]),
    "end_of_long_text": case([{"words": LONG + "a"}], [{"words": LONG + "b"}]),
    "sql_other_value": case(SQL, f"select *, 1 as others from ({SQL}) as s"),
}
ERRORS = {
    "given_column_unknown": (case([{"nn": 1}], [{"n": 1}]), "Invalid column name: 'nn'"),
    "expected_column_unknown": (case([{"n": 1}], [{"nn": 1}]), "Invalid column name: 'nn'"),
    "expected_column_of_another_row": (
        case([{"n": 1}, {"x": 2.5}], [{"n": 1}, {"n": None, "x": 9.5}]),
        "must name the columns of the first",
    ),
    "expected_column_of_one_row": (
        case([{"n": 1}, {"x": 2.5}], [{"n": 1, "x": None}, {"x": 2.5}]),
        "must name the columns of the first",
    ),
    "not_a_number": (case([{"n": "one"}], [{"n": 1}]), "one"),
}


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Status and message of each case, of one run of a throw-away project."""
    folder: Path = tmp_path_factory.mktemp("fixtures")
    output: dict[str, Any] = {"type": "duckdb", "path": "warehouse.duckdb"}
    if request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        database = Database(server, server.start(), "unit_test_fixtures").create()
        output = database.settings() | {"schema": "marts"}
    output["threads"] = 1
    profile = {"cases": {"target": "dev", "outputs": {"dev": output}}}
    (folder / "profiles.yml").write_text(json.dumps(profile))
    (folder / "dbt_project.yml").write_text("name: cases\nprofile: cases\nmodel-paths: [models]\n")
    shutil.copytree(PROJECT / "macros" / "unit_tests", folder / "macros")
    models = folder / "models"
    models.mkdir()
    (models / "given.sql").write_text(GIVEN)
    (models / "other.sql").write_text("select 1 as k")
    (models / "tested.sql").write_text(TESTED)
    cases = PASSES | FAILS | {name: test for name, (test, _) in ERRORS.items()}
    tests = [{"name": name, **test} for name, test in cases.items()]
    # JSON is YAML
    (models / "tests.yml").write_text(json.dumps({"version": 2, "unit_tests": tests}))
    warehouse = Warehouse(folder, project=folder)
    warehouse.run("dbt", "run", "--select", "given", "other")
    done = warehouse.run("dbt", "test", check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads((warehouse.target / "run_results.json").read_text())["results"]
    return {r["unique_id"].split(".")[-1]: (r["status"], r["message"]) for r in found}


@pytest.mark.parametrize("name", PASSES)
def test_right_rows_pass(results: Any, name: str) -> None:
    status, message = results[name]
    assert status == "pass", message


@pytest.mark.parametrize("name", FAILS)
def test_wrong_rows_fail(results: Any, name: str) -> None:
    status, message = results[name]
    assert status == "fail", message


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_read_says_why(results: Any, name: str) -> None:
    status, message = results[name]
    assert status == "error"
    assert ERRORS[name][1] in message


def test_no_case_is_left_out(results: Any) -> None:
    assert set(results) == set(PASSES) | set(FAILS) | set(ERRORS)
