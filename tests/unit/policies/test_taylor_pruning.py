"""Pruning by gradient and weight: one round measures, then what matters least on average is gone everywhere."""

import numpy as np

from emulator.forms.kept_units import KeptUnits, pruned_to_sparsity
from emulator.records import Status
from emulator.testing import small_testbed, tiny_model
from policies.taylor_pruning import TaylorPruning
from tests.unit.policies.pruned_rounds import N_CHANNELS, N_HEADS, n_pruned, scoring, settings


def test_the_first_round_measures_and_all_later_ones_are_at_exactly_the_target() -> None:
    rounds = scoring(TaylorPruning(calibration_steps=1)).play(4)

    assert [(settings(played).importance, settings(played).n_steps) for played in rounds] == [
        ("taylor", 1),
        *[("none", 2)] * 3,
    ]
    assert [n_pruned(settings(played).kept) for played in rounds] == [(0, 0), *[(4, 64)] * 3]
    assert {n_pruned(KeptUnits.in_state(played.after)) for played in rounds} == {(4, 64)}


def test_what_goes_is_least_important_on_average_over_examples() -> None:
    first, second = scoring(TaylorPruning()).play(2)
    whole = KeptUnits.whole({}, tiny_model(4))
    n_examples = sum(update.n_examples for update in first.updates)
    mean = {
        name: sum(np.float64(update.n_examples / n_examples) * update.reported[name] for update in first.updates)
        for name in first.updates[0].reported
    }

    expected = pruned_to_sparsity(whole, mean, 0.5)  # type: ignore[arg-type]
    assert {settings(second, device).kept for device in range(3)} == {expected}


def test_calibration_pays_for_a_number_for_each_unit() -> None:
    first, second, *_ = scoring(TaylorPruning(target_sparsity=0.0)).play(2)

    sent = [played.report.devices[0].upload_bytes for played in (first, second)]
    assert sent[0] - sent[1] == 4 * (N_HEADS + N_CHANNELS)


def test_a_round_in_which_nobody_delivers_is_repeated() -> None:
    def trouble(round_index: int) -> dict[int, Status]:
        return dict.fromkeys(range(3), Status.DROPPED) if round_index == 0 else {}

    rounds = scoring(TaylorPruning(), trouble).play(3)

    assert [settings(played).importance for played in rounds] == ["taylor", "taylor", "none"]


def test_without_training_as_much_is_pruned() -> None:
    rounds = small_testbed(TaylorPruning(), n_devices=2, trains=False).play(3)

    assert [n_pruned(settings(played).kept) for played in rounds] == [(0, 0), (4, 64), (4, 64)]
