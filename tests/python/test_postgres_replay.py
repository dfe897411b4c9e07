"""The as-of replay on Postgres."""

from __future__ import annotations

from pathlib import Path

import pytest
from postgres_fixture import BUILD, Database, command

pytestmark = pytest.mark.slow


def test_the_sample_market_replays(built: Database, tmp_path: Path) -> None:
    copy = built.copy("replayed")
    environment = copy.environment(tmp_path)
    # intermediate tables are unlogged: a server that was killed comes back without their rows
    if copy.rows("select 1 from intermediate.int_daily_grid limit 1"):
        command("dbt", "--quiet", "parse", environment=environment)
    else:
        command(*BUILD, environment=environment)
    out = ("--out", str(tmp_path / "cells.csv"))
    done = command(
        *("asxw", "audit", "replay", "--count", "3"), *out, environment=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ((passed, checked, engine),) = copy.rows("select passed, checked, target from ml.audits")
    assert passed and checked > 1_000_000 and engine == "postgres"
