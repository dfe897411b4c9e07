"""`asxw audit invariance`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click

from ml.audit.record import AuditResult, now, record_when_free
from ml.errors import AsxwError
from ml.warehouse import project_vars

BATTERY = Path("tests") / "python" / "test_invariance.py"


def run_battery(project_dir: Path, battery: Path, scratch: Path) -> dict[str, str]:
    """Run a file of tests with pytest.

    Args:
        project_dir: folder of the project.
        battery: the file.
        scratch: folder for pytest's own report.

    Returns:
        passed, failed or skipped, by name of the test.

    Raises:
        AsxwError: pytest could not run it; the text carries its message.
    """
    report = scratch / "battery.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "--no-cov", "--junitxml"]
    done = subprocess.run(  # noqa: S603 (our own interpreter; arguments are passed as a list)
        [*command, str(report), str(battery)],
        cwd=project_dir,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1) or not report.is_file():
        output = (done.stdout + done.stderr).strip()[-2000:]
        raise AsxwError(
            f"pytest could not run {battery}:\n{output}\nIt needs the extra dev: pip install "
            "-e '.[dev]'."
        )
    # a file that pytest wrote just now
    cases = ElementTree.parse(report).getroot().iter("testcase")  # noqa: S314
    verdicts = {"failure": "failed", "error": "failed", "skipped": "skipped"}
    return {
        str(case.get("name")): next((verdicts[c.tag] for c in case if c.tag in verdicts), "passed")
        for case in cases
    }


@click.command("invariance")
@click.option("--record/--no-record", default=True, help="Whether ml.audits gets a row.")
@click.pass_obj
def invariance_command(settings: dict[str, Any], record: bool) -> None:
    """Change what must not matter, corrupt the future, shuffle the labels: does anything move?"""
    project_dir: Path = settings["project_dir"]
    variables = project_vars(project_dir)
    started = now()
    with tempfile.TemporaryDirectory() as scratch:
        found = run_battery(project_dir, BATTERY, Path(scratch))
    ran = {name: verdict for name, verdict in found.items() if verdict != "skipped"}
    failed = [name for name, verdict in ran.items() if verdict == "failed"]
    for name in failed:
        click.echo(f"failed: {name}")
    summary = f"{len(ran) - len(failed)} of {len(ran)} probes passed"
    click.echo(f"invariance battery: {summary}")
    if record:
        result = AuditResult(
            layer="invariance",
            target="duckdb",
            market="sample",
            started_at=started,
            passed=bool(ran) and not failed,
            checked=len(ran),
            differences=len(failed),
            summary=summary,
            details={"probes": found},
        )
        schema = f"{variables.get('schema_prefix', '')}ml"
        record_when_free(project_dir, settings["target"], schema, result, click.echo)
    if failed or not ran:
        raise AsxwError(f"See `pytest {BATTERY}` for what moved and should not have.")
