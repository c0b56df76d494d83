"""LEGEND: the rank law, the estimator, and how depths are determined."""

import pytest

from emulator.errors import ConfigError
from emulator.forms.lora import LoraAssignment
from emulator.policy.catalog import build_policy
from emulator.records import RoundPlan, Status
from emulator.testing import small_testbed, tiny_model
from emulator.testing.small_testbed import PlayedRound
from policies.legend import Legend, least_depth, rank_law


def depths_of(plan: RoundPlan) -> dict[int, int]:
    return {number: found.depth for number, found in plan.assignments.items() if isinstance(found, LoraAssignment)}


def mean_waiting_fraction(times_s: list[float]) -> float:
    return (max(times_s) - sum(times_s) / len(times_s)) / max(times_s)


def test_ranks_grow_by_one_per_layer_and_add_up_to_ninety_over_twelve() -> None:
    ranks = rank_law(12, first_rank=2, rank_step=1.0)

    # 2 + 3 + ... + 13 = 12 * (2 + 13) / 2 = 90
    assert ranks == tuple(range(2, 14))
    assert sum(ranks) == 90


def test_a_fractional_step_is_rounded_and_no_rank_falls_below_one() -> None:
    # 1, 1.5, 2, 2.5, 3, where halves go to the even neighbour
    assert rank_law(5, first_rank=1, rank_step=0.5) == (1, 2, 2, 2, 3)
    assert rank_law(4, first_rank=2, rank_step=-1.0) == (2, 1, 1, 1)


def test_the_third_party_s_law_goes_from_17_to_28_and_the_milder_one_keeps_its_ratio_at_the_default_s_sum() -> None:
    assert rank_law(12, first_rank=17, rank_step=1.0) == tuple(range(17, 29))
    milder = rank_law(12, first_rank=6, rank_step=0.36)
    # 6 + 0.36 * 11 = 9.96; 10 / 6 = 1.67 beside 28 / 17 = 1.65; 12 * 6 + 0.36 * 66 = 95.8
    assert (milder[0], milder[-1], sum(milder)) == (6, 10, 96)


@pytest.mark.parametrize(
    ("n_layers", "min_depth", "min_share", "expected"),
    [(12, 1, 0.0, 1), (12, 1, 0.5, 6), (5, 1, 0.5, 3), (12, 8, 0.5, 8)],
)
def test_the_least_depth_is_that_in_layers_or_the_share_of_all(
    n_layers: int, min_depth: int, min_share: float, expected: int
) -> None:
    assert least_depth(n_layers, min_depth, min_share) == expected


@pytest.mark.parametrize(("skips_floor", "second_depth"), [(False, 12), (True, 6)])
def test_no_device_trains_less_than_its_share_of_the_layers(skips_floor: bool, second_depth: int) -> None:
    """Speeds are 1, 2 and 4, so that without a floor the first two would train 3 and 6 layers at most."""
    policy = Legend(min_share=0.5, waiting_fraction=0.0, skips_floor=skips_floor)
    second = played(2, policy, n_devices=3, n_layers=12)[1]

    assert depths_of(second.plan) == {0: 6, 1: second_depth, 2: 12}
    assert policy.form(tiny_model(4)).scaling == 2.0
    assert Legend(scaling=1.0).form(tiny_model(4)).scaling == 1.0


def played(n_rounds: int, policy: Legend, **settings: object) -> list[PlayedRound]:
    return small_testbed(policy, **settings).play(n_rounds)  # type: ignore[arg-type]


def test_in_the_first_round_nothing_is_known_and_everybody_trains_everything() -> None:
    [first] = played(1, Legend(), n_devices=3)

    assert depths_of(first.plan) == {0: 4, 1: 4, 2: 4}


def test_slow_devices_train_fewer_layers_once_they_are_known_and_the_mean_waiting_falls() -> None:
    first, second = played(2, Legend(waiting_fraction=0.1), n_devices=3, n_layers=12)

    depths = depths_of(second.plan)
    assert depths[0] < depths[1] <= depths[2] == 12  # device 0 is the slowest, device 2 the fastest
    waits = [
        mean_waiting_fraction(
            [seen.download_s + seen.compute_s + seen.upload_s for seen in each.report.devices.values()]
        )
        for each in (first, second)
    ]
    assert waits[1] < waits[0]


def test_a_device_that_ran_out_of_memory_stays_below_the_depth_at_which_it_did() -> None:
    def trouble(round_index: int) -> dict[int, Status]:
        return {2: Status.OUT_OF_MEMORY} if round_index in (0, 1) else {}

    rounds = played(4, Legend(waiting_fraction=1.0), n_devices=3, trouble=trouble)

    assert [depths_of(each.plan)[2] for each in rounds] == [4, 3, 2, 2]


def test_running_out_of_memory_never_takes_a_device_below_the_least_depth() -> None:
    rounds = played(5, Legend(min_depth=3), n_devices=1, trouble=lambda _: {0: Status.OUT_OF_MEMORY})

    assert [depths_of(each.plan)[0] for each in rounds] == [4, 3, 3, 3, 3]


@pytest.mark.parametrize(("downlink", "held"), [("full", (2, 3, 4, 5)), ("tuned", (0, 0, 0, 5))])
def test_the_downlink_carries_all_adapters_or_the_tuned_ones(downlink: str, held: tuple[int, ...]) -> None:
    policy = Legend(downlink=downlink, waiting_fraction=0.0)  # type: ignore[arg-type]
    _, second = played(2, policy, n_devices=2)

    slow = second.plan.assignments[0]
    assert isinstance(slow, LoraAssignment)
    assert (slow.depth, slow.ranks) == (1, held)


@pytest.mark.parametrize(
    ("order", "ranks"), [("increasing", (2, 3, 4, 5)), ("uniform", (4, 4, 4, 4)), ("decreasing", (5, 4, 3, 2))]
)
def test_the_order_of_the_ranks_can_be_taken_out(order: str, ranks: tuple[int, ...]) -> None:
    # The mean of 2, 3, 4, 5 is 3.5, which goes to the even neighbour.
    assert Legend(rank_order=order).form(tiny_model(4)).ranks == ranks  # type: ignore[arg-type]


def test_without_adapted_depths_everybody_trains_all_layers_that_fit() -> None:
    policy = Legend(adapt_depth=False, waiting_fraction=0.0)
    trouble = {0: {1: Status.OUT_OF_MEMORY}}
    rounds = played(3, policy, n_devices=3, trouble=lambda number: trouble.get(number, {}))

    assert [depths_of(each.plan) for each in rounds] == [{0: 4, 1: 4, 2: 4}, {0: 4, 1: 3, 2: 4}, {0: 4, 1: 3, 2: 4}]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min_depth": 0}, r"min_depth .* greater than or equal to 1, got 0"),
        ({"min_depth": 5}, "min_depth must be at most the model's 4 layers, got 5"),
        ({"smoothing": 1.5}, r"smoothing .* less than or equal to 1, got 1\.5"),
        ({"waiting_fraction": -0.1}, r"waiting_fraction .* greater than or equal to 0, got -0\.1"),
    ],
)
def test_impossible_parameters_are_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        build_policy("legend", given).form(tiny_model(4))
