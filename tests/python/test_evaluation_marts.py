"""The marts that judge a run, against independent calculations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml
from built_warehouse import PROJECT
from scipy.stats import spearmanr
from sklearn.metrics import (
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    roc_auc_score,
    root_mean_squared_error,
)

from ml.config import read_config
from ml.intervals import mean_interval

pytestmark = pytest.mark.slow


def test_session_metrics_equal_scikit_learn_and_scipy(built_market):
    found = built_market.frame("select * from marts.fct_session_metrics where segment = 'all'")
    rows = built_market.frame("select * from ml.predictions_oof")
    assert len(found) > 100
    for _, session in found.sample(20, random_state=3).iterrows():
        day = rows[rows.trade_date == session.trade_date]
        assert session.n_rows == len(day)
        auc = roc_auc_score(day.return_1m_fwd_sign, day.probability_up)
        assert session.roc_auc == pytest.approx(auc, abs=1e-9)
        ic = spearmanr(day.expected_return, day.return_1m_fwd).statistic
        assert session.rank_ic == pytest.approx(ic, abs=1e-9)
        brier = ((day.probability_up - day.return_1m_fwd_sign) ** 2).mean()
        assert session.brier == pytest.approx(brier, abs=1e-9)


def test_rank_ic_of_who_buys_a_session_later_equals_scipy(built_market):
    found = built_market.frame("select * from marts.fct_session_metrics where segment = 'all'")
    rows = built_market.frame(
        "select trade_date, expected_return, return_1m_fwd_lag1 as later from ml.predictions_oof "
        "inner join intermediate.int_training_panel using (symbol, trade_date)"
    )
    differs = 0
    for _, session in found.sample(20, random_state=3).iterrows():
        day = rows[rows.trade_date == session.trade_date].dropna()
        ic = spearmanr(day.expected_return, day.later).statistic
        assert session.rank_ic_lag1 == pytest.approx(ic, abs=1e-9)
        differs += abs(session.rank_ic_lag1 - session.rank_ic) > 1e-6
    assert differs > 15
    pooled = built_market.frame(
        "select value, n from marts.fct_pooled_metrics where metric = 'rank_ic_lag1' and fold = 0 "
        "and segment = 'all'"
    )
    assert pooled.value[0] == pytest.approx(found.rank_ic_lag1.mean(), abs=1e-12)
    assert pooled.n[0] == found.rank_ic_lag1.notna().sum()


@pytest.mark.parametrize("fold", [0, 2])
def test_pooled_metrics_equal_scikit_learn(built_market, fold):
    rows = built_market.frame("select * from ml.predictions_oof")
    folds = built_market.frame("select * from ml.folds where role = 'train'").set_index("fold")
    rows = rows[rows.fold == fold] if fold else rows
    found = built_market.frame(
        f"select * from marts.fct_pooled_metrics where segment = 'all' and fold = {fold}"
    ).set_index("metric")
    up, probability = rows.return_1m_fwd_sign, rows.probability_up
    base = rows.fold.map(folds.n_positive / folds.n_rows)
    brier = brier_score_loss(up, probability)
    wanted = {
        "roc_auc_pooled": roc_auc_score(up, probability),
        "brier": brier,
        "brier_skill": 1 - brier / brier_score_loss(up, base),
        "log_loss": log_loss(up, probability),
        "base_rate": up.mean(),
        "rmse": root_mean_squared_error(rows.return_1m_fwd, rows.expected_return),
        "mae": mean_absolute_error(rows.return_1m_fwd, rows.expected_return),
    }
    for name, value in wanted.items():
        assert found.value[name] == pytest.approx(value, abs=1e-9)
        assert found.n[name] == len(rows)
    by_session = [
        roc_auc_score(day.return_1m_fwd_sign, day.probability_up)
        for _, day in rows.groupby("trade_date")
        if len(day) >= 20 and day.return_1m_fwd_sign.nunique() == 2
    ]
    assert found.value["roc_auc_session"] == pytest.approx(np.mean(by_session), abs=1e-9)
    assert found.n["roc_auc_session"] == len(by_session)


def test_sql_and_python_agree_and_a_difference_is_found(built_market):
    names = ("assert_session_metrics_agree", "assert_pooled_metrics_agree")
    built_market.run("dbt", "--quiet", "test", "--select", *names)
    compared = built_market.frame("select count(*) as n from ml.session_metrics").n[0]
    assert compared > 1000
    changes = (
        "update ml.session_metrics set value = value {} 1e-6 where predictor = 'lightgbm' "
        "and metric = 'rank_ic' and segment = 'all'",
        "update ml.metrics set value = value {} 1e-6 where predictor = 'lightgbm' "
        "and metric = 'brier' and fold = 2",
    )
    for change in changes:
        built_market.execute(change.format("+"))
    try:
        failed = built_market.run("dbt", "test", "--select", *names, check=False)
        assert failed.returncode != 0 and "ERROR=2" in failed.stdout
        assert "Got 3 results" in failed.stdout  # one number of three segments
    finally:
        for change in changes:
            built_market.execute(change.format("-"))


def test_settings_of_sql_and_python_are_the_same():
    variables = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())["vars"]
    evaluation = read_config().evaluation
    assert variables["liquidity_tiers"] == dict(evaluation.segments)
    assert variables["side_costs_bp"] == dict(evaluation.costs)
    assert variables["session_minimum_rows"] == evaluation.minimum_rows
    assert variables["calibration_bins"] == evaluation.calibration_bins


def sleeves(rows: pd.DataFrame, prices: pd.DataFrame, top: bool) -> pd.DataFrame:
    """Every position followed day by day: slow, and nothing of the mart's moving sums in it."""
    # a security keeps its positions when its symbol changes
    value = prices.pivot(index="session_idx", columns="spell_key", values="value_index")
    rows = rows.merge(prices[["symbol", "session_idx", "spell_key"]], on=["symbol", "session_idx"])
    first, last = rows.session_idx.min(), rows.session_idx.max()
    holdings: dict[int, pd.Series] = {}
    out = []
    for day in range(first, last + 1):
        before = after = 0.0
        for opened, units in holdings.items():
            if opened < day <= opened + 21:
                known = units.index.intersection(value.columns[value.loc[day].notna()])
                after += (units[known] * value.loc[day, known]).sum()
                before += (units[known] * value.loc[day - 1, known]).sum()
        session = rows[rows.session_idx == day].set_index("spell_key")
        bought = pd.Series(dtype=float)
        if len(session) >= 20:
            place = (session.expected_return.rank() - 0.5) / len(session)
            chosen = session.index[place >= 0.9] if top else session.index
            bought = pd.Series(1 / len(chosen), chosen)
            holdings[day] = bought / value.loc[day, chosen]
        if day < first + 21:
            continue
        sold = holdings[day - 21] * value.loc[day, holdings[day - 21].index]
        trades = bought.sub(sold.dropna(), fill_value=0.0)
        cost = session.side_cost.reindex(trades.index).fillna(0.0060)
        out.append(
            {
                "session_idx": day,
                "gross_return": after / before - 1,
                "turnover": trades.abs().sum() / after,
                "cost": (trades.abs() * cost).sum() / after,
            }
        )
    return pd.DataFrame(out)


@pytest.mark.parametrize(("strategy", "top"), [("long_only", True), ("universe", False)])
def test_sleeves_equal_positions_followed_one_by_one(built_market, strategy, top):
    rows = built_market.frame("select * from intermediate.int_evaluated_predictions")
    prices = built_market.frame(
        "select symbol, spell_key, session_idx, close * capital_factor as value_index "
        "from intermediate.int_daily_grid"
    )
    expected = sleeves(rows, prices, top)
    found = built_market.frame(
        "select * from marts.fct_portfolio_daily where segment = 'all' "
        f"and strategy = '{strategy}' order by session_idx"
    )
    assert found.session_idx.tolist() == expected.session_idx.tolist() and len(found) > 60
    for column in ("gross_return", "turnover", "cost"):
        np.testing.assert_allclose(found[column], expected[column], rtol=1e-9, atol=1e-12)
    equity = (1 + found.net_return).cumprod()
    np.testing.assert_allclose(found.equity_net, equity, rtol=1e-9)
    drawdown = equity / np.maximum(equity.cummax(), 1) - 1
    np.testing.assert_allclose(found.drawdown_net, drawdown, rtol=1e-9, atol=1e-12)


def test_portfolio_summary_is_the_daily_table_summed(built_market):
    daily = built_market.frame("select * from marts.fct_portfolio_daily")
    summary = built_market.frame("select * from marts.fct_portfolio_summary")
    assert set(summary.strategy) == {"long_short", "long_only", "universe", "long_less_universe"}
    for _, row in summary.iterrows():
        part = daily[(daily.segment == row.segment) & (daily.strategy == row.strategy)]
        sharpe = np.sqrt(252) * part.net_return.mean() / part.net_return.std()
        assert row.sharpe_net == pytest.approx(sharpe)
        assert row.max_drawdown_net == pytest.approx(part.drawdown_net.min())
        # charging the break-even cost on what is traded leaves nothing
        left = part.gross_return.mean() - row.break_even_cost_bp / 1e4 * part.turnover.mean()
        assert left == pytest.approx(0, abs=1e-12)


def ends(row: pd.Series, name: str) -> list[float]:
    return [row[f"{name}_ci_low"], row[f"{name}_ci_high"]]


def test_portfolio_intervals_are_those_of_python(built_market):
    daily = built_market.frame("select * from marts.fct_portfolio_daily order by session_idx")
    summary = built_market.frame("select * from marts.fct_portfolio_summary")
    for _, row in summary.iterrows():
        part = daily[(daily.segment == row.segment) & (daily.strategy == row.strategy)]
        for column in ("gross_return", "net_return", "turnover"):
            wanted = mean_interval(252 * part[column].to_numpy(), 21)
            assert ends(row, f"{column}_year") == pytest.approx(wanted, rel=1e-5, nan_ok=True)
        mean, deviation = part.net_return.mean(), part.net_return.std()
        z = (part.net_return - mean) / deviation
        influence = z - mean / deviation / 2 * (z**2 - 1)
        low, high = mean_interval(np.sqrt(252) * influence.to_numpy(), 21)
        half = (high - low) / 2
        wanted = [row.sharpe_net - half, row.sharpe_net + half]
        assert ends(row, "sharpe_net") == pytest.approx(wanted, rel=1e-5, nan_ok=True)
    assert summary.net_return_year_ci_low.notna().any()


def test_signal_intervals_are_those_of_python(built_market):
    rows = built_market.frame("select * from intermediate.int_evaluated_predictions")
    sessions = pd.Index(np.sort(rows.trade_date.unique()))
    signals = built_market.frame("select * from marts.fct_signal_performance where segment = 'all'")
    compared = 0
    for _, row in signals.iterrows():
        part = rows[rows.signal == row.signal]
        if part.trade_date.nunique() < 42:
            assert pd.isna([*ends(row, "hit_rate"), *ends(row, "mean_return")]).all()
            continue
        right = part.return_1m_fwd_sign.astype(float)
        if "SELL" in row.signal:
            right = 1 - right
        for name, values in (("hit_rate", right), ("mean_return", part.return_1m_fwd)):
            if pd.isna(row[name]):
                assert row.signal == "HOLD" and pd.isna(ends(row, name)).all()
                continue
            misses = (values - values.mean()).groupby(part.trade_date).sum()
            misses = misses.reindex(sessions, fill_value=0.0) * len(sessions) / len(part)
            wanted = mean_interval(misses.to_numpy(), 21)
            found = [end - row[name] for end in ends(row, name)]
            assert found == pytest.approx(wanted, rel=1e-5)
            compared += 1
    assert compared >= 3


def test_every_number_of_the_model_stands_beside_its_baselines(built_market):
    found = built_market.frame("select * from marts.fct_model_performance")
    metrics = built_market.frame("select * from ml.metrics")
    keys = ["run_id", "fold", "segment", "predictor", "metric"]
    both = found.merge(metrics, on=keys, how="outer", suffixes=("", "_ml"), indicator=True)
    alone = both[both["_merge"] != "both"]
    assert set(alone.metric) == {"rank_ic_lag1"} and (alone["_merge"] == "left_only").all()
    same = both[both["_merge"] == "both"]
    for column in ("value", "ci_low", "ci_high", "n"):
        np.testing.assert_array_equal(same[column], same[f"{column}_ml"])
    whole = found[(found.scope == "out of fold") & (found.metric == "rank_ic")]
    for segment in whole.segment.unique():
        part = whole[whole.segment == segment]
        assert set(part[part.role == "baseline"].predictor) == set(part.baseline.dropna())
        assert {"neg_vol_60", "linear"} <= set(part.baseline.dropna())
        assert set(part[part.role == "model"].predictor) == {"lightgbm"}
    later = built_market.frame(
        "select rank_ic_lag1 from marts.fct_session_metrics where segment = 'all' "
        "and rank_ic_lag1 is not null order by trade_date"
    ).rank_ic_lag1
    (row,) = found[(found.metric == "rank_ic_lag1") & (found.fold == 0) & (found.segment == "all")
                   ].to_dict("records")  # fmt: skip
    assert row["value"] == pytest.approx(later.mean(), abs=1e-12)
    wanted = mean_interval(later.to_numpy(), 21)
    assert [row["ci_low"], row["ci_high"]] == pytest.approx(wanted, rel=1e-5)
    folds = built_market.frame("select * from ml.folds where role = 'test' and fold = 1")
    first = found[found.fold == 1].iloc[0]
    assert (first.first_session, first.last_session) == (
        folds.first_session[0], folds.last_session[0]
    )  # fmt: skip


def test_signals_and_reliability_count_every_prediction_once(built_market):
    rows = built_market.frame("select * from intermediate.int_evaluated_predictions")
    signals = built_market.frame("select * from marts.fct_signal_performance where segment = 'all'")
    assert signals.n_rows.sum() == len(rows)
    assert signals.share_of_rows.sum() == pytest.approx(1)
    for _, row in signals.iterrows():
        part = rows[rows.signal == row.signal]
        up = part.return_1m_fwd_sign.mean()
        expected = {"BUY": up, "STRONG_BUY": up, "SELL": 1 - up, "STRONG_SELL": 1 - up}
        if row.signal == "HOLD":
            assert pd.isna(row.hit_rate)
        else:
            assert row.hit_rate == pytest.approx(expected[row.signal])
    bins = built_market.frame("select * from marts.fct_reliability order by bin")
    assert bins.n_rows.sum() == len(rows) and bins.bin.tolist() == list(range(1, 11))
    assert bins.mean_probability.is_monotonic_increasing
    # the calibration error that Python writes is the mean distance of the bins
    error = built_market.frame(
        "select value from ml.metrics where predictor = 'lightgbm' and fold = 0 "
        "and segment = 'all' and metric = 'calibration_error'"
    ).value[0]
    assert (bins.gap.abs() * bins.n_rows).sum() / len(rows) == pytest.approx(error, abs=1e-9)


def test_importance_is_summed_over_the_folds(built_market):
    found = built_market.frame("select * from marts.fct_feature_importance")
    gain = built_market.frame("select * from ml.importance where head = 'classifier'")
    permuted = built_market.frame("select * from ml.permutation_importance")
    assert not permuted.empty and set(permuted.fold) == {1, 2}
    gain["value"], permuted["value"] = gain.gain_share, permuted.auc_loss
    for measure, rows in (("gain", gain[gain.fold > 0]), ("permutation", permuted)):
        part = found[(found["head"] == "classifier") & (found.measure == measure)]
        part = part.set_index("feature")
        table = rows.pivot(index="feature", columns="fold", values="value")
        ranks = table.rank(ascending=False)
        part = part.loc[table.index]
        np.testing.assert_allclose(part.mean_importance, table.mean(axis=1), atol=1e-12)
        np.testing.assert_allclose(part.sd_importance, table.std(axis=1), atol=1e-12)
        np.testing.assert_allclose(part.mean_rank, ranks.mean(axis=1))
        np.testing.assert_allclose(part.share_of_folds_in_top_ten, (ranks <= 10).sum(axis=1) / 2)
        np.testing.assert_allclose(part.fold_rank_correlation, ranks[1].corr(ranks[2]))
        best = table.mean(axis=1).sort_values().index[-1]
        assert part.importance_rank[best] == 1 and part.family.notna().all()
    assert (permuted.n_rows <= 2100).all() and permuted.auc_loss.abs().max() < 0.3
