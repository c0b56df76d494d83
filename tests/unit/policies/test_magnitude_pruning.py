"""Gradual pruning by magnitude: Zhu and Gupta's law in closed form, the largest weights to the end."""

from itertools import pairwise

import numpy as np

from emulator.forms.kept_units import KeptUnits, score_name
from policies.magnitude_pruning import MagnitudePruning
from tests.unit.policies.pruned_rounds import n_pruned, only_shrinks, scoring, settings


def test_the_sparsity_follows_the_cubic_law_and_is_reached_exactly() -> None:
    rounds = scoring(MagnitudePruning(first_round=1, pruning_rounds=4, steps_between=1)).play(8)

    # 64 (1 - (1 - x)^3) of 128 channels at x = 0, 1/4, 1/2, 3/4, 1 from round 1 on
    expected = [0, 0, 37, 56, 63, 64, 64, 64]
    assert [n_pruned(settings(played).kept)[1] for played in rounds] == expected
    assert [n_pruned(KeptUnits.in_state(played.after))[1] for played in rounds] == expected
    assert n_pruned(settings(rounds[-1]).kept) == (4, 64)


def test_between_prunings_the_model_stays_and_the_last_is_at_the_target() -> None:
    rounds = scoring(MagnitudePruning(first_round=1, pruning_rounds=6, steps_between=8)).play(10)  # every 4 rounds

    # in round 1 as much as the law has in round 4, at x = 1/2; in round 5 what it has in round 8, all
    assert [n_pruned(settings(played).kept)[1] for played in rounds] == [0, 56, 56, 56, 56, 64, 64, 64, 64, 64]
    assert all(only_shrinks(settings(one).kept, settings(other).kept) for one, other in pairwise(rounds))


def test_the_largest_are_kept() -> None:
    small = scoring(MagnitudePruning(target_sparsity=0.25, pruning_rounds=2, steps_between=1))
    magnitudes = np.arange(32, 0, -1, dtype=np.float32)
    small.state = {**small.state, **{score_name(layer, "channel"): magnitudes for layer in range(4)}}

    assert settings(small.play(5)[-1]).kept.channels == (b"\1" * 24 + b"\0" * 8,) * 4


def test_all_devices_have_the_same_model_and_nobody_reports() -> None:
    rounds = scoring(MagnitudePruning(steps_between=1)).play(6)

    assert all(len({settings(played, device).kept for device in range(3)}) == 1 for played in rounds)
    assert {settings(played).importance for played in rounds} == {"none"}
