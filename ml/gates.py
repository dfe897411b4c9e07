"""Gates: what a run promised, what it reached, and what looks too good to be true."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from ml.errors import AsxwError
from ml.evaluation import ALL, POOLED, Metric
from ml.training import BASE_RATE, MODEL, TrainingRun

DEFAULT_FILE = Path(__file__).with_name("gates.yml")
LEVELS = ("minimum", "target", "stretch", "own", "alarm")
ALARM = "alarm"

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "at_least": lambda value, threshold: value >= threshold,
    "more_than": lambda value, threshold: value > threshold,
    "at_most": lambda value, threshold: value <= threshold,
    "below": lambda value, threshold: value < threshold,
    "interval_above": lambda low, threshold: low > threshold,
}
_SYMBOLS = {
    "at_least": ">=",
    "more_than": ">",
    "at_most": "<=",
    "below": "<",
    "interval_above": "low end >",
}


@dataclass(frozen=True)
class Gate:
    """One line of gates.yml."""

    name: str
    level: str
    measure: str
    comparison: str
    threshold: float
    options: Mapping[str, Any]


@dataclass(frozen=True)
class GateResult:
    """A gate and what a run reached; NaN where the run has no such number, which is not passed."""

    gate: Gate
    value: float
    low: float
    high: float
    note: str

    @property
    def passed(self) -> bool:
        """Whether the gate holds; an alarm is passed while it is silent."""
        measured = self.low if self.gate.comparison == "interval_above" else self.value
        if math.isnan(measured):
            # an alarm cannot ring about a number that does not exist
            return self.gate.level == ALARM
        return _COMPARISONS[self.gate.comparison](measured, self.gate.threshold)

    @property
    def wanted(self) -> str:
        """The condition as text."""
        return f"{_SYMBOLS[self.gate.comparison]} {self.gate.threshold:g}"


def read_gates(path: Path | None = None) -> list[Gate]:
    """Gates of a file (default: gates.yml).

    Raises:
        AsxwError: an entry lacks something or names an unknown measure; the text names the gate.
    """
    source = path or DEFAULT_FILE
    found = []
    for entry in yaml.safe_load(source.read_text(encoding="utf-8"))["gates"]:
        rest = dict(entry)
        try:
            name, level, measure = (str(rest.pop(k)) for k in ("gate", "level", "measure"))
        except KeyError as error:
            raise AsxwError(f"{source}: a gate lacks {error}: {entry}.") from error
        conditions = [c for c in _COMPARISONS if c in rest]
        if len(conditions) != 1 or level not in LEVELS or measure not in _MEASURES:
            raise AsxwError(
                f"{source}: gate {name} needs one condition of {', '.join(_COMPARISONS)}, a level "
                f"of {', '.join(LEVELS)} and a measure of {', '.join(_MEASURES)}."
            )
        threshold = float(rest.pop(conditions[0]))
        found.append(Gate(name, level, measure, conditions[0], threshold, rest))
    return found


_THRESHOLDS = (
    "signal_strong_buy_probability",
    "signal_buy_probability",
    "signal_sell_probability",
    "signal_strong_sell_probability",
    "signal_buy_return",
    "signal_sell_return",
)


def signal_thresholds(variables: Mapping[str, Any]) -> dict[str, float]:
    """The thresholds of signals among dbt's variables.

    Raises:
        AsxwError: names those that are missing or no numbers.
    """
    found, wrong = {}, []
    for name in _THRESHOLDS:
        try:
            found[name] = float(variables[name])
        except (KeyError, TypeError, ValueError):
            wrong.append(name)
    if wrong:
        raise AsxwError(
            f"dbt_project.yml must give {', '.join(wrong)} under vars, as numbers: the gates count "
            "signals."
        )
    return found


def signal_class(
    probability: np.ndarray, expected: np.ndarray, thresholds: Mapping[str, float]
) -> np.ndarray:
    """The signal of each row (n,), as the macro signal_class gives it."""
    rises = expected > thresholds["signal_buy_return"]
    falls = expected < thresholds["signal_sell_return"]
    return np.select(
        [
            rises & (probability >= thresholds["signal_strong_buy_probability"]),
            rises & (probability >= thresholds["signal_buy_probability"]),
            falls & (probability <= thresholds["signal_strong_sell_probability"]),
            falls & (probability <= thresholds["signal_sell_probability"]),
        ],
        ["STRONG_BUY", "BUY", "STRONG_SELL", "SELL"],
        "HOLD",
    )


@dataclass(frozen=True)
class Evidence:
    """What the gates look at."""

    metrics: Sequence[Metric]
    samples: int
    importance: Sequence[Mapping[str, Any]]
    families: Mapping[str, str]
    signals: Mapping[str, int]

    def find(self, predictor: str, segment: str, name: str) -> Metric | None:
        """A metric over all out-of-fold rows."""
        for m in self.metrics:
            if (m.predictor, m.fold, m.segment, m.name) == (predictor, POOLED, segment, name):
                return m
        return None


_Value = tuple[float, float, float, str]
_NOTHING: _Value = (math.nan, math.nan, math.nan, "not measured")


def _alone(value: float, note: str = "") -> _Value:
    return value, math.nan, math.nan, note


def _metric(evidence: Evidence, options: Mapping[str, Any]) -> _Value:
    found = evidence.find(
        options.get("predictor", MODEL), options.get("segment", ALL), options["metric"]
    )
    return _NOTHING if found is None else (found.value, found.low, found.high, "")


def _best_baseline(evidence: Evidence, options: Mapping[str, Any]) -> _Value:
    """Difference to the strongest opponent, chosen with hindsight: in its favour, not in ours."""
    segment, name = options.get("segment", ALL), options["metric"]
    opponents = [
        m
        for m in evidence.metrics
        if (m.fold, m.segment, m.name) == (POOLED, segment, name)
        and m.predictor not in (MODEL, BASE_RATE)
        and not m.predictor.startswith(f"{MODEL} - ")
    ]
    if not opponents:
        return _NOTHING
    best = max(opponents, key=lambda m: m.value)
    found = evidence.find(f"{MODEL} - {best.predictor}", segment, name)
    if found is None:
        return _NOTHING
    return found.value, found.low, found.high, f"{best.predictor} {best.value:.4f}"


def _fold_deviation(evidence: Evidence, options: Mapping[str, Any]) -> _Value:
    values = [
        m.value
        for m in evidence.metrics
        if (m.predictor, m.segment, m.name) == (MODEL, ALL, options["metric"]) and m.fold > POOLED
    ]
    return _NOTHING if len(values) < 2 else _alone(float(np.std(values, ddof=1)))


def _family_in_top(evidence: Evidence, options: Mapping[str, Any]) -> _Value:
    top = [
        r["feature"]
        for r in evidence.importance
        if r["fold"] == 0 and r["head"] == "classifier" and r["rank"] <= options["top"]
    ]
    inside = [f for f in top if evidence.families.get(f) in options["families"]]
    return _alone(float(len(inside)), ", ".join(inside))


def _largest_signal(evidence: Evidence, _: Mapping[str, Any]) -> _Value:
    name, count = max(evidence.signals.items(), key=lambda e: e[1])
    return _alone(count / sum(evidence.signals.values()), name)


_MEASURES: dict[str, Callable[[Evidence, Mapping[str, Any]], _Value]] = {
    "metric": _metric,
    "best_baseline": _best_baseline,
    "fold_deviation": _fold_deviation,
    "samples": lambda evidence, _: _alone(float(evidence.samples)),
    "family_in_top": _family_in_top,
    "largest_signal": _largest_signal,
    "signal_classes": lambda evidence, _: _alone(
        float(len(evidence.signals)), ", ".join(sorted(evidence.signals))
    ),
}


def judge(gates: Sequence[Gate], evidence: Evidence) -> list[GateResult]:
    """Every gate with what was reached."""
    return [GateResult(gate, *_MEASURES[gate.measure](evidence, gate.options)) for gate in gates]


def judge_run(
    run: TrainingRun,
    gates: Sequence[Gate],
    families: Mapping[str, str],
    thresholds: Mapping[str, float],
) -> list[GateResult]:
    """Gates of a finished run.

    Args:
        run: the run.
        gates: from `read_gates`.
        families: feature family by feature.
        thresholds: of the signals, from `signal_thresholds`.
    """
    predictions = run.tables["predictions_oof"]
    signals = signal_class(
        predictions.column("probability_up").to_numpy(),
        predictions.column("expected_return").to_numpy(),
        thresholds,
    )
    evidence = Evidence(
        metrics=run.metrics,
        samples=run.tables["runs"].column("n_rows")[0].as_py(),
        importance=run.tables["importance"].to_pylist(),
        families=families,
        signals=Counter(signals.tolist()),
    )
    return judge(gates, evidence)


def gate_rows(run_id: str, results: Sequence[GateResult]) -> pa.Table:
    """Columns of ml.gates."""

    def known(value: float) -> float | None:
        return None if math.isnan(value) else value

    return pa.Table.from_pylist(
        [
            {
                "run_id": run_id,
                "gate": r.gate.name,
                "level": r.gate.level,
                "measure": r.gate.measure,
                "comparison": r.gate.comparison,
                "threshold": r.gate.threshold,
                "value": known(r.value),
                "ci_low": known(r.low),
                "ci_high": known(r.high),
                "passed": r.passed,
                "note": r.note,
            }
            for r in results
        ],
        schema=pa.schema(
            [
                ("run_id", pa.string()),
                ("gate", pa.string()),
                ("level", pa.string()),
                ("measure", pa.string()),
                ("comparison", pa.string()),
                ("threshold", pa.float64()),
                ("value", pa.float64()),
                ("ci_low", pa.float64()),
                ("ci_high", pa.float64()),
                ("passed", pa.bool_()),
                ("note", pa.string()),
            ]
        ),
    )
