"""The server starter: found, started, stopped, found again, and clear about what is missing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest
from postgres_fixture import SMALL, installed_versions, kill_server

from ml.errors import AsxwError
from ml.postgres import PostgresWarehouse
from ml.postgres_server import PostgresServer, find_binaries, free_port
from ml.warehouse import WarehouseBusyError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("version", installed_versions())
def test_a_server_keeps_its_data_through_stop_kill_and_start(tmp_path: Path, version: str) -> None:
    server = PostgresServer(
        tmp_path / "server", binaries=find_binaries(version), durable=False, settings=SMALL
    )
    try:
        first = server.start()
        assert server.start() == first
        assert (server.folder / "connection.json").stat().st_mode & 0o077 == 0
        pg = first.environment()
        with PostgresWarehouse(settings(pg)) as warehouse:
            assert warehouse.read_rows("select current_setting('server_version_num')")[0][
                0
            ].startswith(version)
            warehouse.execute("create table kept (x bigint)")
            warehouse.execute("insert into kept values (7)")
        assert server.stop() and not server.stop() and server.connection() is None
        for end in (server.stop, lambda: kill_server(server)):
            with PostgresWarehouse(settings(server.start().environment())) as warehouse:
                assert warehouse.read_rows("select x from kept") == [(7,)]
            end()
        assert server.connection() is None
        with PostgresWarehouse(settings(server.start().environment())) as warehouse:
            assert warehouse.read_rows("select x from kept") == [(7,)]
        with PostgresWarehouse(settings(server.start(empty=True).environment())) as warehouse:
            assert warehouse.read_rows("select to_regclass('kept')") == [(None,)]
    finally:
        folder = server.folder
        server.remove()
    assert not folder.exists()


def test_a_cluster_without_its_password_is_not_touched(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "server", durable=False, settings=SMALL)
    try:
        with ThreadPoolExecutor(2) as pool:
            # two that start a server which is not there yet get one
            first, second = pool.map(lambda _: server.start(), range(2))
        assert first == second
        with PostgresWarehouse(settings(first.environment())) as warehouse:
            warehouse.execute("create table kept (x bigint)")
        server.stop()
        password = server.folder / "connection.json"
        aside = password.rename(tmp_path / "aside.json")
        with pytest.raises(AsxwError, match="its password is missing"):
            server.start()
        password.write_text('{"port": ')
        with pytest.raises(AsxwError, match="is not what `asxw postgres start` writes"):
            server.start()
        aside.rename(password)
        with PostgresWarehouse(settings(server.start().environment())) as warehouse:
            assert warehouse.read_rows("select count(*) from kept") == [(0,)]
    finally:
        server.remove()


def settings(pg: dict[str, str]) -> dict[str, object]:
    return {
        "host": pg["PGHOST"],
        "port": pg["PGPORT"],
        "user": pg["PGUSER"],
        "password": pg["PGPASSWORD"],
        "dbname": pg["PGDATABASE"],
    }


def test_nobody_gets_in_without_the_password(postgres_server: PostgresServer) -> None:
    pg = postgres_server.start().environment()
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(host=pg["PGHOST"], port=pg["PGPORT"], user="postgres", password="x")
    with pytest.raises(AsxwError, match="refuses the login") as caught:
        PostgresWarehouse(settings(pg) | {"password": "wrong"})
    assert "wrong" not in str(caught.value)


def test_missing_binaries_and_an_absent_server_are_clear_errors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(AsxwError, match=r"No PostgreSQL 8 binaries in .*pip install"):
        find_binaries("8")
    monkeypatch.setenv("PG_BIN", str(tmp_path))
    with pytest.raises(AsxwError, match="No PostgreSQL binaries"):
        find_binaries()
    gone = {"host": "127.0.0.1", "port": free_port(), "user": "u", "dbname": "d"}
    with pytest.raises(WarehouseBusyError, match="is away"):
        PostgresWarehouse(gone)
