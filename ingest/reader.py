"""Files into an in-memory DuckDB: every row as it stands, malformed lines set apart.

Text files arrive as text columns and nothing is guessed; Parquet keeps its own types. Each row
keeps its file and position, so that a rejected one can be found again.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
import shutil
import tempfile
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
import pyarrow as pa

from ingest.layouts import CAPTURE, FileSet, Input
from ingest.text_files import STRAY, copy_repaired, copy_rows, is_utf8, read_header
from ml.errors import AsxwError

ID = "__id"
FILE = "__file"
MEMORY_LIMIT = "2GB"
_NO_TYPE = '"NULL"'  # a Parquet column without a single value

_MALFORMED = {
    "MISSING COLUMNS": "malformed line: too few fields",
    "TOO MANY COLUMNS": "malformed line: too many fields",
    "UNQUOTED VALUE": STRAY,
    "LINE SIZE OVER MAXIMUM": "malformed line: too long",
    "INVALID ENCODING": "malformed line: not valid text in the file's encoding",
}


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL text literal."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True)
class SourceFile:
    """One file to read: where it is, its name inside the loaded folder, parts of that name."""

    path: Path
    name: str
    captures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Files with the same columns; `columns` maps names to DuckDB types."""

    columns: dict[str, str]
    files: tuple[SourceFile, ...]
    header_lines: int = 0
    plain_header: bool = True


@dataclass(frozen=True)
class _Part:
    """One file to read into a table: its number, and where DuckDB finds its rows."""

    file: SourceFile
    number: int
    path: Path
    columns: dict[str, str]
    header_lines: int
    above: int
    """Lines above the first row in the file itself, whatever `path` is."""
    repaired: bool = False

    def form(self) -> tuple[object, ...]:
        """What files have in common that one statement reads."""
        return (*self.columns.items(), self.header_lines)


@dataclass(frozen=True)
class Source:
    """The files of one input, grouped by their columns; none for an absent optional input."""

    files: FileSet
    groups: tuple[Group, ...]

    @property
    def columns(self) -> dict[str, str]:
        """All columns of all files."""
        merged: dict[str, str] = {}
        for group in self.groups:
            for name, kind in group.columns.items():
                merged.setdefault(name, kind)
        return merged

    def by_types(self) -> tuple[Source, ...]:
        """The files apart where a column's type differs: none is converted to a neighbour's."""
        apart: list[tuple[dict[str, str], list[Group]]] = []
        for group in self.groups:
            own = {c.lower(): kind for c, kind in group.columns.items() if kind != _NO_TYPE}
            for kinds, groups in apart:
                if all(kinds.get(c, kind) == kind for c, kind in own.items()):
                    kinds.update(own)
                    groups.append(group)
                    break
            else:
                apart.append((own, [group]))
        return tuple(Source(self.files, tuple(groups)) for _, groups in apart)

    def check_types(self, where: str) -> None:
        """Refuse files that can only be read together and whose types would change values.

        Raises:
            AsxwError: a column has types of different kinds; the text names two files.
        """
        first: dict[str, tuple[str, str]] = {}
        for group in self.groups:
            for column, kind in group.columns.items():
                if kind == _NO_TYPE:
                    continue
                file = group.files[0].name
                known, other = first.setdefault(column.lower(), (kind, file))
                if _kind(known) != _kind(kind):
                    raise AsxwError(
                        f"{where}: column {column} is {known} in {other} and {kind} in {file}. "
                        "Give each kind of file its own input, or deliver them alike; nothing was "
                        "loaded."
                    )


def _kind(data_type: str) -> str:
    """Types that DuckDB unifies without changing what a value says have one kind."""
    if re.fullmatch(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\)", data_type):
        return "number"
    return re.sub(r"^TIMESTAMP_(S|MS|NS)$", "TIMESTAMP", data_type)


def find_files(folder: Path, pattern: str) -> list[SourceFile]:
    """Files that match a glob, in order of name; `{symbol}` matches and captures a part.

    Raises:
        AsxwError: the folder or something that matches cannot be read as a file.
    """
    names = re.findall(CAPTURE, pattern)
    glob = re.sub(CAPTURE, "*", pattern)
    parts = re.split(r"(\{[a-z_]+\}|\*\*/|\*|\?)", pattern)
    wild = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    expression = "".join(
        "([^/]+)" if p.startswith("{") else wild.get(p, re.escape(p)) for p in parts
    )
    found = []
    try:
        _check_folders(folder, glob)
        for path in sorted(folder.glob(glob)):
            name = path.relative_to(folder).as_posix()
            match = re.fullmatch(expression, name, re.DOTALL)
            if names and match is None:
                continue
            if path.is_dir() and not Path(pattern).suffix:
                continue
            _check_file(path, name)
            groups = match.groups() if match else ()
            found.append(SourceFile(path, name, dict(zip(names, groups, strict=False))))
    except OSError as error:
        raise AsxwError(
            f"Folder {error.filename or folder} cannot be read: {error.strerror}. Give the account "
            "that loads it the right to read it; nothing was loaded."
        ) from error
    return found


def _check_folders(folder: Path, glob: str) -> None:
    """Open every folder the pattern looks into: glob takes one it may not read for an empty one.

    Raises:
        OSError: a folder cannot be read; `filename` says which.
    """
    next(os.scandir(folder), None)
    parts = glob.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        for path in folder.glob("/".join(parts[:depth])):
            if path.is_dir():
                next(os.scandir(path), None)


def _check_file(path: Path, name: str) -> None:
    """Refuse what cannot be read as a file, since leaving it out would lose its rows."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = str(path).encode(errors="surrogateescape").decode(errors="backslashreplace")
        raise AsxwError(
            f"The name of {shown} is not UTF-8. Rename it; nothing was loaded."
        ) from error
    if path.is_file():
        return
    what = "is no regular file"
    if path.is_dir():
        what = "is a folder, not a file"
    elif path.is_symlink():
        what = "is a link to a file that does not exist"
    raise AsxwError(
        f"{name} {what}. Remove it, deliver the file, or name the files in the layout so that it "
        "is not among them; nothing was loaded."
    )


class Staging:
    """The in-memory DuckDB in which one load is read and checked.

    Expressions of layouts run here. Common subexpressions stay where they are written: sharing
    one would move it out of the TRY that turns its failure into a rejected row.
    """

    def __init__(self, folder: Path, timezone: str, linked: Iterable[Path] = ()) -> None:
        """Open it.

        A layout's SQL reaches `folder` and, outside it, what its links lead to; if it asks for a
        local time it gets the one of `timezone`, on any machine.

        Raises:
            AsxwError: DuckDB does not know the time zone.
        """
        self.folder = folder
        self.files: list[SourceFile] = []
        self._temporary = Path(tempfile.mkdtemp(prefix="asxw-load-")).resolve()
        self._reads = 0
        self._copies = 0
        self._mark = uuid.uuid4().hex
        self._set_aside: list[tuple[str, str, str]] = []
        self.connection = duckdb.connect(":memory:")
        for setting in (
            "preserve_insertion_order = true",
            "disabled_optimizers = 'common_subexpressions'",
            f"memory_limit = '{MEMORY_LIMIT}'",
            f"temp_directory = {literal(str(self._temporary))}",
            "enable_progress_bar = false",
            f"allowed_directories = {_texts([folder, self._temporary])}",
            f"allowed_paths = {_texts(linked)}",
            "enable_external_access = false",
        ):
            self.connection.execute(f"set {setting}")
        try:
            self.connection.execute(f"set TimeZone = {literal(timezone)}")
        except duckdb.Error as error:
            self.close()
            raise AsxwError(
                f"DuckDB does not know the time zone {timezone}: write it as Australia/Sydney."
            ) from error
        self.connection.execute("set lock_configuration = true")
        self.connection.execute(
            "create table __malformed "
            "(owner text, file_no integer, position bigint, line text, reason text)"
        )

    def close(self) -> None:
        """Free memory and temporary files."""
        self.connection.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """Rows of a query."""
        return self.connection.execute(sql).fetchall()

    def number(self, sql: str) -> int:
        """The single number a query returns."""
        return int(str(self.connection.execute(sql).fetchall()[0][0]))

    def describe(self, sql: str) -> dict[str, str]:
        """Column names and types of a query."""
        found = self.connection.execute(f"describe {sql}").fetchall()
        return {str(row[0]): str(row[1]) for row in found}

    def inspect(self, files: FileSet, where: str) -> Source:
        """Find the files and read their headers only.

        Raises:
            AsxwError: no file although the layout requires one, or a file cannot be read.
        """
        found = find_files(self.folder, files.pattern)
        if not found:
            if files.optional:
                return Source(files, ())
            raise AsxwError(
                f"No file {files.pattern} in {self.folder}, which the layout requires for {where}. "
                "Name the folder that holds it, or mark the input optional in the layout."
            )
        groups: dict[tuple[object, ...], list[SourceFile]] = {}
        columns: dict[tuple[object, ...], dict[str, str]] = {}
        for file in found:
            lines, plain = 0, True
            with _readable(file):
                if files.format == "csv":
                    names, lines, plain = read_header(file.path, file.name, files.csv)
                    kinds = dict.fromkeys(names, "VARCHAR")
                else:
                    kinds = self.describe(f"select * from {_parquet(file.path)}")
            key = (lines, plain, *kinds.items())
            groups.setdefault(key, []).append(file)
            columns[key] = kinds
        return Source(
            files,
            tuple(
                Group(columns[key], tuple(members), int(str(key[0])), plain_header=bool(key[1]))
                for key, members in groups.items()
            ),
        )

    def load(self, source: Source, table: str) -> None:
        """Read the files into `table`: their columns and FILE, the file's number, row by row.

        Raises:
            AsxwError: a file cannot be read.
        """
        if not source.groups:
            columns = ", ".join(f"{quoted(c)} text" for c in source.files.columns)
            self.connection.execute(f"create table {table} ({columns}, {FILE} integer)")
            return
        parts = [
            self._part(source.files, group, file) for group in source.groups for file in group.files
        ]
        while failed := self._read(source.files, parts, table):
            parts = [
                self._repair(source.files, part, failed[part.number])
                if part.number in failed
                else part
                for part in parts
            ]
        self._restore_lines()

    def _part(self, files: FileSet, group: Group, file: SourceFile) -> _Part:
        self.files.append(file)
        lines = group.header_lines
        part = _Part(file, len(self.files) - 1, file.path, group.columns, lines, lines)
        if files.format == "parquet" or (group.plain_header and is_utf8(files.csv.encoding)):
            return part
        copy = self._copy_path()
        with _readable(file):
            copy_rows(file.path, copy, files.csv, lines)
        return replace(part, path=copy, header_lines=0)

    def _copy_path(self) -> Path:
        self._copies += 1
        return self._temporary / f"{self._copies}.csv"

    def _read(self, files: FileSet, parts: Sequence[_Part], table: str) -> dict[int, str]:
        """Fill `table`; or say, by their numbers, which files cannot be read so and why."""
        runs = [list(run) for _, run in itertools.groupby(parts, key=_Part.form)]
        selects = [self._select(files, run, table) for run in runs]
        try:
            self.connection.execute(
                f"create table {table} as " + " union all by name ".join(s for s, _ in selects)
            )
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error:
            failed = self._failing(files, parts)
            if not failed:
                raise
            return failed
        reads = [read for _, read in selects if read]
        failed = {number: why for read in reads for number, why in self._swallowed(read, parts)}
        if failed:
            self.connection.execute(f"drop table {table}")
            return failed
        for read in reads:
            self._keep_malformed(table, read)
        return {}

    def _failing(self, files: FileSet, parts: Sequence[_Part]) -> dict[int, str]:
        """Files that cannot be read alone either, by number, and why."""
        failed = {}
        for part in parts:
            select, _ = self._select(files, [part], "__alone")
            try:
                self.connection.execute(f"create table __alone as {select}")
                self.connection.execute("drop table __alone")
            except duckdb.Error as error:
                failed[part.number] = _first_line(error)
        return failed

    def _swallowed(self, read: str, parts: Sequence[_Part]) -> list[tuple[int, str]]:
        """Files in which a malformed line may hold further lines, and where.

        DuckDB takes everything up to the next quote, or the end of the file, for one line. Of a
        long one it keeps no text.
        """
        repaired = [str(p.number) for p in parts if p.repaired]
        once = f"f.file_no not in ({', '.join(repaired)})" if repaired else "true"
        found = self.rows(
            "select f.file_no, min(e.line - f.header_lines) "
            f"from {read}_errors e join {read}_scans s using (scan_id, file_id) "
            f"join {read} f on f.path = s.file_path where e.error_type::text = 'UNQUOTED VALUE' "
            "or regexp_matches(trim(e.csv_line, chr(10) || chr(13)), '[\\r\\n]') "
            f"or ({once} and coalesce(e.csv_line, '') = '') group by 1 order by 1"
        )
        return [(int(str(n)), f"row {row} has a quote that is not closed") for n, row in found]

    def _repair(self, files: FileSet, part: _Part, why: str) -> _Part:
        """The file as a copy that DuckDB can read; an error if it is one already."""
        if part.repaired or files.format == "parquet":
            raise _unreadable(part.file, why)
        copy = self._copy_path()
        with _readable(part.file):
            copy_repaired(
                part.file.path,
                copy,
                files.csv,
                above=part.above,
                columns=len(part.columns),
                set_aside=lambda line, reason: self._stand_in(files, part, line, reason),
            )
        return replace(part, path=copy, header_lines=1, repaired=True)

    def _stand_in(self, files: FileSet, part: _Part, line: str, reason: str) -> str:
        """Keep a line, and give one for its place that has too many fields, whatever they are."""
        mark = f"{self._mark}-{len(self._set_aside)}"
        stand_in = files.csv.delimiter.join([mark] * (len(part.columns) + 1))
        shown = line.encode(errors="surrogateescape").decode(errors="replace")
        self._set_aside.append((stand_in, shown, reason))
        return stand_in

    def load_rows(self, entry: Input, name: str, table: str) -> None:
        """Rows written in the layout itself, as text columns."""
        columns = list(dict.fromkeys(c for row in entry.rows for c in row))
        self.files.append(SourceFile(Path(name), name))
        file_no = len(self.files) - 1
        cells = [
            ", ".join([*(literal(row[c]) if c in row else "null" for c in columns), str(file_no)])
            for row in entry.rows
        ]
        head = ", ".join([*(quoted(c) for c in columns), FILE])
        values = ", ".join(f"({c})" for c in cells)
        kinds = ", ".join([*(f"{quoted(c)} text" for c in columns), f"{FILE} integer"])
        self.connection.execute(f"create table {table} ({kinds})")
        self.connection.execute(f"insert into {table} ({head}) values {values}")

    def _select(self, files: FileSet, run: Sequence[_Part], table: str) -> tuple[str, str]:
        """The statement that reads files of one form, and the name its errors are kept under."""
        columns = run[0].columns
        names = ", ".join(quoted(c) for c in columns)
        if files.format == "parquet":
            selects = [
                f"select {names}, {part.number}::integer as {FILE} from {_parquet(part.path)}"
                for part in run
            ]
            return " union all by name ".join(selects), ""
        self._reads += 1
        read = f"{table}_read_{self._reads}"
        paths = [literal(str(part.path)) for part in run]
        self.connection.execute(f"create type {read}_paths as enum ({', '.join(paths)})")
        listed = ", ".join(f"({literal(str(p.path))}, {p.number}, {p.header_lines})" for p in run)
        self.connection.execute(
            f"create table {read} as "
            f"select * from (values {listed}) as f(path, file_no, header_lines)"
        )
        kinds = ", ".join(f"{literal(c)}: 'VARCHAR'" for c in columns)
        globs = ", ".join(literal(_escaped(part.path)) for part in run)
        return (
            f"select {names}, enum_code(__path::{read}_paths)::integer + {run[0].number}"
            f" as {FILE} from read_csv([{globs}], auto_detect = false, header = false, "
            f"skip = {run[0].header_lines}, delim = {literal(files.csv.delimiter)}, "
            f"quote = {literal(files.csv.quote)}, escape = {literal(files.csv.quote)}, "
            f"columns = {{{kinds}}}, filename = '__path', hive_partitioning = false, "
            "strict_mode = true, store_rejects = true, rejects_limit = 0, "
            f"rejects_table = '{read}_errors', rejects_scan = '{read}_scans')",
            read,
        )

    def _keep_malformed(self, table: str, read: str) -> None:
        """Move the lines DuckDB could not split into columns to `malformed`, one row per line."""
        reasons = " ".join(
            f"when '{kind}' then {literal(reason)}" for kind, reason in _MALFORMED.items()
        )
        self.connection.execute(
            f"insert into __malformed select '{table}', f.file_no, e.line - f.header_lines, "
            "ltrim(first(e.csv_line), chr(10) || chr(13)), "
            f"first(case e.error_type::text {reasons} "
            "else 'malformed line: ' || lower(e.error_type::text) end) "
            f"from {read}_errors e join {read}_scans s using (scan_id, file_id) "
            f"join {read} f on f.path = s.file_path group by f.file_no, f.header_lines, e.line"
        )

    def _restore_lines(self) -> None:
        """Put the lines that were set aside back in the place of what stood in for them."""
        if not self._set_aside:
            return
        marks, lines, reasons = (list(column) for column in zip(*self._set_aside, strict=True))
        aside = pa.table({"mark": marks, "line": lines, "reason": reasons})
        self.connection.register("__aside", aside)
        self.connection.execute(
            "update __malformed set line = a.line, reason = a.reason from __aside a "
            "where __malformed.line = a.mark"
        )
        self.connection.unregister("__aside")
        self._set_aside.clear()


def _texts(paths: Iterable[Path]) -> str:
    return "[" + ", ".join(literal(str(path)) for path in paths) + "]"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")


def _escaped(path: Path) -> str:
    """A path that DuckDB does not take for a glob."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


def _parquet(path: Path) -> str:
    """A Parquet file as it stands: a folder named column=value says nothing about its rows."""
    return f"read_parquet({literal(_escaped(path))}, hive_partitioning = false)"


def _unreadable(file: SourceFile, why: str) -> AsxwError:
    if "permission denied" in why.lower():
        return AsxwError(
            f"{file.name} cannot be read: permission denied. Give the account that loads it the "
            "right to read it; nothing was loaded."
        )
    return AsxwError(
        f"{file.name} cannot be read: {why}. It is damaged or cut short: deliver it again; "
        "nothing was loaded."
    )


@contextmanager
def _readable(file: SourceFile) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError, EOFError, csv.Error, UnicodeError, zlib.error) as error:
        raise _unreadable(file, _first_line(error)) from error
