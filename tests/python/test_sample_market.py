"""The invented market: same bytes for the same seed, the raw contract, and the answer planted."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from scipy.stats import rankdata

from ingest.sample_commands import write_sample_market
from ingest.sample_market import SampleMarket, SampleParameters, generate
from ml.cli import main
from ml.contract import read_contract
from ml.errors import AsxwError

PROJECT = Path(__file__).parents[2]
SMALL = SampleParameters(symbols=30, sessions=120)


@pytest.fixture(scope="module")
def market() -> SampleMarket:
    return generate(SampleParameters())


@pytest.fixture(scope="module")
def db(market: SampleMarket) -> duckdb.DuckDBPyConnection:
    """The tables under their own names, and `bars`: the latest version of each traded row."""
    con = duckdb.connect()
    for name, table in market.tables.items():
        con.register(name, table)
    con.register("truth", market.truth)
    con.execute(
        """create view bars as
        select * from prices where volume > 0
        qualify row_number() over (partition by symbol, trade_date order by available_at desc) = 1
        """
    )
    return con


def rows(db: duckdb.DuckDBPyConnection, sql: str, values: tuple[object, ...] = ()) -> list[tuple]:
    return db.execute(sql, list(values)).fetchall()


def ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


# --- reproducible ---------------------------------------------------------------------------------


def test_same_parameters_give_the_same_bytes():
    first, second = generate(SMALL), generate(SMALL)
    for name, table in first.tables.items():
        assert ipc(table) == ipc(second.tables[name]), name
    assert ipc(first.truth) == ipc(second.truth)
    assert ipc(first.latent) == ipc(second.latent)


def test_another_seed_gives_another_market():
    other = generate(SampleParameters(symbols=30, sessions=120, seed=8))
    for name, table in generate(SMALL).tables.items():
        assert not table.equals(other.tables[name]) or table.num_rows == 0, name


@pytest.mark.parametrize("name", ["prices", "fundamentals", "short_positions", "corporate_actions"])
def test_a_larger_market_begins_with_the_same_companies(name):
    few, many = (generate(SampleParameters(n, 150)).tables for n in (80, 100))
    shared = pa.compute.is_in(many[name]["symbol"], few["prices"]["symbol"].combine_chunks())
    # as text, because a NaN differs from itself
    assert str(many[name].filter(shared).to_pylist()) == str(few[name].to_pylist())


# --- the contract ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        SampleParameters(),
        SampleParameters(null=True),
        SampleParameters(5, 30),
        SampleParameters(5, 90),
        SampleParameters(80, 45, seed=0, null=True),
        SampleParameters(12, 800, end=date(2024, 2, 29)),
    ],
    ids=str,
)
def test_every_table_meets_the_raw_contract(parameters):
    market = generate(parameters)
    contract = read_contract(PROJECT, "raw")
    wanted = {n for n, t in contract.items() if not t.ledger}
    assert set(market.tables) == wanted
    con = duckdb.connect()
    for name, table in market.tables.items():
        spec = contract[name]
        columns = [c for c in spec.columns if not c.loader]
        assert table.column_names == [c.name for c in columns]
        for column in columns:
            got = table[column.name]
            assert got.type == spec.arrow_schema.field(column.name).type, (name, column.name)
            if column.required and column.assumed is None:
                assert got.null_count == 0, (name, column.name)
            if column.accepted:
                assert set(got.drop_null().to_pylist()) <= set(column.accepted)
            numbers = got.drop_null()
            if column.check in ("price", "not_negative", "finite"):
                values = numbers.to_numpy()
                assert np.isfinite(values).all(), (name, column.name)
                floor = {"price": 1e-300, "not_negative": 0.0, "finite": -np.inf}[column.check]
                assert (values >= floor).all(), (name, column.name)
            if column.check in ("past_date", "near_date"):
                latest = numbers.cast(pa.date32()).to_pylist()
                assert max(latest, default=parameters.end) <= parameters.end, (name, column.name)
            if column.between:
                low, high = column.between
                assert all(low <= value <= high for value in numbers.to_pylist())
        con.register("t", table)
        key = ", ".join(spec.key)
        double = con.execute(f"select {key} from t group by all having count(*) > 1").fetchall()
        assert double == [], name
        known_at = "announced_at" if "announced_at" in table.column_names else "available_at"
        if known_at in table.column_names and name not in ("directory",):
            latest = con.execute(f"select max({known_at}) from t").fetchall()[0][0]
            assert latest is None or latest.date() <= parameters.end, name


@pytest.mark.parametrize("name", ["prices", "directory", "macro", "index_levels", "announcements"])
def test_the_smallest_market_is_not_empty(name):
    assert generate(SampleParameters(5, 30)).tables[name].num_rows > 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"symbols": 4}, "symbols is 4"),
        ({"symbols": 20_000}, "5 to 10000"),
        ({"sessions": 29}, "sessions is 29"),
        ({"seed": -1}, "seed is -1"),
        ({"end": date(1990, 1, 1)}, "year of end is 1990"),
    ],
)
def test_parameters_out_of_range_are_named(wrong, said):
    with pytest.raises(AsxwError, match=said):
        SampleParameters(**wrong)


# --- prices ---------------------------------------------------------------------------------------


def test_bars_are_consistent_and_on_ticks(db):
    assert rows(db, "select * from prices where low > least(open, close)") == []
    assert rows(db, "select * from prices where high < greatest(open, close)") == []
    for column in ("open", "high", "low", "close"):
        off = rows(
            db,
            f"""with p as (
                select {column} x, round({column} * 1000)::bigint as mills from prices
            )
            select x from p where abs(x * 1000 - mills) > 1e-6
            or mills % (case when x < 0.0999999 then 1 when x < 1.9999999 then 5 else 10 end) <> 0
            """,
        )
        assert off == [], column


def test_untraded_sessions_are_absent_for_most_and_carried_for_some(db):
    carried = rows(db, "select count(distinct symbol) from prices where volume = 0")[0][0]
    sparse = rows(
        db,
        """select count(*) from (
            select symbol, count(*) c from prices group by symbol
            having count(*) < 700 and count_if(volume = 0) = 0)""",
    )[0][0]
    assert carried >= 20
    assert sparse >= 20
    flat = "volume = 0 and (open <> close or high <> close or low <> close)"
    assert rows(db, f"select * from prices where {flat}") == []


def test_a_realistic_share_of_prices_is_small_and_does_not_move(db):
    cheap, still = rows(
        db,
        """select avg((close < 0.2)::int), avg((close = before)::int) from (
            select close, lag(close) over (partition by symbol order by trade_date) before
            from bars)""",
    )[0]
    assert 0.3 < cheap < 0.7
    assert 0.1 < still < 0.4


def test_volume_rises_with_the_size_of_the_move(db):
    corr = rows(
        db,
        """select corr(abs(move), log_volume) from (
            select ln(close / lag(close) over w) as move,
                ln(volume) - avg(ln(volume)) over (partition by symbol) as log_volume
            from bars window w as (partition by symbol order by trade_date))""",
    )[0][0]
    assert corr > 0.05


def test_some_sessions_are_missing_and_one_is_thin(db, market):
    counts = dict(rows(db, "select trade_date, count(distinct symbol) from prices group by all"))
    days = {
        kind: rows(db, "select event_date from truth where event = ?", (kind,))
        for kind in ("missing_session", "thin_session")
    }
    assert len(days["missing_session"]) == 3
    assert all(day not in counts for (day,) in days["missing_session"])
    ((thin,),) = days["thin_session"]
    assert 0 < counts[thin] < np.median(list(counts.values())) / 2
    assert len(counts) == 756 - 3


def test_a_few_bars_arrive_wrong_and_are_corrected_later(db):
    versions = rows(
        db,
        """select list(available_at order by available_at), list(volume order by available_at)
        from prices group by symbol, trade_date having count(*) > 1""",
    )
    assert len(versions) >= 5
    for (first, second), (wrong, right) in versions:
        assert first.time() == time(16, 15)
        assert second > first
        assert wrong != right


# --- planted events -------------------------------------------------------------------------------


def test_every_kind_of_event_is_planted_at_the_default_size(db):
    kinds = set(rows(db, "select distinct event, evidence from truth"))
    assert {
        *((k, e) for k in ("split", "consolidation") for e in ("action", "directory", "none")),
        *(("crash", e) for e in ("directory", "none")),
        ("jump", "directory"),
        *(("delisting", e) for e in ("takeover", "failure", "forgotten", "unknown")),
        *((k, None) for k in ("suspension", "listing", "rename", "reused_code", "bid")),
        *((k, None) for k in ("deferred_settlement", "reclassification", "missing_session")),
        ("thin_session", None),
    } <= kinds
    lengths = rows(
        db,
        """select count(s.trade_date), t.end_date = (select max(trade_date) from prices)
        from truth t join index_levels s
        on s.trade_date between t.event_date and t.end_date and s.index_code = 'ASX200'
        where t.event = 'suspension' group by t.symbol, t.end_date""",
    )
    closed = [n for n, is_open in lengths if not is_open]
    assert min(closed) < 60 < max(closed) - 3
    assert any(is_open for _, is_open in lengths)


def planted_breaks(db):
    return rows(
        db,
        """select symbol, event, event_date, ratio, evidence, verdict
        from truth where verdict is not null""",
    )


def market_caps(db, symbol, day):
    """Latest positive snapshot in [day - 10, day] and earliest in (day, day + 10]."""
    caps = rows(
        db,
        "select snapshot_date, market_cap from directory where market_cap > 0 and symbol = ? "
        "and snapshot_date between ? and ? order by 1",
        (symbol, day - timedelta(10), day + timedelta(10)),
    )
    return [c for d, c in caps if d <= day][-1:], [c for d, c in caps if d > day][:1]


def test_the_evidence_supports_the_verdict_of_each_planted_break(db):
    assert len(planted_breaks(db)) >= 15
    for symbol, event, day, ratio, evidence, verdict in planted_breaks(db):
        quotes = rows(
            db,
            "select close from bars where symbol = ? and trade_date <= ? order by trade_date desc",
            (symbol, day),
        )
        log_move = np.log(quotes[0][0] / quotes[1][0])
        assert log_move >= np.log(1.8) or log_move <= np.log(0.55), (symbol, event)
        is_capital = event in ("split", "consolidation")
        assert log_move == pytest.approx(-np.log(ratio) if is_capital else np.log(ratio), abs=0.35)
        action = rows(
            db,
            "select ratio, available_at from corporate_actions "
            "where symbol = ? and ex_date = ? and action = 'split'",
            (symbol, day),
        )
        before, after = market_caps(db, symbol, day)
        if evidence == "action":
            assert action[0][0] == ratio
            assert action[0][1] < datetime.combine(day, time())
            continue
        assert action == []
        if evidence == "none":
            assert verdict == "suspect"
            assert not (before and after)
            continue
        log_cap = np.log(after[0] / before[0])
        if verdict == "capital_change":
            assert abs(log_cap) < abs(log_move) / 3
            # over the pause of a deferred settlement the company itself moves a little
            shares = (after[0] / quotes[0][0]) / (before[0] / quotes[1][0])
            assert shares == pytest.approx(ratio, rel=0.08)
        else:
            assert verdict == "real_move"
            assert log_cap == pytest.approx(log_move, abs=0.02)


def test_breaks_come_from_the_plan_only(db):
    found = rows(
        db,
        """with moves as (
            select symbol, trade_date, close, lag(close) over w as before,
                trade_date - lag(trade_date) over w as gap
            from bars window w as (partition by symbol order by trade_date)
        )
        select symbol, trade_date from moves
        where (close / before >= 1.8 or close / before <= 0.55) and gap < 80
        and abs(close - before) > 3.000001 * (case when least(close, before) < 0.10 then 0.001
            when least(close, before) < 2 then 0.005 else 0.01 end)""",
    )
    assert set(found) == {(s, d) for s, _, d, *_ in planted_breaks(db)}


def test_a_suspended_company_does_not_trade(db):
    traded = rows(
        db,
        """select b.symbol from truth t join bars b
        on b.symbol = t.symbol and b.trade_date between t.event_date and t.end_date
        where t.event = 'suspension'""",
    )
    assert traded == []


def test_renamed_reused_and_deferred_codes(db):
    for old, new, day in rows(db, "select * from symbol_changes"):
        assert rows(db, "select max(trade_date) < ? from bars where symbol = ?", (day, old))[0][0]
        assert rows(db, "select min(trade_date) from bars where symbol = ?", (new,)) == [(day,)]
    chained = rows(
        db, "select 1 from symbol_changes a join symbol_changes b on a.new_symbol = b.old_symbol"
    )
    assert chained
    for code, day in rows(db, "select symbol, event_date from truth where event = 'reused_code'"):
        gap = rows(
            db,
            "select (?::date - max(trade_date)) from bars where symbol = ? and trade_date < ?",
            (day, code, day),
        )
        assert gap[0][0] > 85
    for code, day, last in rows(
        db, "select symbol, event_date, end_date from truth where event = 'deferred_settlement'"
    ):
        both = "select count(*) from bars where trade_date between ? and ? and symbol = "
        assert rows(db, both + "?", (day, last, code))[0][0] == 0
        assert rows(db, both + "? || 'DC'", (day, last, code))[0][0] > 0


def test_codes_that_died_early_are_described_nowhere(db):
    gone = rows(
        db,
        """select symbol, event_date from truth t where event = 'delisting'
        and evidence = 'forgotten' and symbol not in (
            select symbol from truth where event = 'reused_code')""",
    )
    assert gone
    for code, last in gone:
        assert rows(db, "select * from securities where symbol = ?", (code,)) == []
        assert rows(db, "select * from directory where symbol = ?", (code,)) == []
        assert rows(db, "select max(trade_date) from bars where symbol = ?", (code,)) == [(last,)]


def test_a_delisting_is_known_and_final(db):
    for code, last in rows(
        db,
        """select symbol, event_date from truth where event = 'delisting'
        and evidence in ('takeover', 'failure')""",
    ):
        ((on, known),) = rows(
            db,
            "select delisted_on, delisting_available_at from securities where symbol = ?",
            (code,),
        )
        assert last < on
        assert known.date() <= last
        assert rows(db, "select max(trade_date) from prices where symbol = ?", (code,)) == [(last,)]
        snapshots = "select max(snapshot_date) < ? from directory where symbol = ?"
        assert rows(db, snapshots, (on, code)) == [(True,)]


# --- reference data -------------------------------------------------------------------------------


def test_the_directory_carries_the_close_before_its_day(db):
    """Over a price move without capital change the cap follows the close one snapshot later."""
    worst, n = rows(
        db,
        """with caps as (
            select d.symbol, d.snapshot_date, d.market_cap, b.close, b.trade_date
            from directory d asof join bars b
            on d.symbol = b.symbol and d.snapshot_date > b.trade_date
            where d.market_cap > 0 and d.symbol not in (
                select symbol from truth where event in ('split', 'consolidation', 'rename'))
            -- the exchange knows the close of a session that the price vendor lacks
            and not exists (select 1 from truth h where h.event in ('missing_session',
                'thin_session') and h.event_date between b.trade_date and d.snapshot_date)
        ), shares as (select symbol, market_cap / close as shares from caps)
        select max(hi / lo), sum(n) from (
            select max(shares) hi, min(shares) lo, count(*) n from shares group by symbol)""",
    )[0]
    assert n > 50_000
    assert worst == pytest.approx(1, rel=1e-4)


def test_directory_is_daily_with_gaps_and_says_zero_or_nothing_where_it_must(db):
    days = [d for (d,) in rows(db, "select distinct snapshot_date from directory order by 1")]
    span = (days[-1] - days[0]).days + 1
    assert 0.9 * span < len(days) < span
    first_day = rows(db, "select min(trade_date) from prices")[0][0]
    assert 0.35 < (days[0] - first_day).days / (days[-1] - first_day).days < 0.45
    listing = rows(
        db,
        """select market_cap from directory d join truth t
        on d.symbol = t.symbol and d.snapshot_date = t.event_date where t.event = 'listing'""",
    )
    assert listing
    assert all(cap == 0 for (cap,) in listing)
    suspended = rows(
        db,
        """select market_cap from directory d join truth t on d.symbol = t.symbol
        and d.snapshot_date > t.event_date and d.snapshot_date <= t.end_date
        where t.event = 'suspension'""",
    )
    assert suspended
    assert all(cap is None for (cap,) in suspended)
    sectors = rows(
        db,
        """select count(distinct d.sector), any_value(t.event_date) = min(d.snapshot_date)
        filter (d.sector = s.sector) from directory d join truth t using (symbol)
        join securities s using (symbol) where t.event = 'reclassification' group by symbol""",
    )
    assert sectors
    assert all(n == 2 for n, _ in sectors)


def test_fundamentals_hold_the_difficult_publications(db):
    def count(where: str) -> int:
        return rows(db, f"select count(*) from fundamentals f where {where}")[0][0]

    assert count("dayofweek(available_at) in (0, 6)") > 5
    assert count("available_at::time >= '16:15:00'") > 50
    assert count("available_at is null") > 10
    assert count("datediff('day', period_end, available_at) > 80") > 20
    newer = """exists (select 1 from fundamentals n where n.symbol = f.symbol
        and n.period_end > f.period_end and n.available_at < f.available_at)"""
    assert count(newer) > 10
    same_day = """exists (select 1 from fundamentals n where n.symbol = f.symbol
        and n.period_end = f.period_end and n.available_at > f.available_at
        and n.available_at::date = f.available_at::date)"""
    assert count(same_day) > 5
    assert count("isnan(roe)") > 0
    assert count("roe is null") > 0


def test_macro_announcements_shorts_and_indices(db):
    series = {s for (s,) in rows(db, "select distinct series_id from macro")}
    assert series == {"rba_cash_rate", "cpi_yoy", "unemployment", "yield_2y", "yield_10y"}
    assert rows(db, "select count(*) from macro where available_at <= reference_date") == [(0,)]
    assert rows(db, "select count_if(is_revised_vintage) > 0 from macro") == [(True,)]
    assert rows(db, "select max(sequence) >= 2 from announcements") == [(True,)]
    reported = rows(
        db,
        """select count(*), count(a.symbol) from fundamentals f left join announcements a
        on a.symbol = f.symbol and a.announced_at = f.available_at and a.price_sensitive
        where f.available_at >= (select min(trade_date) from prices)""",
    )[0]
    assert reported[1] > 0.8 * reported[0]
    scored = rows(db, "select avg((sentiment is not null)::int) from announcements")[0][0]
    assert 0.05 < scored < 0.3
    outliers = rows(
        db, "select count_if(short_pct > 100), count_if(short_pct < 0) from short_positions"
    )
    assert min(outliers[0]) > 0
    lag = "select min(datediff('day', trade_date, available_at)) from short_positions"
    assert rows(db, lag)[0][0] >= 4
    lacking = rows(
        db, "select index_code, 756 - count(*) from index_levels group by all order by 1"
    )
    assert lacking == [("ALL ORD", 1), ("ASX200", 2)]


# --- the planted signal and the null --------------------------------------------------------------


def auc(score: np.ndarray, up: np.ndarray) -> float:
    ones = int(up.sum())
    ranks = rankdata(score)[up].sum() - ones * (ones + 1) / 2
    return float(ranks / (ones * (len(up) - ones)))


def study(parameters: SampleParameters) -> dict[str, object]:
    """Mean AUC per session of some scores for the sign of the 21-session return.

    From the tables alone, for companies without a planted event.
    """
    market = generate(parameters)
    con = duckdb.connect()
    con.register("prices", market.tables["prices"])
    con.register("latent", market.latent)
    con.register("truth", market.truth)
    data = con.sql(
        """select p.symbol, p.trade_date, p.close, l.latent from prices p join latent l
        using (symbol, trade_date) where p.volume > 0
        and symbol not in (select symbol from truth where symbol is not null)
        qualify row_number() over (partition by symbol, trade_date order by available_at desc) = 1
        """
    ).to_arrow_table()
    symbols, i = np.unique(data["symbol"].to_numpy(zero_copy_only=False), return_inverse=True)
    days, t = np.unique(data["trade_date"].to_numpy(), return_inverse=True)
    close = np.full((len(symbols), len(days)), np.nan)
    latent = close.copy()
    close[i, t], latent[i, t] = data["close"].to_numpy(), data["latent"].to_numpy()
    traded = ~np.isnan(close)
    last = np.maximum.accumulate(np.where(traded, np.arange(len(days)), 0), axis=1)
    log = np.log(np.take_along_axis(close, last, axis=1))
    ret = np.diff(log, axis=1, prepend=np.nan)
    sessions = np.arange(252, len(days) - 21)
    scores = {"latent": [], "calm": [], "mom_12_1": [], "reversal": []}
    ups, vols = [], []
    for s in sessions:
        ok = traded[:, s] & ~np.isnan(log[:, s - 252])
        up = log[ok, s + 21] > log[ok, s]
        vol = ret[ok, s - 59 : s + 1].std(axis=1)
        ups.append(up)
        vols.append(vol)
        if 0 < up.sum() < len(up):
            scores["latent"].append(auc(latent[ok, s], up))
            scores["calm"].append(auc(-vol, up))
            scores["mom_12_1"].append(auc(log[ok, s - 21] - log[ok, s - 252], up))
            scores["reversal"].append(auc(log[ok, s - 21] - log[ok, s], up))
    up, vol = np.concatenate(ups), np.concatenate(vols)
    bucket = np.searchsorted(np.quantile(vol, [0.2, 0.4, 0.6, 0.8]), vol)
    return {
        **{name: float(np.mean(values)) for name, values in scores.items()},
        "up": [float(up[bucket == b].mean()) for b in range(5)],
    }


@pytest.mark.slow
def test_whoever_sees_the_latent_state_earns_the_documented_auc():
    got = study(SampleParameters(symbols=500))
    assert 0.63 < got["latent"] < 0.67
    assert got["mom_12_1"] > 0.515
    # volatility drag and ties on the tick grid
    assert got["calm"] > 0.51
    assert got["up"][0] > got["up"][4]


@pytest.mark.slow
def test_nothing_predicts_the_null():
    got = study(SampleParameters(symbols=500, null=True))
    for name in ("latent", "calm", "mom_12_1", "reversal"):
        assert got[name] == pytest.approx(0.5, abs=0.02), name
    assert got["up"] == pytest.approx([0.5] * 5, abs=0.04)


# --- the command ----------------------------------------------------------------------------------


def test_command_writes_one_file_per_table_and_a_manifest(tmp_path):
    out = tmp_path / "deep" / "market"
    arguments = ["sample-market", str(out), "--symbols", "8", "--sessions", "40", "--null"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    contract = {n for n, t in read_contract(PROJECT, "raw").items() if not t.ledger}
    expected = {f"{n}.parquet" for n in contract | {"planted_truth", "planted_latent"}}
    assert {f.name for f in out.iterdir()} == expected | {"manifest.json"}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["parameters"]["null"] is True
    assert manifest["rows"]["prices"] > 0
    assert [f.name for f in out.parent.iterdir()] == ["market"]


def test_files_are_the_same_bytes_and_replace_an_earlier_sample(tmp_path):
    write_sample_market(SampleParameters(6, 40, seed=1), tmp_path / "a")
    for folder in ("a", "b"):
        write_sample_market(SampleParameters(6, 40), tmp_path / folder)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_a_folder_with_other_content_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(AsxwError, match="is not a sample market"):
        write_sample_market(SampleParameters(6, 40), tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("argument", [["--symbols", "2"], ["--sessions", "7000"], ["--seed", "-3"]])
def test_command_reports_bad_arguments_clearly(tmp_path, argument):
    done = CliRunner().invoke(main, ["sample-market", str(tmp_path / "x"), *argument])
    assert done.exit_code == 1
    assert "must be" in done.output
    assert not (tmp_path / "x").exists()
