"""`asxw tune`: a search for better parameters on the training rows of the first fold only.

Every test session of `asxw train` lies after these rows, so what is found there has seen none of
them. The ledger of trials is the memory of a study: it is written after every trial, and a study
that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from ml.config import FoldSettings, ModelConfig, Range, TuneSettings
from ml.dataset import Panel, check_horizon
from ml.errors import AsxwError
from ml.evaluation import Outcomes, Predictor, session_series
from ml.folds import Fold, FoldPlan, plan_folds, sessions_needed
from ml.ledger import TUNE, Outcome, SessionSeries, Trial, known_mean, new_trial
from ml.training import (
    MODEL,
    Report,
    fit_heads,
    fold_rows,
    library_versions,
    side_by_side,
    side_cost,
)
from ml.warehouse import Warehouse

Choices = dict[str, Any]
ReadConfig = Callable[[Choices], ModelConfig]


@dataclass(frozen=True)
class InnerData:
    """The rows a study may see and the folds it judges on."""

    panel: Panel
    plan: FoldPlan
    settings: FoldSettings
    """Fold settings of the inner folds."""


def inner_data(panel: Panel, config: ModelConfig) -> InnerData:
    """Training rows of the first fold, with walk-forward folds of their own.

    Args:
        panel: every trainable row.
        config: parameters; their `folds` say where the first test block begins.

    Raises:
        AsxwError: another horizon than the labels', or too few sessions before it; the text says
            how many are needed.
    """
    check_horizon(panel, config.folds.horizon)
    outer = plan_folds(panel.session_idx, config.folds)
    rows = outer.folds[0].train_rows(panel.label_end_idx)
    settings = replace(
        config.folds,
        blocks=config.tune.blocks,
        minimum_block=config.tune.minimum_block,
        minimum_train_sessions=config.tune.minimum_train_sessions,
        waive_minimum_block=False,
        holdout=0,
    )
    there = len(np.unique(panel.session_idx[rows]))
    needed = sessions_needed(settings, settings.blocks)
    if there < needed:
        raise AsxwError(
            f"Tuning sees the {there} sessions before the first test block and needs {needed}: "
            f"give a --config with folds.minimum_train_sessions of at least {needed}, to tune and "
            "to train with, or lower tune.blocks or tune.minimum_block."
        )
    inner = panel.part(rows)
    return InnerData(inner, plan_folds(inner.session_idx, settings), settings)


def make_study_id(data: InnerData, config: ModelConfig, features: Sequence[str], label: str) -> str:
    """Name of a study; the same rows, base parameters and space give the same name."""
    tune = {k: v for k, v in vars(config.tune).items() if k not in ("trials", "space")}
    content = {
        "panel": data.panel.checksum,
        "config": config.identity(),
        "tune": tune,
        "space": {name: vars(r) for name, r in config.tune.space.items()},
        "features": list(features),
        "label": label,
        "versions": library_versions(),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    last = date.fromisoformat(str(data.panel.label_end_date.max()))
    return f"{config.model_name}-tune-{last:%Y%m%d}-{digest[:10]}"


def run_trial(data: InnerData, config: ModelConfig) -> SessionSeries:
    """Fit the inner folds and return what the models reached on each inner test session.

    Raises:
        AsxwError: LightGBM refuses a parameter, or a fold has one class only.
    """
    inner = replace(config, folds=data.settings)
    workers, single = side_by_side(inner)
    trees = (inner.classifier.trees_fold, inner.regressor.trees_fold)
    panel = data.panel

    def score(fold: Fold) -> tuple[Any, Any, Any]:
        train, test = fold_rows(panel, data.plan, fold, single)
        where = f"Inner fold {fold.number}"
        heads = fit_heads(panel, train, single, trees, where, single.folds.training_stride)
        inside = np.zeros(len(panel), dtype=bool)
        inside[test] = True
        return test, *heads.predict(panel.matrix(inside, heads.kept), single.num_threads)

    with ThreadPoolExecutor(workers) as pool:
        # the latest fold has most rows: first, so that it is not left alone at the end
        scored = list(pool.map(score, reversed(data.plan.folds)))[::-1]
    rows, probability, expected = (np.concatenate(part) for part in zip(*scored, strict=True))
    nothing = np.full(len(rows), math.nan)
    outcomes = Outcomes(
        session=panel.session_idx[rows],
        fold=np.repeat([f.number for f in data.plan.folds], [len(t) for t, _, _ in scored]),
        up=panel.up[rows],
        returns=panel.returns[rows],
        low=nothing,
        high=nothing,
        base_rate=nothing,
        cost=side_cost(panel, rows, inner),
    )
    sessions, series = session_series(
        outcomes, Predictor(MODEL, probability, expected), config.evaluation.minimum_rows
    )
    first = np.searchsorted(panel.session_idx, sessions)
    return SessionSeries(
        trade_date=panel.trade_date[first],
        session_idx=sessions,
        roc_auc=series.roc_auc,
        rank_ic=series.rank_ic,
        spread=series.decile_spread if outcomes.cost is None else series.decile_spread_net,
    )


# --- the sampler --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Past:
    """A trial of the study that has ended, as the ledger has it."""

    number: int
    choices: Choices
    objective: float | None
    """None for a failed one."""
    rank_ic: float | None = None


def read_past(warehouse: Warehouse, schema: str, study_id: str) -> list[Past]:
    """Ended trials of a study in their order."""
    rows = warehouse.read_rows(
        f'select number, choices_json, objective, rank_ic from "{schema}"."trials" '
        "where study_id = ? and status in ('completed', 'failed') order by number, started_at",
        (study_id,),
    )
    return list({r[0]: Past(r[0], json.loads(r[1]), r[2], r[3]) for r in rows}.values())


def _optuna() -> Any:
    try:
        import optuna  # noqa: PLC0415 (an optional extra)
    except ImportError as error:
        raise AsxwError(
            "asxw tune needs optuna, which is not installed: pip install 'asx-warehouse[tune]'."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _distribution(optuna: Any, values: Range) -> Any:
    kinds = optuna.distributions
    if values.choices:
        return kinds.CategoricalDistribution(values.choices)
    if values.integer:
        return kinds.IntDistribution(int(values.low), int(values.high), log=values.log)
    return kinds.FloatDistribution(values.low, values.high, log=values.log)


def propose(settings: TuneSettings, past: Sequence[Past], number: int) -> Choices:
    """Parameters of trial `number`, by what the earlier ones gave.

    The first trial is the configuration as it stands. The sampler (tree-structured Parzen
    estimator) is made anew for each trial with a seed of its own, so that a study that was stopped
    and goes on proposes what an undisturbed one would have.
    """
    if number == 0:
        return {}
    optuna = _optuna()
    space = {name: _distribution(optuna, r) for name, r in settings.space.items()}
    sampler = optuna.samplers.TPESampler(
        seed=settings.seed + number, n_startup_trials=settings.startup
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    states = optuna.trial.TrialState
    for trial in past:
        if set(trial.choices) == set(space):
            failed = trial.objective is None
            study.add_trial(
                optuna.trial.create_trial(
                    state=states.FAIL if failed else states.COMPLETE,
                    params=trial.choices,
                    distributions=space,
                    value=trial.objective,
                )
            )
    return dict(study.ask(space).params)


# --- the study ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Keeper:
    """What a study writes to: called before a trial, after it, and after one that failed."""

    begin: Callable[[Trial], None]
    complete: Callable[[Trial, Outcome], None]
    fail: Callable[[Trial, str], None]


def best_of(past: Sequence[Past]) -> Past | None:
    """The trial with the highest objective, the earliest of equals; None where all failed."""
    known = [p for p in past if p.objective is not None]
    return max(known, key=lambda p: (p.objective, -p.number)) if known else None


def run_study(
    data: InnerData,
    read: ReadConfig,
    study_id: str,
    past: Sequence[Past],
    keeper: Keeper,
    *,
    trials: int,
    minutes: float | None,
    label: str,
    git_commit: str | None,
    report: Report,
) -> list[Past]:
    """Run the trials a study still lacks; each is in the ledger before the next begins.

    Args:
        data: rows and inner folds.
        read: configuration with some values laid over it.
        study_id: from `make_study_id`.
        past: ended trials of the study.
        keeper: writes to the ledger.
        trials: of the whole study.
        minutes: no trial is begun that would end later, by the mean of those before; None: no
            limit.
        label: what the return measures.
        git_commit: state of the project, for the record.
        report: takes a line per trial.

    Returns:
        All ended trials.

    Raises:
        AsxwError: the ledger cannot be written; a trial that fails by itself is noted and the
            study goes on.
    """
    done = list(past)
    started, ran = time.monotonic(), 0
    settings = read({}).tune
    while len(done) < trials:
        elapsed = time.monotonic() - started
        mean = elapsed / ran if ran else 0.0
        if minutes is not None and elapsed + mean > minutes * 60:
            report(f"time is up: {len(done)} of {trials} trials; the same command goes on")
            break
        number = len(done)
        choices = propose(settings, done, number)
        config = read(choices)
        trial = new_trial(
            TUNE,
            config,
            data.panel.features,
            label=label,
            git_commit=git_commit,
            study_id=study_id,
            number=number,
            choices=choices,
        )
        keeper.begin(trial)
        begun = time.monotonic()
        result = _attempt(data, config, trial, choices, keeper)
        done.append(result)
        ran += 1
        best = best_of(done)
        reached = "failed" if result.objective is None else f"{result.objective:.4f}"
        leader = f" (best {best.objective:.4f} of trial {best.number})" if best else ""
        now = time.monotonic()
        left = (now - started) / ran * (trials - len(done))
        report(
            f"trial {number + 1}/{trials}: {settings.objective} {reached}{leader}, "
            f"{now - begun:.0f} s, about {left:.0f} s left"
        )
    return done


def _attempt(
    data: InnerData, config: ModelConfig, trial: Trial, choices: Choices, keeper: Keeper
) -> Past:
    """Run one trial and write what became of it."""
    number = trial.number or 0
    try:
        series = run_trial(data, config)
        known = {
            "roc_auc_session": known_mean(series.roc_auc),
            "rank_ic": known_mean(series.rank_ic),
        }
        objective = known[config.tune.objective]
        if objective is None:
            raise AsxwError(
                f"No inner test session has {config.evaluation.minimum_rows} rows and both classes."
            )
    except AsxwError as error:
        keeper.fail(trial, str(error))
        return Past(number, choices, None)
    except Exception as error:  # one that was killed or interrupted is taken up again
        keeper.fail(trial, str(error) or type(error).__name__)
        raise
    keeper.complete(trial, Outcome(series, data.panel.checksum, objective=objective))
    return Past(number, choices, objective, known["rank_ic"])
