"""Why a share got its score: the exact contributions of its features, largest first.

LightGBM's TreeSHAP splits a score into a base and one part per feature, without a remainder (S.
Lundberg et al., From local explanations to global understanding with explainable AI for trees,
Nature Machine Intelligence 2, 2020). The classifier's parts are in log-odds of the probability as
it is written, class weighting undone; the regressor's are returns. A contribution says what the
model made of a value, not what the value causes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml.evaluation import session_ranks

Floats = npt.NDArray[np.float64]

CLASSIFIER, REGRESSOR = "classifier", "regressor"
BASE, FEATURE, OTHERS = "base", "feature", "others"
_MEANT = {CLASSIFIER: "probability", REGRESSOR: "expected return"}


@dataclass(frozen=True)
class Contributions:
    """A score in parts: base + parts.sum(axis=1) is the score."""

    base: float
    parts: Floats
    """By row and feature (n, p)."""


def contributions(
    booster: lgb.Booster, values: Floats, threads: int, positive_weight: float = 1.0
) -> Contributions:
    """Parts of the scores of rows.

    Args:
        booster: a model.
        values: features in its order (n, p).
        threads: processors to use.
        positive_weight: class weight w of a classifier. Undoing it divides the odds by w, so it
            takes log w from the base and nothing from any feature.
    """
    found = np.asarray(
        booster.predict(np.ascontiguousarray(values), pred_contrib=True, num_threads=threads),
        dtype=np.float64,
    )
    return Contributions(float(found[0, -1]) - math.log(positive_weight), found[:, :-1])


def places_among(values: Floats) -> Floats:
    """Share of the known values of a column that lie below each (n, p), ties half; NaN: unknown."""
    out = np.full(values.shape, np.nan)
    for j in range(values.shape[1]):
        known = np.flatnonzero(~np.isnan(values[:, j]))
        if len(known):
            ranks = session_ranks(np.zeros(len(known), dtype=np.int64), values[known, j])
            out[known, j] = (ranks - 0.5) / len(known)
    return out


def _wording(head: str, feature: str, value: float, place: float, part: float) -> str:
    verb = "raises" if part > 0 else "lowers" if part < 0 else "does not move"
    effect = f"{verb} the {_MEANT[head]}"
    if math.isnan(value):
        return f"{feature} is unknown: {effect}"
    share = max(place, 1 - place)
    side = "higher" if place >= 0.5 else "lower"
    # no share is above all, itself among them
    where = f"{side} than {min(round(100 * share), 99)} % of shares"
    return f"{feature} {value:.4g}, {where}: {effect}"


def reason_rows(
    head: str,
    symbols: Sequence[str],
    features: Sequence[str],
    values: Floats,
    found: Contributions,
    count: int,
) -> pa.Table:
    """Rows of ml.reasons but for run and session: base, the largest parts, and what is left.

    Args:
        head: classifier or regressor.
        symbols: of the rows (n,).
        features: names (p,).
        values: of the features (n, p).
        found: contributions of the rows.
        count: features named per symbol.
    """
    places = places_among(values)
    count = min(count, len(features))
    order = np.argsort(-np.abs(found.parts), axis=1, kind="stable")[:, :count]
    rows = []
    for i, symbol in enumerate(symbols):
        shared = {"symbol": symbol, "head": head}
        nothing = {"feature": None, "feature_value": None, "value_place": None, "reason": None}
        parts = found.parts[i]
        rows.append(shared | nothing | {"place": 0, "part": BASE, "contribution": found.base})
        for place, j in enumerate(order[i].tolist(), start=1):
            value, among, part = (float(x) for x in (values[i, j], places[i, j], parts[j]))
            unknown = math.isnan(value)
            rows.append(
                shared
                | {
                    "place": place,
                    "part": FEATURE,
                    "feature": features[j],
                    # the shortest decimal that is this 32-bit float: 0.1 and not 0.10000000149
                    "feature_value": None if unknown else float(str(np.float32(value))),
                    "value_place": None if unknown else among,
                    "contribution": part,
                    "reason": _wording(head, features[j], value, among, part),
                }
            )
        left = float(np.delete(parts, order[i]).sum())
        rows.append(shared | nothing | {"place": count + 1, "part": OTHERS, "contribution": left})
    schema = pa.schema(
        [
            ("symbol", pa.string()),
            ("head", pa.string()),
            ("place", pa.int64()),
            ("part", pa.string()),
            ("feature", pa.string()),
            ("feature_value", pa.float64()),
            ("value_place", pa.float64()),
            ("contribution", pa.float64()),
            ("reason", pa.string()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)
