"""FedSpine: pruning is cumulative, controls end at the target, and the common model follows the devices."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from emulator.algorithms.bandits import PartitionBandit
from emulator.errors import ConfigError
from emulator.forms.kept_units import KeptUnits, cubic_sparsity
from emulator.policy.catalog import build_policy
from emulator.records import Status
from emulator.testing import small_testbed, tiny_model
from policies.fedspine import UNSEEN, FedSpine, reward
from tests.unit.policies.pruned_rounds import N_CHANNELS, N_HEADS, n_pruned, only_shrinks, scoring, settings


@pytest.mark.parametrize("steps_between", [1, 6])
@pytest.mark.parametrize("schedule", ["bandit", "cubic", "one_shot"])
def test_kept_sets_only_shrink_and_end_at_exactly_the_target(schedule: Any, steps_between: int) -> None:
    rounds = scoring(FedSpine(schedule=schedule, pruning_rounds=4, steps_between=steps_between)).play(20)

    for device in range(3):
        kept = [settings(played, device).kept for played in rounds]
        assert all(only_shrinks(before, after) for before, after in pairwise(kept))
        assert n_pruned(kept[0]) == (0, 0)
        assert n_pruned(kept[-1]) == (N_HEADS // 2, N_CHANNELS // 2)
    common = KeptUnits.in_state(rounds[-1].after)
    assert common is not None
    assert n_pruned(common) == (N_HEADS // 2, N_CHANNELS // 2)


def test_the_cubic_control_follows_its_schedule_with_one_rank_for_all() -> None:
    rounds = scoring(FedSpine(schedule="cubic", pruning_rounds=4, rank=5, steps_between=1)).play(7)

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
    rounds = scoring(FedSpine(min_rank=2, max_rank=6, steps_between=1)).play(6)

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


def test_twenty_local_steps_lie_between_two_prunings() -> None:
    rounds = scoring(FedSpine(schedule="cubic", pruning_rounds=20)).play(24)  # of two local steps each

    gone = [n_pruned(settings(played).kept)[1] for played in rounds]
    # in rounds 1, 11 and 21, each as much as the schedule has in the last round before the next
    first, second = (round(cubic_sparsity(at, 1, 20, 0.5) * N_CHANNELS) for at in (10, 20))
    assert gone == [0] + [first] * 10 + [second] * 10 + [64] * 3


def test_adapters_are_on_the_matrices_of_those_that_do_not_prune() -> None:
    assert FedSpine().form(tiny_model(4)).targets == ("query", "value")


def test_scores_go_on_from_those_of_earlier_rounds() -> None:
    policy = FedSpine(steps_between=40, first_round=5, smoothing=0.9)
    rounds = scoring(policy, n_devices=1).play(2)

    [first], [second] = (played.updates for played in rounds)
    name = "layers.2.channel_score"
    memory = 0.9**2  # of two steps
    expected = memory * first.reported[name] + (1 - memory) * second.reported[name]
    assert policy.memory()["_pruning"].scores[0][name] == pytest.approx(expected)  # type: ignore[attr-defined]


def test_a_device_names_what_may_go_in_the_round_before_it_is_pruned() -> None:
    rounds = scoring(FedSpine(schedule="cubic", pruning_rounds=4, steps_between=6)).play(5)  # pruned in 1 and in 4
    named = [settings(played).candidates for played in rounds]
    sent = [played.report.devices[0].upload_bytes for played in rounds]

    first = cubic_sparsity(3, 1, 4, 0.5)
    assert named == [pytest.approx(first), 0.0, 0.0, pytest.approx(0.5 - first), 0.0]
    # one more of each kind than that share of 8 heads and 128 channels, a byte each
    assert sent[3] - sent[2] == int((0.5 - first) * N_HEADS) + 1 + int((0.5 - first) * N_CHANNELS) + 1
    assert sent[1] == sent[2]


def test_who_sends_all_scores_sends_them_in_each_round_until_it_is_done() -> None:
    dear, cheap = (
        scoring(FedSpine(schedule="one_shot", first_round=2, sends=sends)).play(4)  # type: ignore[arg-type]
        for sends in ("scores", "candidates")
    )

    more = [
        a.report.devices[0].upload_bytes - b.report.devices[0].upload_bytes for a, b in zip(dear, cheap, strict=True)
    ]
    named = int(0.5 * N_HEADS) + 1 + int(0.5 * N_CHANNELS) + 1
    assert more == [4 * (N_HEADS + N_CHANNELS), 4 * (N_HEADS + N_CHANNELS) - named, 0, 0]


def weights(bandits: Any) -> dict[int, float]:
    """The plays of each bandit, discounted."""
    assert isinstance(bandits, Mapping)
    found = {}
    for number, bandit in bandits.items():
        assert isinstance(bandit, PartitionBandit)
        found[number] = sum(weight for weight, _ in bandit.statistics())
    return found


def test_devices_of_a_class_share_a_bandit() -> None:
    policy = FedSpine(n_classes=3, discount=0.5, steps_between=1)
    scoring(policy, n_devices=6).play(4)  # two devices of each of three speeds

    # all of them play in rounds 1, 2 and 3, and those of a round are one batch
    assert weights(policy.memory()["_bandits"]) == dict.fromkeys(range(3), 2 * (1 + 0.5 + 0.25))


def test_without_classes_each_device_has_a_bandit_of_its_own() -> None:
    policy = FedSpine(n_classes=0, discount=0.5, steps_between=1)
    scoring(policy, n_devices=4).play(3)

    assert weights(policy.memory()["_bandits"]) == dict.fromkeys(range(4), 1.5)


def test_a_device_of_unknown_speed_plays_apart() -> None:
    policy = FedSpine(first_round=0)
    small_testbed(policy, n_devices=2, trains=False).play(1)

    assert list(weights(policy.memory()["_bandits"])) == [UNSEEN]


def test_an_action_holds_until_the_next_pruning_and_each_round_of_it_is_rewarded() -> None:
    policy = FedSpine(steps_between=6, n_classes=0, discount=1.0)
    rounds = scoring(policy, n_devices=1).play(7)  # pruned in rounds 1 and 4

    ranks = [settings(played).ranks[0] for played in rounds]
    assert ranks == [8, *[ranks[1]] * 3, *[ranks[4]] * 3]
    assert weights(policy.memory()["_bandits"]) == {0: 6.0}


def test_without_training_as_much_is_pruned() -> None:
    small = small_testbed(FedSpine(schedule="cubic", pruning_rounds=2, steps_between=1), n_devices=2, trains=False)

    assert [n_pruned(settings(played).kept)[1] for played in small.play(5)] == [0, 0, 56, 64, 64]


def test_no_target_leaves_the_model_whole_and_measures_nothing() -> None:
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
        ({"steps_between": 0}, r"steps_between .* greater than or equal to 1, got 0"),
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
