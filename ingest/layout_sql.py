"""A layout's SQL reads rows and does nothing else: one expression, or one SELECT statement."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

_READS = ("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE")
# what a select may have beside its list; an expression that closes its own bracket brings some
_CLAUSES = ("modifiers", "where_clause", "group_expressions", "having", "sample", "qualify")


def expression_problem(connection: duckdb.DuckDBPyConnection, sql: str) -> str | None:
    """Why a text is not one expression when it stands in brackets; None for one that is."""
    found = _statements(connection, f"select ({sql})")
    if isinstance(found, str):
        return found
    node = found[0]["node"] if len(found) == 1 else {}
    alone = (
        node.get("type") == "SELECT_NODE"
        and len(node["select_list"]) == 1
        and node["from_table"]["type"] == "EMPTY"
        and not node["cte_map"]["map"]
        and not any(node[clause] for clause in _CLAUSES)
    )
    return None if alone and _only_reads(node) else "has to be one SQL expression"


def query_problem(connection: duckdb.DuckDBPyConnection, sql: str) -> str | None:
    """Why a text is not one SELECT statement; None for one that is."""
    found = _statements(connection, sql)
    if isinstance(found, str):
        return found
    if len(found) == 1 and _only_reads(found):
        return None
    return "has to be one SELECT statement"


def _statements(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]] | str:
    """The parsed statements, or why there are none."""
    row = connection.execute("select json_serialize_sql(?)", [sql]).fetchone()
    parsed = json.loads(str(row[0])) if row else {}
    if not parsed.get("error", True):
        return list(parsed["statements"])
    if parsed.get("error_type") == "parser":
        return str(parsed["error_message"])
    return "only a SELECT may be run"


def _only_reads(tree: Any) -> bool:
    """Whether no common table expression writes."""
    return all(node["type"] in _READS for node in _query_nodes(tree))


def _query_nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, list):
        for item in tree:
            yield from _query_nodes(item)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if key in ("node", "query_node") and isinstance(value, dict):
                yield value
            yield from _query_nodes(value)
