"""Known leaks are caught. `asxw audit mutations` tries them one at a time through every layer."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from built_warehouse import Warehouse

from ml.audit.mutations import (
    PYTHON,
    SQL,
    Copy,
    Edit,
    Mutation,
    MutationAudit,
    Outcome,
    apply,
    python_test_layer,
    read_mutations,
    static_layer,
)
from ml.audit.mutations_command import mutation_table
from ml.errors import AsxwError

PROJECT = Path(__file__).parents[2]
MUTATIONS = {m.name: m for m in read_mutations()}
# innocently written: only what the SQL does gives it away, and dbt's unit tests look at that
UNSEEN_BY_STATIC = {"knowledge_time_dropped"}


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(PROJECT, tmp_path / "project")


def test_nine_leaks_fit_the_project(copy: Copy) -> None:
    assert len(MUTATIONS) == 9
    for mutation in MUTATIONS.values():
        apply(mutation, copy.folder)
        with pytest.raises(AsxwError, match="0 times and not once"):
            apply(mutation, copy.folder)
        copy.restore(mutation)
        for edit in mutation.edits:
            assert (copy.folder / edit.file).read_bytes() == (PROJECT / edit.file).read_bytes()


def test_a_patch_that_fits_no_more_is_an_error(copy: Copy) -> None:
    stale = Mutation("stale", "", PYTHON, (Edit("ml/folds.py", "no such text", ""),))
    with pytest.raises(AsxwError, match=r"ml/folds\.py has the text of mutation stale 0 times"):
        apply(stale, copy.folder)


def test_the_static_layer_sees_leaks_in_sql(copy: Copy, built_market: Warehouse) -> None:
    """All of them in one copy, as each is in models of its own: one compilation instead of six."""
    shutil.copytree(built_market.folder / "target", copy.folder / "target")
    # the same connection, so that dbt need not parse the whole project again
    copy.warehouse = built_market.folder / "warehouse.duckdb"
    assert static_layer(copy, []) == ""
    written = [m for m in MUTATIONS.values() if m.kind == SQL and m.name not in UNSEEN_BY_STATIC]
    for mutation in written:
        apply(mutation, copy.folder)
    said = static_layer(copy, [model for m in written for model in m.models])
    for mutation in written:
        for model in mutation.models:
            assert f" in {model}" in said, (mutation.name, said)


def test_the_python_tests_see_leaks_in_the_training_code(copy: Copy) -> None:
    for mutation in (m for m in MUTATIONS.values() if m.kind == PYTHON):
        apply(mutation, copy.folder)
        assert python_test_layer(copy, []).startswith("test_"), mutation.name
        copy.restore(mutation)


@pytest.mark.slow
def test_every_leak_is_caught(built_market: Warehouse) -> None:
    """The command as `make audit` calls it; its score is on record."""
    done = built_market.run("asxw", "audit", "mutations", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"mutation score {len(MUTATIONS)}/{len(MUTATIONS)}, 0 false alarms" in done.stdout
    audit = built_market.frame("select * from ml.audits where layer = 'mutations'").iloc[-1]
    assert audit["passed"] and audit["checked"] == 9 and audit["differences"] == 0


def test_the_score_counts_what_was_caught_and_false_alarms() -> None:
    one = MUTATIONS["lead_for_lag"]
    caught = Outcome(one, ("static",), ("static",), "lead in int_daily_grid")
    missed = replace(caught, caught_by=(), evidence="")
    assert MutationAudit((caught,), ()).passed
    assert not MutationAudit((caught, missed), ()).passed
    assert not MutationAudit((caught,), ("static: something",)).passed
    table = mutation_table(MutationAudit((caught, missed), ()))
    assert [line.split()[1] for line in table.splitlines()[1:]] == ["caught", "passed"]
