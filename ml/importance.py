"""What the model loses, out of fold, when it cannot know a feature.

Permutation importance: a feature's values are exchanged among the shares of a session, and what
the AUC per session loses is the feature's worth. Unlike gain, which counts what the training rows
offered, it is measured on rows the model has not seen; and a feature whose work another one can
do is worth little.

With a booster's own predictions this costs a prediction of all rows per feature. In trees of up to
64 leaves, a row's leaf is the lowest bit of an AND of masks, one for each split that sends the row
right (C. Lucchese et al., QuickScorer, SIGIR 2015); an exchange changes the masks of one feature's
splits, and all others are shared, which takes a tenth of the time for the same scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from ml.evaluation import session_auc, session_ranks

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Masks = npt.NDArray[np.uint64]

_FULL = np.uint64(2**64 - 1)
_MOST_LEAVES = 64
_ROWS_PER_SESSION = 100
_CHUNK = 1000
# bits of LightGBM's decision_type
_CATEGORICAL, _DEFAULT_LEFT, _MISSING_ZERO, _MISSING_NAN = 1, 2, 4, 8


@dataclass(frozen=True)
class Permutation:
    """Permutation importance of one fold."""

    auc_loss: Floats
    """Mean AUC per session less that with the feature's values exchanged (p,)."""
    auc: float
    """Mean AUC per session of the sampled rows as they are."""
    sessions: int
    rows: int


# --- the rows -----------------------------------------------------------------------------------


def sample_rows(session: Indices, most: int, rng: np.random.Generator) -> Indices:
    """Positions of at most about `most` rows, in order: spread sessions, and shares drawn in each.

    A session keeps some hundred shares where it has them, because an AUC of few rows is mostly
    noise; so a large market gives fewer sessions.

    Args:
        session: session number of each row (n,), in order.
        most: rows wanted.
        rng: draws the shares.
    """
    numbers, counts = np.unique(session, return_counts=True)
    by_session = min(_ROWS_PER_SESSION, int(np.median(counts)))
    wanted = max(1, min(len(numbers), most // by_session))
    chosen = numbers[np.linspace(0, len(numbers) - 1, wanted).round().astype(np.int64)]
    most_each = max(by_session, most // wanted)
    parts = []
    for number in chosen:
        rows = np.flatnonzero(session == number)
        if len(rows) > most_each:
            rows = np.sort(rng.choice(rows, most_each, replace=False))
        parts.append(rows)
    return np.concatenate(parts)


def exchange_within(codes: Indices, rng: np.random.Generator) -> Indices:
    """A permutation of rows (n,) that keeps every row's session; codes in order."""
    return np.lexsort((rng.random(len(codes)), codes))


# --- the trees ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tree:
    """Splits and leaves of one tree; leaves are numbered from left to right."""

    feature: Indices
    threshold: Floats
    kind: Indices
    left_leaves: Masks
    """Bits of the leaves a split loses when it sends a row right."""
    value: Floats
    """By leaf from left to right."""


def _numbers(lines: dict[str, str], key: str, kind: type) -> npt.NDArray[np.generic]:
    return np.array(lines[key].split(), dtype=kind)


def _leaf_order(left: Indices, right: Indices) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Leaves from left to right, and of each split: node, first leaf, leaf after its left side."""
    leaves: list[int] = []
    spans: list[tuple[int, int, int]] = []

    def visit(child: int) -> None:
        if child < 0:
            leaves.append(-child - 1)
            return
        first = len(leaves)
        visit(int(left[child]))
        spans.append((child, first, len(leaves)))
        visit(int(right[child]))

    visit(0)
    return leaves, spans


def _trees(booster: lgb.Booster) -> Iterator[_Tree]:
    """Trees of a booster, from its text, up to the first that masks cannot follow.

    They follow numeric splits that do not treat 0 as missing, and up to 64 leaves.
    """
    # what comes after the trees has lines of the same form, one per feature
    text = booster.model_to_string().split("\nend of trees")[0]
    for part in text.split("\nTree=")[1:]:
        lines = dict(line.split("=", 1) for line in part.splitlines()[1:] if "=" in line)
        values = _numbers(lines, "leaf_value", float).astype(np.float64)
        if len(values) == 1:
            empty = np.empty(0, dtype=np.int64)
            none = np.empty(0, dtype=np.uint64)
            yield _Tree(empty, np.empty(0), empty, none, values)
            continue
        kind = _numbers(lines, "decision_type", int).astype(np.int64)
        if len(values) > _MOST_LEAVES or np.any(kind & (_CATEGORICAL | _MISSING_ZERO)):
            return
        left, right = (
            _numbers(lines, f"{side}_child", int).astype(np.int64) for side in ("left", "right")
        )
        order, spans = _leaf_order(left, right)
        masks = np.zeros(len(kind), dtype=np.uint64)
        for node, first, after in spans:
            masks[node] = np.uint64(((1 << (after - first)) - 1) << first)
        yield _Tree(
            _numbers(lines, "split_feature", int).astype(np.int64),
            _numbers(lines, "threshold", float).astype(np.float64),
            kind,
            masks,
            values[order],
        )


class _Steps:
    """Rows as step numbers of their features: values between two thresholds of a booster are one.

    Step i of a feature lies above i of its thresholds; the last step is an unknown value.
    """

    def __init__(self, trees: Sequence[_Tree], values: Floats) -> None:
        rows, features = values.shape
        found = [
            np.unique(np.concatenate([t.threshold[t.feature == j] for t in trees]))
            for j in range(features)
        ]
        self.features = features
        self.count = max(len(t) for t in found) + 2
        # of each tree's splits, the first step that lies above the threshold
        every = np.concatenate([t.feature for t in trees])
        above = np.empty(len(every), dtype=np.int64)
        threshold = np.concatenate([t.threshold for t in trees])
        for j in range(features):
            above[every == j] = np.searchsorted(found[j], threshold[every == j]) + 1
        self.above = np.split(above, np.cumsum([len(t.feature) for t in trees])[:-1])
        self.codes = np.empty((features, rows), dtype=np.int64)
        for j, thresholds in enumerate(found):
            steps = np.searchsorted(thresholds, values[:, j], side="left")
            unknown = np.isnan(values[:, j])
            self.codes[j] = np.where(unknown, self.count - 1, steps) + j * self.count

    def survivors(self, number: int, tree: _Tree) -> Masks:
        """Leaves a row may still reach after a tree's splits on one feature, by feature and step.

        Args:
            number: the tree's place among the trees.
            tree: the tree.
        """
        alive = np.full((self.features, self.count), _FULL)
        by_default = np.where(
            tree.kind & _MISSING_NAN,
            tree.kind & _DEFAULT_LEFT == 0,
            # a split that met no missing value in training reads one as 0
            tree.threshold < 0,
        )
        nodes = zip(
            tree.feature.tolist(),
            self.above[number].tolist(),
            by_default.tolist(),
            ~tree.left_leaves,
            strict=True,
        )
        for feature, above, unknown_goes_right, kept in nodes:
            alive[feature, above:-1] &= kept
            if unknown_goes_right:
                alive[feature, -1] &= kept
        return alive.ravel()


def _all_but_one(masks: Masks) -> Masks:
    """AND over all rows of `masks` (f, n) but the one itself."""
    out = np.empty_like(masks)
    before = np.full(masks.shape[1], _FULL)
    for j in range(len(masks)):
        out[j] = before
        before &= masks[j]
    after = np.full(masks.shape[1], _FULL)
    for j in range(len(masks) - 1, -1, -1):
        out[j] &= after
        after &= masks[j]
    return out


def _leaf_values(tree: _Tree, masks: Masks) -> Floats:
    """Value of the leftmost leaf that is left, for masks of any shape."""
    lowest = masks & (~masks + np.uint64(1))
    return tree.value[np.bitwise_count(lowest - np.uint64(1))]


def exchanged_scores(
    booster: lgb.Booster, values: Floats, exchange: Indices
) -> tuple[Floats, Floats]:
    """Raw scores of rows as they are (n,), and with each feature's values exchanged (p, n).

    Args:
        booster: any; trees of more than 64 leaves take longer.
        values: features in the booster's order (n, p).
        exchange: row whose value a row gets, by feature (p, n).
    """
    trees = list(_trees(booster))
    if len(trees) < booster.num_trees():
        return _exchanged_by_prediction(booster, values, exchange)
    return _exchanged_by_masks(trees, values, exchange)


def _exchanged_by_prediction(
    booster: lgb.Booster, values: Floats, exchange: Indices
) -> tuple[Floats, Floats]:
    def raw(rows: Floats) -> Floats:
        return np.asarray(booster.predict(rows, raw_score=True, num_threads=1), dtype=np.float64)

    changed = np.empty(exchange.shape)
    for j, order in enumerate(exchange):
        rows = values.copy()
        rows[:, j] = values[order, j]
        changed[j] = raw(rows)
    return raw(values), changed


def _exchanged_by_masks(
    trees: Sequence[_Tree], values: Floats, exchange: Indices
) -> tuple[Floats, Floats]:
    rows, features = values.shape
    steps = _Steps(trees, values)
    exchanged_codes = np.take_along_axis(steps.codes, exchange, axis=1)
    prepared = [
        (tree, np.unique(tree.feature), steps.survivors(number, tree))
        for number, tree in enumerate(trees)
    ]
    plain, changed = np.zeros(rows), np.zeros((features, rows))
    # a few rows through all trees at a time: their masks stay in the processor's cache
    for first in range(0, rows, _CHUNK):
        part = slice(first, first + _CHUNK)
        for tree, used, alive in prepared:
            if not len(used):
                plain[part] += tree.value[0]
                continue
            own = alive[steps.codes[used, part]]
            others = _all_but_one(own)
            as_is = _leaf_values(tree, others[0] & own[0])
            plain[part] += as_is
            others &= alive[exchanged_codes[used, part]]
            changed[used, part] += _leaf_values(tree, others) - as_is
    return plain, changed + plain


def permutation_importance(
    booster: lgb.Booster, values: Floats, session: Indices, up: Floats, *, least: int, seed: int
) -> Permutation:
    """What the AUC per session loses by each feature's exchange.

    Args:
        booster: the classifier.
        values: features in its order (n, p).
        session: session number of each row (n,), in order.
        up: 1.0 or 0.0 (n,).
        least: rows a session must have to count.
        seed: of the exchange.

    Returns:
        NaN where no session counts.
    """
    numbers, codes = np.unique(session, return_inverse=True)
    rng = np.random.default_rng(seed)
    exchange = np.stack([exchange_within(codes, rng) for _ in range(values.shape[1])])
    plain, changed = exchanged_scores(booster, values, exchange)

    def auc(score: Floats) -> float:
        by_session = session_auc(codes, len(numbers), session_ranks(codes, score), up, least)
        known = by_session[np.isfinite(by_session)]
        return float(known.mean()) if len(known) else np.nan

    base = auc(plain)
    loss = base - np.array([auc(score) for score in changed])
    return Permutation(loss, base, len(numbers), len(session))
