"""Fixtures for every test: the project with a warehouse of its own, and the real data's folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import postgres_fixture
import pytest
from built_market import build_market
from built_warehouse import Warehouse, build

from ml.postgres_server import PostgresServer

PROJECT = Path(__file__).parents[2]

# Every test says itself where its warehouse, profile and compiled project are; what the caller's
# shell has set must not reach it, nor a fixture of module scope.
for _name in ("ASXW_DUCKDB_PATH", "ASXW_TARGET", "DBT_TARGET_PATH", "DBT_PROFILES_DIR"):
    os.environ.pop(_name, None)

# Tests that share something dear to build run on one worker of pytest-xdist, the dearest first; all
# others stay with their module.
_SHARED = {
    "real_warehouse": "asx",
    "us_warehouse": "us",
    "us_folder": "us",
    "built_market": "judged",
    "postgres_server": "postgres",
}


# first: pytest-xdist reads the groups in the same hook, and what comes later it does not see
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests into groups for `pytest -n 2 --dist loadgroup`."""
    groups = list(dict.fromkeys(_SHARED.values()))

    def group(item: pytest.Item) -> str | None:
        used = getattr(item, "fixturenames", ())
        parameters = getattr(getattr(item, "callspec", None), "params", {}).values()
        # what runs on both engines asks for the server only when it runs
        if any(isinstance(parameter, str) and parameter == "postgres" for parameter in parameters):
            return "postgres"
        return next((name for fixture, name in _SHARED.items() if fixture in used), None)

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item) or item.path.name))
    items.sort(key=lambda item: groups.index(found) if (found := group(item)) else len(groups))


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


@pytest.fixture(scope="session")
def us_folder(real_data: Path) -> Path:
    """The US files; the test is skipped where there are none."""
    if not (real_data / "us").is_dir():
        pytest.skip(f"no US data in {real_data}")
    return real_data / "us"


@pytest.fixture(scope="session")
def us_warehouse(us_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The warehouse of the US set: ASXW_REAL_US_WAREHOUSE if it names one, else built now."""
    ready = os.environ.get("ASXW_REAL_US_WAREHOUSE")
    if ready:
        return Path(ready)
    return build(tmp_path_factory.mktemp("us"), us_folder, "us", {"market": "us"})


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL server for the whole session: the newest binaries there are."""
    server = PostgresServer(
        tmp_path_factory.mktemp("postgres"), durable=False, settings=postgres_fixture.SMALL
    )
    server.start()
    yield server
    server.remove()


@pytest.fixture
def database(
    postgres_server: PostgresServer, request: pytest.FixtureRequest
) -> postgres_fixture.Database:
    """An empty database of the test's own."""
    name = re.sub(r"\W+", "_", request.node.name.lower())[:50]
    return postgres_fixture.Database(postgres_server, postgres_server.start(), name).create()


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small invented market as files."""
    folder = tmp_path_factory.mktemp("sample")
    environment = dict(os.environ)
    arguments = ("asxw", "sample-market", str(folder), "--symbols", "40", "--sessions", "330")
    postgres_fixture.command(*arguments, environment=environment)
    return folder


@pytest.fixture(scope="session")
def built(
    postgres_server: PostgresServer, sample_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> postgres_fixture.Database:
    """The sample market loaded and built on Postgres; tests that write take a copy."""
    made = postgres_fixture.Database(postgres_server, postgres_server.start(), "built").create()
    environment = made.environment(tmp_path_factory.mktemp("built"))
    run = postgres_fixture.command
    run("asxw", "load", str(sample_folder), "--layout", "sample", environment=environment)
    run(*postgres_fixture.BUILD, environment=environment)
    return made


@pytest.fixture(scope="session")
def built_market(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A sample market with a trained run and its marts; a test that changes it puts it back."""
    return build_market(tmp_path_factory.mktemp("judged"))
