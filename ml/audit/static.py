"""The static layer: what dbt's graph, the compiled SQL and the training code say about time.

No data and no database is needed. It sees how something is written, not what it does: what is
written innocently and looks ahead all the same is left to the other layers.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlglot
import sqlglot.errors
import yaml

from ml.audit import sql_rules
from ml.audit.sql_rules import Columns, SqlRule
from ml.errors import AsxwError
from ml.manifest import FEATURES_NODE, PANEL_NODE

LABELS = "intermediate/labels/"
RAW_STAGING = "staging/raw/"
# who may read labels: the folder itself, and what judges past predictions or counts rows
LABEL_READERS = (LABELS, "intermediate/evaluation/", "marts/ml/", "marts/quality/")
KNOWN_BY = "macro.asx_warehouse.known_by"
# asks the database what is there, and is nowhere behind the panel
NEEDS_DATABASE = ("stg_session_checksums",)
DIALECTS = {"memory": "duckdb", "postgres": "postgres"}
EXCEPTIONS_FILE = Path(__file__).with_name("static_exceptions.yml")
# how a model is trained and what feeds it; the row order and the latest tables have no part in it
TRAINING_CODE = ("dataset", "folds", "training", "ablation", "baselines", "evaluation", "config")


@dataclass(frozen=True)
class Model:
    """One compiled model."""

    name: str
    path: str
    """From the models folder on, with forward slashes."""
    sql: str
    dialect: str
    is_behind_panel: bool
    """It is one of those fct_features_daily is made of, or that table itself."""


@dataclass(frozen=True)
class Finding:
    """Something a rule refuses."""

    rule: str
    where: str
    """Model, or file of Python."""
    place: str
    """CTE of the model, or line of the file."""
    what: str


@dataclass(frozen=True)
class Allowed:
    """A place that breaks a rule for a reason."""

    rule: str
    model: str
    place: str
    because: str


def _behind_panel(model: Model) -> bool:
    return model.is_behind_panel


def _anywhere(_: Model) -> bool:
    return True


def _in_labels(model: Model) -> bool:
    return model.path.startswith(LABELS)


def _is_panel(model: Model) -> bool:
    return model.name == PANEL_NODE.rsplit(".", 1)[-1]


SQL_RULES: dict[str, tuple[SqlRule, Callable[[Model], bool]]] = {
    "lead": (sql_rules.lead, _behind_panel),
    "following": (sql_rules.following, _behind_panel),
    "unordered_window": (sql_rules.unordered_window, _behind_panel),
    "descending_window": (sql_rules.descending_window, _behind_panel),
    "back_fill": (sql_rules.back_fill, _behind_panel),
    "whole_history": (sql_rules.whole_history, _behind_panel),
    "array_ahead": (sql_rules.array_ahead, _behind_panel),
    "latest_row": (sql_rules.latest_row, _behind_panel),
    "unbounded_version": (sql_rules.unbounded_version, _behind_panel),
    "clock": (sql_rules.clock, _anywhere),
    "filled_label": (sql_rules.filled_label, _in_labels),
    "unlabelled_row": (sql_rules.unlabelled_row, _is_panel),
}


# --- SQL ----------------------------------------------------------------------------------------


def check_models(models: Sequence[Model]) -> list[Finding]:
    """What the SQL rules find in some compiled models.

    Raises:
        AsxwError: a model cannot be parsed.
    """
    queries = {(m.name, m.dialect): _parse(m) for m in models}
    columns = {
        dialect: _output_columns({n: q for (n, d), q in queries.items() if d == dialect})
        for dialect in {m.dialect for m in models}
    }
    return [
        Finding(name, model.name, words.place, words.sql)
        for model in models
        for name, (rule, applies) in SQL_RULES.items()
        if applies(model)
        for words in rule(queries[model.name, model.dialect], columns[model.dialect])
    ]


def _parse(model: Model) -> sqlglot.exp.Expr:
    try:
        return sqlglot.parse_one(model.sql, read=model.dialect)
    except sqlglot.errors.SqlglotError as error:
        raise AsxwError(f"{model.path}: the compiled SQL cannot be parsed: {error}") from error


def _output_columns(queries: Mapping[str, sqlglot.exp.Expr]) -> Columns:
    """Columns of every model; a star over another model is looked up, as deep as they nest."""
    known: dict[str, frozenset[str]] = {}
    for _ in range(3):
        for name, query in queries.items():
            local = dict(known)
            for cte in query.find_all(sqlglot.exp.CTE):
                local[cte.alias] = sql_rules.output_columns(cte.this, local)
            known[name] = sql_rules.output_columns(query, local)
    return known


# --- the graph ----------------------------------------------------------------------------------


def _parents(content: Mapping[str, Any], node: str) -> set[str]:
    """Everything a node is made of, however far back."""
    found: set[str] = set()
    waiting = [node]
    while waiting:
        entry = content["nodes"].get(waiting.pop(), {})
        for parent in entry.get("depends_on", {}).get("nodes", []):
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found


def check_graph(content: Mapping[str, Any]) -> list[Finding]:
    """What dbt's manifest says against the rules of who may read whom."""
    return [finding for rule in GRAPH_RULES for finding in rule(content)]


def _folder(content: Mapping[str, Any], node: str) -> str:
    return str(content["nodes"].get(node, {}).get("path", "")).replace("\\", "/")


def _labels_in_features(content: Mapping[str, Any]) -> Iterator[Finding]:
    for parent in sorted(_parents(content, FEATURES_NODE)):
        if _folder(content, parent).startswith(LABELS):
            yield Finding("labels_in_features", FEATURES_NODE, "", f"is made of {parent}")


def _label_readers(content: Mapping[str, Any]) -> Iterator[Finding]:
    for name, node in sorted(content["nodes"].items()):
        if node["resource_type"] != "model" or _folder(content, name).startswith(LABEL_READERS):
            continue
        for parent in node["depends_on"]["nodes"]:
            if _folder(content, parent).startswith(LABELS):
                yield Finding("label_readers", node["name"], "", f"reads {parent}")


def _results_in_panel(content: Mapping[str, Any]) -> Iterator[Finding]:
    for parent in sorted(_parents(content, PANEL_NODE)):
        if parent.startswith("source.") and ".ml." in parent:
            yield Finding("results_in_panel", PANEL_NODE, "", f"is made of {parent}")


def _latest_in_panel(content: Mapping[str, Any]) -> Iterator[Finding]:
    for parent in sorted(_parents(content, PANEL_NODE)):
        if parent.endswith("_latest"):
            yield Finding("latest_in_panel", PANEL_NODE, "", f"is made of {parent}")


def _unfiltered_raw_tables(content: Mapping[str, Any]) -> Iterator[Finding]:
    """Staging models of dated raw tables that do not ask what was known (macro known_by)."""
    for node in content["nodes"].values():
        if node["resource_type"] != "model" or not node["path"].startswith(RAW_STAGING):
            continue
        dated = [
            parent
            for parent in node["depends_on"]["nodes"]
            if {"available_at", "announced_at"}
            & set(content["sources"].get(parent, {}).get("columns", {}))
        ]
        if dated and KNOWN_BY not in node["depends_on"]["macros"]:
            yield Finding("unfiltered_raw_table", node["name"], "", f"reads {', '.join(dated)}")


GRAPH_RULES = (
    _labels_in_features,
    _label_readers,
    _results_in_panel,
    _latest_in_panel,
    _unfiltered_raw_tables,
)


# --- Python -------------------------------------------------------------------------------------

PYTHON_RULES = ("shuffled_rows", "filled_values", "shifted_back", "latest_in_training")
_SHUFFLES = {
    "train_test_split", "KFold", "StratifiedKFold", "GroupKFold", "ShuffleSplit",
    "StratifiedShuffleSplit", "cross_val_score", "cross_val_predict", "GridSearchCV",
}  # fmt: skip
_FILLS = {"bfill", "backfill", "fillna", "interpolate"}


def check_python(files: Mapping[str, str]) -> list[Finding]:
    """What the training code may not say: shuffled folds, filled values, the latest tables.

    Args:
        files: source text by file name.
    """
    return [
        Finding(rule, name, f"line {line}", what)
        for name, text in files.items()
        for node in ast.walk(ast.parse(text))
        for rule, line, what in _python_findings(node)
    ]


def _python_findings(node: ast.AST) -> Iterator[tuple[str, int, str]]:
    if isinstance(node, ast.Name | ast.Attribute | ast.alias):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
        name = node.name if isinstance(node, ast.alias) else name
        if name in _SHUFFLES:
            yield "shuffled_rows", node.lineno, name
        if name in _FILLS:
            yield "filled_values", node.lineno, name
    elif isinstance(node, ast.keyword):
        if node.arg == "shuffle" and getattr(node.value, "value", None) is not False:
            yield "shuffled_rows", node.value.lineno, ast.unparse(node)
    elif isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if called == "shift" and node.args and ast.unparse(node.args[0]).startswith("-"):
            yield "shifted_back", node.lineno, ast.unparse(node)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "_latest" in node.value:
        yield "latest_in_training", node.lineno, node.value[:80]


def training_code(project_dir: Path) -> dict[str, str]:
    """Source text of the modules that train, by file name."""
    return {
        f"ml/{name}.py": (project_dir / "ml" / f"{name}.py").read_text(encoding="utf-8")
        for name in TRAINING_CODE
    }


# --- the project --------------------------------------------------------------------------------


def compile_project(project_dir: Path, target: str, folder: Path) -> None:
    """Have dbt write the manifest and the models' compiled SQL into `folder`, without a database.

    Raises:
        AsxwError: dbt refuses the project.
    """
    command = [sys.executable, "-m", "dbt.cli.main", "--quiet", "compile", "--target", target]
    command += ["--no-introspect", "--no-populate-cache", "--select", "resource_type:model"]
    command += ["--exclude", *NEEDS_DATABASE, "--indirect-selection", "empty"]
    command += ["--project-dir", str(project_dir), "--target-path", str(folder)]
    done = subprocess.run(  # noqa: S603 (our own interpreter; arguments are passed as a list)
        command,
        cwd=project_dir,
        env={**os.environ, "DBT_LOG_PATH": str(folder / "logs")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip()[-2000:]
        raise AsxwError(f"dbt cannot compile the project for {target}:\n{output}")


def read_compiled(
    folder: Path, dialect: str, whole: bool = True
) -> tuple[dict[str, Any], list[Model]]:
    """dbt's manifest and the compiled models in a target folder.

    Args:
        folder: dbt's target folder.
        dialect: of the compiled SQL.
        whole: every model must be there; else those that were compiled.

    Raises:
        AsxwError: a model was not compiled.
    """
    content = dict(json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
    behind = _parents(content, FEATURES_NODE) | {FEATURES_NODE}
    models = []
    for name, node in sorted(content["nodes"].items()):
        if node["resource_type"] != "model" or not node["config"].get("enabled", True):
            continue
        file = folder / "compiled" / node["package_name"] / node["original_file_path"]
        path = node["path"].replace("\\", "/")
        if not file.is_file():
            if whole and node["name"] not in NEEDS_DATABASE:
                raise AsxwError(f"{folder} has no compiled SQL of {node['name']}.")
            continue
        sql = file.read_text(encoding="utf-8")
        models.append(Model(node["name"], path, sql, dialect, name in behind))
    return content, models


def read_exceptions(path: Path = EXCEPTIONS_FILE) -> list[Allowed]:
    """The places that break a rule for a reason."""
    return [Allowed(**entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))]


def without_exceptions(findings: Iterable[Finding], allowed: Sequence[Allowed]) -> list[Finding]:
    """The findings no exception covers, and the exceptions that nothing needs any more."""
    keys = {(a.rule, a.model, a.place) for a in allowed}
    found = {(f.rule, f.where, f.place): f for f in findings}
    stale = [
        Finding("stale_exception", a.model, a.place, f"nothing there breaks the rule {a.rule}")
        for a in allowed
        if (a.rule, a.model, a.place) not in found
    ]
    return [f for key, f in found.items() if key not in keys] + stale


@dataclass(frozen=True)
class StaticAudit:
    """What was looked at, and what was found."""

    findings: tuple[Finding, ...]
    models: int
    """Compiled models, counted once per dialect."""
    exceptions: tuple[Allowed, ...]

    @property
    def rules(self) -> int:
        """Rules there are."""
        return len(SQL_RULES) + len(GRAPH_RULES) + len(PYTHON_RULES)


def audit_static(
    project_dir: Path, folder: Path, targets: Sequence[str] = tuple(DIALECTS)
) -> StaticAudit:
    """Compile the project for each target and apply every rule.

    Args:
        project_dir: folder with dbt_project.yml.
        folder: for what dbt writes.
        targets: of the dbt profile; the dialects of both engines by default.

    Raises:
        AsxwError: the project does not compile, or a model cannot be parsed.
    """
    models: list[Model] = []
    findings: list[Finding] = []
    for target in targets:
        compile_project(project_dir, target, folder / target)
        content, compiled = read_compiled(folder / target, DIALECTS[target])
        models += compiled
        findings += check_graph(content)
    findings += check_models(models)
    findings += check_python(training_code(project_dir))
    allowed = read_exceptions()
    return StaticAudit(tuple(without_exceptions(findings, allowed)), len(models), tuple(allowed))
