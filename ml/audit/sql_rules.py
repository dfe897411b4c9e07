"""What a model behind the panel may not say, read from its compiled SQL.

A rule looks at one parsed query. What it finds is a place (the CTE) and the words; whether a place
is a known exception is decided elsewhere (ml/audit/static_exceptions.yml).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sqlglot import exp

LABEL = "return_1m_fwd"
_STARTS = {"valid_from", "from_session_idx", "filed_from"}
# columns that say when: a group or a pick that holds one of them is of a moment, not of all time
_MOMENT = re.compile(
    r"(session_idx|session_number|calendar_day|valid_from|valid_to|period_end|_at|_on|_date|_month)$"
    r"|^filing_number$"
)
# arrays of a spell's whole history, one element a session (macros/portable/with_rolling.sql)
_SPELL_ARRAY = re.compile(r"^(all|total_\d+|missing|summands)_")
_HAS_LABEL = re.compile(rf"(NOT )?(\w+\.)?{LABEL} IS (NOT )?NULL")
_CLOCKS = (
    exp.CurrentDate,
    exp.CurrentDatetime,
    exp.CurrentTime,
    exp.CurrentTimestamp,
    exp.Localtime,
    exp.Localtimestamp,
    exp.Rand,
)
_CLOCK_NAMES = {
    "now", "today", "random", "clock_timestamp", "statement_timestamp", "transaction_timestamp",
    "timeofday", "get_current_timestamp", "get_current_time", "uuid", "gen_random_uuid",
}  # fmt: skip


@dataclass(frozen=True)
class Words:
    """What a rule found: the CTE it stands in (empty: the last select) and the SQL."""

    place: str
    sql: str


Query = exp.Expr
Columns = Mapping[str, frozenset[str]]
"""Output columns of each model, by its name."""


def is_moment(name: str) -> bool:
    """Whether a column of this name says when a row is."""
    return _MOMENT.search(name) is not None


def _words(node: exp.Expr) -> Words:
    cte = node.find_ancestor(exp.CTE)
    return Words(cte.alias if cte else "", node.sql()[:160])


def _names(nodes: list[exp.Expr] | None) -> set[str]:
    """Names of the columns of some expressions."""
    return {column.name for node in nodes or [] for column in node.find_all(exp.Column)}


def _specification(window: exp.Window) -> tuple[set[str], list[exp.Ordered], list[exp.WindowSpec]]:
    """Partition columns, order and frames of a window; what it names is looked up."""
    partition = _names(window.args.get("partition_by"))
    order = window.args.get("order")
    ordered = list(order.expressions) if order else []
    spec = window.args.get("spec")
    specs = [spec] if spec else []
    name: exp.Expr | None = window.args.get("alias")
    select = window.find_ancestor(exp.Select)
    for named in (select.args.get("windows") or []) if select else []:
        if named is not window and name is not None and named.this.name == name.name:
            more = _specification(named)
            return partition | more[0], ordered or more[1], specs + more[2]
    return partition, ordered, specs


def _calls(query: Query) -> Iterator[tuple[exp.Window, exp.Expr]]:
    """Every window call and its function, without FILTER and IGNORE NULLS around it."""
    for window in query.find_all(exp.Window):
        function = window.this
        while isinstance(function, exp.IgnoreNulls | exp.RespectNulls | exp.Filter):
            function = function.this
        if not isinstance(function, exp.Identifier):
            yield window, function


def _is_negative(offset: exp.Expr | None) -> bool:
    return offset is not None and offset.sql().lstrip("(").startswith("-")


def lead(query: Query, _: Columns) -> Iterator[Words]:
    """A value of a later row: `lead`, or `lag` turned round.

    The start of the next version is no such value: it ends the half-open validity of this one, and
    nobody reads it but a comparison with the session at hand.
    """
    for window, function in _calls(query):
        if isinstance(function, exp.Lag) and _is_negative(function.args.get("offset")):
            yield _words(window)
        if not isinstance(function, exp.Lead):
            continue
        order = _specification(window)[1]
        is_next_start = (
            function.args.get("offset") is None
            and len(order) == 1
            and not order[0].args.get("desc")
            and is_moment(function.this.name)
            and order[0].this.sql() == function.this.sql()
        )
        if not is_next_start:
            yield _words(window)


def following(query: Query, _: Columns) -> Iterator[Words]:
    """A frame that reaches over the current row."""
    for spec in query.find_all(exp.WindowSpec):
        sides = (spec.args.get("start_side"), spec.args.get("end_side"))
        if any(str(side).lower() == "following" for side in sides if side):
            yield _words(spec.parent or spec)


def unordered_window(query: Query, _: Columns) -> Iterator[Words]:
    """A window without an order over more than one session: it sees all the rows there will be."""
    for window, _function in _calls(query):
        partition, order, _specs = _specification(window)
        if not order and not any(is_moment(name) for name in partition):
            yield _words(window)


def descending_window(query: Query, _: Columns) -> Iterator[Words]:
    """A window that runs from the newest row back: its first rows are the future of its last."""
    for window, _function in _calls(query):
        partition, order, _specs = _specification(window)
        backwards = [o for o in order if o.args.get("desc") and _is_in_time(o)]
        if backwards and not any(is_moment(name) for name in partition):
            yield _words(window)


def _is_in_time(ordered: exp.Ordered) -> bool:
    return any(is_moment(name) for name in _names([ordered.this]))


def clock(query: Query, _: Columns) -> Iterator[Words]:
    """The day of the build, or chance: the same rows would not come out tomorrow."""
    for node in query.walk():
        is_call = isinstance(node, exp.Anonymous) and str(node.this).lower() in _CLOCK_NAMES
        if is_call or isinstance(node, _CLOCKS):
            yield _words(node)


def back_fill(query: Query, _: Columns) -> Iterator[Words]:
    """A hole filled from later rows: a nearest-match join, or nulls skipped towards the future."""
    for join in query.find_all(exp.Join):
        if str(join.args.get("method") or "").upper() == "ASOF":
            yield _words(join)
    for node in query.find_all(exp.IgnoreNulls):
        if isinstance(node.this, exp.Lead | exp.FirstValue | exp.NthValue):
            yield _words(node)


def whole_history(query: Query, _: Columns) -> Iterator[Words]:
    """A figure of all time (a mean, a latest day) put beside every session of the past.

    The first day of something is the one figure that later rows cannot change.
    """
    for select in query.find_all(exp.Select):
        group = select.args.get("group")
        if group and any(is_moment(name) for name in _names(group.expressions)):
            continue
        for aggregate in _aggregates(select):
            is_first_day = isinstance(aggregate, exp.Min) and is_moment(aggregate.this.name)
            if not is_first_day and not _is_spell_array(aggregate):
                yield _words(aggregate)
                break


def _is_spell_array(aggregate: exp.Expr) -> bool:
    """An array of which `array_ahead` says who reads what."""
    named = aggregate.find_ancestor(exp.Alias, exp.Select)
    return (
        isinstance(aggregate, exp.ArrayAgg)
        and isinstance(named, exp.Alias)
        and _SPELL_ARRAY.match(named.alias) is not None
    )


def array_ahead(query: Query, _: Columns) -> Iterator[Words]:
    """An element of a spell's array that lies behind the row's own place, or may."""
    for column in query.find_all(exp.Column):
        # a running total bears the name of the array it is gathered in
        if not _SPELL_ARRAY.match(column.name) or column.find_ancestor(exp.ArrayAgg):
            continue
        around = column.parent
        if around is None or isinstance(around, exp.Select):  # passed on as it is
            continue
        is_length = isinstance(around, exp.Anonymous) and around.name.lower() == "cardinality"
        is_element = isinstance(around, exp.Bracket) and around.this is column
        if is_element and all(_is_at_or_before_row(place) for place in around.expressions):
            continue
        if not is_length:
            yield _words(around)


def _is_at_or_before_row(place: exp.Expr) -> bool:
    """row_at, or row_at less a number."""
    if isinstance(place, exp.Sub) and isinstance(place.expression, exp.Literal):
        place = place.this
    return isinstance(place, exp.Column) and place.name == "row_at"


def _aggregates(select: exp.Select) -> Iterator[exp.Expr]:
    """Aggregates of a select's own rows, not those of a window."""
    for item in select.expressions:
        for aggregate in item.find_all(exp.AggFunc):
            over = aggregate.find_ancestor(exp.Window, exp.Select)
            if aggregate.parent_select is select and not isinstance(over, exp.Window):
                yield aggregate


def latest_row(query: Query, _: Columns) -> Iterator[Words]:
    """One row of all time picked for each company: what is true today."""
    for select in query.find_all(exp.Select):
        distinct = select.args.get("distinct")
        on = distinct.args.get("on") if distinct else None
        if on is not None and not any(is_moment(name) for name in _names([on])):
            yield Words(_words(select).place, f"distinct on {on.sql()}")


def unbounded_version(query: Query, columns: Columns) -> Iterator[Words]:
    """A version joined without asking whether it had begun."""
    known = dict(columns)
    for cte in query.find_all(exp.CTE):
        known[cte.alias] = output_columns(cte.this, known)
    for select in query.find_all(exp.Select):
        for join in select.args.get("joins") or []:
            relation = join.this
            if not isinstance(relation, exp.Table):
                continue
            starts = _STARTS & known.get(relation.name, frozenset())
            where = select.args.get("where")
            asked = {
                column.name
                for condition in (join.args.get("on"), where)
                if condition is not None
                for column in condition.find_all(exp.Column)
                if column.table == relation.alias_or_name
            }
            if starts and not starts & asked:
                name = relation.alias_or_name
                yield Words(_words(join).place, f"join {name} without {', '.join(starts)}")


def output_columns(query: Query, known: Columns) -> frozenset[str]:
    """Names of a query's columns; a star is looked up."""
    select = _first_select(query)
    if select is None:
        return frozenset()
    sources = [select.args.get("from_"), *(select.args.get("joins") or [])]
    tables = {s.this.alias_or_name: s.this.name for s in sources if s is not None}
    names: set[str] = set()
    for item in select.expressions:
        if isinstance(item, exp.Star):
            names.update(*(known.get(table, frozenset()) for table in tables.values()))
        elif isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            names |= known.get(tables.get(item.table, item.table), frozenset())
        else:
            names.add(item.alias_or_name)
    return frozenset(names)


def _first_select(query: Query) -> exp.Select | None:
    """The query itself, or the first part of a union."""
    while isinstance(query, exp.SetOperation | exp.Subquery):
        query = query.this
    return query if isinstance(query, exp.Select) else None


def filled_label(query: Query, _: Columns) -> Iterator[Words]:
    """A label where there is none: an unknown return that counts as a fall, or as nothing."""
    for alias in query.find_all(exp.Alias):
        if not alias.alias.startswith(LABEL):
            continue
        has_default = any(case.args.get("default") is not None and not isinstance(
            case.args["default"], exp.Null) for case in alias.find_all(exp.Case))  # fmt: skip
        if has_default or alias.find(exp.Coalesce):
            yield _words(alias)


def unlabelled_row(query: Query, _: Columns) -> Iterator[Words]:
    """The training panel without its condition that a row has a label."""
    select = _first_select(query)
    where = select.args.get("where") if select else None
    condition = where.this if where else None
    parts = list(condition.flatten()) if isinstance(condition, exp.And) else [condition]
    # engines' parsers differ in how they read "is not null", not in how they write it
    written = [part.sql(dialect="duckdb") for part in parts if part is not None]
    if not any(_HAS_LABEL.fullmatch(text) for text in written):
        yield Words("", where.sql() if where else "no where clause")


SqlRule = Callable[[Query, Columns], Iterator[Words]]
