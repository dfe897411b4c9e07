"""Walk-forward folds over market sessions, with purge, embargo and a sealed holdout.

A label of session t is known at session t + horizon. Training rows of a fold must therefore have
matured before the test block begins, an embargo earlier (Lopez de Prado, Advances in Financial
Machine Learning, 2018, chapter 7). Folds are ranges of sessions; the order of rows plays no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import TimeSeriesSplit

from ml.config import FoldSettings
from ml.errors import AsxwError

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

HOLDOUT = -1
"""Number of the fold that is the sealed holdout."""


@dataclass(frozen=True)
class Fold:
    """One test block (session indices, both ends inside) and the limit of its training labels."""

    number: int
    first_test: int
    last_test: int
    label_limit: int
    """Training rows have label_end_idx below this session: first_test - embargo."""

    def train_rows(self, label_end_idx: Indices) -> Mask:
        """Rows (n,) whose label has matured before the test block less the embargo."""
        return np.asarray(label_end_idx < self.label_limit)


@dataclass(frozen=True)
class FoldPlan:
    """The folds in time order and the first session closed to them."""

    folds: tuple[Fold, ...]
    holdout_first: int | None
    """First session of the sealed holdout; None without one."""
    warnings: tuple[str, ...]

    def test_rows(self, fold: Fold, session_idx: Indices, label_end_idx: Indices) -> Mask:
        """Rows (n,) of the test block whose label does not reach into the holdout."""
        rows = (session_idx >= fold.first_test) & (session_idx <= fold.last_test)
        if self.holdout_first is not None:
            rows &= label_end_idx < self.holdout_first
        return np.asarray(rows)


def sessions_needed(settings: FoldSettings, blocks: int) -> int:
    """Sessions a panel must have for this many test blocks of the minimum length."""
    block = 1 if settings.waive_minimum_block else settings.minimum_block
    purge = settings.horizon + settings.embargo
    seal = settings.holdout + (settings.horizon if settings.holdout else 0)
    before = max(purge + settings.minimum_train_sessions, block)
    return blocks * block + before + seal


def _block_length(sessions: int, blocks: int, settings: FoldSettings) -> int:
    """Length of each of `blocks` test blocks that leaves the first fold enough to train on."""
    purge = settings.horizon + settings.embargo
    free = sessions - purge - settings.minimum_train_sessions
    return min(sessions // (blocks + 1), free // blocks)


def first_of_holdout(sessions: Indices, settings: FoldSettings) -> int | None:
    """First session of the sealed holdout; None without one, or where it would be everything.

    Args:
        sessions: the panel's sessions (n,), each once, in order.
        settings: lengths in sessions.
    """
    if not settings.holdout or len(sessions) <= settings.holdout:
        return None
    return int(sessions[-settings.holdout])


def plan_folds(session_idx: Indices, settings: FoldSettings) -> FoldPlan:
    """Test blocks over the unique sessions of a panel.

    Args:
        session_idx: market session of each row (n,), in any order, repeated or not.
        settings: lengths in sessions.

    The latest `holdout` sessions are closed, and with them the `horizon` sessions before, whose
    labels are made of the holdout's prices. What is left is cut by scikit-learn's
    TimeSeriesSplit into as many blocks as allow the minimum length, at most `blocks`.

    Raises:
        AsxwError: fewer than two blocks fit; the text says how many sessions are needed.
    """
    sessions = np.unique(session_idx)
    holdout_first = first_of_holdout(sessions, settings)
    open_sessions = sessions
    if holdout_first is not None:
        open_sessions = sessions[sessions + settings.horizon < holdout_first]
    elif settings.holdout:
        open_sessions = sessions[:0]

    least = 1 if settings.waive_minimum_block else settings.minimum_block
    blocks = settings.blocks
    while blocks >= 2 and _block_length(len(open_sessions), blocks, settings) < least:
        blocks -= 1
    if blocks < 2:
        raise AsxwError(
            f"Too little history to evaluate a model: the training panel has {len(sessions)} "
            f"sessions and two test blocks need {sessions_needed(settings, 2)} "
            f"(holdout {settings.holdout}, blocks of at least {least}, label horizon "
            f"{settings.horizon}, embargo {settings.embargo}). Load more history, or shorten "
            "folds.holdout or folds.minimum_block in the model parameters."
        )

    warnings = []
    if blocks < settings.blocks:
        warnings.append(
            f"{blocks} test blocks instead of {settings.blocks}: the panel has {len(sessions)} "
            f"sessions, and {settings.blocks} blocks of at least {least} sessions need "
            f"{sessions_needed(settings, settings.blocks)}."
        )
    length = _block_length(len(open_sessions), blocks, settings)
    if length < settings.minimum_block:
        warnings.append(
            f"Test blocks of {length} sessions are shorter than {settings.minimum_block} "
            "(folds.waive_minimum_block is on): labels of one block overlap most of it."
        )
    splits = TimeSeriesSplit(n_splits=blocks, test_size=length).split(open_sessions)
    folds = []
    for number, (_, test) in enumerate(splits, start=1):
        first, last = int(open_sessions[test[0]]), int(open_sessions[test[-1]])
        folds.append(Fold(number, first, last, first - settings.embargo))
    return FoldPlan(tuple(folds), holdout_first, tuple(warnings))


def every_nth_session(rows: Mask, session_idx: Indices, stride: int) -> Mask:
    """Those of the rows (n,) that lie a multiple of `stride` sessions before the latest of them.

    Labels of neighbouring sessions overlap almost wholly, so that most of what a model learns is in
    a part of the sessions; the newest is always among them.
    """
    if stride == 1 or not rows.any():
        return rows
    return np.asarray(rows & ((session_idx[rows].max() - session_idx) % stride == 0))


def check_purge(fold: Fold, embargo: int, train_label_end_idx: Indices) -> None:
    """Refuse training rows (n,) whose label window touches the test block or its embargo.

    Raises:
        AsxwError: there is such a row; a fold that fails this must not be scored.
    """
    reach = fold.first_test - embargo
    touching = int(np.count_nonzero(train_label_end_idx >= reach))
    if touching:
        raise AsxwError(
            f"Fold {fold.number}: the labels of {touching} training rows reach session "
            f"{int(train_label_end_idx.max())}, and the test block begins at session "
            f"{fold.first_test} after an embargo of {embargo}. Nothing was scored."
        )
