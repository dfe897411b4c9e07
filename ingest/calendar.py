"""Sessions of the exchanges, as the seed that the models take them from."""

from __future__ import annotations

import csv
from pathlib import Path

import exchange_calendars

CALENDARS = ("XASX", "XNYS")
FIRST = "2010-01-01"
LAST = "2027-12-31"
HEADER = ("calendar", "session_date")
SEED = Path("seeds") / "market_sessions.csv"


def sessions() -> list[tuple[str, str]]:
    """Calendar and ISO date of every session from FIRST to LAST, in order."""
    rows = []
    for name in CALENDARS:
        calendar = exchange_calendars.get_calendar(name, start=FIRST, end=LAST)
        rows += [(name, day.date().isoformat()) for day in calendar.sessions]
    return rows


def write_sessions(path: Path) -> int:
    """Write the seed and return its number of rows."""
    rows = sessions()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows)
    return len(rows)
