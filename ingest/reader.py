"""Files into an in-memory DuckDB: every row as it stands, malformed lines set apart.

Text files arrive as text columns and nothing is guessed; Parquet keeps its own types. Each row
keeps its file and position, so that a rejected one can be found again.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import duckdb

from ingest.layouts import CsvFormat, FileSet, Input
from ml.errors import AsxwError

ID = "__id"
FILE = "__file"
MEMORY_LIMIT = "2GB"

_MALFORMED = {
    "MISSING COLUMNS": "malformed line: too few fields",
    "TOO MANY COLUMNS": "malformed line: too many fields",
    "UNQUOTED VALUE": "malformed line: stray or unclosed quote",
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


def find_files(folder: Path, pattern: str) -> list[SourceFile]:
    """Files that match a glob, in order of name; `{symbol}` matches and captures a part."""
    names = re.findall(r"\{([a-z_]+)\}", pattern)
    glob = re.sub(r"\{[a-z_]+\}", "*", pattern)
    parts = re.split(r"(\{[a-z_]+\}|\*\*/|\*|\?)", pattern)
    wild = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    expression = "".join(
        "([^/]+)" if p.startswith("{") else wild.get(p, re.escape(p)) for p in parts
    )
    found = []
    for path in sorted(folder.glob(glob)):
        name = path.relative_to(folder).as_posix()
        match = re.fullmatch(expression, name)
        if not path.is_file() or (names and match is None):
            continue
        groups = match.groups() if match else ()
        found.append(SourceFile(path, name, dict(zip(names, groups, strict=False))))
    return found


def _unique(header: Sequence[str]) -> list[str]:
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


def _open_binary(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def _read_header(file: SourceFile, options: CsvFormat) -> tuple[list[str], int]:
    """Column names and the number of lines above the first row."""
    encoding = "utf-8-sig" if _is_utf8(options.encoding) else options.encoding
    if options.names:
        return _unique(options.names), options.skip
    with (
        _open_binary(file.path) as binary,
        io.TextIOWrapper(binary, encoding, errors="replace", newline="") as text,
    ):
        for _ in range(options.skip):
            text.readline()
        reader = csv.reader(text, delimiter=options.delimiter, quotechar=options.quote)
        header = next(reader, None)
        if not header or not any(cell.strip() for cell in header):
            raise AsxwError(
                f"{file.name} has no header line"
                + (f" below its first {options.skip} lines" if options.skip else "")
                + ": the file is empty or cut short. Deliver it again; nothing was loaded."
            )
        return _unique(header), options.skip + reader.line_num


class Staging:
    """The in-memory DuckDB in which one load is read and checked.

    Expressions of layouts run here. Common subexpressions stay where they are written: sharing
    one would move it out of the TRY that turns its failure into a rejected row.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[SourceFile] = []
        self._temporary = Path(tempfile.mkdtemp(prefix="asxw-load-"))
        self._reads = 0
        self.connection = duckdb.connect(":memory:")
        for setting in (
            "preserve_insertion_order = true",
            "disabled_optimizers = 'common_subexpressions'",
            f"memory_limit = '{MEMORY_LIMIT}'",
            f"temp_directory = {literal(str(self._temporary))}",
            "enable_progress_bar = false",
        ):
            self.connection.execute(f"set {setting}")
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
            if files.format == "csv":
                with _readable(file):
                    names, lines = _read_header(file, files.csv)
                kinds = dict.fromkeys(names, "VARCHAR")
            else:
                lines = 0
                with _readable(file):
                    kinds = self.describe(
                        f"select * from read_parquet({literal(_escaped(file.path))})"
                    )
            key = (lines, *kinds.items())
            groups.setdefault(key, []).append(file)
            columns[key] = kinds
        return Source(
            files,
            tuple(
                Group(columns[key], tuple(members), header_lines=int(str(key[0])))
                for key, members in groups.items()
            ),
        )

    def load(self, source: Source, table: str) -> None:
        """Read the files into `table`: their columns and FILE, the file's number, row by row."""
        if not source.groups:
            columns = ", ".join(f"{quoted(c)} text" for c in source.files.columns)
            self.connection.execute(f"create table {table} ({columns}, {FILE} integer)")
            return
        selects = [self._select(source.files, group, table) for group in source.groups]
        names = ", ".join(f.name for g in source.groups for f in g.files[:3])
        try:
            self.connection.execute(
                f"create table {table} as " + " union all by name ".join(s for s, _ in selects)
            )
        except duckdb.Error as error:
            raise AsxwError(
                f"{names} cannot be read: {_first_line(error)}. Deliver the file again; "
                "nothing was loaded."
            ) from error
        for _, read in selects:
            if read:
                self._keep_malformed(table, read)

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

    def _select(self, files: FileSet, group: Group, table: str) -> tuple[str, str]:
        """The statement that reads a group, and the name its malformed lines are kept under."""
        first = len(self.files)
        self.files.extend(group.files)
        if files.format == "parquet":
            names = ", ".join(quoted(c) for c in group.columns)
            parts = [
                f"select {names}, {first + n}::integer as {FILE} "
                f"from read_parquet({literal(_escaped(file.path))})"
                for n, file in enumerate(group.files)
            ]
            return " union all by name ".join(parts), ""
        self._reads += 1
        read = f"{table}_read_{self._reads}"
        paths = [self._as_utf8(file, files.csv) for file in group.files]
        self.connection.execute(
            f"create type {read}_paths as enum ({', '.join(literal(p) for p in paths)})"
        )
        self.connection.execute(
            f"create table {read} as select * from (values "
            + ", ".join(
                f"({literal(path)}, {first + n}, {group.header_lines})"
                for n, path in enumerate(paths)
            )
            + ") as f(path, file_no, header_lines)"
        )
        columns = ", ".join(f"{literal(c)}: 'VARCHAR'" for c in group.columns)
        listed = ", ".join(literal(_escaped(Path(p))) for p in paths)
        names = ", ".join(quoted(c) for c in group.columns)
        return (
            f"select {names}, enum_code(__path::{read}_paths)::integer + {first}"
            f" as {FILE} from read_csv([{listed}], auto_detect = false, header = false, "
            f"skip = {group.header_lines}, delim = {literal(files.csv.delimiter)}, "
            f"quote = {literal(files.csv.quote)}, escape = {literal(files.csv.quote)}, "
            f"columns = {{{columns}}}, filename = '__path', strict_mode = true, "
            f"store_rejects = true, rejects_limit = 0, rejects_table = '{read}_errors', "
            f"rejects_scan = '{read}_scans')",
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

    def _as_utf8(self, file: SourceFile, options: CsvFormat) -> str:
        """Path of the file, or of a copy in UTF-8.

        A byte that is no character in the encoding stays as it is, which is no UTF-8 either, so
        its line ends as a malformed one.
        """
        if _is_utf8(options.encoding):
            return str(file.path)
        copy = self._temporary / f"{len(list(self._temporary.iterdir()))}_{file.path.stem}.csv"
        with (
            _open_binary(file.path) as binary,
            io.TextIOWrapper(binary, options.encoding, "surrogateescape", newline="") as text,
            copy.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out,
        ):
            shutil.copyfileobj(text, out)
        return str(copy)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")


def _escaped(path: Path) -> str:
    """A path that DuckDB does not take for a glob."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


@contextmanager
def _readable(file: SourceFile) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError, EOFError, csv.Error, UnicodeError) as error:
        raise AsxwError(
            f"{file.name} cannot be read: {_first_line(error)}. It is damaged or cut short: "
            "deliver it again; nothing was loaded."
        ) from error
