"""The invariance layer reports what its tests say, failures included."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml.audit.invariance_command import run_battery
from ml.errors import AsxwError

BATTERY = """
import pytest

def test_holds(): pass

@pytest.mark.parametrize("n", [1, 2])
def test_moves(n): assert n == 1

def test_cannot_run(): pytest.skip("no data")

@pytest.fixture
def broken(): raise RuntimeError

def test_without_its_ground(broken): pass
"""


def test_every_probe_has_its_verdict(tmp_path: Path) -> None:
    (tmp_path / "test_battery.py").write_text(BATTERY, encoding="utf-8")
    assert run_battery(tmp_path, Path("test_battery.py"), tmp_path) == {
        "test_holds": "passed",
        "test_moves[1]": "passed",
        "test_moves[2]": "failed",
        "test_cannot_run": "skipped",
        "test_without_its_ground": "failed",
    }


def test_a_battery_that_cannot_be_read_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(AsxwError, match="could not run"):
        run_battery(tmp_path, Path("test_gone.py"), tmp_path)
