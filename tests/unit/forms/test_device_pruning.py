"""Pruning device by device: scores go on as a running mean would, and the model for all follows the devices."""

from typing import Any

import numpy as np
import pytest

from emulator.forms.device_pruning import DevicePruning, mean_scores, weight_of_kept, with_common_units, with_units
from emulator.forms.kept_units import KeptUnits
from emulator.forms.pruned_lora import PrunedLoraAssignment
from emulator.records import Arrays, Assignment, Update

WHOLE = KeptUnits.all_of(1, 2, 4)
HALF = KeptUnits(heads=(b"\1\0",), channels=(b"\1\1\0\0",))


def scores(heads: list[float], channels: list[float]) -> Arrays:
    return {
        "layers.0.head_score": np.array(heads, np.float32),
        "layers.0.channel_score": np.array(channels, np.float32),
    }


def update(device: int, reported: Arrays, n_examples: int = 1, kept: KeptUnits = WHOLE, **others: Any) -> Update:
    common: dict[str, Any] = {"batch_size": 1, "learning_rate": 0.1, "ranks": (2,), "depth": 1, "n_steps": 3}
    own = PrunedLoraAssignment(device_id=device, kept=kept, **{**common, **others})
    return Update(device_id=device, assignment=own, payload={}, n_examples=n_examples, metrics={}, reported=reported)


def test_scores_are_carried_as_smoothing_leaves_them_after_the_steps_of_a_round() -> None:
    pruning = DevicePruning()
    pruning.hear([update(0, scores([1, 2], [4, 4, 4, 4]), smoothing=0.5)], carries=True)
    pruning.hear([update(0, scores([9, 2], [8, 8, 8, 8]), smoothing=0.5)], carries=True)

    # 0.5^3 of the old, the rest of the new
    assert pruning.scores[0]["layers.0.head_score"].tolist() == [1 / 8 + 7 / 8 * 9, 2]
    assert pruning.scores[0]["layers.0.channel_score"].tolist() == [7.5] * 4


def test_scores_that_are_not_carried_are_the_latest() -> None:
    pruning = DevicePruning()
    for first in (1, 9):
        pruning.hear([update(0, scores([first, 2], [4] * 4))], carries=False)
    pruning.hear([update(0, {})], carries=False)  # who did not measure says nothing

    assert pruning.scores[0]["layers.0.head_score"].tolist() == [9, 2]


def test_a_device_is_due_once_at_each_time_and_only_with_something_to_go_by() -> None:
    pruning = DevicePruning()
    assert not pruning.is_due(0, 1, None)
    assert pruning.is_due(0, 1, WHOLE.equal_scores())

    pruning.hear([update(0, scores([1, 2], [1, 2, 3, 4]))], carries=True)
    assert pruning.is_due(0, 1, None)
    assert not pruning.is_due(0, 0, None)

    pruning.prune(0, 1, 0.5, WHOLE, None)
    assert (pruning.kept[0].heads, pruning.kept[0].channels) == ((b"\0\1",), (b"\0\0\1\1",))
    assert not pruning.is_due(0, 1, None)
    assert pruning.is_due(0, 2, None)


def test_what_a_device_keeps_is_its_weight() -> None:
    assert weight_of_kept(update(0, {}, kept=HALF)) == 0.5
    plain = Assignment(device_id=0, n_steps=1, batch_size=1, learning_rate=0.1)
    assert weight_of_kept(Update(device_id=0, assignment=plain, payload={}, n_examples=1, metrics={})) == 1.0


def test_scores_are_averaged_by_examples_over_those_who_report() -> None:
    updates = [
        update(0, scores([1, 0], [0] * 4), n_examples=30),
        update(1, scores([5, 4], [8] * 4), n_examples=10),
        update(2, {}, n_examples=100),
    ]

    found = mean_scores(updates)

    assert found is not None
    assert found["layers.0.head_score"].tolist() == [2, 1]
    assert found["layers.0.channel_score"].tolist() == [2] * 4
    assert found["layers.0.head_score"].dtype == np.float32
    assert mean_scores(updates[2:]) is None


def test_the_model_for_all_loses_what_most_examples_have_lost() -> None:
    state = {**WHOLE.arrays(), "head.classifier.bias": np.zeros(2, np.float32)}
    mean = {**state, "head.classifier.bias": np.ones(2, np.float32)}

    found = with_common_units(state, mean, [update(0, {}, 30, HALF), update(1, {}, 10)])

    # 3/4 of what HALF has lost: of 2 channels 1.5, rounded to 2, of 1 head 0.75, rounded to 1
    assert KeptUnits.in_state(found) == HALF
    assert found["head.classifier.bias"].tolist() == [1, 1]
    assert with_common_units(state, mean, []) is state


def test_masks_are_put_where_there_are_any() -> None:
    assert KeptUnits.in_state(with_units(WHOLE.arrays(), HALF)) == HALF
    assert with_units({}, HALF) == {}


@pytest.mark.parametrize("carries", [True, False])
def test_reports_of_other_forms_are_none_of_its_business(carries: bool) -> None:
    plain = Assignment(device_id=0, n_steps=1, batch_size=1, learning_rate=0.1)
    pruning = DevicePruning()
    pruning.hear(
        [Update(device_id=0, assignment=plain, payload={}, n_examples=1, metrics={}, reported=scores([1], [1]))],
        carries=carries,
    )

    assert not pruning.scores
