"""Which state of the project made something: the git commit, and a checksum of the files."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

# what decides the rows of a build and the numbers of a run
_FOLDERS = ("models", "macros", "seeds", "snapshots", "tests/generic", "tests/singular")
_PACKAGES = ("ingest", "ml")
_SUFFIXES = (".sql", ".yml", ".csv", ".py", ".j2")


def git_commit(project_dir: Path) -> str | None:
    """Commit of the project; None outside a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 (git of the user's path)
            cwd=project_dir,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def project_checksum(project_dir: Path) -> str:
    """SHA-256 over the names and contents of the dbt project's and the programs' files.

    Unlike the commit it changes with a file that is not committed yet, and stays the same in a
    copy of the project without its history.
    """
    files = [project_dir / "dbt_project.yml"]
    for folder in (*_FOLDERS, *_PACKAGES):
        files += [f for f in (project_dir / folder).rglob("*") if f.suffix in _SUFFIXES]
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(file.relative_to(project_dir).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()
