"""Two builds compared: what a past one would have held is what the full build holds of that time.

`ml/as_of.yml` says table by table which rows must be the same. They are compared inside the
database, every column with `is distinct from`: one unit in the last place is a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import yaml

from ml.dataset import NOTHING
from ml.errors import AsxwError
from ml.manifest import Model, Relation
from ml.parity import tolerance
from ml.text_table import text_table
from ml.warehouse import Warehouse

RULES_FILE = Path(__file__).parents[1] / "as_of.yml"
TRADED = "int_traded_prices"
ROWS, LATEST, APART = "rows", "latest", "apart"
MISSING, EXTRA = "(row not in the as-of build)", "(row not in the full build)"
EXAMPLES = 3
_CHUNK = 24
_LISTED = 100_000


@dataclass(frozen=True)
class Rule:
    """How one table of an as-of build compares with that of the full build; see ml/as_of.yml."""

    table: str
    rule: str
    rows: str = ""
    key: tuple[str, ...] = ()
    once: str = ""
    until: tuple[str, ...] = ()
    except_: Mapping[str, str] = field(default_factory=dict)
    of: str = ""
    why: str = ""


@dataclass(frozen=True)
class Moment:
    """A past time, and the last market session decided before it."""

    as_of: datetime
    last_date: date
    last_idx: int

    def fill(self, condition: str, traded: str = "") -> str:
        """A rule's condition with the moment's values as SQL literals, and a table's name."""
        return condition.format(
            traded=traded,
            as_of=f"timestamp '{self.as_of.isoformat(sep=' ')}'",
            last_date=f"date '{self.last_date.isoformat()}'",
            last_idx=self.last_idx,
        )


@dataclass(frozen=True)
class Difference:
    """A column, or the rows of one side alone, that differ."""

    table: str
    column: str
    rows: int
    beyond: int
    """Of these, how many by more than the rounding that two engines may differ by."""
    largest: float
    """Largest relative difference of numbers known on both sides."""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Replayed:
    """One table compared."""

    table: str
    rows: int
    """Rows of the full build that the rule keeps."""
    cells: int
    differences: tuple[Difference, ...]


def read_rules(models: Mapping[str, Model], path: Path = RULES_FILE) -> list[Rule]:
    """The rules, checked against the project's models.

    Args:
        models: of the full build, by name.
        path: ml/as_of.yml, or one laid out like it.

    Raises:
        AsxwError: a public mart has no rule, a rule names no model, or it lacks what its kind
            needs; the text names the table.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    folders: dict[str, str] = content.get("folders", {})
    rules = [_rule(name, entry, models, path) for name, entry in content["tables"].items()]
    named = {rule.table for rule in rules}
    unruled = []
    for model in models.values():
        if not model.is_public or model.name in named:
            continue
        if model.folder in folders:
            rules.append(Rule(model.name, APART, why=folders[model.folder]))
        else:
            unruled.append(model.name)
    if unruled:
        raise AsxwError(
            f"{path} has no rule for the public {', '.join(sorted(unruled))}: say which of its "
            "rows an as-of build must give again, or that it stands apart and why."
        )
    return rules


def _rule(name: str, entry: Mapping[str, Any], models: Mapping[str, Model], path: Path) -> Rule:
    if name not in models:
        raise AsxwError(f"{path} has a rule for {name}, which is no model of the project.")
    known = {"rule", "rows", "key", "once", "until", "except", "of", "why"}
    needed = {ROWS: "rows", LATEST: "of", APART: "why"}
    kind = entry.get("rule", "")
    if kind not in needed or needed[kind] not in entry or not set(entry) <= known:
        raise AsxwError(
            f"{path}: {name} needs a rule of rows (with rows), latest (with of) or apart (with "
            f"why), and no other keys than {', '.join(sorted(known))}."
        )
    key = tuple(entry.get("key", ())) or models[name].key
    if kind != APART and not key:
        raise AsxwError(f"{path}: {name} has no primary key in its contract: name its key here.")
    return Rule(
        table=name,
        rule=kind,
        rows=entry.get("rows", ""),
        key=key,
        once=entry.get("once", ""),
        until=tuple(entry.get("until", ())),
        except_=entry.get("except", {}),
        of=entry.get("of", ""),
        why=entry.get("why", ""),
    )


def moment(warehouse: Warehouse, sessions: Relation, as_of: datetime) -> Moment:
    """The last market session decided before `as_of`.

    Args:
        warehouse: with the full build.
        sessions: dim_sessions.
        as_of: market local time.

    Raises:
        AsxwError: no session was decided by then, or all of them: nothing to replay.
    """
    ((last_date, last_idx, later),) = warehouse.read_rows(
        "select max(case when decision_at < ? then trade_date end), "
        "max(case when decision_at < ? then session_idx end), "
        "sum(case when decision_at < ? then 0 else 1 end) "
        f"from {sessions.sql} where session_status = 'market'",
        (as_of, as_of, as_of),
    )
    if last_date is None or not later:
        where = "before the first session" if last_date is None else "after the last session"
        raise AsxwError(f"{as_of} lies {where}: name a time within the history.")
    return Moment(as_of, last_date, int(last_idx))


def spread_dates(warehouse: Warehouse, sessions: Relation, count: int) -> list[date]:
    """Days spread over the history, the last one near its end.

    The first third of the history is left out where it can be: most windows are not full there.
    """
    days = [
        row[0]
        for row in warehouse.read_rows(
            f"select trade_date from {sessions.sql} where session_status = 'market' "
            "order by trade_date"
        )
    ]
    if not days:
        raise AsxwError(f"{sessions.sql} is empty: load data and run dbt build first.")
    shares = [1 / 3 + (0.97 - 1 / 3) * (n + 1) / count for n in range(count)]
    return sorted({days[int(share * (len(days) - 1))] for share in shares})


def compare_moment(
    warehouse: Warehouse,
    rules: Iterable[Rule],
    full: Mapping[str, Model],
    past: Mapping[str, Model],
    at: Moment,
) -> Iterator[Replayed]:
    """Every table with a rule, one after the other.

    Args:
        warehouse: holds both builds.
        rules: from `read_rules`.
        full: models of the full build, by name.
        past: models of the as-of build, by name.
        at: the time of the as-of build.

    Raises:
        AsxwError: the two builds have different columns.
    """
    for rule in rules:
        if rule.rule != APART:
            yield _compare_table(warehouse, rule, full, past, at)


def _compare_table(
    warehouse: Warehouse,
    rule: Rule,
    full: Mapping[str, Model],
    past: Mapping[str, Model],
    at: Moment,
) -> Replayed:
    pair = _Pair(warehouse, rule, full, past, at)
    differences: list[Difference] = []
    rows, shared = pair.count()
    for column, n in ((MISSING, rows[0] - shared), (EXTRA, rows[1] - shared)):
        if n:
            differences.append(
                Difference(rule.table, column, n, n, 0.0, pair.examples(column, EXAMPLES))
            )
    for start in range(0, len(pair.compared), _CHUNK):
        for column, n, beyond, largest in pair.differing(pair.compared[start : start + _CHUNK]):
            differences.append(
                Difference(rule.table, column, n, beyond, largest, pair.examples(column, EXAMPLES))
            )
    return Replayed(rule.table, rows[0], rows[0] * len(pair.compared), tuple(differences))


class _Pair:
    """The rows of one table in both builds."""

    def __init__(
        self,
        warehouse: Warehouse,
        rule: Rule,
        full: Mapping[str, Model],
        past: Mapping[str, Model],
        at: Moment,
    ) -> None:
        self.warehouse = warehouse
        self.rule = rule
        left = full[rule.of or rule.table].relation
        right = past[rule.table].relation
        types = [warehouse.columns(r.schema, r.name) for r in (left, right)]
        if not types[1] or (not rule.of and list(types[0]) != list(types[1])):
            raise AsxwError(
                f"{left.sql} has columns {', '.join(types[0]) or 'none'}, {right.sql} "
                f"{', '.join(types[1]) or 'none'}: run dbt build with the project as it is now."
            )
        self.types = types[1]
        self.compared = [c for c in self.types if c not in (*rule.key, *rule.except_)]
        traded = full[TRADED].relation.sql if TRADED in full else ""
        condition = at.fill(rule.rows, traded) if rule.rows else "true"
        latest = f"trade_date = date '{at.last_date.isoformat()}'"
        once = at.fill(rule.once)
        self.sides = (
            self._side(left, latest if rule.rule == LATEST else condition, once),
            self._side(right, condition, once),
        )

    def _side(self, relation: Relation, condition: str, once: str) -> str:
        columns = [
            f'case when {once} then "{c}" end as "{c}"' if c in self.rule.until else f'"{c}"'
            for c in (*self.rule.key, *self.compared)
        ]
        return f"select 1 as is_there, {', '.join(columns)} from {relation.sql} where {condition}"

    @property
    def _joined(self) -> str:
        key = " and ".join(f'l."{k}" = r."{k}"' for k in self.rule.key)
        return f"from ({self.sides[0]}) as l full join ({self.sides[1]}) as r on {key}"

    def _is_number(self, column: str) -> bool:
        return self.types[column].upper() in ("DOUBLE", "DOUBLE PRECISION")

    def _relative(self, column: str) -> str:
        x, y = f'l."{column}"', f'r."{column}"'
        return f"abs({x} - {y}) / greatest(abs({x}), abs({y}), 1e-300)"

    def count(self) -> tuple[tuple[int, int], int]:
        """Rows of the full build and of the as-of build, and of both."""
        ((left, right, both),) = self.warehouse.read_rows(
            "select count(l.is_there), count(r.is_there), "
            f"count(case when l.is_there = r.is_there then 1 end) {self._joined}"
        )
        return (int(left), int(right)), int(both)

    def differing(self, columns: Sequence[str]) -> Iterator[tuple[str, int, int, float]]:
        """Of these columns those that differ: name, rows, rows beyond rounding, largest."""
        measures = []
        for column in columns:
            x, y = f'l."{column}"', f'r."{column}"'
            wrong = f"l.is_there = r.is_there and {x} is distinct from {y}"
            beyond, largest = wrong, "cast(null as double precision)"
            if self._is_number(column):
                known = f"{x} is not null and {y} is not null"
                relative = self._relative(column)
                small = (
                    f"{known} and (abs({x} - {y}) <= {NOTHING} or {relative} <= "
                    f"{tolerance(column)})"
                )
                beyond = f"{wrong} and not ({small})"
                largest = f"max(case when {wrong} and {known} then {relative} end)"
            measures += [
                f"count(case when {wrong} then 1 end)",
                f"count(case when {beyond} then 1 end)",
                largest,
            ]
        (found,) = self.warehouse.read_rows(f"select {', '.join(measures)} {self._joined}")
        for place, column in enumerate(columns):
            wrong_rows, beyond_rows, largest_seen = found[3 * place : 3 * place + 3]
            if wrong_rows:
                yield column, int(wrong_rows), int(beyond_rows), float(largest_seen or 0.0)

    def cells(self, column: str, limit: int) -> list[tuple[Any, ...]]:
        """Key, value in the full build and value in the as-of build of what differs."""
        keys = ", ".join(f'coalesce(l."{k}", r."{k}")' for k in self.rule.key)
        x, y, wrong = "null", "null", "r.is_there is null"
        if column == EXTRA:
            wrong = "l.is_there is null"
        elif column != MISSING:
            x, y = f'l."{column}"', f'r."{column}"'
            wrong = f"l.is_there = r.is_there and {x} is distinct from {y}"
        places = ", ".join(str(n + 1) for n in range(len(self.rule.key)))
        return self.warehouse.read_rows(
            f"select {keys}, {x}, {y} {self._joined} where {wrong} order by {places} limit {limit}"
        )

    def examples(self, column: str, limit: int) -> tuple[str, ...]:
        texts = []
        for *key, left, right in self.cells(column, limit):
            named = ", ".join(f"{k} {v}" for k, v in zip(self.rule.key, key, strict=True))
            values = "" if column in (MISSING, EXTRA) else f": {left} / {right}"
            texts.append(f"{named}{values}")
        return tuple(texts)


def list_cells(
    warehouse: Warehouse,
    rules: Iterable[Rule],
    full: Mapping[str, Model],
    past: Mapping[str, Model],
    at: Moment,
    found: Sequence[Replayed],
) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Every cell that differs, at most 100,000 of a column.

    Yields:
        as_of, table, column, key, value in the full build, value in the as-of build; as texts.
    """
    by_name = {rule.table: rule for rule in rules}
    for replayed in found:
        if not replayed.differences:
            continue
        rule = by_name[replayed.table]
        pair = _Pair(warehouse, rule, full, past, at)
        for difference in replayed.differences:
            for *key, left, right in pair.cells(difference.column, _LISTED):
                named = ", ".join(f"{k}={v}" for k, v in zip(rule.key, key, strict=True))
                x, y = ("" if v is None else repr(v) for v in (left, right))
                yield str(at.as_of), rule.table, difference.column, named, x, y


def difference_table(differences: Sequence[Difference]) -> str:
    """A line per column that differs, with examples under them."""
    rows = [
        (d.table, d.column, f"{d.rows:,}", f"{d.beyond:,}", f"{d.largest:.1e}") for d in differences
    ]
    head = ("table", "column", "rows differ", "beyond rounding", "largest")
    lines = [text_table(head, rows, left=2)]
    lines += [f"  {d.table}.{d.column} {e}" for d in differences for e in d.examples[:1]]
    return "\n".join(lines)
