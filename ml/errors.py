"""The one exception a user sees: what went wrong, where, and what to do."""

from __future__ import annotations


class AsxwError(Exception):
    """A failure that a person can act on; the command line prints it and exits with 1.

    The text names the file, table, column or row concerned and says what to do next.
    """
