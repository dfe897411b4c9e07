"""Layouts: YAML files that say how a vendor's files become raw tables.

A layout is data, not code. docs/load.md describes it with a worked example; every mistake in one
ends as an AsxwError that names the file and the place.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import yaml

from ml.contract import Table
from ml.errors import AsxwError

SHIPPED = Path(__file__).parent / "layouts"
DEFAULT_NULL_TOKENS = ("", "NA", "N/A", "NULL", "NONE", "NAN", "-", ".")
CAPTURE = r"\{([a-z_]+)\}"
"""A part of a file's name that becomes a column."""
_SECONDS_PER_DAY = 86400


@dataclass(frozen=True)
class TextValues:
    """How numbers and dates are written where a column is text."""

    decimal: str = "."
    thousands: str = ""
    date_formats: tuple[str, ...] = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")
    timestamp_formats: tuple[str, ...] = (
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%d %H:%M:%S.%f",
        "%Y-%m-%dT%H:%M:%S.%f",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d",
    )


@dataclass(frozen=True)
class CsvFormat:
    """Syntax of a delimited text file."""

    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    skip: int = 0
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileSet:
    """Which files to read and how. `columns` stands in for an absent optional lookup."""

    pattern: str
    format: str
    csv: CsvFormat
    optional: bool = False
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expression:
    """SQL over the file's columns; `optional` ones are null where the file lacks a column."""

    sql: str
    optional: bool = False


@dataclass(frozen=True)
class RejectRule:
    """Rows for which `when` is true are rejected with `reason`."""

    when: str
    reason: str


@dataclass(frozen=True)
class Input:
    """One way files (or rows written in the layout itself) feed one raw table."""

    table: str
    files: FileSet | None
    rows: tuple[Mapping[str, str], ...]
    values: TextValues
    lookups: Mapping[str, FileSet]
    query: str | None
    columns: Mapping[str, Expression]
    reject: tuple[RejectRule, ...]
    merged_when: str | None

    @property
    def label(self) -> str:
        """What to call the input in messages."""
        return self.files.pattern if self.files else "rows of the layout"


@dataclass(frozen=True)
class Layout:
    """A checked layout: inputs per raw table, in the contract's order of tables."""

    name: str
    path: Path
    description: str
    timezone: str
    decision_time: dt.time
    null_tokens: tuple[str, ...]
    inputs: Mapping[str, tuple[Input, ...]] = field(default_factory=dict)


class _Keys(yaml.SafeLoader):
    """YAML in which no key of a mapping stands twice; plain YAML takes the last one silently."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The next mapping.

        Raises:
            ComposerError: a key stands twice; the text names it and its line.
        """
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.composer.ComposerError(
                    None, None, f"{key.value} stands twice in one mapping", key.start_mark
                )
            seen.add(key.value)
        return node


class _Reader:
    """Takes values out of YAML mappings and says where a wrong one stands."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, where: str, problem: str) -> AsxwError:
        return AsxwError(f"Layout {self.path}: {where}: {problem}")

    def mapping(self, value: Any, where: str, allowed: Sequence[str] = ()) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.fail(where, "expected a mapping of names to values.")
        unknown = [str(k) for k in value if allowed and k not in allowed]
        if unknown:
            raise self.fail(
                where, f"unknown setting {', '.join(unknown)}; known: {', '.join(allowed)}."
            )
        return {str(k): v for k, v in value.items()}

    def text(self, value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise self.fail(where, f"expected text, found {value!r}; put it in quotes.")
        return value

    def texts(self, value: Any, where: str) -> tuple[str, ...]:
        items = value if isinstance(value, list) else [value]
        return tuple(self.text(item, where) for item in items)

    def flag(self, value: Any, where: str) -> bool:
        if not isinstance(value, bool):
            raise self.fail(where, f"expected true or false, found {value!r}.")
        return value

    def sql(self, value: Any, where: str) -> str:
        """SQL text; bare YAML true, false and numbers are SQL literals as they stand."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return str(value)
        text = self.text(value, where).strip().rstrip(";")
        if not text:
            raise self.fail(where, "empty; leave the line out instead.")
        return text


def _formats(reader: _Reader, value: Any, where: str) -> tuple[str, ...]:
    """strptime formats, tried on nothing."""
    formats = reader.texts(value, where)
    if not formats:
        raise reader.fail(where, "expected at least one format; leave the line out for the usual.")
    for text in formats:
        try:
            with duckdb.connect(":memory:") as connection:
                connection.execute("select try_strptime('', ?)", [text]).fetchall()
        except duckdb.Error as error:
            raise reader.fail(
                where, f"{text!r} is no strptime format: {str(error).strip()}"
            ) from error
    return formats


def _text_values(reader: _Reader, value: Any, where: str, base: TextValues) -> TextValues:
    names = ("decimal", "thousands", "date_format", "timestamp_format")
    entry = reader.mapping(value, where, names)
    return TextValues(
        decimal=reader.text(entry.get("decimal", base.decimal), f"{where}.decimal"),
        thousands=reader.text(entry.get("thousands", base.thousands), f"{where}.thousands"),
        date_formats=(
            _formats(reader, entry["date_format"], f"{where}.date_format")
            if "date_format" in entry
            else base.date_formats
        ),
        timestamp_formats=(
            _formats(reader, entry["timestamp_format"], f"{where}.timestamp_format")
            if "timestamp_format" in entry
            else base.timestamp_formats
        ),
    )


def _csv_format(reader: _Reader, value: Any, where: str) -> CsvFormat:
    entry = reader.mapping(value, where, ("delimiter", "quote", "encoding", "skip", "names"))
    skip = entry.get("skip", 0)
    if not isinstance(skip, int) or isinstance(skip, bool) or skip < 0:
        raise reader.fail(f"{where}.skip", "expected the number of lines above the header.")
    encoding = reader.text(entry.get("encoding", "utf-8"), f"{where}.encoding")
    try:
        "".encode(encoding)
    except LookupError as error:
        raise reader.fail(f"{where}.encoding", f"unknown encoding {encoding}.") from error
    delimiter = reader.text(entry.get("delimiter", ","), f"{where}.delimiter")
    quote = reader.text(entry.get("quote", '"'), f"{where}.quote")
    if len(delimiter) != 1 or len(quote) != 1:
        raise reader.fail(where, "delimiter and quote are one character each.")
    names = reader.texts(entry.get("names", []), f"{where}.names")
    return CsvFormat(delimiter, quote, encoding, skip, names)


def _pattern(reader: _Reader, value: Any, where: str) -> str:
    text = reader.text(value, where)
    pattern = PurePosixPath(text)
    if pattern.is_absolute() or ".." in pattern.parts:
        raise reader.fail(where, "expected a path inside the loaded folder.")
    if not pattern.parts or text.endswith("/") or pattern.name == "**":
        raise reader.fail(where, f"{text!r} names no file; end it with a name such as *.csv.")
    captures = re.findall(CAPTURE, text)
    repeated = next((c for c in captures if captures.count(c) > 1), None)
    if repeated:
        raise reader.fail(where, f"{{{repeated}}} stands in it twice; give each part its own name.")
    for part in pattern.parts:
        if part != "**" and "**" in re.sub(CAPTURE, "*", part):
            raise reader.fail(
                where, f"two wildcards side by side in {part!r}; only **/ stands for folders."
            )
    return pattern.as_posix()


def _file_set(reader: _Reader, entry: Mapping[str, Any], where: str) -> FileSet:
    pattern = _pattern(reader, entry["files"], f"{where}.files")
    kind = entry.get("format")
    if kind is None:
        kind = "parquet" if pattern.lower().endswith((".parquet", ".pq")) else "csv"
    if kind not in ("csv", "parquet"):
        raise reader.fail(f"{where}.format", f"{kind!r} is not csv or parquet.")
    return FileSet(
        pattern=pattern,
        format=kind,
        csv=_csv_format(reader, entry.get("csv", {}), f"{where}.csv"),
        optional=reader.flag(entry.get("optional", False), f"{where}.optional"),
        columns=reader.texts(entry.get("if_absent", []), f"{where}.if_absent"),
    )


def _rows(reader: _Reader, value: Any, where: str) -> tuple[dict[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise reader.fail(where, "expected a list of rows.")
    rows = []
    for number, item in enumerate(value, 1):
        row = reader.mapping(item, f"{where}[{number}]")
        rows.append({k: str(v) for k, v in row.items() if v is not None})
    return tuple(rows)


def _columns(
    reader: _Reader, value: Any, where: str, table: Table, known: set[str]
) -> dict[str, Expression]:
    columns = {}
    for name, item in reader.mapping(value, where).items():
        place = f"{where}.{name}"
        if name not in known:
            raise reader.fail(
                place, f"raw.{table.name} has no such column; it has: {', '.join(sorted(known))}."
            )
        if isinstance(item, dict):
            entry = reader.mapping(item, place, ("sql", "optional"))
            columns[name] = Expression(
                reader.sql(entry.get("sql", name), place),
                reader.flag(entry.get("optional", False), f"{place}.optional"),
            )
        else:
            columns[name] = Expression(reader.sql(item, place))
    missing = [
        c.name for c in table.columns if c.required and c.assumed is None and c.name not in columns
    ]
    if missing:
        raise reader.fail(where, f"raw.{table.name} requires {', '.join(missing)}.")
    return columns


def _reject_rules(reader: _Reader, value: Any, where: str) -> tuple[RejectRule, ...]:
    rules = []
    for number, item in enumerate(value if isinstance(value, list) else [value], 1):
        place = f"{where}[{number}]"
        entry = reader.mapping(item, place, ("when", "reason"))
        if set(entry) != {"when", "reason"}:
            raise reader.fail(place, "needs both when and reason.")
        rules.append(
            RejectRule(reader.sql(entry["when"], place), reader.text(entry["reason"], place))
        )
    return tuple(rules)


_INPUT_KEYS = (
    "files",
    "rows",
    "format",
    "csv",
    "optional",
    "values",
    "lookups",
    "query",
    "columns",
    "reject",
    "merged_when",
)
_LOOKUP_KEYS = ("files", "format", "csv", "optional", "if_absent")


def _input(reader: _Reader, value: Any, where: str, table: Table, base: TextValues) -> Input:
    entry = reader.mapping(value, where, _INPUT_KEYS)
    if ("files" in entry) == ("rows" in entry):
        raise reader.fail(where, "needs either files or rows.")
    if "columns" not in entry:
        raise reader.fail(where, "needs columns.")
    lookups = {}
    for name, item in reader.mapping(entry.get("lookups", {}), f"{where}.lookups").items():
        place = f"{where}.lookups.{name}"
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name == "input":
            raise reader.fail(place, "a lookup's name is a lower-case SQL name other than input.")
        lookup = reader.mapping(item, place, _LOOKUP_KEYS)
        if "files" not in lookup:
            raise reader.fail(place, "needs files.")
        lookups[name] = _file_set(reader, lookup, place)
        if lookups[name].optional and not lookups[name].columns:
            raise reader.fail(
                place, "an optional lookup needs if_absent: the columns it would have."
            )
    known = {c.name for c in table.columns if not c.loader}
    return Input(
        table=table.name,
        files=_file_set(reader, entry, where) if "files" in entry else None,
        rows=_rows(reader, entry["rows"], f"{where}.rows") if "rows" in entry else (),
        values=_text_values(reader, entry.get("values", {}), f"{where}.values", base),
        lookups=lookups,
        query=reader.sql(entry["query"], f"{where}.query") if "query" in entry else None,
        columns=_columns(reader, entry["columns"], f"{where}.columns", table, known),
        reject=_reject_rules(reader, entry.get("reject", []), f"{where}.reject"),
        merged_when=(
            reader.sql(entry["merged_when"], f"{where}.merged_when")
            if "merged_when" in entry
            else None
        ),
    )


def _decision_time(reader: _Reader, value: Any) -> dt.time:
    # YAML 1.1 reads an unquoted 16:15:00 as a number in base 60
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _SECONDS_PER_DAY:
        return (dt.datetime.min + dt.timedelta(seconds=value)).time()
    try:
        return dt.time.fromisoformat(str(value))
    except ValueError as error:
        raise reader.fail(
            "decision_time", f'{value!r} is not a time such as "16:15:00".'
        ) from error


def _unreadable(path: Path, error: OSError) -> AsxwError:
    return AsxwError(
        f"Layout {path} cannot be read: {error.strerror}. See to it that you may read the file."
    )


def _one_line(error: yaml.YAMLError) -> str:
    """What is wrong and in which line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}: {problem}"


def layout_path(name_or_path: str) -> Path:
    """File of a shipped layout's name, or of a path to a YAML file.

    Raises:
        AsxwError: neither, and the text lists the shipped names; or the path cannot be read.
    """
    path = Path(name_or_path)
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise _unreadable(path, error) from error
    if path.suffix not in (".yml", ".yaml"):
        shipped = SHIPPED / f"{name_or_path}.yml"
        if shipped.is_file():
            return shipped
    names = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.yml")))
    raise AsxwError(
        f"No layout {name_or_path}: name a YAML file or one of the shipped layouts: {names}."
    )


def read_layout(name_or_path: str, contract: Mapping[str, Table]) -> Layout:
    """Read and check a layout against the contract of the raw tables.

    Raises:
        AsxwError: the layout is missing or wrong; the text names the file and the place.
    """
    path = layout_path(name_or_path)
    reader = _Reader(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise AsxwError(f"Layout {path} is not valid YAML: {error}") from error
    try:
        document = yaml.load(text, Loader=_Keys)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise AsxwError(f"Layout {path} is not valid YAML: {_one_line(error)}") from error
    keys = ("name", "description", "timezone", "decision_time", "null_tokens", "values", "tables")
    entry = reader.mapping(document, "the file", keys)
    missing = [k for k in ("name", "timezone", "decision_time", "tables") if k not in entry]
    if missing:
        raise reader.fail("the file", f"lacks {', '.join(missing)}.")
    timezone = reader.text(entry["timezone"], "timezone")
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:
        raise reader.fail("timezone", f"unknown time zone {timezone}.") from error
    base = _text_values(reader, entry.get("values", {}), "values", TextValues())
    loadable = {name: table for name, table in contract.items() if not table.ledger}
    tables = reader.mapping(entry["tables"], "tables", tuple(loadable))
    inputs: dict[str, tuple[Input, ...]] = {}
    for name, table in loadable.items():
        listed = tables.get(name, [])
        if not isinstance(listed, list):
            raise reader.fail(f"tables.{name}", "expected a list of inputs (lines with a dash).")
        inputs[name] = tuple(
            _input(reader, item, f"tables.{name}[{number}]", table, base)
            for number, item in enumerate(listed, 1)
        )
    tokens = entry.get("null_tokens", list(DEFAULT_NULL_TOKENS))
    return Layout(
        name=reader.text(entry["name"], "name"),
        path=path,
        description=reader.text(entry.get("description", ""), "description"),
        timezone=timezone,
        decision_time=_decision_time(reader, entry["decision_time"]),
        null_tokens=tuple(str(t) for t in reader.texts(tokens, "null_tokens")),
        inputs={name: items for name, items in inputs.items() if items},
    )
