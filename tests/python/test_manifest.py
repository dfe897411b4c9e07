"""Features and roles come from dbt's manifest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from panel_fixture import FEATURES, ROLES, make_market, make_project, manifest_content

from ml.config import FeatureSettings, read_config
from ml.errors import AsxwError
from ml.manifest import FEATURES_NODE, PANEL_NODE, project_manifest, read_manifest


def write(path: Path, content: dict) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def settings(roles=("feature",), families_off=()) -> FeatureSettings:
    return FeatureSettings(tuple(roles), tuple(families_off), 0.4)


def test_features_are_in_the_manifests_order(tmp_path):
    manifest = read_manifest(write(tmp_path / "m.json", manifest_content("dev_")), "ml")
    assert manifest.features(read_config().features) == FEATURES
    assert manifest.panel.sql == '"dev_intermediate"."int_training_panel"'
    assert manifest.features_daily.sql == '"dev_marts"."fct_features_daily"'
    assert manifest.results_schema == "dev_ml"


def test_roles_and_families_switch(tmp_path):
    manifest = read_manifest(write(tmp_path / "m.json", manifest_content()), "ml")
    assert manifest.features(settings(("feature", "context"))) == (*FEATURES, "rba_cash_rate")
    without = manifest.features(settings(families_off=("momentum", "sentiment")))
    assert without == tuple(
        f for f in FEATURES if f not in ("ret_1d", "mom_1", "mom_12_1", "trend_200", "rarely_known")
    )
    with pytest.raises(AsxwError, match=r"names momentun; the families are .*momentum"):
        manifest.features(settings(families_off=("momentun",)))
    with pytest.raises(AsxwError, match="role of score"):
        manifest.features(settings(roles=("score",)))


def test_meta_of_older_manifests_is_read(tmp_path):
    content = manifest_content()
    for column in content["nodes"][FEATURES_NODE]["columns"].values():
        column["meta"] = column.pop("config")["meta"]
    manifest = read_manifest(write(tmp_path / "m.json", content), "ml")
    assert manifest.features(settings()) == FEATURES


def test_without_a_results_source_the_prefix_decides(tmp_path):
    content = manifest_content()
    del content["sources"]
    assert read_manifest(write(tmp_path / "m.json", content), "x_ml").results_schema == "x_ml"


def test_a_foreign_or_damaged_manifest_is_refused(tmp_path):
    content = manifest_content()
    del content["nodes"][PANEL_NODE]
    with pytest.raises(AsxwError, match="int_training_panel"):
        read_manifest(write(tmp_path / "m.json", content), "ml")
    (tmp_path / "half.json").write_text('{"nodes": {', encoding="utf-8")
    with pytest.raises(AsxwError, match="dbt parse"):
        read_manifest(tmp_path / "half.json", "ml")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("manifest") / "p", make_market(10, 60))


def test_the_projects_own_manifest_is_found(project, monkeypatch):
    monkeypatch.delenv("DBT_TARGET_PATH", raising=False)
    assert project_manifest(project).results_schema == "ml"
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    write(elsewhere / "manifest.json", manifest_content("other_"))
    monkeypatch.setenv("DBT_TARGET_PATH", "elsewhere")
    assert project_manifest(project).results_schema == "other_ml"


def test_dbt_writes_the_manifest_where_there_is_none(tmp_path, monkeypatch):
    folder = make_project(tmp_path / "p", make_market(3, 40))
    monkeypatch.delenv("DBT_TARGET_PATH", raising=False)
    (folder / "target" / "manifest.json").unlink()
    models = folder / "models"
    (models / "int_training_panel.sql").write_text("select 1 as one", encoding="utf-8")
    (models / "fct_features_daily.sql").write_text("select 1 as one", encoding="utf-8")
    columns = [
        {"name": name, "config": {"meta": {"role": role, "family": family}}}
        for name, (role, family) in ROLES.items()
    ]
    described = {"version": 2, "models": [{"name": "fct_features_daily", "columns": columns}]}
    (models / "models.yml").write_text(yaml.safe_dump(described), encoding="utf-8")
    assert project_manifest(folder).features(settings()) == FEATURES
    assert (folder / "target" / "manifest.json").is_file()
    dev = project_manifest(folder, variables="{schema_prefix: dev_}")
    assert dev.results_schema == "dev_ml"
    assert project_manifest(folder).results_schema == "ml"


def test_a_failing_parse_is_explained(project, monkeypatch):
    monkeypatch.setenv("DBT_TARGET_PATH", "empty")
    (project / "models" / "broken.sql").write_text("{{ nothing(", encoding="utf-8")
    with pytest.raises(AsxwError, match=r"(?s)dbt parse` failed.*broken"):
        project_manifest(project)


def test_vars_and_a_manifest_exclude_each_other(project):
    with pytest.raises(AsxwError, match="leave out --vars"):
        project_manifest(project, project / "target" / "manifest.json", None, "{a: b}")
