"""The report of a run, one HTML page without network, and its model card, from the same tables."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from ingest.one_market import INVENTED
from ml import charts
from ml.errors import AsxwError
from ml.intervals import mean_interval
from ml.registry import too_few_rows
from ml.warehouse import Warehouse

TEMPLATE = "report.html.j2"
CARD_TEMPLATE = "model_card.md.j2"
MODEL = "lightgbm"
HORIZON = 21
SEGMENT_TITLES = {"all": "whole market", "adv_100k": "over 100k a day", "adv_1m": "over 1m a day"}
PREDICTOR_TITLES = {
    MODEL: "model",
    "linear": "linear model",
    "neg_vol_60": "low volatility",
    "mom_12_1": "momentum 12-1",
    "neg_mom_1": "reversal",
    "base_rate": "base rate",
}
_ROLLING = 63
_TOP_FEATURES = 15
_LISTED_FEATURES = 12
_SHOWN_SHARES = 5
_MOST_BREAKS = 12

Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where the report reads: the warehouse, its schemas, and the run."""

    warehouse: Warehouse
    results: str
    marts: str
    run_id: str
    tiers: Mapping[str, float]
    """Least adv_20_median of each liquidity tier."""

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Rows of a query in which {ml} and {marts} stand for the schemas."""
        text = sql.format(ml=f'"{self.results}"', marts=f'"{self.marts}"')
        rows: list[Row] = self.warehouse.read_arrow(text, parameters).to_pylist()
        return rows

    def of_run(self, sql: str) -> list[Row]:
        """Rows of a query whose one parameter is the run."""
        return self.rows(sql, (self.run_id,))


def _require(source: Source) -> None:
    """The marts of the run must have been built after it.

    Raises:
        AsxwError: says which command builds them, or that the run has nothing to be built from.
    """
    reason = too_few_rows(source.warehouse, source.results, source.run_id)
    if reason is not None:
        raise AsxwError(reason)
    command = "dbt build --select source:ml+ model_promotions+"
    for name in (
        "fct_model_performance",
        "fct_feature_importance",
        "fct_portfolio_daily",
        "fct_portfolio_summary",
    ):
        built = source.warehouse.has_table(source.marts, name) and source.of_run(
            f"select 1 as one from {{marts}}.{name} where run_id = ? limit 1"
        )
        if not built:
            raise AsxwError(
                f"{source.marts}.{name} has no row of run {source.run_id}: the report shows the "
                f"newest run or a promoted one after `{command}`."
            )


class _Metrics:
    """Metrics of the run by predictor, fold, segment and name."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = {(r["predictor"], r["fold"], r["segment"], r["metric"]): r for r in rows}

    def get(self, predictor: str, name: str, segment: str = "all", fold: int = 0) -> Row | None:
        return self._rows.get((predictor, fold, segment, name))

    def folds(self) -> list[int]:
        return sorted({fold for _, fold, _, _ in self._rows if fold > 0})

    def best_baseline(self, segment: str) -> str | None:
        """The opponent with the highest AUC per session."""
        found = [
            (r["value"], p)
            for (p, fold, s, name), r in self._rows.items()
            if (fold, s, name) == (0, segment, "roc_auc_session")
            and p not in (MODEL, "base_rate")
            and not p.startswith(f"{MODEL} - ")
        ]
        return max(found)[1] if found else None


def title_of(predictor: str) -> str:
    """A predictor's name in words."""
    return PREDICTOR_TITLES.get(predictor, predictor.replace("_", " "))


def _text(row: Row | None, format_: str = ".3f") -> str:
    if row is None:
        return "-"
    value = format(row["value"], format_)
    if row["ci_low"] is None:
        return value
    return f"{value} [{row['ci_low']:{format_}}, {row['ci_high']:{format_}}]"


def _verdict(metrics: _Metrics, segment: str) -> Row | None:
    """One sentence about a segment: the model, its best opponent, and whether it is ahead."""
    own = metrics.get(MODEL, "roc_auc_session", segment)
    best = metrics.best_baseline(segment)
    if own is None or best is None:
        return None
    other = metrics.get(best, "roc_auc_session", segment)
    difference = metrics.get(f"{MODEL} - {best}", "roc_auc_session", segment)
    if difference is None or difference["ci_low"] is None or other is None:
        word, mark = "too few sessions to say whether it is ahead", "open"
    elif difference["ci_low"] > 0:
        word, mark = "the model is ahead, and the interval leaves no doubt", "good"
    elif difference["ci_high"] < 0:
        word, mark = "the model is behind its baseline", "bad"
    else:
        word, mark = "the interval holds zero: no advantage is shown", "open"
    return {
        "segment": SEGMENT_TITLES.get(segment, segment),
        "auc": _text(own),
        "best": title_of(best),
        "best_auc": "-" if other is None else f"{other['value']:.3f}",
        "difference": _text(difference, "+.3f"),
        "verdict": word,
        "mark": mark,
    }


# --- charts -------------------------------------------------------------------------------------


def _point(row: Row, name: str, group: str) -> Row:
    return {
        "name": name,
        "group": group,
        "value": row["value"],
        "low": row["ci_low"],
        "high": row["ci_high"],
    }


def _headline_chart(metrics: _Metrics, name: str, title: str, reference: float) -> str:
    rows = []
    for predictor in (MODEL, "linear", "neg_vol_60", "mom_12_1", "neg_mom_1"):
        for segment, words in SEGMENT_TITLES.items():
            found = metrics.get(predictor, name, segment)
            if found:
                rows.append(_point(found, title_of(predictor), words))
    label = f"{title} of the model and its baselines with 95 % intervals, by liquidity"
    return charts.both_widths(lambda w: charts.intervals(rows, w, title, reference), label)


def _fold_chart(
    metrics: _Metrics, folds: Sequence[Row], metric: str, title: str, reference: float
) -> str:
    best = metrics.best_baseline("all") or "linear"
    names = {f["fold"]: f"{f['first_session']:%b %Y}" for f in folds if f["role"] == "test"}
    rows = []
    for fold in metrics.folds():
        for predictor in (MODEL, best):
            found = metrics.get(predictor, metric, fold=fold)
            if found:
                name = f"{fold}: from {names.get(fold, '')}"
                rows.append(_point(found, name, title_of(predictor)))
    label = f"{title} in each test fold, model and best baseline, with 95 % intervals"
    return charts.both_widths(lambda w: charts.intervals(rows, w, title, reference), label)


def _rolling_chart(source: Source, metric: str, title: str, reference: float) -> str:
    """Mean of the latest 63 sessions, by liquidity."""
    found = source.of_run(
        "select segment, trade_date, value from {ml}.session_metrics where run_id = ? "
        f"and predictor = '{MODEL}' and metric = '{metric}' order by segment, trade_date"
    )
    by_segment: dict[str, list[Row]] = defaultdict(list)
    for row in found:
        by_segment[row["segment"]].append(row)
    rows: list[Row] = []
    for segment, words in SEGMENT_TITLES.items():
        series = by_segment.get(segment, [])
        window = min(_ROLLING, max(5, len(series) // 3))
        values = np.array([r["value"] for r in series])
        if len(values) <= window:
            continue
        sums = np.cumsum(np.insert(values, 0, 0.0))
        means = (sums[window:] - sums[:-window]) / window
        rows += [
            {"day": r["trade_date"].isoformat(), "value": round(float(m), 5), "series": words}
            for r, m in zip(series[window - 1 :: 3], means[::3], strict=False)
        ]
    if not rows:
        return ""
    label = f"{title} over time, mean of the latest {_ROLLING} sessions"
    return charts.both_widths(
        lambda w: charts.lines(rows, w, title, reference=reference, format_=".2f"), label
    )


def _series_interval(values: np.ndarray) -> tuple[float | None, float | None]:
    low, high = mean_interval(values, HORIZON)
    return (None, None) if math.isnan(low) else (low, high)


def _decile_chart(source: Source, segment: str = "all") -> str:
    """Mean return by tenth of the expected return, within a liquidity tier where one is named."""
    inside = "" if segment == "all" else f"and adv_20_median >= {source.tiers[segment]:.1f}"
    found = source.of_run(
        f"""
        with ranked as (
            select
                p.trade_date, p.return_1m_fwd,
                count(*) over (partition by p.trade_date) as n,
                rank() over (partition by p.trade_date order by p.expected_return)
                + (count(*) over (partition by p.trade_date, p.expected_return) - 1) / 2.0 as place
            from {{ml}}.predictions_oof as p
            left join {{marts}}.fct_features_daily as f
                on p.symbol = f.symbol and p.trade_date = f.trade_date
            where p.run_id = ? {inside}
        )
        select
            trade_date, cast(least(floor((place - 0.5) / n * 10), 9) as bigint) + 1 as decile,
            avg(return_1m_fwd) as value
        from ranked where n >= 20 group by 1, 2 order by 1
        """
    )
    by_decile: dict[int, list[float]] = defaultdict(list)
    for row in found:
        by_decile[row["decile"]].append(row["value"])
    rows = []
    for decile in sorted(by_decile):
        values = np.array(by_decile[decile])
        low, high = _series_interval(values)
        rows.append({"name": str(decile), "value": float(values.mean()), "low": low, "high": high})
    words = SEGMENT_TITLES.get(segment, segment)
    label = f"Mean 21-session return by tenth of the expected return, {words}, 95 % intervals"
    return charts.both_widths(
        lambda w: charts.bars(
            rows, w, "tenth of the expected return (10 highest)", "mean 21-session return"
        ),
        label,
    )


def _reliability_chart(source: Source) -> str:
    found = source.of_run(
        """
        with ranked as (
            select
                trade_date, probability_up, return_1m_fwd_sign,
                count(*) over () as n,
                rank() over (order by probability_up)
                + (count(*) over (partition by probability_up) - 1) / 2.0 as place
            from {ml}.predictions_oof where run_id = ?
        )
        select
            cast(least(floor((place - 0.5) / n * 10), 9) as bigint) as bin, trade_date,
            count(*) as n, sum(probability_up) as predicted,
            cast(sum(return_1m_fwd_sign) as double precision) as observed
        from ranked group by 1, 2 order by 1, 2
        """
    )
    by_bin: dict[int, list[Row]] = defaultdict(list)
    for row in found:
        by_bin[row["bin"]].append(row)
    rows = []
    for bin_ in sorted(by_bin):
        n, predicted, observed = (
            np.array([r[k] for r in by_bin[bin_]], dtype=float)
            for k in ("n", "predicted", "observed")
        )
        share = observed.sum() / n.sum()
        # the share is a ratio of sums over sessions: its interval is that of the linearised series
        low, high = _series_interval((observed - share * n) / n.mean())
        rows.append(
            {
                "predicted": predicted.sum() / n.sum(),
                "observed": share,
                "low": None if low is None else share + low,
                "high": None if high is None else share + high,
            }
        )
    label = "Observed share of rises against predicted probability in ten bins"
    return charts.both_widths(lambda w: charts.reliability(rows, w), label)


def _equity_chart(source: Source, segment: str) -> str:
    words = {"long_only": "highest tenth", "universe": "all shares", "long_short": "long-short"}
    found = source.of_run(
        "select strategy, trade_date, equity_net from {marts}.fct_portfolio_daily "
        f"where run_id = ? and segment = '{segment}' order by strategy, trade_date"
    )
    rows: list[Row] = []
    for strategy, title in words.items():
        series = [r for r in found if r["strategy"] == strategy]
        step = max(1, len(series) // 300)
        rows += [
            {"day": r["trade_date"].isoformat(), "value": round(r["equity_net"], 4),
             "series": title}
            for r in [*series[:-1:step], *series[-1:]]
        ]  # fmt: skip
    if not rows:
        return ""
    label = f"Growth of 1 net of costs, {SEGMENT_TITLES.get(segment, segment)}"
    return charts.both_widths(
        lambda w: charts.lines(rows, w, "growth of 1, net", reference=1.0, format_=".1f"), label
    )


@dataclass(frozen=True)
class _Importance:
    """Rows of the classifier in fct_feature_importance, by measure, most important first."""

    rows: dict[str, list[Row]]

    def agreement(self, measure: str) -> float | None:
        """Mean rank correlation of two folds."""
        rows = self.rows.get(measure)
        return rows[0]["fold_rank_correlation"] if rows else None

    def listed(self) -> list[Row]:
        """The features that are among the first by gain or by permutation, by mean gain."""
        gain = {r["feature"]: r for r in self.rows.get("gain", [])}
        permuted = {r["feature"]: r for r in self.rows.get("permutation", [])}
        found = [
            {"feature": name, "family": row["family"], "gain": row, "loss": permuted.get(name)}
            for name, row in gain.items()
            if row["mean_importance"] is not None
        ]
        return found[:_LISTED_FEATURES]


def _importance(source: Source) -> _Importance:
    found = source.of_run(
        "select * from {marts}.fct_feature_importance where run_id = ? and head = 'classifier' "
        "order by measure, importance_rank"
    )
    by_measure: dict[str, list[Row]] = defaultdict(list)
    for row in found:
        by_measure[row["measure"]].append(row)
    return _Importance(by_measure)


def _importance_chart(found: _Importance, measure: str, title: str, format_: str) -> str:
    """Mean over folds and its range."""
    points = [
        {"name": r["feature"], "group": measure, "value": r["mean_importance"],
         "low": r["lowest_importance"], "high": r["highest_importance"]}
        for r in found.rows.get(measure, [])[:_TOP_FEATURES]
        if r["mean_importance"] is not None
    ]  # fmt: skip
    if not points:
        return ""
    label = f"{title} by feature: mean over folds, and the lowest and highest fold"
    return charts.both_widths(
        lambda w: charts.intervals(points, w, f"{title}, range over folds", 0.0, format_), label
    )


def _ablation_chart(source: Source) -> str:
    if not source.warehouse.has_table(source.marts, "fct_model_ablations"):
        return ""
    found = source.rows(
        "select * from {marts}.fct_model_ablations where is_newest "
        "and metric = 'roc_auc_session' and kind != 'all_added' order by kind desc, delta desc"
    )
    words = {"drop_one": "lost without it", "add_one": "gained on prices alone"}
    rows = [
        {"name": r["family"], "group": words[r["kind"]], "value": r["delta"], "low": r["ci_low"],
         "high": r["ci_high"]}
        for r in found
        if r["segment"] == "all"
    ]  # fmt: skip
    if not rows:
        return ""
    label = "AUC per session that each feature family is worth, with 95 % intervals"
    return charts.both_widths(lambda w: charts.intervals(rows, w, "AUC", 0.0, "+.3f"), label)


def _coverage_chart(source: Source) -> str:
    found = source.rows(
        """
        select
            family, feature, date_trunc('month', trade_date) as month,
            sum(non_null_rows) / cast(nullif(sum(universe_rows), 0) as double precision) as value
        from {marts}.fct_feature_coverage_by_session
        group by 1, 2, 3 order by 1, 2, 3
        """
    )
    by_feature: dict[str, list[tuple[date, float]]] = defaultdict(list)
    for row in found:
        month = row["month"].date() if isinstance(row["month"], datetime) else row["month"]
        by_feature[row["feature"]].append((month, round((row["value"] or 0.0) * 20) / 20))
    rows: list[Row] = []
    for feature, months in by_feature.items():
        for month, value in months:
            end = date(month.year + month.month // 12, month.month % 12 + 1, 1)
            last = rows[-1] if rows else None
            if last and last["feature"] == feature and last["value"] == value:
                last["to"] = end.isoformat()
            else:
                rows.append(
                    {"feature": feature, "from": month.isoformat(), "to": end.isoformat(),
                     "value": value}
                )  # fmt: skip
    label = "Share of universe rows in which each feature is known, by month"
    return charts.both_widths(lambda w: charts.heat_map(rows, w), label)


# --- the page -----------------------------------------------------------------------------------


def _gates(source: Source) -> list[Row]:
    order = {"minimum": 0, "target": 1, "stretch": 2, "own": 3, "alarm": 4}
    signs = {"at_least": "≥", "more_than": ">", "at_most": "≤", "below": "<",
             "interval_above": "low end >"}  # fmt: skip
    rows = source.of_run("select * from {ml}.gates where run_id = ?")
    for row in rows:
        row["wanted"] = f"{signs[row['comparison']]} {row['threshold']:,g}"
        value = row["value"]
        row["reached"] = "-" if value is None else (
            f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        )  # fmt: skip
        if row["ci_low"] is not None:
            row["reached"] += f" [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
        silent = "silent" if row["passed"] else "ALARM"
        row["word"] = silent if row["level"] == "alarm" else (
            "passed" if row["passed"] else "failed"
        )  # fmt: skip
    return sorted(rows, key=lambda r: (order.get(r["level"], 9), r["gate"]))


def _later_rank_ic(source: Source) -> dict[str, Row]:
    """Rank IC for who buys a session later, by segment, with its interval."""
    found = source.of_run(
        "select segment, value, ci_low, ci_high from {marts}.fct_model_performance "
        "where run_id = ? and fold = 0 and metric = 'rank_ic_lag1'"
    )
    return {row["segment"]: row for row in found}


def _headline_rows(metrics: _Metrics, later: Mapping[str, Row]) -> list[Row]:
    """The table under the charts: what the model reached, by segment."""
    names = (
        ("roc_auc_session", "AUC per session", ".3f"),
        ("roc_auc_pooled", "AUC, all rows at once", ".3f"),
        ("auc_gap", "difference of the two: memory of dates", "+.3f"),
        ("rank_ic", "Rank IC", ".3f"),
        ("pearson_ic", "Pearson IC", ".3f"),
        ("rank_ic_ir", "Rank IC, mean over spread", ".2f"),
        ("decile_spread", "decile spread, 21 sessions", ".1%"),
        ("decile_spread_net", "decile spread net of costs", ".1%"),
        ("brier_skill", "Brier skill against the base rate", ".4f"),
        ("log_loss", "log loss", ".4f"),
        ("calibration_error", "calibration error", ".3f"),
        ("rmse", "RMSE, return units", ".3f"),
        ("rmse_winsorised", "RMSE, limited at 1 and 99 %", ".3f"),
        ("mae", "mean absolute error", ".3f"),
    )
    segments = [s for s in SEGMENT_TITLES if metrics.get(MODEL, "roc_auc_session", s)]
    rows = [
        {
            "title": title,
            "cells": [_text(metrics.get(MODEL, name, segment), format_) for segment in segments],
        }
        for name, title, format_ in names
    ]
    place = [name for name, _, _ in names].index("rank_ic") + 1
    cells = [_text(later.get(segment)) for segment in segments]
    rows.insert(place, {"title": "Rank IC, bought a session later", "cells": cells})
    return [{"title": "", "cells": [SEGMENT_TITLES[s] for s in segments]}, *rows]


def _against_baselines(metrics: _Metrics) -> list[Row]:
    """Every predictor's AUC per session and how far the model is ahead, by segment."""
    segments = [s for s in SEGMENT_TITLES if metrics.get(MODEL, "roc_auc_session", s)]
    rows = []
    for predictor in PREDICTOR_TITLES:
        if metrics.get(predictor, "roc_auc_session") is None:
            continue
        cells = []
        for segment in segments:
            own = metrics.get(predictor, "roc_auc_session", segment)
            ahead = metrics.get(f"{MODEL} - {predictor}", "roc_auc_session", segment)
            cells.append(
                {
                    "auc": "-" if own is None else f"{own['value']:.3f}",
                    "ahead": "" if ahead is None else _text(ahead, "+.3f"),
                    "mark": _mark(ahead),
                }
            )
        rows.append({"title": title_of(predictor), "cells": cells})
    return [{"title": "", "cells": [SEGMENT_TITLES[s] for s in segments]}, *rows] if rows else []


def _mark(difference: Row | None) -> str:
    if difference is None or difference["ci_low"] is None:
        return ""
    return "good" if difference["ci_low"] > 0 else "bad" if difference["ci_high"] < 0 else ""


def _fold_rows(metrics: _Metrics, folds: Sequence[Row]) -> list[Row]:
    """Each fold in numbers."""
    names = ("roc_auc_session", "roc_auc_pooled", "rank_ic", "brier_skill", "calibration_error",
             "rmse", "rmse_winsorised")  # fmt: skip
    tests = {f["fold"]: f for f in folds if f["role"] == "test"}
    trains = {f["fold"]: f for f in folds if f["role"] == "train"}
    rows = []
    for number in metrics.folds():
        cells = []
        for name in names:
            found = metrics.get(MODEL, name, fold=number)
            cells.append("-" if found is None else f"{found['value']:.3f}")
        rows.append({"test": tests[number], "train": trains[number], "cells": cells})
    return rows


def _overfitting(source: Source) -> Row | None:
    """What the number of trials leaves of the run's Sharpe ratio; None: not on record."""
    if not source.warehouse.has_table(source.marts, "fct_overfitting"):
        return None
    found = source.of_run("select * from {marts}.fct_overfitting where run_id = ? and is_newest")
    return found[0] if found else None


def _signals_and_why(source: Source) -> list[Row]:
    """The shares with the highest and the lowest expected return of the latest score, with reasons.

    Empty where the run has not scored, or without reasons.
    """
    if not source.warehouse.has_table(source.marts, "fct_signal_reasons"):
        return []
    found = source.of_run(
        "select symbol, trade_date, signal, probability_up, expected_return, reason "
        "from {marts}.fct_signal_reasons where run_id = ? and is_latest "
        "and head = 'regressor' and part = 'feature' and place <= 2 "
        "order by expected_return desc, symbol, place"
    )
    by_symbol: dict[str, Row] = {}
    for row in found:
        # the column says whose effect it is
        words = row["reason"].replace(" the expected return", "")
        by_symbol.setdefault(row["symbol"], {**row, "why": []})["why"].append(words)
    shares = list(by_symbol.values())
    if len(shares) <= 2 * _SHOWN_SHARES:
        return shares
    return [*shares[:_SHOWN_SHARES], *shares[-_SHOWN_SHARES:]]


def _audits(source: Source, commit: str | None) -> list[Row]:
    """The newest audit of each layer, engine and data, those of the run's own commit marked."""
    if not source.warehouse.has_table(source.marts, "fct_audits"):
        return []
    found = source.of_run(
        "select * from {marts}.fct_audits where is_newest and (run_id is null or run_id = ?) "
        "order by case layer when 'static' then 1 when 'invariance' then 2 when 'mutations' then 3 "
        "when 'replay' then 4 else 5 end, market, target"
    )
    for row in found:
        row["same_commit"] = commit is not None and row["git_commit"] == commit
    return found


def run_facts(source: Source, data: str) -> dict[str, Any]:
    """Everything the report and the model card say in words and numbers.

    Raises:
        AsxwError: the marts do not hold the run yet.
    """
    _require(source)
    (run,) = source.of_run("select * from {marts}.dim_model_runs where run_id = ?")
    extra = source.of_run("select versions_json, warnings_json from {ml}.runs where run_id = ?")[0]
    metrics = _Metrics(source.of_run("select * from {ml}.metrics where run_id = ?"))
    importance = _importance(source)
    folds = source.of_run("select * from {ml}.folds where run_id = ? order by fold, role")
    gates = _gates(source)
    portfolio = source.of_run(
        "select * from {marts}.fct_portfolio_summary where run_id = ? order by "
        "case segment when 'all' then 0 when 'adv_100k' then 1 else 2 end, strategy"
    )
    liquid = "adv_100k" if any(r["segment"] == "adv_100k" for r in portfolio) else "all"
    breaks = source.rows(
        "select symbol, trade_date, previous_close, close, verdict, count(*) over () as total "
        "from {marts}.fct_price_breaks where is_candidate and verdict = 'suspect_break' "
        f"order by trade_date desc, symbol limit {_MOST_BREAKS}"
    )
    funnel = source.rows(
        "select * from {marts}.fct_pipeline_funnel order by step_number, change, row_count desc"
    )
    holdout = [
        {"segment": words, "auc": _text(metrics.get(MODEL, "roc_auc_session", segment, -1)),
         "ic": _text(metrics.get(MODEL, "rank_ic", segment, -1))}
        for segment, words in SEGMENT_TITLES.items()
        if metrics.get(MODEL, "roc_auc_session", segment, -1)
    ]  # fmt: skip
    return {
        "market": market_words(data),
        "run": run,
        "versions": json.loads(extra["versions_json"]),
        "warnings": json.loads(extra["warnings_json"]),
        "verdicts": [v for s in SEGMENT_TITLES if (v := _verdict(metrics, s))],
        "headline": _headline_rows(metrics, _later_rank_ic(source)),
        "holdout": holdout,
        "gates": gates,
        "passed": sum(g["passed"] for g in gates if g["level"] != "alarm"),
        "promises": sum(g["level"] != "alarm" for g in gates),
        "alarms": [g for g in gates if g["level"] == "alarm" and not g["passed"]],
        "portfolio": [
            {**r, "segment_title": SEGMENT_TITLES.get(r["segment"], r["segment"])}
            for r in portfolio
        ],
        "liquid_title": SEGMENT_TITLES[liquid],
        "signals": source.of_run(
            "select * from {marts}.fct_signal_performance where run_id = ? and segment = 'all' "
            "order by mean_probability desc"
        ),
        "folds": [f for f in folds if f["role"] == "test"],
        "funnel": funnel,
        "breaks": breaks,
        "against": _against_baselines(metrics),
        "fold_rows": _fold_rows(metrics, folds),
        "important": importance.listed(),
        "agreement": {m: importance.agreement(m) for m in ("gain", "permutation")},
        "scored": _signals_and_why(source),
        "overfitting": _overfitting(source),
        "audits": _audits(source, run["git_commit"]),
        "liquid": liquid,
    }


def _drawn(source: Source, liquid: str) -> dict[str, str]:
    """The charts by name; empty where there is nothing to draw."""
    metrics = _Metrics(source.of_run("select * from {ml}.metrics where run_id = ?"))
    folds = source.of_run("select * from {ml}.folds where run_id = ? order by fold, role")
    importance = _importance(source)
    return {
        "auc": _headline_chart(metrics, "roc_auc_session", "AUC per session", 0.5),
        "ic": _headline_chart(metrics, "rank_ic", "Rank IC", 0.0),
        "folds": _fold_chart(metrics, folds, "roc_auc_session", "AUC per session", 0.5),
        "folds_ic": _fold_chart(metrics, folds, "rank_ic", "Rank IC", 0.0),
        "auc_time": _rolling_chart(source, "roc_auc", "AUC per session", 0.5),
        "ic_time": _rolling_chart(source, "rank_ic", "Rank IC", 0.0),
        "deciles": _decile_chart(source),
        "deciles_liquid": _decile_chart(source, liquid) if liquid != "all" else "",
        "reliability": _reliability_chart(source),
        "equity": _equity_chart(source, "all"),
        "equity_liquid": _equity_chart(source, liquid) if liquid != "all" else "",
        "importance": _importance_chart(importance, "gain", "share of gain", ".0%"),
        "permutation": _importance_chart(importance, "permutation", "AUC lost without it", "+.3f"),
        "ablation": _ablation_chart(source),
        "coverage": _coverage_chart(source),
    }


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def _percent_of(row: Row, name: str) -> str:
    """A share with the ends of its interval, where it has one."""
    low, high = row[f"{name}_ci_low"], row[f"{name}_ci_high"]
    ends = "" if low is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return _percent(row[name]) + ends


def _card_feature(row: Row) -> list[str]:
    gain, loss = row["gain"], row["loss"]
    folds = round(gain["share_of_folds_in_top_ten"] * gain["n_folds"])
    lost = loss["mean_importance"] if loss else None
    return [
        row["feature"],
        _percent(gain["mean_importance"]),
        f"{folds} of {gain['n_folds']}",
        "-" if lost is None else f"{lost:+.4f}",
    ]


def _card_portfolio(row: Row) -> list[str]:
    def number(name: str, format_: str) -> str:
        return "-" if row[name] is None else format(row[name], format_)

    low, high = number("sharpe_net_ci_low", ".2f"), number("sharpe_net_ci_high", ".2f")
    return [
        row["strategy"].replace("_", " "),
        row["segment_title"],
        _percent_of(row, "net_return_year"),
        f"{number('sharpe_net', '.2f')} [{low}, {high}]",
        _percent(row["max_drawdown_net"]),
        f"{number('break_even_cost_bp', '.0f')} bp",
        number("capacity_floor", ",.0f"),
    ]


def _card_audit(row: Row) -> list[str]:
    when = row["finished_at"].date().isoformat() if row["finished_at"] else "-"
    verdict = "passed" if row["passed"] else f"failed: {row['differences']}"
    data = f"{row['market']}, {row['target']}"
    return [
        row["layer"],
        data,
        verdict,
        f"{row['checked']:,}",
        when,
        (row["git_commit"] or "-")[:7],
    ]


# rows of the model card's tables
_CARD_ROWS: dict[str, Callable[..., Any]] = {
    "card_row": lambda r: [r["title"], *r["cells"]],
    "card_against": lambda r: [
        r["title"], *(c["auc"] + (f" ({c['ahead']})" if c["ahead"] else "") for c in r["cells"])
    ],
    "card_holdout": lambda r: [r["segment"], r["auc"], r["ic"]],
    "card_gate": lambda r: [r["gate"].replace("_", " "), r["wanted"], r["reached"], r["word"]],
    "card_feature": _card_feature,
    "card_portfolio": _card_portfolio,
    "card_audit": _card_audit,
}  # fmt: skip


def fill(template: str, facts: Mapping[str, Any], escape: bool) -> str:
    """A template of this package with the facts of a run.

    Args:
        template: name of the file.
        facts: names it may use.
        escape: for HTML.
    """
    filters: dict[str, Callable[..., Any]] = {
        "percent": _percent,
        "percent_of": _percent_of,
        "count": lambda n: "-" if n is None else f"{n:,.0f}",
        "number": lambda x, digits=2: "-" if x is None else f"{x:,.{digits}f}",
        "signed": lambda x, digits=2: "-" if x is None else f"{x:+.{digits}f}",
        **_CARD_ROWS,
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=escape,  # noqa: S701 (Markdown is not escaped)
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(filters)
    return environment.get_template(template).render(**facts)


def market_words(data: str) -> str:
    """Words for whose shares these are, from the layout their prices came by."""
    if data == INVENTED:
        return "invented sample market"
    return data.upper() if data in {"asx", "us"} else data


def render(source: Source, data: str) -> str:
    """The page.

    Args:
        source: where to read.
        data: layout the prices came by, for the title.

    Raises:
        AsxwError: the marts do not hold the run yet.
    """
    facts = run_facts(source, data)
    drawn = _drawn(source, facts["liquid"])
    return fill(TEMPLATE, {**facts, "charts": drawn, "theme": charts.THEME}, escape=True)


def render_card(source: Source, data: str) -> str:
    """The model card of the run in Markdown.

    Args:
        source: where to read.
        data: layout the prices came by.

    Raises:
        AsxwError: the marts do not hold the run yet.
    """
    (run,) = source.of_run("select * from {ml}.runs where run_id = ?")
    features = json.loads(run["features_json"])
    parameters = json.loads(run["parameters_json"])
    families = {
        r["feature"]: r["family"]
        for r in source.rows("select feature, family from {marts}.fct_feature_coverage")
    }
    by_family: dict[str, list[str]] = defaultdict(list)
    for feature in features:
        by_family[families.get(feature, "other")].append(feature)
    origin = f"prices loaded with the layout {data}"
    if data == INVENTED:
        origin = "the sample market, which is invented: no number here is about a real company"
    return fill(
        CARD_TEMPLATE,
        {
            **run_facts(source, data),
            "origin": origin,
            "families": by_family,
            "parameters": parameters,
        },
        escape=False,
    )
