"""Parameters of training and evaluation: `ml/model.yml`, optionally with a file laid over it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ml.errors import AsxwError

_Settings = TypeVar("_Settings")

DEFAULT_FILE = Path(__file__).with_name("model.yml")

# Mappings whose keys are the user's own, so an overlay may bring new ones.
_OPEN = {"lightgbm", "segments", "baselines", "costs", "space"}
# Keys of `evaluation` that change neither a model nor the sessions and costs it is judged by.
_REPORTED = (
    "bins", "calibration_bins", "replicates", "mean_block", "confidence", "seed", "segments",
    "linear_penalty", "baselines", "permutation_rows",
)  # fmt: skip
# Keys of `evaluation` and the dbt vars that say the same to the marts.
_SHARED = {
    "minimum_rows": "session_minimum_rows",
    "calibration_bins": "calibration_bins",
    "segments": "liquidity_tiers",
    "costs": "side_costs_bp",
}
# entries of these may be replaced whole
_WHOLE = {"space"}


@dataclass(frozen=True)
class FeatureSettings:
    """Which columns of the panel the model may see."""

    roles: tuple[str, ...]
    families_off: tuple[str, ...]
    minimum_coverage: float


@dataclass(frozen=True)
class FoldSettings:
    """Walk-forward design; every length is in sessions."""

    blocks: int
    horizon: int
    embargo: int
    minimum_block: int
    waive_minimum_block: bool
    minimum_train_sessions: int
    training_stride: int
    """A fold trains on every so-manyth session."""
    holdout: int


@dataclass(frozen=True)
class HeadSettings:
    """Trees of one model and the LightGBM parameters that differ from the shared ones."""

    trees_final: int
    trees_fold: int
    lightgbm: Mapping[str, Any]


@dataclass(frozen=True)
class EvaluationSettings:
    """Sizes of the bootstrap and of the bins, segments and baselines."""

    minimum_rows: int
    bins: int
    calibration_bins: int
    replicates: int
    mean_block: int
    confidence: float
    seed: int
    segments: Mapping[str, float]
    costs: Mapping[float, float]
    """Least adv_20_median: cost of one side in basis points."""
    linear_penalty: float
    baselines: Mapping[str, tuple[str, float]]
    permutation_rows: int
    """Test rows of a fold on which permutation importance is measured; 0: it is not."""


@dataclass(frozen=True)
class AblationSettings:
    """The light model that says what a feature family is worth."""

    base_families: tuple[str, ...]
    context: bool
    trees: int
    training_stride: int
    lightgbm: Mapping[str, Any]


@dataclass(frozen=True)
class Range:
    """Values one parameter may take: from low through high, or one of the choices."""

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class TuneSettings:
    """The search for better parameters."""

    trials: int
    blocks: int
    minimum_block: int
    minimum_train_sessions: int
    objective: str
    startup: int
    seed: int
    space: Mapping[str, Range]
    """By the parameter's place in `model.yml`, such as lightgbm.lambda_l2."""


@dataclass(frozen=True)
class ModelConfig:
    """The whole of `model.yml`."""

    model_name: str
    features: FeatureSettings
    folds: FoldSettings
    lightgbm: Mapping[str, Any]
    classifier: HeadSettings
    regressor: HeadSettings
    winsor: tuple[float, float]
    evaluation: EvaluationSettings
    ablation: AblationSettings
    tune: TuneSettings
    threads: int

    @property
    def num_threads(self) -> int:
        """Threads LightGBM runs on; its own choice is slower than the number of processors."""
        if self.threads > 0:
            return self.threads
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    def identity(self) -> dict[str, Any]:
        """Everything that can change a prediction or a metric of a training run."""
        content = asdict(self)
        for apart in ("threads", "ablation", "tune"):
            del content[apart]
        return content

    def trial_identity(self) -> dict[str, Any]:
        """Everything that can change a model or which sessions and costs it is judged by.

        What only adds to a report is left out: intervals, segments, baselines, importance.
        """
        content = self.identity()
        for apart in _REPORTED:
            del content["evaluation"][apart]
        return content

    def ablation_identity(self) -> dict[str, Any]:
        """Everything that can change a number of an ablation."""
        content = asdict(self)
        for apart in ("threads", "regressor", "winsor", "tune"):
            del content[apart]
        return content


def _overlay(base: dict[str, Any], over: Mapping[str, Any], where: str, source: str) -> None:
    """Lay `over` on `base` in place, key by key."""
    for key, value in over.items():
        name = f"{where}{key}"
        if key not in base and where.rstrip(".").split(".")[-1] not in _OPEN:
            known = ", ".join(sorted(base))
            raise AsxwError(f"{source}: unknown key {name}. Known here: {known}.")
        if isinstance(base.get(key), dict) and where.rstrip(".").split(".")[-1] not in _WHOLE:
            if not isinstance(value, Mapping):
                raise AsxwError(f"{source}: {name} must be a mapping, not {value!r}.")
            _overlay(base[key], value, f"{name}.", source)
        else:
            base[key] = value


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise AsxwError(f"Model parameters {path} cannot be read: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise AsxwError(f"Model parameters {path} must be a mapping of keys to values.")
    return content


def _head(entry: Mapping[str, Any]) -> HeadSettings:
    return HeadSettings(int(entry["trees_final"]), int(entry["trees_fold"]), entry["lightgbm"])


def _range(entry: Mapping[str, Any]) -> Range:
    if "choices" in entry:
        return Range(**{**entry, "choices": tuple(entry["choices"])})
    return Range(**{**entry, "low": float(entry["low"]), "high": float(entry["high"])})


# by what a field of a settings class says its type is; YAML reads 1e-3 as text
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "int": ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    "float": ("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool)),
    "bool": ("true or false", lambda v: isinstance(v, bool)),
    "str": ("a text", lambda v: isinstance(v, str)),
}


def _settings(kind: type[_Settings], content: Mapping[str, Any], where: str) -> _Settings:
    """A settings class of its keys, of which every plain one has the type the class says.

    Raises:
        AsxwError: names the key that has not.
    """
    for field in fields(kind):  # type: ignore[arg-type]
        wanted, holds = _KINDS.get(str(field.type), ("", lambda _: True))
        value = content[field.name]
        if not holds(value):
            raise AsxwError(f"{where}.{field.name} must be {wanted}, not {value!r}.")
    return kind(**content)


def _build(content: dict[str, Any], source: str) -> ModelConfig:
    features, evaluation = content["features"], dict(content["evaluation"])
    ablation, tune = content["ablation"], dict(content["tune"])
    tune["space"] = {k: _range(v) for k, v in sorted(tune["space"].items()) if v is not None}
    evaluation["segments"] = {k: float(v) for k, v in evaluation["segments"].items()}
    evaluation["costs"] = {
        float(k): float(v)
        for k, v in sorted(evaluation["costs"].items(), key=lambda e: float(e[0]))
    }
    evaluation["baselines"] = {
        name: (str(column), float(sign)) for name, (column, sign) in evaluation["baselines"].items()
    }
    low, high = content["regressor"]["winsor"]
    return ModelConfig(
        model_name=str(content["model_name"]),
        features=FeatureSettings(
            tuple(features["roles"]),
            tuple(features["families_off"]),
            float(features["minimum_coverage"]),
        ),
        folds=_settings(FoldSettings, content["folds"], f"{source}: folds"),
        lightgbm=content["lightgbm"],
        classifier=_head(content["classifier"]),
        regressor=_head(content["regressor"]),
        winsor=(float(low), float(high)),
        evaluation=_settings(EvaluationSettings, evaluation, f"{source}: evaluation"),
        ablation=AblationSettings(
            tuple(ablation["base_families"]),
            bool(ablation["context"]),
            int(ablation["trees"]),
            int(ablation["training_stride"]),
            ablation["lightgbm"],
        ),
        tune=_settings(TuneSettings, tune, f"{source}: tune"),
        threads=int(content["threads"]),
    )


def _check(config: ModelConfig, source: str) -> None:
    """Reject values that no run can make sense of."""
    folds, evaluation, tune = config.folds, config.evaluation, config.tune
    rules = {
        "model_name must be letters, digits, _ or -": bool(config.model_name)
        and all(c.isalnum() or c in "_-" for c in config.model_name),
        "features.minimum_coverage must lie in [0, 1]": 0 <= config.features.minimum_coverage <= 1,
        "folds.blocks must be at least 2": folds.blocks >= 2,
        "folds.horizon and folds.minimum_block must be positive": folds.horizon > 0
        and folds.minimum_block > 0,
        "folds.embargo and folds.holdout must not be negative": folds.embargo >= 0
        and folds.holdout >= 0,
        "regressor.winsor must be two quantiles, low before high": 0
        <= config.winsor[0]
        < config.winsor[1]
        <= 1,
        "trees must be positive": min(
            config.classifier.trees_final,
            config.classifier.trees_fold,
            config.regressor.trees_final,
            config.regressor.trees_fold,
            config.ablation.trees,
        )
        > 0,
        "folds.training_stride and ablation.training_stride must be at least 1": min(
            folds.training_stride, config.ablation.training_stride
        )
        >= 1,
        "evaluation.minimum_rows, mean_block and calibration_bins must be at least 1": min(
            evaluation.minimum_rows, evaluation.mean_block, evaluation.calibration_bins
        )
        >= 1,
        "evaluation.replicates and evaluation.bins must be at least 2": min(
            evaluation.replicates, evaluation.bins
        )
        >= 2,
        "evaluation.seed and tune.seed must not be negative": min(evaluation.seed, tune.seed) >= 0,
        "evaluation.confidence must lie in (0, 1)": 0 < evaluation.confidence < 1,
        "evaluation.costs must have an entry for 0": 0.0 in evaluation.costs,
        "evaluation.linear_penalty must be positive": evaluation.linear_penalty > 0,
        "evaluation.permutation_rows must not be negative": evaluation.permutation_rows >= 0,
        "evaluation.baselines must not be empty": bool(evaluation.baselines),
        "tune.blocks must be at least 2": tune.blocks >= 2,
        "lengths and counts of tune must be positive": min(
            tune.trials, tune.minimum_block, tune.minimum_train_sessions, tune.startup
        )
        > 0,
        "tune.objective must be roc_auc_session or rank_ic": tune.objective
        in ("roc_auc_session", "rank_ic"),
        "every entry of tune.space must have choices, or low below high, above 0 with log": all(
            r.choices or (r.low < r.high and (r.low > 0 or not r.log)) for r in tune.space.values()
        ),
    }
    for text, holds in rules.items():
        if not holds:
            raise AsxwError(f"{source}: {text}.")


def check_shared(evaluation: EvaluationSettings, variables: Mapping[str, Any]) -> None:
    """Refuse settings other than those the marts judge by.

    Args:
        evaluation: settings of a run.
        variables: of the dbt project.

    Raises:
        AsxwError: names both places.
    """
    for key, name in _SHARED.items():
        own = getattr(evaluation, key)
        own = dict(own) if isinstance(own, Mapping) else own
        if name in variables and variables[name] != own:
            raise AsxwError(
                f"evaluation.{key} is {own} in the model parameters (--config, ml/model.yml), and "
                f"var {name} is {variables[name]} in the dbt project (dbt_project.yml, --vars). "
                "The marts would judge the run by other rules than Python did: change both."
            )


def lay_choices(content: dict[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """Put values by their dotted place, such as lightgbm.lambda_l2, into the content of a file."""
    for place, value in choices.items():
        *path, key = place.split(".")
        inner = content
        for part in path:
            inner = inner.setdefault(part, {})
        inner[key] = value
    return content


def read_overlay(overlay: Path | None) -> dict[str, Any]:
    """Content of a file that is laid over `model.yml`; empty without one.

    Raises:
        AsxwError: the file cannot be read.
    """
    return _read(overlay) if overlay else {}


def read_config(
    overlay: Path | None = None, choices: Mapping[str, Any] | None = None
) -> ModelConfig:
    """`model.yml`, with the keys of `overlay` (a YAML file) laid over it.

    Args:
        overlay: file with some of the keys.
        choices: values that win over both, by their dotted place, such as lightgbm.lambda_l2.

    Raises:
        AsxwError: the file cannot be read, has a key that `model.yml` lacks, or a value out of
            range; the text names the key.
    """
    content = _read(DEFAULT_FILE)
    source = str(overlay or DEFAULT_FILE)
    if overlay is not None:
        _overlay(content, _read(overlay), "", source)
    if choices:
        _overlay(content, lay_choices({}, choices), "", "tune.space")
    try:
        config = _build(content, source)
        _check(config, source)
    except (TypeError, ValueError, KeyError) as error:
        raise AsxwError(f"{source}: a value has the wrong form: {error}") from error
    return config
