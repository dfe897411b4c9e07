"""Fitted models on disk: one folder per run, complete or absent, verified before use.

<root>/<model>/<run_id>/
    classifier.txt, regressor.txt    LightGBM's text format
    manifest.json                    what the models are and need, and a checksum of every file
    metrics.csv, importance.csv      rows of ml.metrics and ml.importance
    <run_id>.zip                     all of these, to hand on: unzip it in <root>/<model>
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb
import pyarrow as pa
import pyarrow.csv as pa_csv

from ml.errors import AsxwError

MANIFEST = "manifest.json"
CLASSIFIER = "classifier.txt"
REGRESSOR = "regressor.txt"
TABLES = ("metrics", "importance")

CONTRACT_VERSION = 2
"""Of the folder's files and the manifest's keys; a change that old code would misread raises it."""


@dataclass(frozen=True)
class Feature:
    """A column of the models as fct_features_daily described it at the time of training."""

    name: str
    dtype: str | None = None
    """SQL type in the warehouse; the models see every one as a 64-bit float."""
    family: str | None = None
    lookback: int | None = None
    """Sessions the value reaches back."""
    unit: str | None = None


@dataclass(frozen=True)
class ModelCard:
    """What a fitted pair of models needs to be used, and to be understood later."""

    run_id: str
    model_name: str
    trained_through: str
    """Latest session whose prices the training labels used, ISO date."""
    label: str
    """What the return measures: close or adj_close."""
    columns: tuple[Feature, ...]
    """Columns of the models, in their order."""
    positive_weight: float
    """Weight of a positive row in training, n_neg / n_pos."""
    panel_checksum: str
    git_commit: str | None
    seeds: dict[str, int]
    parameters: dict[str, Any]
    versions: dict[str, str]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns, in their order."""
        return tuple(c.name for c in self.columns)


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


def manifest_checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 over the manifest's content, all but this checksum itself."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _same_files(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files with the same bytes."""
    if not other.is_dir():
        return False
    names = {p.name for p in one.iterdir()}
    return names == {p.name for p in other.iterdir()} and all(
        sha256_file(one / n) == sha256_file(other / n) for n in names
    )


def _write_zip(folder: Path, run_id: str) -> None:
    """Pack a folder's files; the same files give the same bytes."""
    files = sorted(folder.iterdir())
    with zipfile.ZipFile(folder / f"{run_id}.zip", "w") as archive:
        for file in files:
            entry = zipfile.ZipInfo(f"{run_id}/{file.name}")
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())


def save_artifact(
    root: Path,
    card: ModelCard,
    classifier: str,
    regressor: str,
    tables: Mapping[str, pa.Table],
) -> Path:
    """Write a run's folder under `root`; it appears complete or not at all.

    Args:
        root: folder of all artifacts.
        card: description of the run.
        classifier: model in LightGBM's text format.
        regressor: likewise.
        tables: rows of the run by table, among them metrics and importance.

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
        for name in TABLES:
            pa_csv.write_csv(tables[name], staging / f"{name}.csv")
        sums = {file.name: sha256_file(file) for file in sorted(staging.iterdir())}
        content = {"contract_version": CONTRACT_VERSION, **asdict(card), "sha256": sums}
        content["manifest_sha256"] = manifest_checksum(content)
        text = json.dumps(content, indent=2) + "\n"
        (staging / MANIFEST).write_bytes(text.encode())
        _write_zip(staging, card.run_id)
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


def _read_card(folder: Path, run_id: str) -> tuple[ModelCard, dict[str, str]]:
    """The manifest of a run's folder: its card, and the checksum of every file."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.pop("contract_version", 1)
        if version == CONTRACT_VERSION:
            if content.pop("manifest_sha256") != manifest_checksum(
                {"contract_version": version, **content}
            ):
                raise ValueError("its content does not match its checksum")
            sums = {str(name): str(value) for name, value in content.pop("sha256").items()}
            columns = tuple(Feature(**c) for c in content.pop("columns"))
            return ModelCard(**content, columns=columns), sums
    except FileNotFoundError as error:
        raise AsxwError(
            f"Run {run_id} has no complete artifacts in {folder}: copy them there, name their "
            "root with --artifacts, or train again."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise AsxwError(f"{path} is damaged ({error}): train again.") from error
    raise AsxwError(
        f"{path} follows contract version {version}, and this program reads version "
        f"{CONTRACT_VERSION}: train again, or score with the version of the project that wrote it."
    )


def load_artifact(root: Path, model_name: str, run_id: str) -> Artifact:
    """Read a run's folder and verify it.

    Raises:
        AsxwError: a file is missing or altered, the manifest is of another run, or its feature
            list is not the models'; nothing is scored with such a folder.
    """
    folder = run_folder(root, model_name, run_id)
    card, sums = _read_card(folder, run_id)
    if card.run_id != run_id or card.model_name != model_name:
        raise AsxwError(f"{folder} holds run {card.run_id}, not {run_id}: it was moved or renamed.")
    needed = {CLASSIFIER, REGRESSOR, *(f"{name}.csv" for name in TABLES)}
    for name in sorted(needed | sums.keys()):
        path = folder / name
        if not path.is_file() or sha256_file(path) != sums.get(name):
            raise AsxwError(
                f"{path} is missing or does not match its checksum: restore it or train again."
            )
    boosters = {}
    for name in (CLASSIFIER, REGRESSOR):
        path = folder / name
        boosters[name] = lgb.Booster(model_str=path.read_text(encoding="utf-8"))
        if tuple(boosters[name].feature_name()) != card.features:
            raise AsxwError(
                f"{path} was trained on another feature list than its manifest says: train again."
            )
    return Artifact(card, boosters[CLASSIFIER], boosters[REGRESSOR])


def check_features(card: ModelCard, present: Sequence[Feature]) -> None:
    """Refuse features that are not what they were when the models were trained.

    Args:
        card: of the run.
        present: columns of fct_features_daily as the dbt project describes them now.

    Raises:
        AsxwError: a feature is gone, or has another type, unit or look-back; the text names it.
    """
    now = {c.name: c for c in present}
    gone = [c.name for c in card.columns if c.name not in now]
    if gone:
        raise AsxwError(
            f"Run {card.run_id} needs {', '.join(gone)}, and fct_features_daily no longer "
            "describes such a column. A renamed feature needs a new training."
        )
    for then in card.columns:
        other = now[then.name]
        for what in ("dtype", "lookback", "unit"):
            before, after = getattr(then, what), getattr(other, what)
            if before != after:
                raise AsxwError(
                    f"Run {card.run_id} was trained on {then.name} with {what} {before}, and "
                    f"fct_features_daily describes it with {after} now: train again."
                )
