"""The commands `asxw postgres start` and `asxw postgres stop`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from ml.postgres_server import DATABASE, PostgresServer, find_binaries

FOLDER = ".postgres"

_folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help=f"Where the server keeps its data (default: {FOLDER}/ in the project).",
)


@click.group("postgres")
def postgres_group() -> None:
    """A PostgreSQL server of the project's own, for a machine without one."""


@postgres_group.command("start")
@_folder_option
@click.option("--database", default=DATABASE, help=f"Made where it is missing ({DATABASE}).")
@click.option("--empty", is_flag=True, help="Drop the database first, with all it holds.")
@click.option("--version", default=None, help="Major version of the binaries (default: newest).")
@click.pass_obj
def start_command(
    settings: dict[str, Any],
    *,
    folder: Path | None,
    database: str,
    empty: bool,
    version: str | None,
) -> None:
    """Start the server where it does not run, and print how to connect, for a shell to take:

    eval "$(asxw postgres start)"
    """
    server = PostgresServer(
        folder or settings["project_dir"] / FOLDER,
        binaries=find_binaries(version) if version else None,
    )
    connection = server.start(database, empty)
    for name, value in connection.environment(database).items():
        click.echo(f"export {name}={shlex.quote(value)}")
    click.echo(
        f"PostgreSQL in {server.folder} listens on port {connection.port}; "
        "asxw postgres stop ends it.",
        err=True,
    )


@postgres_group.command("stop")
@_folder_option
@click.pass_obj
def stop_command(settings: dict[str, Any], *, folder: Path | None) -> None:
    """Stop the server; its data stays."""
    server = PostgresServer(folder or settings["project_dir"] / FOLDER)
    click.echo(f"stopped {server.folder}" if server.stop() else f"none runs in {server.folder}")
