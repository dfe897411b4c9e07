"""Every query of docs/queries.md on both engines."""

from __future__ import annotations

import re

import postgres_fixture
import pytest
from built_warehouse import PROJECT, Warehouse

_TEXT = (PROJECT / "docs" / "queries.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", _TEXT, re.DOTALL)
# nothing was corrected in a market built once, and no live forecast is 21 sessions old
EMPTY = ("fct_panel_restatements", "fct_prediction_outcomes")


def test_the_page_has_queries() -> None:
    assert len(QUERIES) >= 8


@pytest.mark.slow
@pytest.mark.parametrize("query", QUERIES)
def test_on_duckdb(built_market: Warehouse, query: str) -> None:
    """On a market with a trained run, where each has something to show."""
    some = built_market.rows("select min(symbol) from marts.fct_features_latest")[0][0]
    rows = built_market.rows(query.replace("'AAA'", f"'{some}'"))
    # what a model of twelve trees signals is left to chance
    assert rows or "fct_signals_latest" in query or any(name in query for name in EMPTY)


@pytest.mark.slow
@pytest.mark.parametrize("query", QUERIES)
def test_on_postgres(built: postgres_fixture.Database, query: str) -> None:
    built.rows(query)
