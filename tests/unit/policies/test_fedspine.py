"""FedSpine: pruning is cumulative, controls end at the target, and the common network follows the devices."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from emulator.errors import ConfigError
from emulator.forms.kept_units import KeptUnits, cubic_sparsity
from emulator.forms.pruned_lora import PrunedLoraAssignment
from emulator.policy.catalog import build_policy
from emulator.records import Job, Status, Update
from emulator.testing import PlayedRound, SmallTestbed, small_testbed, tiny_model
from emulator.testing.trouble import Trouble, no_trouble
from policies.fedspine import FedSpine, reward

N_HEADS, N_CHANNELS = 4 * 2, 4 * 32  # of the tiny model on four layers


def scoring(policy: FedSpine, trouble: Trouble = no_trouble, n_devices: int = 3) -> SmallTestbed:
    """A testbed whose devices report random scores where they are asked to measure."""
    small = small_testbed(policy, n_devices=n_devices, trouble=trouble, reports=scored)
    small.state = {**small.state, **KeptUnits.whole({}, tiny_model(4)).arrays()}  # made-up states have made-up masks
    return small


def scored(job: Job, update: Update) -> Update:
    own = update.assignment
    assert isinstance(own, PrunedLoraAssignment)
    if own.importance == "none":
        return update
    rng = np.random.default_rng((job.round_index, update.device_id))
    reported = {name: rng.random(a.shape).astype(np.float32) for name, a in own.kept.equal_scores().items()}
    metrics = {"train_loss": 2.0 / (1 + job.round_index), "adapter_importance": float(1 + update.device_id)}
    return replace(update, reported=reported, metrics=metrics)


def settings(played: PlayedRound, device: int = 0) -> PrunedLoraAssignment:
    found = played.plan.assignments[device]
    assert isinstance(found, PrunedLoraAssignment)
    return found


def n_pruned(kept: KeptUnits) -> tuple[int, int]:
    return kept.n_pruned("head"), kept.n_pruned("channel")


@pytest.mark.parametrize("schedule", ["bandit", "cubic", "one_shot"])
def test_kept_sets_only_shrink_and_end_at_exactly_the_target(schedule: Any) -> None:
    rounds = scoring(FedSpine(schedule=schedule, pruning_rounds=4)).play(20)

    for device in range(3):
        kept = [settings(played, device).kept for played in rounds]
        for before, after in pairwise(kept):
            for kind in ("head", "channel"):
                for old, new in zip(before.masks(kind), after.masks(kind), strict=True):
                    assert not (new & ~old).any()
        assert n_pruned(kept[0]) == (0, 0)
        assert n_pruned(kept[-1]) == (N_HEADS // 2, N_CHANNELS // 2)
    common = KeptUnits.in_state(rounds[-1].after)
    assert common is not None
    assert n_pruned(common) == (N_HEADS // 2, N_CHANNELS // 2)


def test_the_cubic_control_follows_its_schedule_with_one_rank_for_all() -> None:
    rounds = scoring(FedSpine(schedule="cubic", pruning_rounds=4, rank=5)).play(7)

    for index, played in enumerate(rounds):
        expected = round(cubic_sparsity(index, 1, 4, 0.5) * N_CHANNELS)
        assert {n_pruned(settings(played, device).kept)[1] for device in range(3)} == {expected}
        assert {settings(played, device).ranks for device in range(3)} == {(5, 5, 5, 5)}
    assert n_pruned(settings(rounds[5]).kept) == (4, 64)


def test_the_one_shot_control_prunes_all_at_once() -> None:
    rounds = scoring(FedSpine(schedule="one_shot", first_round=2)).play(4)

    assert [n_pruned(settings(played).kept) for played in rounds] == [(0, 0), (0, 0), (4, 64), (4, 64)]


def test_devices_prune_by_their_own_scores_and_measure_until_they_are_done() -> None:
    rounds = scoring(FedSpine(schedule="one_shot")).play(3)

    assert settings(rounds[1], 0).kept != settings(rounds[1], 1).kept
    assert [settings(played).importance for played in rounds] == ["gradient", "none", "none"]


def test_the_bandit_gives_devices_ranks_and_increments_of_their_own() -> None:
    rounds = scoring(FedSpine(min_rank=2, max_rank=6)).play(6)

    assert settings(rounds[0]).ranks == (8,) * 4  # nobody has been scored yet
    ranks = {settings(played, device).ranks[0] for played in rounds[1:] for device in range(3)}
    assert ranks <= {2, 3, 4, 5, 6}
    assert len(ranks) > 2
    assert len({settings(rounds[5], device).kept.n_pruned("channel") for device in range(3)}) > 1


def test_a_device_that_was_never_scored_is_not_pruned() -> None:
    def trouble(round_index: int) -> dict[int, Status]:
        return {0: Status.DROPPED} if round_index < 3 else {}

    rounds = scoring(FedSpine(schedule="one_shot"), trouble).play(5)

    assert [n_pruned(settings(played, 0).kept)[1] for played in rounds] == [0, 0, 0, 0, 64]
    assert n_pruned(settings(rounds[1], 1).kept)[1] == 64


def test_without_training_as_much_is_pruned() -> None:
    small = small_testbed(FedSpine(schedule="cubic", pruning_rounds=2), n_devices=2, trains=False)

    assert [n_pruned(settings(played).kept)[1] for played in small.play(5)] == [0, 0, 56, 64, 64]


def test_no_target_leaves_the_network_whole_and_measures_nothing() -> None:
    rounds = scoring(FedSpine(schedule="cubic", target_sparsity=0.0)).play(3)

    assert {settings(played).kept for played in rounds} == {KeptUnits.whole({}, tiny_model(4))}
    assert {settings(played).importance for played in rounds} == {"none"}


def test_aggregation_weighs_examples_by_what_a_device_keeps() -> None:
    policy = FedSpine()
    small = scoring(policy, n_devices=2)
    played = small.play_round()
    whole = settings(played).kept
    half = replace(whole, channels=(b"\1\0" * 16,) * 4)
    name, value = "head.classifier.bias", np.float32(1)
    updates = [
        replace(
            update,
            assignment=replace(settings(played), device_id=device, kept=kept),
            payload={name: np.full(3, value * (device + 1))},
            n_examples=20,
        )
        for device, (update, kept) in enumerate(zip(played.updates, (whole, half), strict=True))
    ]

    merged = policy.aggregate(small.testbed.form, played.before, updates)

    # weights 20 * 1 and 20 * (1 + 0.5) / 2, as all heads and half of the channels are left
    assert merged[name] == pytest.approx(np.full(3, (20 * 1 + 15 * 2) / 35))


def test_the_reward_is_less_for_those_later_than_the_median() -> None:
    assert reward(3.0, completion_s=8.0, median_s=10.0, lateness=2.0) == 3.0
    assert reward(3.0, completion_s=15.0, median_s=10.0, lateness=2.0) == 1.5


def test_pruning_makes_rounds_cheaper() -> None:
    rounds = scoring(FedSpine(schedule="one_shot")).play(2)
    before, after = (played.report.devices[0] for played in rounds)

    assert after.compute_s < 0.7 * before.compute_s
    assert after.upload_bytes < before.upload_bytes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target_sparsity": 1.0}, r"target_sparsity .* less than 1, got 1\.0"),
        ({"pruning_rounds": 0}, r"pruning_rounds .* greater than or equal to 1, got 0"),
        ({"min_rank": 9, "max_rank": 8}, "max_rank must be at least min_rank, 9, got 8"),
        ({"discount": 0.0}, r"discount .* greater than 0, got 0\.0"),
        ({"exploration": -0.1}, r"exploration .* greater than or equal to 0, got -0\.1"),
        ({"smallest_leaf": -1.0}, r"smallest_leaf .* greater than or equal to 0, got -1\.0"),
        ({"loss_weight": -1.0}, r"loss_weight .* greater than or equal to 0, got -1\.0"),
        ({"progress_weight": -1.0}, r"progress_weight .* greater than or equal to 0, got -1\.0"),
        ({"adapter_weight": -1.0}, r"adapter_weight .* greater than or equal to 0, got -1\.0"),
        ({"lateness": -1.0}, r"lateness .* greater than or equal to 0, got -1\.0"),
    ],
)
def test_impossible_parameters_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        build_policy("fedspine", given).form(tiny_model(4))
