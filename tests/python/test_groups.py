"""What is dear to build is built once: its tests stay on one worker of pytest-xdist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_every_test_has_a_group_that_the_workers_know() -> None:
    files = ["test_folds.py", "test_static_audit.py"]
    options = ["-p", "no:cacheprovider", "--no-cov", "-v", "-n", "2", "--dist", "loadgroup"]
    chosen = ["-k", "test_every_rule_has_a_bad_model or purge"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *chosen, *[str(HERE / f) for f in files]],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = [line for line in done.stdout.splitlines() if " PASSED " in line]
    assert passed and all("@" in line for line in passed), done.stdout
    of_folds = {line.split("]")[0] for line in passed if "test_folds.py::" in line}
    assert len(of_folds) == 1
