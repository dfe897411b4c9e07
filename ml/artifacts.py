"""Fitted models on disk: one folder per run, complete or absent, verified before use."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb

from ml.errors import AsxwError

MANIFEST = "manifest.json"
CLASSIFIER = "classifier.txt"
REGRESSOR = "regressor.txt"


@dataclass(frozen=True)
class ModelCard:
    """What a fitted pair of models needs to be used, and to be understood later."""

    run_id: str
    model_name: str
    trained_through: str
    """Latest session whose prices the training labels used, ISO date."""
    features: tuple[str, ...]
    """Columns of the models, in their order."""
    positive_weight: float
    """Weight of a positive row in training, n_neg / n_pos."""
    parameters: dict[str, Any]
    versions: dict[str, str]


@dataclass(frozen=True)
class Artifact:
    """A loaded, verified run."""

    card: ModelCard
    classifier: lgb.Booster
    regressor: lgb.Booster


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def run_folder(root: Path, model_name: str, run_id: str) -> Path:
    """Where a run's files are."""
    return root / model_name / run_id


def _same_files(one: Path, other: Path) -> bool:
    """Whether two run folders hold the same bytes."""
    names = (CLASSIFIER, REGRESSOR, MANIFEST)
    return all((other / n).is_file() for n in names) and all(
        sha256_file(one / n) == sha256_file(other / n) for n in names
    )


def save_artifact(root: Path, card: ModelCard, classifier: str, regressor: str) -> Path:
    """Write a run's folder under `root`; it appears complete or not at all.

    Args:
        root: folder of all artifacts.
        card: description of the run.
        classifier: model in LightGBM's text format.
        regressor: likewise.

    Returns:
        The folder. One that holds the same files already is left untouched; any other is replaced.
    """
    folder = run_folder(root, card.model_name, card.run_id)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{card.run_id}-", dir=folder.parent))
    try:
        # bytes, so that line ends and with them the checksums are the same on every system
        (staging / CLASSIFIER).write_bytes(classifier.encode())
        (staging / REGRESSOR).write_bytes(regressor.encode())
        sums = {name: sha256_file(staging / name) for name in (CLASSIFIER, REGRESSOR)}
        content = json.dumps({**asdict(card), "sha256": sums}, indent=2) + "\n"
        (staging / MANIFEST).write_bytes(content.encode())
        staging.chmod(0o755)
        if _same_files(staging, folder):
            shutil.rmtree(staging)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return folder


def load_artifact(root: Path, model_name: str, run_id: str) -> Artifact:
    """Read a run's folder and verify it.

    Raises:
        AsxwError: a file is missing or altered, the manifest is of another run, or its feature
            list is not the models'; nothing is scored with such a folder.
    """
    folder = run_folder(root, model_name, run_id)
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        sums = content.pop("sha256")
        card = ModelCard(**{**content, "features": tuple(content["features"])})
    except FileNotFoundError as error:
        raise AsxwError(
            f"Run {run_id} has no complete artifacts in {folder}: copy them there, name their "
            "root with --artifacts, or train again."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise AsxwError(f"{folder / MANIFEST} is damaged ({error}): train again.") from error
    if card.run_id != run_id or card.model_name != model_name:
        raise AsxwError(f"{folder} holds run {card.run_id}, not {run_id}: it was moved or renamed.")
    boosters = {}
    for name in (CLASSIFIER, REGRESSOR):
        path = folder / name
        if not path.is_file() or sha256_file(path) != sums.get(name):
            raise AsxwError(
                f"{path} is missing or does not match its checksum: restore it or train again."
            )
        boosters[name] = lgb.Booster(model_str=path.read_text(encoding="utf-8"))
        if tuple(boosters[name].feature_name()) != card.features:
            raise AsxwError(
                f"{path} was trained on another feature list than its manifest says: train again."
            )
    return Artifact(card, boosters[CLASSIFIER], boosters[REGRESSOR])
