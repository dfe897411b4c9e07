"""The rules that read headlines: on made-up ones, and on all real ones."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pytest
from conftest import PROJECT
from test_outside_facts import EVENTS, TONE, Headlines

# made up; what a person reads in them
READ = [
    ("TRADING HALT", "trading_halt", "neutral"),
    ("Request for Trading Halt pending capital raising", "trading_halt", "neutral"),
    ("ABC Limited - Suspension from Quotation", "trading_halt", "bearish"),
    ("FY27 guidance upgraded on strong first half", "guidance", "bullish"),
    ("Widget Co raises FY27 EBITDA guidance", "guidance", "bullish"),
    ("Production guidance lowered after floods", "guidance", "neutral"),
    ("Lowered production guidance after floods", "guidance", "bearish"),
    ("Withdrawal of FY27 Guidance", "guidance", "bearish"),
    ("Trading update and outlook", "guidance", "neutral"),
    ("Half Year Results - profit up 14%", "earnings", "bullish"),
    ("Record full-year profit", "earnings", "bullish"),
    ("Impairment of goodwill", "earnings", "bearish"),
    ("Appendix 4E and FY27 Annual Report", "earnings", "neutral"),
    ("Strong drill results at Copper Hill", "exploration", "neutral"),
    ("Dividend/Distribution - ABC", "dividend", "neutral"),
    ("Special Dividend of 20 cents", "dividend", "bullish"),
    ("Interim dividend suspended", "dividend", "bearish"),
    ("$12.5m placement to institutions", "capital_raising", "neutral"),
    ("Oversubscribed SPP closes", "capital_raising", "bullish"),
    ("US$50m raising completed", "capital_raising", "neutral"),
    ("Widget Co to acquire Gadget Pty Ltd", "acquisition", "neutral"),
    ("Scheme Implementation Deed with Bidder Inc", "acquisition", "bullish"),
    ("Termination of proposed acquisition of Gadget", "acquisition", "bearish"),
    ("3D seismic acquisition completed", "exploration", "neutral"),
    ("High-grade gold from first holes", "exploration", "bullish"),
    ("Change of Director's Interest Notice - A Person", "director_interest", "neutral"),
    ("Strategic review of haltingly slow business", "other", "neutral"),
    ("", "other", "neutral"),
]


@pytest.mark.parametrize(("headline", "event", "stance"), READ, ids=[h for h, _, _ in READ])
def test_made_up_headline(headline: str, event: str, stance: str) -> None:
    assert tuple(Headlines().judge(headline)[:2]) == (event, stance)


def test_rule_table() -> None:
    rules = pd.read_csv(PROJECT / "seeds" / "announcement_rules.csv")
    assert len(rules) >= 60
    assert rules["priority"].is_monotonic_increasing
    assert set(EVENTS) <= set(rules["event"])
    assert set(rules["stance"]) == set(TONE)
    # the last rule takes what no other took
    assert rules["pattern"].iloc[-1] == "%"
    assert (rules["pattern"] == "%").sum() == 1


@pytest.mark.real
@pytest.mark.slow
def test_real_headlines_read_by_sql_and_by_python(real_warehouse: Path) -> None:
    with duckdb.connect(str(real_warehouse), read_only=True) as connection:
        rows = connection.execute(
            "select distinct headline, event, stance from intermediate.int_announcements"
        ).df()
    headlines = Headlines()
    for row in rows.sample(2_000, random_state=1).itertuples():
        assert tuple(headlines.judge(row.headline)[:2]) == (row.event, row.stance), row.headline


@pytest.mark.real
@pytest.mark.slow
def test_real_headlines_make_sense_together(real_warehouse: Path) -> None:
    with duckdb.connect(str(real_warehouse), read_only=True) as connection:
        rows = connection.execute(
            """select event, stance, price_sensitive, extract(month from announced_at) as month
            from intermediate.int_announcements where length(symbol) = 3"""
        ).df()
    assert (rows["event"] == "other").mean() < 0.2
    counts = rows["event"].value_counts()
    assert counts[EVENTS].min() > 1_000
    sensitive = rows.groupby("event")["price_sensitive"].mean().astype(float)
    # the exchange marks news as price sensitive, and forms as not
    for event in ("guidance", "trading_halt", "exploration"):
        assert sensitive[event] > 0.4, event
    for event in ("director_interest", "substantial_holding", "securities_issue", "governance"):
        assert sensitive[event] < 0.01, event
    # accounts come in February and August, and after them the annual reports
    season = rows[rows["event"] == "earnings"]["month"].value_counts(normalize=True)
    assert season[[2, 8, 9, 10]].sum() > 0.6
    told = rows[rows["stance"] != "neutral"]["price_sensitive"].mean()
    assert told > 2 * rows["price_sensitive"].mean()
