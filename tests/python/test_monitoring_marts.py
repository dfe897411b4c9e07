"""What watches a model in use: drift of its features, against an independent computation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import postgres_fixture
import pytest
from built_warehouse import Warehouse

pytestmark = pytest.mark.slow

Read = Callable[[str], pd.DataFrame]


def stability_index(training: pd.Series, recent: pd.Series) -> float:
    """Over ten parts of equal size of the training values."""
    # the last bits, and around 0 the sign of rounding, are the engine's own
    training, recent = (
        v.dropna().mask(v.abs() < 1e-13, 0.0).astype("float32").astype("float64")
        for v in (training, recent)
    )
    if training.empty or recent.empty:
        return float("nan")
    last_of_part = -(-np.arange(1, 10) * len(training) // 10) - 1
    edges = np.sort(training.to_numpy())[last_of_part]
    counts = [np.bincount(np.searchsorted(edges, v), minlength=10) for v in (training, recent)]
    # what lies in no part on either side adds nothing; the floor holds for the others
    t, r = (np.maximum(c / c.sum(), 0.0001) for c in counts)
    used = (counts[0] + counts[1]) > 0
    return float(((r - t) * np.log(r / t))[used].sum())


def compare_drift(read: Read) -> pd.DataFrame:
    """The mart beside pandas, feature by feature; the mart's rows."""
    drift = read("select * from marts.fct_feature_drift")
    first, last = read("select first_session, last_session from ml.runs").iloc[0]
    panel = read("select * from marts.fct_features_daily where is_traded and is_in_universe")
    sessions = read("select trade_date from marts.dim_sessions where session_idx is not null")
    days = np.sort(pd.to_datetime(sessions["trade_date"]).to_numpy())
    history = days[(days >= np.datetime64(first)) & (days <= np.datetime64(last))]
    chosen = [part[-1] for part in np.array_split(history, 12)]
    day = pd.to_datetime(panel["trade_date"])
    training, recent = panel[day.isin(chosen)], panel[day.isin(days[-21:])]
    assert len(training) > 100
    assert len(recent) > 100
    for row in drift.itertuples():
        values = training[row.feature].astype(float), recent[row.feature].astype(float)
        expected = stability_index(*values)
        assert row.population_stability_index == pytest.approx(expected, rel=1e-9, nan_ok=True), row
        assert row.training_coverage == pytest.approx(values[0].notna().mean(), rel=1e-12)
        assert row.recent_coverage == pytest.approx(values[1].notna().mean(), rel=1e-12)
        level = np.searchsorted([0.1, 0.25], expected, side="right")
        said = None if pd.isna(row.drift) else row.drift
        assert said == (None if np.isnan(expected) else ["none", "moderate", "major"][level])
    return drift


def test_drift_is_that_of_pandas(built_market: Warehouse) -> None:
    drift = compare_drift(built_market.frame)
    assert len(drift) > 80
    # prices of an invented market drift, ranks within a session cannot
    by_feature = drift.set_index("feature")["population_stability_index"]
    assert by_feature.max() > 0.1
    assert by_feature["mom_1_rank"] < 0.01


def test_drift_on_postgres(built: postgres_fixture.Database, tmp_path: Path) -> None:
    copy = built.copy("drift")
    with copy.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "insert into ml.runs (run_id, model_name, created_at, first_session, last_session) "
            "select 'r', 'm', timestamp '2026-01-01 00:00:00', min(trade_date), "
            "max(trade_date) - 60 from marts.fct_features_daily"
        )
    connection.close()
    models = ("stg_model_runs", "dim_model_runs", "fct_feature_drift")
    command = ("dbt", "--quiet", "run", "--select", *models)
    postgres_fixture.command(*command, environment=copy.environment(tmp_path))

    def read(sql: str) -> pd.DataFrame:
        with copy.warehouse() as warehouse:
            return warehouse.read_arrow(sql).to_pandas()

    assert len(compare_drift(read)) > 80
