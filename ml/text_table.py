"""Rows as aligned text, for every command that prints a table."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Header and rows, a line each, in columns as wide as their widest cell.

    Args:
        header: one text per column.
        rows: cells as texts, as many in each row as columns.
        left: so many columns, from the first, hold words and stand to the left; numbers follow
            and stand to the right.
    """
    lines = [header, *rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n < left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
