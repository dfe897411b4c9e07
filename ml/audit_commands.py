"""`asxw audit`: the commands that prove nothing looks ahead."""

from __future__ import annotations

import click


@click.group("audit")
def audit_group() -> None:
    """Prove that no row of the warehouse knows more than it could have known."""
