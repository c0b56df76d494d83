"""Pruning at once: what has the smallest weights is gone before the first round, on all devices alike."""

import numpy as np
import pytest

from emulator.forms.kept_units import KeptUnits, score_name
from emulator.testing import small_testbed
from policies.oneshot_pruning import OneShotPruning
from tests.unit.policies.pruned_rounds import n_pruned, scoring, settings


@pytest.mark.parametrize(("sparsity", "expected"), [(0.5, (4, 64)), (0.25, (2, 32)), (0.0, (0, 0))])
def test_the_sparsity_is_reached_exactly_from_the_first_round_on(sparsity: float, expected: tuple[int, int]) -> None:
    rounds = scoring(OneShotPruning(target_sparsity=sparsity)).play(3)

    assert {n_pruned(settings(played, device).kept) for played in rounds for device in range(3)} == {expected}
    assert {n_pruned(KeptUnits.in_state(played.after)) for played in rounds} == {expected}


def test_the_largest_are_kept() -> None:
    small = scoring(OneShotPruning(target_sparsity=0.5))
    magnitudes = np.arange(32, dtype=np.float32)
    small.state = {**small.state, **{score_name(layer, "channel"): magnitudes for layer in range(4)}}

    kept = settings(small.play_round()).kept

    assert kept.channels == (b"\0" * 16 + b"\1" * 16,) * 4


def test_all_devices_train_the_same_small_model_and_nobody_reports() -> None:
    rounds = scoring(OneShotPruning(rank=3)).play(2)

    assert len({settings(played, device).kept for played in rounds for device in range(3)}) == 1
    assert {settings(played).importance for played in rounds} == {"none"}
    assert {settings(played, device).ranks for played in rounds for device in range(3)} == {(3,) * 4}


def test_without_training_as_much_is_pruned() -> None:
    rounds = small_testbed(OneShotPruning(), n_devices=2, trains=False).play(2)

    assert [n_pruned(settings(played).kept) for played in rounds] == [(4, 64)] * 2
