"""Fixtures for every test: the project with a warehouse of its own, and the real data's folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from built_warehouse import build

PROJECT = Path(__file__).parents[2]

# Every test says itself where its warehouse, profile and compiled project are; what the caller's
# shell has set must not reach it, nor a fixture of module scope.
for _name in ("ASXW_DUCKDB_PATH", "ASXW_TARGET", "DBT_TARGET_PATH", "DBT_PROFILES_DIR"):
    os.environ.pop(_name, None)


@pytest.fixture
def project_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project folder, with profiles.yml pointing at tmp_path/warehouse.duckdb."""
    for name in ("DBT_PROFILES_DIR", "ASXW_TARGET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ASXW_DUCKDB_PATH", str(tmp_path / "warehouse.duckdb"))
    return PROJECT


@pytest.fixture
def warehouse_path(project_dir: Path, tmp_path: Path) -> Path:
    """The DuckDB file of `project_dir`; it exists after the first load."""
    return tmp_path / "warehouse.duckdb"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real market data; the test is skipped where there is none."""
    folder = Path(os.environ.get("ASXW_REAL_DATA", str(PROJECT.parent / "shared" / "data")))
    if not folder.is_dir():
        pytest.skip(f"no real market data in {folder} (ASXW_REAL_DATA names the folder)")
    return folder


@pytest.fixture(scope="session")
def real_warehouse(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The warehouse of the real set: ASXW_REAL_WAREHOUSE if it names one, else built now."""
    ready = os.environ.get("ASXW_REAL_WAREHOUSE")
    if ready:
        return Path(ready)
    return build(tmp_path_factory.mktemp("real"), real_data / "asx", "asx")
