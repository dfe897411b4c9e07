"""Tone of headlines from a packaged lexicon: optional, and never over a vendor's score.

Scores go to a table of their own, raw.headline_sentiment, so that the raw announcements stay what
the vendor delivered and a load stays idempotent. dbt uses them where the var `lexicon_sentiment` is
true.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from ml.contract import Table
from ml.errors import AsxwError
from ml.warehouse import Warehouse

TABLE = "headline_sentiment"
_LIBRARY = "vaderSentiment"


@dataclass(frozen=True)
class Scored:
    """Counts of one run: headlines scored now, of these with a tone, and known before."""

    scored: int
    with_tone: int
    known_before: int


def _analyzer() -> Any:
    try:
        from vaderSentiment.vaderSentiment import (  # noqa: PLC0415 (an optional extra)
            SentimentIntensityAnalyzer,
        )
    except ImportError as error:
        raise AsxwError(
            f"asxw sentiment needs {_LIBRARY}, which is not installed: "
            "pip install 'asx-warehouse[sentiment]'."
        ) from error
    return SentimentIntensityAnalyzer()


def score(headlines: Sequence[str]) -> list[tuple[float | None, float | None]]:
    """(sentiment, confidence) of each headline.

    Sentiment is VADER's compound score, -1 to 1; confidence the share of the headline's words that
    carry tone, 0 to 1. A headline without such a word has neither: the lexicon says nothing about
    it, which is not the same as neutral.

    Source: Hutto and Gilbert, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
    Social Media Text, ICWSM 2014.

    Raises:
        AsxwError: the library is not installed.
    """
    analyzer = _analyzer()
    out: list[tuple[float | None, float | None]] = []
    for headline in headlines:
        # the library reads a word in capitals as shouting; whole headlines in capitals are a habit
        text = headline.lower() if headline.isupper() else headline
        scores = analyzer.polarity_scores(text)
        share = min(scores["pos"] + scores["neg"], 1.0)
        out.append((scores["compound"], share) if share > 0 else (None, None))
    return out


def score_headlines(
    warehouse: Warehouse, schema: str, contract: dict[str, Table], now: dt.datetime
) -> Scored:
    """Score every headline that this version of the library has not scored yet.

    Args:
        warehouse: the warehouse, open for writing.
        schema: schema of the raw tables.
        contract: contract of the raw tables.
        now: UTC.

    Raises:
        AsxwError: there are no announcements, or the library is not installed.
    """
    if not warehouse.has_table(schema, "announcements"):
        raise AsxwError(f"{schema}.announcements does not exist yet: run `asxw load` first.")
    warehouse.create_tables(schema, {TABLE: contract[TABLE]})
    _analyzer()
    scorer = f"{_LIBRARY} {version(_LIBRARY)}"
    known = f'select 1 from "{schema}"."{TABLE}" s where s.headline = a.headline and s.scorer = ?'
    rows = warehouse.read_rows(
        f'select distinct a.headline from "{schema}"."announcements" a '
        f"where not exists ({known}) order by 1",
        [scorer],
    )
    headlines = [str(row[0]) for row in rows]
    scores = score(headlines)
    n = len(headlines)
    table = pa.table(
        {
            "headline": headlines,
            "scorer": [scorer] * n,
            "sentiment": [s for s, _ in scores],
            "confidence": [c for _, c in scores],
            "scored_at": [now] * n,
        },
        schema=contract[TABLE].arrow_schema,
    )
    with warehouse.transaction():
        warehouse.hold(TABLE)
        # scores of another version of the library do not mix with these
        warehouse.execute(f'delete from "{schema}"."{TABLE}" where scorer <> ?', [scorer])
        # what a job beside this one has written since
        stored = {
            str(row[0]) for row in warehouse.read_rows(f'select headline from "{schema}"."{TABLE}"')
        }
        table = table.filter(pa.array([h not in stored for h in headlines], pa.bool_()))
        warehouse.append(schema, contract[TABLE], table)
    total = int(warehouse.read_rows(f'select count(*) from "{schema}"."{TABLE}"')[0][0])
    return Scored(n, sum(s is not None for s, _ in scores), total - n)
