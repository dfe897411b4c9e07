"""Folds are ranges of sessions, purged, with a sealed holdout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ml.config import read_config
from ml.errors import AsxwError
from ml.folds import check_purge, every_nth_session, plan_folds, sessions_needed

DEFAULT = read_config().folds
HORIZON = DEFAULT.horizon


def rows(sessions: int, symbols: int = 7, seed: int = 0):
    """Session and label end of the rows of a panel, some of it delisted or untraded."""
    rng = np.random.default_rng(seed)
    session = np.repeat(np.arange(sessions), symbols)
    session = session[rng.random(len(session)) < 0.9]
    short = rng.random(len(session)) < 0.05
    end = session + np.where(short, rng.integers(1, HORIZON, len(session)), HORIZON)
    return session, end


@pytest.mark.parametrize("sessions", [698, 900, 1234])
@pytest.mark.parametrize("embargo", [0, 5, 17])
def test_no_training_label_touches_test_block_or_embargo(sessions, embargo):
    settings = replace(DEFAULT, embargo=embargo)
    session, end = rows(max(sessions, sessions_needed(settings, 12)))
    plan = plan_folds(session, settings)
    assert len(plan.folds) == 12
    for fold in plan.folds:
        train = fold.train_rows(end)
        test = plan.test_rows(fold, session, end)
        assert train.any() and test.any()
        assert end[train].max() < session[test].min() - embargo
        assert session[train].max() < session[test].min()
        check_purge(fold, embargo, end[train])


def test_the_check_fails_folds_without_a_purge():
    session, _ = rows(800)
    end = session + HORIZON
    for fold in plan_folds(session, DEFAULT).folds:
        unpurged = session < fold.first_test
        with pytest.raises(AsxwError, match="Nothing was scored"):
            check_purge(fold, DEFAULT.embargo, end[unpurged])
        no_embargo = end < fold.first_test
        with pytest.raises(AsxwError, match="embargo of 5"):
            check_purge(fold, DEFAULT.embargo, end[no_embargo])


def test_holdout_is_neither_scored_nor_trained_on_nor_seen_by_a_label():
    session, end = rows(900)
    plan = plan_folds(session, DEFAULT)
    assert plan.holdout_first == 900 - DEFAULT.holdout
    for fold in plan.folds:
        assert end[fold.train_rows(end)].max() < plan.holdout_first
        assert end[plan.test_rows(fold, session, end)].max() < plan.holdout_first


def test_blocks_follow_each_other_and_are_equally_long():
    session, _ = rows(1000)
    plan = plan_folds(session, DEFAULT)
    lengths = {f.last_test - f.first_test + 1 for f in plan.folds}
    assert len(lengths) == 1 and lengths.pop() >= DEFAULT.minimum_block
    for before, after in zip(plan.folds, plan.folds[1:], strict=False):
        assert after.first_test == before.last_test + 1
    assert plan.folds[-1].last_test == 1000 - DEFAULT.holdout - HORIZON - 1


def test_sessions_not_rows_decide():
    session, end = rows(800)
    order = np.random.default_rng(3).permutation(len(session))
    plan = plan_folds(session, DEFAULT)
    assert plan_folds(session[order], DEFAULT) == plan
    assert plan_folds(np.unique(session), DEFAULT) == plan
    fold = plan.folds[3]
    assert sorted(np.flatnonzero(fold.train_rows(end))) == sorted(
        order[np.flatnonzero(fold.train_rows(end[order]))]
    )


def test_short_history_gives_fewer_blocks_and_says_why():
    plan = plan_folds(np.arange(520), DEFAULT)
    assert 2 <= len(plan.folds) < 12
    assert all(f.last_test - f.first_test + 1 >= DEFAULT.minimum_block for f in plan.folds)
    assert "instead of 12" in plan.warnings[0]
    assert str(sessions_needed(DEFAULT, 12)) in plan.warnings[0]


def test_waived_minimum_keeps_twelve_blocks_with_a_warning():
    plan = plan_folds(np.arange(520), replace(DEFAULT, waive_minimum_block=True))
    assert len(plan.folds) == 12
    assert "waive_minimum_block" in plan.warnings[0]
    reach = plan.folds[0].label_limit - HORIZON
    assert reach >= DEFAULT.minimum_train_sessions


@pytest.mark.parametrize("waived", [False, True])
@pytest.mark.parametrize("holdout", [0, 126])
def test_the_number_of_sessions_asked_for_is_enough_and_no_more(waived, holdout):
    settings = replace(DEFAULT, waive_minimum_block=waived, holdout=holdout)
    for blocks in (2, 12):
        needed = sessions_needed(settings, blocks)
        assert len(plan_folds(np.arange(needed), settings).folds) == blocks
    needed = sessions_needed(settings, 2)
    with pytest.raises(AsxwError, match=f"{needed - 1} sessions and two test blocks need {needed}"):
        plan_folds(np.arange(needed - 1), settings)


def test_twelve_blocks_need_about_seven_hundred_sessions():
    assert sessions_needed(DEFAULT, 12) == 698


@pytest.mark.parametrize("sessions", [0, 1, 60])
def test_too_little_history_is_a_clear_error(sessions):
    with pytest.raises(AsxwError, match="Too little history"):
        plan_folds(np.arange(sessions), DEFAULT)


@pytest.mark.parametrize("stride", [1, 3, 5])
def test_thinned_training_sessions_are_evenly_spaced_and_end_with_the_newest(stride):
    session, end = rows(700)
    for fold in plan_folds(session, DEFAULT).folds:
        past = fold.train_rows(end)
        thinned = every_nth_session(past, session, stride)
        assert not (thinned & ~past).any()
        newest = session[past].max()
        kept = np.unique(session[thinned])
        assert kept[-1] == newest
        assert set(kept) == {t for t in session[past] if (newest - t) % stride == 0}
        # every row of a session that is kept
        np.testing.assert_array_equal(thinned, past & np.isin(session, kept))


def test_thinning_no_rows_gives_none():
    session, _ = rows(10)
    assert not every_nth_session(np.zeros(len(session), dtype=bool), session, 3).any()
