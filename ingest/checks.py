"""From a file's columns to a raw table's, and the contract's rules, as SQL over whole columns.

Every row of a source ends either clean or with reasons, in a table that has FILE, ID, the
contract's columns, `__reason` (null for a clean row) and `__merged`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import duckdb

from ingest.layout_sql import expression_problem, query_problem
from ingest.layouts import Expression, Input, Layout, TextValues
from ingest.reader import FILE, ID, Group, Source, SourceFile, Staging, literal, quoted
from ml.contract import Column, Table
from ml.errors import AsxwError

REASON = "__reason"
MERGED = "__merged"
INPUT = "__input"

_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|infinity|nan)"
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_WHAT = {
    "double precision": "not a number",
    "bigint": "not a whole number",
    "date": "not a date",
    "timestamp": "not a time",
    "boolean": "not true or false",
    "text": "not text",
}
# how many days after the load a date may lie
_DAYS_AHEAD = {"past_date": 0, "near_date": 7}
_MISSING_COLUMN = re.compile(
    r'(?:Referenced column "(.+?)" (?:was )?not found|does not have a column named "(.+?)")'
)


def create_macros(staging: Staging, layout: Layout, values: TextValues) -> None:
    """Functions for a layout's SQL, for files that write numbers and dates as `values` says.

    The parse functions fail on text they cannot read, which rejects the row; the try functions
    return null.
    """
    tokens = ", ".join(literal(t.upper()) for t in layout.null_tokens)
    is_token = f" or upper(trim(x)) in ({tokens})" if tokens else ""
    plain = "trim(x)"
    grouped = "true"
    if values.thousands:
        mark = re.escape(values.thousands)
        point = re.escape(values.decimal)
        shape = rf"[+-]?[0-9]{{1,3}}({mark}[0-9]{{3}})+({point}[0-9]*)?"
        grouped = (
            f"not contains(x, {literal(values.thousands)}) "
            f"or regexp_full_match(trim(x), {literal(shape)})"
        )
        plain = f"replace({plain}, {literal(values.thousands)}, '')"
    if values.decimal != ".":
        plain = (
            f"case when contains(x, '.') and {literal(values.thousands)} <> '.' then 'no number' "
            f"else replace({plain}, {literal(values.decimal)}, '.') end"
        )
    clean = (
        f"case when ({grouped}) and regexp_full_match({plain}, {literal(_NUMBER)}, 'i') "
        f"then {plain} else 'not a number' end"
    )
    dates = ", ".join(literal(f) for f in values.date_formats)
    times = ", ".join(literal(f) for f in values.timestamp_formats)
    yes = "('true', 't', 'yes', 'y', '1')"
    no = "('false', 'f', 'no', 'n', '0')"
    # strptime takes words such as infinity for a date
    digits = "regexp_matches(x, '[0-9]')"
    sane = "between timestamp '1800-01-01' and timestamp '2999-12-31'"
    boolean = (
        f"case when lower(trim(x)) in {yes} then true when lower(trim(x)) in {no} then false end"
    )
    macros = {
        "is_null_token(x)": f"(x is null{is_token})",
        "try_parse_number(x)": f"try_cast({clean} as double)",
        "parse_number(x)": f"case when not is_null_token(x) then cast({clean} as double) end",
        "sane_time(x)": f"case when x {sane} then x end",
        "try_parse_date(x)": f"case when {digits} "
        f"then cast(sane_time(try_strptime(trim(x), [{dates}])) as date) end",
        "parse_date(x)": "case when not is_null_token(x) then coalesce(try_parse_date(x), "
        "cast(concat('?', x) as date)) end",
        "try_parse_timestamp(x)": f"case when {digits} "
        f"then sane_time(try_strptime(trim(x), [{times}])) end",
        "parse_timestamp(x)": "case when not is_null_token(x) then "
        "coalesce(try_parse_timestamp(x), cast(concat('?', x) as timestamp)) end",
        "try_parse_boolean(x)": boolean,
        "parse_boolean(x)": "case when not is_null_token(x) then "
        f"coalesce({boolean}, cast(concat('?', x) as boolean)) end",
        "at_time(d, t)": "cast(d as date) + cast(t as time)",
        "at_decision_time(d)": f"cast(d as date) + time '{layout.decision_time.isoformat()}'",
        "end_of_day(d)": "cast(d as date) + time '23:59:59'",
        "month_end(d)": "last_day(cast(d as date))",
        # Monday is 1; a date on a week-end counts from the Friday before
        "add_weekdays(d, n)": "cast(cast(d as date) - greatest(isodow(cast(d as date)) - 5, 0)::int"
        " + ((least(isodow(cast(d as date)), 5) - 1 + n) // 5 * 7"
        " + (least(isodow(cast(d as date)), 5) - 1 + n) % 5"
        " - (least(isodow(cast(d as date)), 5) - 1))::int as date)",
    }
    for signature, body in macros.items():
        staging.connection.execute(f"create or replace macro {signature} as {body}")


@dataclass(frozen=True)
class _Converted:
    """SQL of a column's value, of whether it could not be read, and what is then said."""

    value: str
    bad: str
    reason: str


def _family(kind: str) -> str:
    """What a DuckDB type is to the contract: text, integer, number, date, time ... or other."""
    base = kind.partition("(")[0]
    families = {
        "text": ("VARCHAR", "ENUM", "UUID"),
        "integer": tuple(u + i for u in ("", "U") for i in _INTEGERS),
        "number": ("FLOAT", "DOUBLE", "DECIMAL"),
        "date": ("DATE",),
        "time": ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"),
        "zoned": ("TIMESTAMP WITH TIME ZONE",),
        "boolean": ("BOOLEAN",),
        "null": ('"NULL"',),
    }
    if kind.endswith("]"):
        return "other"
    return next((name for name, kinds in families.items() if base in kinds), "other")


def _convert(value: str, kind: str, target: str, timezone: str) -> _Converted:
    """Turn a value of a DuckDB type into the contract's type."""
    family = _family(kind)
    reason = _WHAT[target]
    sql: str | None = None
    if family == "null":
        return _Converted(f"null::{target}", "false", reason)
    if target == "text":
        if family in ("text", "integer", "number", "boolean", "date", "time"):
            return _Converted(f"cast({value} as text)", "false", reason)
    elif family == "text":
        text = f"cast({value} as text)"
        parser = {
            "double precision": "try_parse_number({})",
            "bigint": "try_cast(try_cast(try_parse_number({}) as decimal(38, 9)) as bigint)",
            "date": "try_parse_date({})",
            "timestamp": "try_parse_timestamp({})",
            "boolean": "try_parse_boolean({})",
        }[target]
        sql = parser.format(text)
        whole = (
            f" or try_parse_number({text}) <> trunc(try_parse_number({text}))"
            if target == "bigint"
            else ""
        )
        return _Converted(
            f"case when not is_null_token({text}) then {sql} end",
            f"(not is_null_token({text}) and ({sql} is null{whole}))",
            reason,
        )
    elif family == "zoned":
        local = f"timezone({literal(timezone)}, {value})"
        sql = {"date": f"cast({local} as date)", "timestamp": local}.get(target)
    else:
        sql = {
            ("integer", "double precision"): f"cast({value} as double)",
            ("number", "double precision"): f"cast({value} as double)",
            ("integer", "bigint"): f"try_cast({value} as bigint)",
            ("number", "bigint"): f"case when {value} = trunc({value}) "
            f"then try_cast({value} as bigint) end",
            ("date", "date"): f"case when isfinite({value}) then {value} end",
            ("time", "date"): f"case when isfinite({value}) then cast({value} as date) end",
            ("date", "timestamp"): f"case when isfinite({value}) "
            f"then cast({value} as timestamp) end",
            ("time", "timestamp"): f"case when isfinite({value}) "
            f"then cast({value} as timestamp) end",
            ("boolean", "boolean"): value,
            ("integer", "boolean"): f"case when {value} in (0, 1) then {value} = 1 end",
        }.get((family, target))
    if sql is None:
        shown = kind if len(kind) <= 60 else kind[:57] + "..."
        return _Converted(f"null::{target}", f"({value} is not null)", f"type {shown} is {reason}")
    nan = f" and not isnan({value})" if kind in ("FLOAT", "DOUBLE") and target == "bigint" else ""
    return _Converted(sql, f"({value} is not null{nan} and ({sql}) is null)", reason)


def _rules(column: Column, bad: str, bad_reason: str, today: dt.date) -> list[tuple[str, str]]:
    """Condition and reason of each rule on one column; at most one of a column's rules applies."""
    value = quoted(column.name)
    rules = [(bad, bad_reason)]
    if column.required:
        rules.append((f"{value} is null", "missing"))
    infinite = f"isinf({value})" + (f" or isnan({value})" if column.required else "")
    if column.check == "price":
        rules.append((f"not isfinite({value})", "not finite"))
        rules.append((f"{value} <= 0", "not above zero"))
    elif column.check == "not_negative":
        if column.data_type == "double precision":
            rules.append((infinite, "not finite"))
        rules.append((f"{value} < 0", "negative"))
    elif column.check == "finite":
        rules.append((f"not isfinite({value})", "not finite"))
    elif column.check in _DAYS_AHEAD:
        last = today + dt.timedelta(days=_DAYS_AHEAD[column.check])
        rules.append((f"cast({value} as date) > date '{last.isoformat()}'", "in the future"))
    elif column.check == "symbol":
        rules.append((f"regexp_matches({value}, '[\\p{{Z}}\\p{{C}}]')", "not a symbol"))
    if column.between:
        low, high = column.between
        # NaN is no value, and DuckDB sorts it above every number
        rules.append(
            (
                f"not isnan({value}) and {value} not between {low} and {high}",
                f"not from {low:g} to {high:g}",
            )
        )
    if column.accepted:
        listed = ", ".join(literal(a) for a in column.accepted)
        rules.append(
            (f"{value} not in ({listed})", f"not one of {', '.join(map(str, column.accepted))}")
        )
    return rules


def _reason_sql(
    table: Table, bad: Mapping[str, tuple[str, str]], rules: list[tuple[str, str]], today: dt.date
) -> str:
    """A layout's own reason, else all reasons of a row joined by '; ', or null for a clean row."""
    cases = []
    for column in table.columns:
        if column.loader or column.name == "available_at":
            continue
        flag, reason = bad.get(column.name, ("false", ""))
        whens = " ".join(
            f"when {condition} then {literal(f'{column.name}: {text}')}"
            for condition, text in _rules(column, flag, reason, today)
        )
        cases.append(f"case {whens} end")
    cases += [
        f"case when {c.sql} then {literal(c.name)} end"
        for c in table.row_checks
        if not c.reads_known_time
    ]
    reasons = f"nullif(concat_ws('; ', {', '.join(cases)}), '')"
    if not rules:
        return reasons
    whens = " ".join(f"when {condition} then {literal(text)}" for condition, text in rules)
    return f"case {whens} else {reasons} end"


def _missing_column(error: Exception) -> str | None:
    match = _MISSING_COLUMN.search(str(error))
    return next((g for g in match.groups() if g), None) if match else None


@dataclass(frozen=True)
class _Cell:
    """What to take from the relation, and SQL of the value and of whether it is unreadable."""

    taken: list[str]
    value: str
    bad: str
    reason: str


def _tried(sql: str) -> str:
    """The value in a struct; null in its place on a row for which the expression fails."""
    return f"try({{'v': ({sql})}})"


def _plain_column(sql: str, columns: Iterable[str]) -> str | None:
    """The column that an expression only names, quoted or not, be it an SQL keyword."""
    name = sql[1:-1] if sql.startswith('"') and sql.endswith('"') else sql
    return next((c for c in columns if c.lower() == name.lower()), None)


class Mapper:
    """Maps one input's source table to the contract, inside the staging database."""

    def __init__(self, staging: Staging, layout: Layout, entry: Input, table: Table) -> None:
        self.staging = staging
        self.layout = layout
        self.entry = entry
        self.table = table

    def _where(self, place: str) -> str:
        return f"Layout {self.layout.path}, {self.table.name}, {self.entry.label}: {place}"

    def _refuse(self, place: str, sql: str, problem: str | None) -> None:
        if problem is not None:
            raise AsxwError(f"{self._where(place)}: {sql}: {problem}")

    def _one_expression(self, place: str, sql: str) -> None:
        self._refuse(place, sql, expression_problem(self.staging.connection, sql))

    def check_sql(self) -> None:
        """See that the layout's query and conditions only read, before any of them runs.

        Raises:
            AsxwError: one of them is not one SELECT or one expression; the text names it.
        """
        if self.entry.query is not None:
            problem = query_problem(self.staging.connection, self.entry.query)
            self._refuse("query", self.entry.query, problem)
        for place, condition in self._conditions():
            self._one_expression(place, condition)

    def _conditions(self) -> list[tuple[str, str]]:
        conditions = [("reject", rule.when) for rule in self.entry.reject]
        if self.entry.merged_when is not None:
            conditions.append(("merged_when", self.entry.merged_when))
        return conditions

    def check_groups(self, source: Source) -> None:
        """Bind every expression against the columns of every file, before anything is read.

        Raises:
            AsxwError: a file lacks a column that the layout takes; the text names both.
        """
        if self.entry.query is not None:
            shapes = {tuple(c.lower() for c in g.columns) for g in source.groups}
            if len(shapes) > 1:
                raise AsxwError(
                    f"{self._where('query')}: its files differ in their columns; give each kind "
                    "its own input."
                )
            return
        for group in source.groups:
            for name, expression in self.entry.columns.items():
                self._bind(name, expression, group)

    def _lacks(self, file: str, missing: str, name: str, columns: Mapping[str, str]) -> AsxwError:
        has = ", ".join(c for c in columns if c not in (ID, FILE))
        return AsxwError(
            f"{file} has no column {missing}, which the layout {self.layout.path.name} takes for "
            f"{self.table.name}.{name}. There are: {has}. Correct the layout, mark the column "
            "optional in it, or deliver the file again; nothing was loaded."
        )

    def _bind(self, name: str, expression: Expression, group: Group) -> None:
        columns = {**dict.fromkeys(_pseudo(group.files), "VARCHAR"), **group.columns}
        if name == "available_at":
            # it may use the columns of the contract that are mapped beside it
            own = {c.name: c.data_type for c in self.table.columns if c.name != name}
            columns = {k: v for k, v in columns.items() if k.lower() not in own} | own
        if _plain_column(expression.sql, columns) is not None:
            return
        self._one_expression(name, expression.sql)
        relation = "(select " + ", ".join(
            f"null::{kind} as {quoted(c)}" for c, kind in columns.items()
        )
        try:
            self.staging.describe(f"select {_tried(expression.sql)} as v from {relation}) as input")
        except duckdb.BinderException as error:
            missing = _missing_column(error)
            if missing is None:
                raise AsxwError(
                    f"{self._where(name)}: {expression.sql}: {str(error).strip()}. Windows and "
                    "subqueries belong into the input's query."
                ) from error
            if expression.optional:
                return
            raise self._lacks(group.files[0].name, missing, name, group.columns) from error
        except duckdb.Error as error:
            raise AsxwError(
                f"{self._where(name)}: {expression.sql}: {str(error).strip()}"
            ) from error

    def view(self, source_table: str, columns: Mapping[str, str], first: int, last: int) -> None:
        """Create the view `input`: ID, FILE, the file's columns, and parts of the file's name."""
        files = self.staging.files[first:last]
        names = _pseudo(files)
        names = {n: v for n, v in names.items() if n.lower() not in {c.lower() for c in columns}}
        own = ", ".join(f"s.{quoted(c)}" for c in columns)
        head = f"s.rowid as {ID}, s.{FILE}, {own}"
        if len(files) <= 1:
            extra = "".join(f", {literal(v[0])} as {n}" for n, v in names.items() if v)
            body = f"select {head}{extra} from {source_table} s"
        else:
            listed = ", ".join(
                "(" + ", ".join([str(first + n), *(literal(v[n]) for v in names.values())]) + ")"
                for n in range(len(files))
            )
            heads = ", ".join([FILE, *names])
            extra = "".join(f", f.{n}" for n in names)
            body = (
                f"select {head}{extra} from {source_table} s "
                f"join (values {listed}) as f({heads}) on f.{FILE} = s.{FILE}"
            )
        self.staging.connection.execute(f"create or replace view input as {body}")

    def relation(self, name: str) -> str:
        """The relation the columns are taken from: `input`, or the layout's query over it."""
        if self.entry.query is None:
            return "input"
        try:
            self.staging.connection.execute(f"create table {name} as {self.entry.query}")
        except duckdb.Error as error:
            missing = _missing_column(error)
            if missing is not None:
                columns = self.staging.describe("select * from input")
                raise self._lacks(self.entry.label, missing, "query", columns) from error
            raise AsxwError(f"{self._where('query')}: {str(error).strip()}") from error
        columns = self.staging.describe(f"select * from {name}")
        if not {ID, FILE} <= set(columns):
            raise AsxwError(
                f"{self._where('query')}: select input.* (all its columns), so that every row "
                "read can be accounted for."
            )
        if self.staging.rows(f"select 1 from {name} where {ID} is null limit 1"):
            raise AsxwError(
                f"{self._where('query')}: returns a row that is none of its input; keep input on "
                "the side of the join that keeps its rows (input left join ...)."
            )
        repeated = self.staging.rows(
            f"select {ID} from {name} group by {ID} having count(*) > 1 limit 1"
        )
        if repeated:
            number = int(str(repeated[0][0])) + 1
            raise AsxwError(
                f"{self._where('query')}: returns row {number} of its input more than once; a join "
                "in it matches several rows."
            )
        return name

    def map(self, relation: str, target: str, number: int, today: dt.date) -> None:
        """Append every row of the input to `target`, converted and checked.

        Raises:
            AsxwError: an expression of the layout is not valid SQL for these columns.
        """
        columns = self.staging.describe(f"select * from {relation}")
        contract = {c.name: c for c in self.table.columns if not c.loader}
        mapped = {n for n in contract if n != "available_at"}
        taken = ["*"]
        typed = [quoted(c) for c in columns if c.lower() not in mapped]
        bad: dict[str, tuple[str, str]] = {}
        for name in mapped:
            cell = self._cell(contract[name], relation, columns)
            taken.extend(cell.taken)
            typed.append(f"{cell.value} as {quoted(name)}")
            typed.append(f"{cell.bad} as {quoted('__b_' + name)}")
            bad[name] = (quoted("__b_" + name), cell.reason)
        rules = []
        self._check_conditions(relation, columns)
        for position, rule in enumerate(self.entry.reject):
            taken.append(f"({rule.when}) as __r_{position}")
            typed.append(f"__r_{position}")
            rules.append((f"__r_{position}", rule.reason))
        taken.append(f"coalesce(({self.entry.merged_when or 'false'}), false) as {MERGED}")
        typed.append(MERGED)
        steps = (
            f"with __taken as (select {', '.join(taken)} from {relation}), "
            f"__typed as (select {', '.join(typed)} from __taken), "
            f"__row as (select *, {_reason_sql(self.table, bad, rules, today)} as {REASON} "
            "from __typed)"
        )
        values = {name: quoted(name) for name in contract}
        reason = REASON
        last = "__row"
        if "available_at" in contract:
            known = {**columns, **dict.fromkeys(mapped, "")}
            cell = self._cell(contract["available_at"], "__row", known, steps)
            steps += f", __timed as (select {', '.join(['*', *cell.taken])} from __row)"
            last = "__timed"
            known_at = cell.value
            assumed = contract["available_at"].assumed
            if assumed is not None:
                known_at = (
                    f"coalesce({cell.value}, cast({quoted(assumed.start)} + {assumed.days} "
                    "as timestamp))"
                )
                flag = quoted(assumed.flag)
                values[assumed.flag] = f"coalesce({flag}, false) or {cell.value} is null as {flag}"
            values["available_at"] = f"{known_at} as available_at"
            # a missing time follows from whatever else is wrong with the row
            reason = (
                f"nullif(concat_ws('; ', {REASON}, case when {cell.bad} "
                f"then {literal(f'available_at: {cell.reason}')} "
                f"when {REASON} is null and {known_at} is null "
                f"then 'available_at: missing' end), '') as {REASON}"
            )
        rows = (
            f"{steps} select {number} as {INPUT}, {ID}, {FILE}, {', '.join(values.values())}, "
            f"{reason}, {MERGED} from {last}"
        )
        timed = [c for c in self.table.row_checks if c.reads_known_time]
        if timed:
            whens = " ".join(f"when {c.sql} then {literal(c.name)}" for c in timed)
            rows = (
                f"select * replace (coalesce({REASON}, case {whens} end) as {REASON}) from ({rows})"
            )
        try:
            self.staging.connection.execute(f"insert into {target} by name {rows}")
        except duckdb.Error as error:
            raise AsxwError(f"{self._where('columns or reject')}: {str(error).strip()}") from error
        self._left_out(relation, target, number)

    def _check_conditions(self, relation: str, columns: Mapping[str, str]) -> None:
        """Bind the conditions of reject and merged_when on their own, to name the wrong one."""
        for place, condition in self._conditions():
            try:
                self.staging.describe(f"select ({condition})::boolean from {relation}")
            except duckdb.Error as error:
                missing = _missing_column(error)
                if missing is not None:
                    raise self._lacks(self.entry.label, missing, place, columns) from error
                raise AsxwError(
                    f"{self._where(place)}: {condition}: {str(error).strip()}"
                ) from error

    def _cell(
        self, column: Column, relation: str, columns: Mapping[str, str], steps: str = ""
    ) -> _Cell:
        """How one contract column comes out of the relation."""
        expression = self.entry.columns.get(column.name)
        if expression is None:
            return _Cell([], f"null::{column.data_type}", "false", "")
        plain = _plain_column(expression.sql, columns)
        sql = quoted(plain) if plain is not None else expression.sql
        if plain is None:
            self._one_expression(column.name, sql)
        try:
            kind = self.staging.describe(f"{steps} select ({sql}) as v from {relation}")
        except duckdb.Error as error:
            missing = _missing_column(error)
            if missing is not None and expression.optional:
                return _Cell([], f"null::{column.data_type}", "false", "")
            if missing is not None:
                raise self._lacks(self.entry.label, missing, column.name, columns) from error
            raise AsxwError(
                f"{self._where(column.name)}: {expression.sql}: {str(error).strip()}"
            ) from error
        held = quoted("__v_" + column.name)
        if plain is not None:
            taken, value, failed = f"{sql} as {held}", held, ""
        else:
            taken = f"{_tried(sql)} as {held}"
            value, failed = f"{held}.v", f"{held} is null or "
        converted = _convert(value, kind["v"], column.data_type, self.layout.timezone)
        text = converted.value
        if column.check == "symbol":
            text = f"nullif(upper(trim({text})), '')"
        elif column.data_type == "text" and column.required:
            text = f"case when trim({text}) <> '' then {text} end"
        return _Cell([taken], text, f"({failed}{converted.bad})", converted.reason)

    def _left_out(self, relation: str, target: str, number: int) -> None:
        """Rows that the layout's query does not return are rejected, not lost."""
        if relation == "input":
            return
        self.staging.connection.execute(
            f"insert into {target} by name select {number} as {INPUT}, {ID}, {FILE}, "
            f"'left out by the layout''s query' as {REASON}, false as {MERGED} "
            f"from input where {ID} not in (select {ID} from {relation})"
        )


def _pseudo(files: tuple[SourceFile, ...] | list[SourceFile]) -> dict[str, list[str]]:
    """Columns that every file gets from its name: file_name, file_stem and file_<captured>."""
    names: dict[str, list[str]] = {
        "file_name": [f.name for f in files],
        "file_stem": [f.path.stem for f in files],
    }
    for capture in {c for f in files for c in f.captures}:
        names[f"file_{capture}"] = [f.captures.get(capture, "") for f in files]
    return names
