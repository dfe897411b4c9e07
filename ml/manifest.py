"""What dbt knows about the panel: where its tables are, and each column's role and family."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.config import FeatureSettings
from ml.errors import AsxwError
from ml.warehouse import project_vars, read_project

PANEL_NODE = "model.asx_warehouse.int_training_panel"
FEATURES_NODE = "model.asx_warehouse.fct_features_daily"
RESULTS_NODE = "source.asx_warehouse.ml.runs"


@dataclass(frozen=True)
class Relation:
    """A table or view of the warehouse."""

    schema: str
    name: str

    @property
    def sql(self) -> str:
        """Quoted name."""
        return f'"{self.schema}"."{self.name}"'


@dataclass(frozen=True)
class ColumnMeta:
    """A column of fct_features_daily as its YAML describes it."""

    name: str
    role: str
    family: str | None
    dtype: str | None = None
    """SQL type."""
    lookback: int | None = None
    """Sessions the value reaches back."""
    unit: str | None = None


@dataclass(frozen=True)
class ProjectManifest:
    """The parts of dbt's manifest that training, scoring and export need."""

    panel: Relation
    features_daily: Relation
    results_schema: str
    columns: tuple[ColumnMeta, ...]

    def ablation_columns(self, settings: FeatureSettings, context: bool) -> tuple[ColumnMeta, ...]:
        """Columns an ablation may try: the model's features, and the market-wide ones if wanted."""
        learned = set(self.features(settings))
        return tuple(
            c
            for c in self.columns
            if c.family
            and (
                c.name in learned
                or (context and c.role == "context" and c.family not in settings.families_off)
            )
        )

    def features(self, settings: FeatureSettings) -> tuple[str, ...]:
        """Names of the model's features, in the manifest's order.

        Raises:
            AsxwError: none is left, or `families_off` names a family that does not exist.
        """
        families = {c.family for c in self.columns if c.family}
        unknown = sorted(set(settings.families_off) - families)
        if unknown:
            raise AsxwError(
                f"features.families_off names {', '.join(unknown)}; "
                f"the families are {', '.join(sorted(families))}."
            )
        names = tuple(
            c.name
            for c in self.columns
            if c.role in settings.roles and c.family not in settings.families_off
        )
        if not names:
            raise AsxwError(
                f"No column of fct_features_daily has a role of {', '.join(settings.roles)}: "
                "its YAML must carry meta {role: feature} on the columns."
            )
        return names


def _column(entry: Mapping[str, Any]) -> ColumnMeta | None:
    """dbt 1.10 and later keep meta under config; older manifests on the column itself."""
    meta = (entry.get("config") or {}).get("meta") or entry.get("meta") or {}
    if "role" not in meta:
        return None
    return ColumnMeta(
        name=str(entry["name"]),
        role=str(meta["role"]),
        family=meta.get("family"),
        dtype=entry.get("data_type"),
        lookback=meta.get("lookback"),
        unit=meta.get("unit"),
    )


def _relation(nodes: Mapping[str, Any], node: str, path: Path) -> Relation:
    if node not in nodes:
        raise AsxwError(
            f"{path} has no {node}: it belongs to another project, or the model is disabled."
        )
    return Relation(str(nodes[node]["schema"]), str(nodes[node]["alias"]))


def _content(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError) as error:
        raise AsxwError(
            f"dbt's manifest {path} cannot be read ({error}). Run `dbt parse` again."
        ) from error


def read_manifest(path: Path, default_results_schema: str) -> ProjectManifest:
    """The manifest at `path`.

    Args:
        path: dbt's manifest.json.
        default_results_schema: schema of the result tables where the manifest does not say.

    Raises:
        AsxwError: the file cannot be read or lacks the panel's models.
    """
    content = _content(path)
    nodes = content.get("nodes", {})
    panel = _relation(nodes, PANEL_NODE, path)
    features_daily = _relation(nodes, FEATURES_NODE, path)
    found = (_column(c) for c in nodes[FEATURES_NODE]["columns"].values())
    results = content.get("sources", {}).get(RESULTS_NODE)
    return ProjectManifest(
        panel=panel,
        features_daily=features_daily,
        results_schema=str(results["schema"]) if results else default_results_schema,
        columns=tuple(c for c in found if c is not None),
    )


def _parse(project_dir: Path, target_dir: Path, target: str | None, variables: str | None) -> None:
    """Have dbt write its manifest into `target_dir`."""
    read_project(project_dir)
    command = [sys.executable, "-m", "dbt.cli.main", "--quiet", "parse"]
    command += ["--project-dir", str(project_dir), "--target-path", str(target_dir)]
    if target:
        command += ["--target", target]
    if variables:
        command += ["--vars", variables]
    done = subprocess.run(  # noqa: S603 (our own interpreter; arguments are passed as a list)
        command, cwd=project_dir, capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or not (target_dir / "manifest.json").is_file():
        output = (done.stdout + done.stderr).strip()[-2000:]
        raise AsxwError(
            f"There is no manifest in {target_dir} and `dbt parse` failed:\n{output}\n"
            "Correct the dbt project, or name a manifest with --manifest."
        )


def project_manifest(
    project_dir: Path,
    path: Path | None = None,
    target: str | None = None,
    variables: str | None = None,
) -> ProjectManifest:
    """The project's manifest, parsed by dbt first where there is none.

    Args:
        project_dir: folder with dbt_project.yml.
        path: manifest to read (default: manifest.json in DBT_TARGET_PATH or `target`).
        target: target of the dbt profile, for the parse.
        variables: YAML or JSON as for dbt's --vars; the manifest is then parsed afresh, because
            schema names depend on them.

    Raises:
        AsxwError: the manifest cannot be read or made; the text carries dbt's message.
    """
    prefix = str(project_vars(project_dir, variables).get("schema_prefix", ""))
    return read_manifest(manifest_file(project_dir, path, target, variables), f"{prefix}ml")


def public_marts(
    project_dir: Path,
    path: Path | None = None,
    target: str | None = None,
    variables: str | None = None,
) -> dict[Relation, tuple[str, ...]]:
    """The marts anyone may read, with the columns that identify a row; arguments as above.

    Raises:
        AsxwError: the manifest cannot be read or made, or a mart has no primary key.
    """
    file = manifest_file(project_dir, path, target, variables)
    marts: dict[Relation, tuple[str, ...]] = {}
    for name, node in _content(file).get("nodes", {}).items():
        if node.get("resource_type") != "model" or node.get("access") != "public":
            continue
        keys = [c["columns"] for c in node["constraints"] if c["type"] == "primary_key"]
        if not keys:
            raise AsxwError(f"{file}: {name} is public and its YAML has no primary_key constraint.")
        marts[Relation(str(node["schema"]), str(node["alias"]))] = tuple(keys[0])
    return dict(sorted(marts.items(), key=lambda entry: entry[0].sql))


@dataclass(frozen=True)
class Model:
    """A model of the project as dbt's manifest has it."""

    name: str
    relation: Relation
    folder: str
    """Under models/, such as marts/features."""
    is_public: bool
    key: tuple[str, ...]
    """Columns of its primary key constraint; none: it has no such constraint."""


def project_models(path: Path) -> dict[str, Model]:
    """Every enabled model and seed of the manifest at `path`, by name.

    Raises:
        AsxwError: the manifest cannot be read.
    """
    models = {}
    for node in _content(path).get("nodes", {}).values():
        if node.get("resource_type") not in ("model", "seed"):
            continue
        keys = [c["columns"] for c in node.get("constraints", ()) if c.get("type") == "primary_key"]
        models[str(node["name"])] = Model(
            name=str(node["name"]),
            relation=Relation(str(node["schema"]), str(node["alias"])),
            folder=Path(str(node["path"])).parent.as_posix(),
            is_public=node.get("access") == "public",
            key=tuple(keys[0]) if keys else (),
        )
    return models


def manifest_file(
    project_dir: Path, path: Path | None, target: str | None, variables: str | None
) -> Path:
    """Where the project's manifest is; arguments as for `project_manifest`.

    Raises:
        AsxwError: there is none and `dbt parse` failed.
    """
    if path is not None:
        if variables:
            raise AsxwError("--manifest already fixes the variables: leave out --vars.")
        return path
    target_dir = project_dir / os.environ.get("DBT_TARGET_PATH", "target")
    if variables:
        target_dir = target_dir / "asxw"
    if variables or not (target_dir / "manifest.json").is_file():
        _parse(project_dir, target_dir, target, variables)
    return target_dir / "manifest.json"
