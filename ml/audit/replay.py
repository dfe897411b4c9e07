"""The replay: the warehouse built again as it was known at past times, and compared.

A row of a past session may differ for one honest reason: a bar was corrected afterwards, or an
action became known after its ex date. Where that happened the build is made once more with these
corrections and nothing else of what came later; what then agrees was the corrections' doing.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ml.audit.as_of import (
    APART,
    Difference,
    Moment,
    Replayed,
    Rule,
    compare_moment,
    difference_table,
    list_cells,
    moment,
)
from ml.audit.rebuild import Rebuild, drop, forget, rebuild
from ml.audit.record import AuditResult, data_name
from ml.manifest import Model
from ml.warehouse import Warehouse

SESSIONS = "dim_sessions"
_CSV_COLUMNS = ("as_of", "table", "column", "key", "full_build", "as_of_build")


@dataclass(frozen=True)
class Place:
    """Where the full build is, and how a second one is made beside it."""

    project_dir: Path
    target: str | None
    variables: Mapping[str, Any]
    """Of the full build."""
    models: Mapping[str, Model]
    """Of the full build, by name."""
    folder: Path
    """For what dbt writes."""
    open_warehouse: Callable[[], Warehouse]


@dataclass(frozen=True)
class Outcome:
    """One past time compared."""

    at: Moment
    tables: tuple[Replayed, ...]
    corrections: int
    """Bars and actions corrected or delivered after the time, of sessions decided by then."""
    unexplained: tuple[Difference, ...]
    explained: tuple[Difference, ...]
    """Gone once these corrections are known to the as-of build too."""


def replay(
    place: Place,
    rules: Sequence[Rule],
    times: Sequence[datetime],
    report: Callable[[str], None],
    listing: Path | None = None,
    *,
    keep: bool = False,
) -> list[Outcome]:
    """Build and compare at every time; the as-of builds are dropped again.

    Args:
        place: the full build.
        rules: from `read_rules`.
        times: market local.
        report: takes a line of progress.
        listing: CSV file for every cell that differs; not written where none does.
        keep: leave the last as-of build of each time in the warehouse.

    Raises:
        AsxwError: a build failed, or a time lies outside the history.
    """
    outcomes = []
    with ExitStack() as stack:
        writer = _Listing(listing, stack)
        with place.open_warehouse() as warehouse:
            sessions = place.models[SESSIONS].relation
            moments = [moment(warehouse, sessions, t) for t in times]
        for at in moments:
            outcomes.append(_replay_moment(place, rules, at, report, writer, keep))
    return outcomes


class _Listing:
    """The CSV of differing cells, opened at the first of them."""

    def __init__(self, path: Path | None, stack: ExitStack) -> None:
        self.path = path
        self._stack = stack
        self._writer: Any = None

    def write(self, rows: Sequence[tuple[str, ...]]) -> None:
        if self.path is None or not rows:
            return
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            stream = self._stack.enter_context(self.path.open("w", newline="", encoding="utf-8"))
            self._writer = csv.writer(stream)
            self._writer.writerow(_CSV_COLUMNS)
        self._writer.writerows(rows)


def _replay_moment(
    place: Place,
    rules: Sequence[Rule],
    at: Moment,
    report: Callable[[str], None],
    listing: _Listing,
    keep: bool,
) -> Outcome:
    report(f"{at.as_of}: building as known before it (last session {at.last_date})")
    past = _build(place, rules, at, corrections=False)
    with place.open_warehouse() as warehouse:
        corrections = _corrections(warehouse, place, at)
        tables = _compare(warehouse, place, rules, past, at, listing)
        found = [d for t in tables for d in t.differences]
        if not keep or (found and corrections):
            drop(warehouse, past.prefix)
    unexplained = found
    if found and corrections:
        report(f"{at.as_of}: {corrections} corrections came later: building with them")
        past = _build(place, rules, at, corrections=True)
        with place.open_warehouse() as warehouse:
            again = _compare(warehouse, place, rules, past, at, listing)
            unexplained = [d for t in again for d in t.differences]
            if not keep:
                drop(warehouse, past.prefix)
    left = {(d.table, d.column) for d in unexplained}
    cells = sum(t.cells for t in tables)
    wrong = sum(d.rows for d in unexplained)
    report(f"{at.as_of}: {cells:,} cells of {len(tables)} tables compared, {wrong:,} differ")
    return Outcome(
        at=at,
        tables=tuple(tables),
        corrections=corrections,
        unexplained=tuple(unexplained),
        explained=tuple(d for d in found if (d.table, d.column) not in left),
    )


def _build(place: Place, rules: Sequence[Rule], at: Moment, corrections: bool) -> Rebuild:
    compared = [rule.table for rule in rules if rule.rule != APART]
    try:
        return rebuild(
            place.project_dir,
            place.target,
            place.variables,
            at.as_of,
            compared,
            place.folder,
            corrections=corrections,
        )
    finally:
        forget(place.folder)


def _compare(
    warehouse: Warehouse,
    place: Place,
    rules: Sequence[Rule],
    past: Rebuild,
    at: Moment,
    listing: _Listing,
) -> list[Replayed]:
    tables = list(compare_moment(warehouse, rules, place.models, past.models, at))
    listing.write(list(list_cells(warehouse, rules, place.models, past.models, at, tables)))
    return tables


def _corrections(warehouse: Warehouse, place: Place, at: Moment) -> int:
    """Price bars and corporate actions of sessions decided by then that came to be known later."""
    raw = place.variables.get("raw_schema", "raw")
    ((bars, actions),) = warehouse.read_rows(
        f'select (select count(*) from "{raw}"."prices" '
        "where trade_date <= ? and available_at >= ?), "
        f'(select count(*) from "{raw}"."corporate_actions" '
        "where ex_date <= ? and available_at >= ?)",
        (at.last_date, at.as_of, at.last_date, at.as_of),
    )
    return int(bars) + int(actions)


def audit_result(
    place: Place,
    rules: Sequence[Rule],
    outcomes: Sequence[Outcome],
    started_at: datetime,
    engine: str,
    *,
    allow_rounding: bool,
) -> AuditResult:
    """The outcomes as a row of the ledger.

    Args:
        place: the full build.
        rules: what was compared, and what was not.
        outcomes: from `replay`.
        started_at: UTC.
        engine: duckdb or postgres.
        allow_rounding: a difference of rounding alone does not fail the audit.
    """
    with place.open_warehouse() as warehouse:
        market = data_name(warehouse, place.variables)
    bits = sum(d.rows for o in outcomes for d in o.unexplained)
    beyond = sum(d.beyond for o in outcomes for d in o.unexplained)
    explained = sum(d.rows for o in outcomes for d in o.explained)
    cells = sum(t.cells for o in outcomes for t in o.tables)
    differences = beyond if allow_rounding else bits
    tables = len({t.table for o in outcomes for t in o.tables})
    times = "1 past time" if len(outcomes) == 1 else f"{len(outcomes)} past times"
    verdict = "no difference" if not bits else f"{beyond:,} cells differ"
    if bits > beyond:
        verdict += f", {bits - beyond:,} in rounding alone"
    if explained:
        verdict += f"; {explained:,} follow from corrections on record"
    return AuditResult(
        layer="replay",
        target=engine,
        market=market,
        started_at=started_at,
        passed=differences == 0,
        checked=cells,
        differences=differences,
        summary=f"{times}, {tables} tables, {cells:,} cells: {verdict}",
        details={
            "times": [_outcome_details(o) for o in outcomes],
            "apart": {r.table: r.why for r in rules if r.rule == APART},
            "excepted": {r.table: dict(r.except_) for r in rules if r.except_},
        },
    )


def _outcome_details(outcome: Outcome) -> dict[str, Any]:
    return {
        "as_of": outcome.at.as_of.isoformat(sep=" "),
        "last_session": outcome.at.last_date.isoformat(),
        "corrections": outcome.corrections,
        "rows": {t.table: t.rows for t in outcome.tables},
        "cells": sum(t.cells for t in outcome.tables),
        "unexplained": [_difference_details(d) for d in outcome.unexplained],
        "explained": [_difference_details(d) for d in outcome.explained],
    }


def _difference_details(difference: Difference) -> dict[str, Any]:
    return {
        "table": difference.table,
        "column": difference.column,
        "rows": difference.rows,
        "beyond_rounding": difference.beyond,
        "largest": difference.largest,
        "examples": list(difference.examples),
    }


def outcome_text(outcomes: Sequence[Outcome]) -> str:
    """What differs at each time, for the terminal; empty where nothing does."""
    parts = []
    for outcome in outcomes:
        for title, differences in (
            ("unexplained", outcome.unexplained),
            (f"explained by {outcome.corrections} corrections", outcome.explained),
        ):
            if differences:
                parts += [f"{outcome.at.as_of}, {title}:", difference_table(differences), ""]
    return "\n".join(parts)
