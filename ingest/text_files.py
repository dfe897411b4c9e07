"""Delimited text before DuckDB reads it: the header, and copies of what it cannot read right.

DuckDB splits files into rows, and fast. It is given a copy where the text is not UTF-8 or where it
would lose rows: a line above the rows has an open quote, a quote is never closed, line ends differ.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ingest.layouts import CsvFormat
from ml.errors import AsxwError

UNCLOSED = "malformed line: unclosed quote"
STRAY = "malformed line: stray or unclosed quote"
MAX_RECORD = 2_000_000
"""Characters of a row over several lines, about what DuckDB takes; a longer one lost a quote."""


class Header(NamedTuple):
    """What stands above the rows."""

    names: list[str]
    lines: int
    plain: bool
    """Whether DuckDB counts these lines in the same way, so that it can pass over them."""


class _Scan(NamedTuple):
    """Fields so far, the last one of them that is not empty, and whether a quote is open."""

    fields: int = 0
    filled: int = 0
    inside: bool = False


class _Grammar:
    """The fields of a line as DuckDB's strict mode takes them."""

    def __init__(self, options: CsvFormat) -> None:
        quote, delimiter = re.escape(options.quote), re.escape(options.delimiter)
        blanks = "" if options.delimiter == " " else " *+"
        opening = f"{blanks}{quote}"
        inside = f"[^{quote}]*+(?:{quote}{quote}[^{quote}]*+)*+"
        closing = f"{quote}{blanks}"
        bare = f"[^{delimiter}\r\n]*+"
        field = f"(?:{opening}{inside}{closing}|(?!{opening}){bare})"
        self.delimiter = options.delimiter
        self._line = re.compile(f"{field}(?:{delimiter}{field})*+[\r\n]*")
        self._opening = re.compile(opening)
        self._inside = re.compile(inside)
        self._closing = re.compile(closing)
        self._bare = re.compile(bare)

    def scan(self, line: str, before: _Scan) -> _Scan | None:
        """Read one more line of a row; None where a quote stands in a wrong place."""
        fields, filled, inside = before
        end = len(line.rstrip("\r\n"))
        position = 0
        while True:
            start = position
            opening = None if inside else self._opening.match(line, position)
            if inside or opening:
                position = _end(self._inside, line, opening.end() if opening else position)
                if position == len(line):
                    return _Scan(fields, filled, inside=True)
                position = _end(self._closing, line, position)
                inside = False
            else:
                position = _end(self._bare, line, position)
            fields += 1
            if position > start:
                filled = fields
            if position >= end:
                return _Scan(fields, filled)
            if line[position] != self.delimiter:
                return None
            position += 1

    def closed(self, line: str) -> bool:
        """Whether every quote of a line is in its place and closed in it."""
        return self._line.fullmatch(line) is not None


def _end(pattern: re.Pattern[str], line: str, position: int) -> int:
    match = pattern.match(line, position)
    return match.end() if match else position


def is_utf8(encoding: str) -> bool:
    """Whether DuckDB can read the encoding as it is."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def _open(path: Path, encoding: str, errors: str) -> IO[str]:
    name = "utf-8-sig" if is_utf8(encoding) else encoding
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=name, errors=errors, newline="")
    return path.open(encoding=name, errors=errors, newline="")


def unique_names(header: list[str] | tuple[str, ...]) -> list[str]:
    """Column names without blanks or repeats (SQL does not tell upper from lower case)."""
    names: list[str] = []
    taken: set[str] = set()
    for number, text in enumerate(header, 1):
        base = text.strip() or f"column_{number}"
        name = base
        copy = 2
        while name.lower() in taken:
            name = f"{base}_{copy}"
            copy += 1
        taken.add(name.lower())
        names.append(name)
    return names


def read_header(path: Path, name: str, options: CsvFormat) -> Header:
    """Column names, the number of lines above the first row, and whether they are plain.

    Raises:
        AsxwError: there is no header, or a quote in it is not closed.
    """
    if options.names and not options.skip:
        return Header(unique_names(options.names), 0, plain=True)
    grammar = _Grammar(options)
    with _open(path, options.encoding, "replace") as text:
        above = [text.readline() for _ in range(options.skip)]
        reader = csv.reader(
            _recorded(text, above),
            delimiter=options.delimiter,
            quotechar=options.quote,
            strict=True,
        )
        try:
            header = list(options.names) or next(reader, [])
        except csv.Error as error:
            raise AsxwError(
                f"{name} has a header line whose quotes cannot be read ({error}). Correct line "
                f"{options.skip + 1} of the file, or the layout's csv settings; nothing was loaded."
            ) from error
        if not any(cell.strip() for cell in header):
            raise AsxwError(
                f"{name} has no header line"
                + (f" below its first {options.skip} lines" if options.skip else "")
                + ": the file is empty or cut short. Deliver it again; nothing was loaded."
            )
        plain = all(grammar.closed(line) and not line.endswith("\r") for line in above)
        return Header(unique_names(header), len(above), plain)


def _recorded(text: IO[str], lines: list[str]) -> Iterator[str]:
    for line in text:
        lines.append(line)
        yield line


def copy_rows(path: Path, copy: Path, options: CsvFormat, above: int) -> None:
    """Write a file's rows as UTF-8, without the `above` lines before the first of them.

    A byte that is no character in the encoding stays as it is, which is no UTF-8 either, so its
    line ends as a malformed one.
    """
    with _open(path, options.encoding, "surrogateescape") as text, _create(copy) as out:
        for _ in range(above):
            text.readline()
        shutil.copyfileobj(text, out)


def _create(path: Path) -> IO[str]:
    return path.open("w", encoding="utf-8", errors="surrogateescape", newline="")


def copy_repaired(
    path: Path,
    copy: Path,
    options: CsvFormat,
    above: int,
    columns: int,
    set_aside: Callable[[str, str], str],
) -> None:
    """Write a blank line and a file's rows, with one kind of line end and no bad quote.

    The blank line is there since DuckDB takes the first line end, even a quoted one, for the kind.
    A line whose quotes are wrong is replaced by what `set_aside` gives for the line and the reason.
    A row over several lines stays if its quotes are closed and it has `columns` fields; otherwise
    its first line is set aside and the next lines are rows of their own.
    """
    grammar = _Grammar(options)
    with _open(path, options.encoding, "surrogateescape") as text, _create(copy) as out:
        for _ in range(above):
            text.readline()
        out.write("\n")
        waiting: deque[str] = deque()
        for line in _lines(text, waiting):
            taken = line.rstrip("\r\n")
            if options.quote in line and not grammar.closed(line):
                row, reason = _row(line, _lines(text, waiting), grammar, columns)
                if reason:
                    waiting.extendleft(reversed(row[1:]))
                    taken = set_aside(taken, reason)
                else:
                    taken = "".join(row).rstrip("\r\n")
            out.write(taken + "\n")


def _lines(text: IO[str], waiting: deque[str]) -> Iterator[str]:
    """Lines put back, then those of the file."""
    while line := waiting.popleft() if waiting else text.readline():
        yield line


def _row(
    line: str, following: Iterator[str], grammar: _Grammar, columns: int
) -> tuple[list[str], str]:
    """The lines taken for the row that begins with `line`, and what is wrong with it, if so."""
    row = [line]
    size = len(line)
    scan = grammar.scan(line, _Scan())
    while scan is not None and scan.inside and size <= MAX_RECORD:
        more = next(following, "")
        if not more:
            break
        row.append(more)
        size += len(more)
        scan = grammar.scan(more, scan)
    if len(row) == 1 and scan is None:
        return row, STRAY
    if scan is None or scan.inside:
        return row, UNCLOSED
    # empty fields too many are no error to DuckDB
    if len(row) > 1 and not scan.filled <= columns <= scan.fields:
        return row, UNCLOSED
    return row, ""
