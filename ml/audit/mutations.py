"""The mutation score: nine known leaks, injected one at a time, and the layer that catches each.

A copy of the project is built on a small sample market, and every layer must be silent about it:
what it says of a mutation would count for nothing otherwise. Then each patch is applied, the layers
are asked from the cheapest to the dearest, and the patch is taken back.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import yaml

from ingest.sample_commands import write_sample_market
from ingest.sample_market import SampleParameters
from ml.audit.static import (
    check_graph,
    check_models,
    check_python,
    read_compiled,
    read_exceptions,
    training_code,
    without_exceptions,
)
from ml.errors import AsxwError
from ml.warehouse import DuckDBWarehouse

MUTATIONS_FILE = Path(__file__).with_name("mutations.yml")
STATIC, UNIT_TESTS, REBUILD, PYTHON_TESTS = "static", "unit tests", "rebuild", "python tests"
LAYERS = (STATIC, UNIT_TESTS, REBUILD, PYTHON_TESTS)
SQL, PYTHON = "sql", "python"
# which layers look at what a patch of this kind touches
_LAYERS_OF = {SQL: (STATIC, UNIT_TESTS, REBUILD), PYTHON: (STATIC, PYTHON_TESTS)}
_PROJECT = "asx_warehouse"
PANEL = "+int_training_panel"
PYTHON_TESTS_RUN = ("tests/python/test_folds.py", "tests/python/test_dataset.py")
_FOLDERS = ("models", "macros", "seeds", "snapshots", "tests", "ml", "ingest", "benchmarks")
_FILES = ("dbt_project.yml", "profiles.yml", "pyproject.toml")
MARKET = SampleParameters(symbols=40, sessions=150, seed=7, end=date(2026, 6, 4), null=False)
# the session of the rebuild lies so many before the last one
_SESSIONS_BEFORE_END = 40
_NO_TESTS = ("--exclude-resource-type", "test", "unit_test")
Report = Callable[[str], None]


@dataclass(frozen=True)
class Edit:
    """One replacement in one file of the project."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutation:
    """A known leak as a patch."""

    name: str
    says: str
    kind: str
    """sql or python."""
    edits: tuple[Edit, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models it changes."""
        return tuple(dict.fromkeys(Path(e.file).stem for e in self.edits if self.kind == SQL))


@dataclass(frozen=True)
class Outcome:
    """What the layers said about one mutation."""

    mutation: Mutation
    caught_by: tuple[str, ...]
    asked: tuple[str, ...]
    evidence: str
    """What the first layer that caught it said."""


@dataclass(frozen=True)
class MutationAudit:
    """The score, and what the layers said about the project as it is."""

    outcomes: tuple[Outcome, ...]
    false_alarms: tuple[str, ...]

    @property
    def caught(self) -> int:
        """Mutations that some layer caught."""
        return sum(bool(outcome.caught_by) for outcome in self.outcomes)

    @property
    def passed(self) -> bool:
        """Whether every mutation was caught and the project as it is raised no alarm."""
        return self.caught == len(self.outcomes) and not self.false_alarms


def read_mutations(path: Path = MUTATIONS_FILE) -> list[Mutation]:
    """The known leaks."""
    entries: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [
        Mutation(e["name"], e["says"], e["kind"], tuple(Edit(**edit) for edit in e["edits"]))
        for e in entries
    ]


def apply(mutation: Mutation, folder: Path) -> None:
    """Patch the files of a project.

    Raises:
        AsxwError: a patch does not fit; nothing is left half done in that file.
    """
    for edit in mutation.edits:
        path = folder / edit.file
        text = path.read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            raise AsxwError(
                f"{edit.file} has the text of mutation {mutation.name} {text.count(edit.old)} "
                f"times and not once: bring ml/audit/mutations.yml up to date.\n{edit.old}"
            )
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


class Copy:
    """A copy of the project with a warehouse of its own, where patches may be tried."""

    def __init__(self, project_dir: Path, folder: Path) -> None:
        self.source = project_dir
        self.folder = folder
        for name in _FOLDERS:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(project_dir / name, folder / name, ignore=ignored)
        for name in _FILES:
            shutil.copy(project_dir / name, folder / name)
        self.warehouse = folder / "warehouse.duckdb"

    def keep_compiled(self) -> None:
        """Remember the compiled SQL of the project as it is."""
        shutil.copytree(self.folder / "target" / "compiled", self.folder / "compiled")

    def restore(self, mutation: Mutation) -> None:
        """Take a patch back, from the compiled SQL too."""
        for edit in mutation.edits:
            shutil.copy(self.source / edit.file, self.folder / edit.file)
            compiled = Path("compiled", _PROJECT, edit.file)
            if (self.folder / compiled).is_file():
                shutil.copy(self.folder / compiled, self.folder / "target" / compiled)

    def run(
        self, *arguments: str, check: bool = True, target: str = "target"
    ) -> subprocess.CompletedProcess[str]:
        """Run a module of Python in the copy, with the copy's own `ml` and `ingest`."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DBT_", "ASXW_"))}
        done = subprocess.run(  # noqa: S603 (our own interpreter; arguments are passed as a list)
            [sys.executable, *arguments],
            cwd=self.folder,
            env={
                **kept,
                "PYTHONPATH": str(self.folder),
                "PYTHONDONTWRITEBYTECODE": "1",
                "ASXW_TARGET": "duckdb",
                "ASXW_DUCKDB_PATH": str(self.warehouse),
                "DBT_TARGET_PATH": str(self.folder / target),
                "DBT_LOG_PATH": str(self.folder / "logs"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise AsxwError(f"{' '.join(arguments)} failed:\n{(done.stdout + done.stderr)[-3000:]}")
        return done

    def dbt(
        self, *arguments: str, check: bool = True, target: str = "target"
    ) -> subprocess.CompletedProcess[str]:
        """Run dbt in the copy."""
        command = ("-m", "dbt.cli.main", "--quiet", *arguments)
        return self.run(*command, check=check, target=target)

    def build(self, *select: str) -> None:
        """Build models, without tests."""
        self.dbt("build", "--select", *select, *_NO_TESTS)

    def build_as_of(self, moment: datetime) -> None:
        """Build the panel as it was known before a moment, in schemas of its own."""
        variables = f'{{schema_prefix: asof_, as_of: "{moment}"}}'
        # dbt keeps what it parsed for one set of variables
        command = ("build", "--select", PANEL, "--vars", variables, *_NO_TESTS)
        self.dbt(*command, target="target_as_of")

    def load(self, parameters: SampleParameters) -> None:
        """Write a sample market and load it."""
        data = self.folder / "sample_data"
        write_sample_market(parameters, data)
        command = "from ml.cli import main; main()"
        self.run("-c", command, "load", str(data), "--layout", "sample")


# --- layers: each returns what it has to say, empty where it sees nothing -----------------------


def static_layer(copy: Copy, models: Sequence[str]) -> str:
    """Compile the models that changed and apply every rule to the whole."""
    if models:
        compiled = ("compile", "--indirect-selection", "empty", "--select", *models)
        done = copy.dbt(*compiled, check=False)
        if done.returncode != 0:
            raise AsxwError(f"a mutation does not compile:\n{(done.stdout + done.stderr)[-2000:]}")
    content, compiled_models = read_compiled(copy.folder / "target", "duckdb", whole=False)
    found = [*check_graph(content), *check_python(training_code(copy.folder))]
    found += check_models(compiled_models)
    refused = without_exceptions(found, read_exceptions())
    # exceptions are judged on all models and both dialects, by `asxw audit static`
    refused = [f for f in refused if f.rule != "stale_exception"]
    return "; ".join(f"{f.rule} in {f.where}" for f in refused)


def unit_test_layer(copy: Copy, models: Sequence[str]) -> str:
    """dbt's unit tests of the models."""
    select = [f"{model},test_type:unit" for model in models]
    done = copy.dbt("test", "--select", *select, check=False)
    results = json.loads((copy.folder / "target" / "run_results.json").read_text(encoding="utf-8"))
    failed = [
        result["unique_id"].split(".")[-1]
        for result in results["results"]
        if result["status"] not in ("pass", "success")
    ]
    return ", ".join(failed) or ("dbt test failed" if done.returncode != 0 else "")


def rebuild_layer(copy: Copy, models: Sequence[str]) -> str:
    """Build as of a past session and compare its rows with those of the full build.

    The simplest form of `asxw audit replay`: one date, fct_features_daily, engine DuckDB.
    """
    if models:
        copy.build(*_dependants(models))
    with DuckDBWarehouse(copy.warehouse) as warehouse:
        moment = _moment(warehouse)
    copy.build_as_of(moment)
    with DuckDBWarehouse(copy.warehouse) as warehouse:
        return _differences(warehouse, moment)


def _dependants(models: Sequence[str]) -> list[str]:
    """What has to be built again after models changed, as far as the panel goes."""
    return [f"{model}+,{PANEL}" for model in models]


def _moment(warehouse: DuckDBWarehouse) -> datetime:
    """A minute after the decision of a session some way before the end."""
    rows = warehouse.read_rows(
        "select decision_at + interval 1 minute from intermediate.int_sessions "
        "where session_idx = (select max(session_idx) from intermediate.int_sessions) - ?",
        (_SESSIONS_BEFORE_END,),
    )
    moment: datetime = rows[0][0]
    return moment


def _differences(warehouse: DuckDBWarehouse, moment: datetime) -> str:
    """Columns of fct_features_daily that differ in rows up to the moment, and in how many rows."""
    types = warehouse.columns("marts", "fct_features_daily")
    day = moment.date()
    keys = "symbol, trade_date"
    counts = []
    for name, kind in types.items():
        same = f'n."{name}" is not distinct from o."{name}"'
        if kind == "DOUBLE":
            gap = f'abs(n."{name}" - o."{name}")'
            size = f'greatest(abs(n."{name}"), abs(o."{name}"), 1e-9)'
            same = f"({same} or {gap} <= 1e-9 * {size})"
        counts.append(f"count(*) filter (where not coalesce({same}, false))")
    sql = (
        f"select {', '.join(counts)}, count(*) from (select * from marts.fct_features_daily "
        "where trade_date <= ?) as n full join (select * from asof_marts.fct_features_daily "
        f"where trade_date <= ?) as o using ({keys})"
    )
    sql = sql.replace('n."symbol"', '"symbol"').replace('o."symbol"', '"symbol"')
    row = warehouse.read_rows(sql, (day, day))[0]
    if not row[-1]:
        raise AsxwError("the rebuild as of a past session has no rows to compare")
    differing = [f"{name} ({n} rows)" for name, n in zip(types, row[:-1], strict=True) if n]
    return ", ".join(differing[:6]) + (f" and {len(differing) - 6} more" if differing[6:] else "")


def python_test_layer(copy: Copy, _: Sequence[str]) -> str:
    """The tests of folds and of the panel in memory.

    Raises:
        AsxwError: pytest is not installed.
    """
    if importlib.util.find_spec("pytest") is None:
        raise AsxwError("The layer of Python tests needs pytest: install the extra `dev`.")
    # plain: pytest's diff of two long lists takes minutes where the variable CI is set
    options = (
        "-q",
        "-x",
        "--assert=plain",
        "--no-header",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
        "--no-cov",
    )
    done = copy.run("-m", "pytest", *PYTHON_TESTS_RUN, *options, check=False)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if failed:
        return failed[0].split(" - ")[0].split("::")[-1]
    return "pytest failed" if done.returncode != 0 else ""


_RUN: dict[str, Callable[[Copy, Sequence[str]], str]] = {
    STATIC: static_layer,
    UNIT_TESTS: unit_test_layer,
    REBUILD: rebuild_layer,
    PYTHON_TESTS: python_test_layer,
}


def audit_mutations(
    project_dir: Path,
    folder: Path,
    *,
    every_layer: bool,
    report: Report,
    mutations: Sequence[Mutation] | None = None,
) -> MutationAudit:
    """Inject every mutation and ask the layers about it.

    Args:
        project_dir: the project; it is not touched.
        folder: for the copy, empty or not there yet.
        every_layer: ask every layer, not only until one has caught the mutation.
        report: takes a line of progress.
        mutations: which ones (default: all of them).

    Raises:
        AsxwError: a patch does not fit, or the unpatched copy cannot be built.
    """
    known = list(mutations) if mutations is not None else read_mutations()
    copy = Copy(project_dir, folder)
    report("building the project as it is on a small sample market")
    copy.load(MARKET)
    copy.build(PANEL)
    copy.keep_compiled()
    changed = sorted({model for m in known for model in m.models})
    alarms: dict[str, str] = {}

    def is_silent(layer: str) -> bool:
        """Whether the layer has nothing to say about the project as it is; asked once."""
        if layer not in alarms:
            alarms[layer] = _RUN[layer](copy, changed if layer == UNIT_TESTS else ())
            report(f"{layer} on the project as it is: {alarms[layer] or 'silent'}")
        return not alarms[layer]

    def ask(layer: str, mutation: Mutation) -> str:
        apply(mutation, copy.folder)
        try:
            return _RUN[layer](copy, mutation.models)
        finally:
            copy.restore(mutation)
            if layer == REBUILD:
                copy.build(*_dependants(mutation.models))

    outcomes = []
    for mutation in known:
        said: dict[str, str] = {}
        for layer in _LAYERS_OF[mutation.kind]:
            if is_silent(layer):
                said[layer] = ask(layer, mutation)
                if said[layer] and not every_layer:
                    break
        caught = tuple(layer for layer, words in said.items() if words)
        evidence = said[caught[0]] if caught else ""
        report(f"{mutation.name}: {', '.join(caught) or 'NOT CAUGHT'} ({evidence})")
        outcomes.append(Outcome(mutation, caught, tuple(said), evidence))
    false_alarms = tuple(f"{layer}: {words}" for layer, words in alarms.items() if words)
    return MutationAudit(tuple(outcomes), false_alarms)
