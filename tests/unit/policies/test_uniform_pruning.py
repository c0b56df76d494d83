"""Uniform pruning: as much on each device, of what each holds least important."""

from itertools import pairwise

from emulator.forms.kept_units import cubic_sparsity
from emulator.records import Status
from emulator.testing import small_testbed
from policies.fedspine import FedSpine
from policies.uniform_pruning import UniformPruning
from tests.unit.policies.pruned_rounds import N_CHANNELS, n_pruned, only_shrinks, scoring, settings


def test_all_devices_lose_as_many_units_on_the_cubic_schedule() -> None:
    rounds = scoring(UniformPruning(pruning_rounds=4, steps_between=1)).play(8)

    for index, played in enumerate(rounds):
        expected = round(cubic_sparsity(index, 1, 4, 0.5) * N_CHANNELS)
        assert {n_pruned(settings(played, device).kept)[1] for device in range(3)} == {expected}
    assert {n_pruned(settings(rounds[-1], device).kept) for device in range(3)} == {(4, 64)}


def test_each_device_loses_units_of_its_own_for_good() -> None:
    rounds = scoring(UniformPruning(pruning_rounds=4, steps_between=4)).play(8)

    assert len({settings(rounds[-1], device).kept for device in range(3)}) == 3
    for device in range(3):
        kept = [settings(played, device).kept for played in rounds]
        assert all(only_shrinks(before, after) for before, after in pairwise(kept))


def test_it_is_fedspine_on_its_cubic_schedule() -> None:
    uniform, cubic = (
        scoring(policy).play(9)
        for policy in (
            UniformPruning(pruning_rounds=5, steps_between=4),
            FedSpine(schedule="cubic", pruning_rounds=5, steps_between=4),
        )
    )

    assert [played.plan for played in uniform] == [played.plan for played in cubic]


def test_a_device_that_was_never_scored_is_pruned_as_soon_as_it_is() -> None:
    def trouble(round_index: int) -> dict[int, Status]:
        return {0: Status.DROPPED} if round_index < 3 else {}

    rounds = scoring(UniformPruning(pruning_rounds=1, steps_between=20), trouble).play(5)

    assert [n_pruned(settings(played, 0).kept)[1] for played in rounds] == [0, 0, 0, 0, 64]
    assert n_pruned(settings(rounds[1], 1).kept)[1] == 64


def test_without_training_as_much_is_pruned() -> None:
    small = small_testbed(UniformPruning(pruning_rounds=2, steps_between=1), n_devices=2, trains=False)

    assert [n_pruned(settings(played).kept)[1] for played in small.play(5)] == [0, 0, 56, 64, 64]
