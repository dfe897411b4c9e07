"""A real PostgreSQL server for tests, and the project's commands against one of its databases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from ml.postgres import PostgresWarehouse
from ml.postgres_server import (
    Connection,
    PostgresServer,
    _system_folders,
    _wheel_folders,
    major_version,
)

PROJECT = Path(__file__).resolve().parents[2]
BUILD = ("dbt", "--quiet", "build", "--exclude-resource-type", "test", "unit_test")
SMALL = {"shared_buffers": "64MB", "work_mem": "64MB", "maintenance_work_mem": "64MB"}


def installed_versions() -> list[str]:
    """Major versions of the binaries at hand, newest of the wheel first."""
    found = [f for f in [*_wheel_folders(), *_system_folders()] if (f / "postgres").is_file()]
    return list(dict.fromkeys(major_version(f) for f in found))


@dataclass(frozen=True)
class Database:
    """One database of a test's server."""

    server: PostgresServer
    connection: Connection
    name: str

    def settings(self, user: str | None = None, password: str = "") -> dict[str, Any]:
        """An output of the dbt profile, as the superuser or as a user of the test."""
        pg = self.connection.environment(self.name)
        return {
            "type": "postgres",
            "host": pg["PGHOST"],
            "port": int(pg["PGPORT"]),
            "user": user or pg["PGUSER"],
            "password": password if user else pg["PGPASSWORD"],
            "dbname": self.name,
        }

    def warehouse(self, **as_user: str) -> PostgresWarehouse:
        return PostgresWarehouse(self.settings(**as_user))

    def connect(self, **as_user: str) -> Any:
        """A psycopg2 connection, as a BI tool would have one."""
        s = self.settings(**as_user)
        return psycopg2.connect(
            host=s["host"], port=s["port"], user=s["user"], password=s["password"], dbname=self.name
        )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.warehouse() as warehouse:
            return warehouse.read_rows(sql)

    def environment(self, folder: Path) -> dict[str, str]:
        """Environment of a command on this database; dbt writes to `folder`."""
        kept = {k: v for k, v in os.environ.items() if k != "DBT_PROFILES_DIR"}
        return (
            kept
            | self.connection.environment(self.name)
            | {
                "ASXW_TARGET": "postgres",
                "DBT_TARGET_PATH": str(folder / "target"),
                "DBT_LOG_PATH": str(folder / "logs"),
            }
        )

    def copy(self, name: str) -> Database:
        """A copy of the database, which nobody may have open."""
        self._admin(f'drop database if exists "{name}"')
        self._admin(f'create database "{name}" template "{self.name}"')
        return Database(self.server, self.connection, name)

    def create(self) -> Database:
        self._admin(f'drop database if exists "{self.name}"')
        self._admin(f'create database "{self.name}"')
        return self

    def _admin(self, sql: str) -> None:
        admin = Database(self.server, self.connection, "postgres").connect()
        admin.autocommit = True
        with admin.cursor() as cursor:
            cursor.execute(sql)
        admin.close()


def command(
    *arguments: str, environment: dict[str, str], check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run dbt or asxw of this environment in the project folder."""
    program = str(Path(sys.executable).with_name(arguments[0]))
    done = subprocess.run(
        [program, *arguments[1:]],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def kill_server(server: PostgresServer) -> None:
    """SIGKILL to every process of the server, as a lost machine would."""
    pid = server.pid()
    assert pid is not None
    parent = psutil.Process(pid)
    family = [parent, *parent.children(recursive=True)]
    for process in family:
        # the children of a dead parent may be gone before their turn
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family):
        assert time.monotonic() < deadline
        time.sleep(0.02)
