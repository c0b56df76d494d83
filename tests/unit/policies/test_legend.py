"""LEGEND: the rank law, the estimator, and how depths are determined."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.forms.lora import LoraAssignment
from emulator.records import DeviceReport, RoundPlan, Status
from emulator.testing import small_testbed, tiny_model
from emulator.testing.small_testbed import PlayedRound
from policies.legend import Capacity, Legend, determine_depths, measured_capacity, rank_law

SPEEDS_S = st.lists(st.floats(0.1, 20.0), min_size=1, max_size=12)


def depths_of(plan: RoundPlan) -> dict[int, int]:
    return {number: found.depth for number, found in plan.assignments.items() if isinstance(found, LoraAssignment)}


def determined(
    layer_s: Mapping[int, float],
    most: int = 12,
    waiting_fraction: float = 0.2,
    min_depth: int = 1,
    fixed_s: float = 0.0,
) -> dict[int, int]:
    """Depths where device ``d`` takes ``fixed_s`` and ``layer_s[d]`` for each layer."""
    return determine_depths(
        lambda device, depth: fixed_s + depth * layer_s[device],
        dict.fromkeys(layer_s, most),
        waiting_fraction,
        min_depth,
    )


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


def test_devices_of_one_speed_keep_all_their_layers() -> None:
    assert determined(dict.fromkeys(range(5), 3.0)) == dict.fromkeys(range(5), 12)


def test_a_slow_device_gives_up_layers_until_waiting_is_tolerable() -> None:
    # Device 0 takes 12 s. Device 1 takes 2 s per layer, t in all: the mean waiting (t - 12) / 2 is at most 0.2 t from
    # t = 20 s on, that is at 10 layers.
    assert determined({0: 1.0, 1: 2.0}) == {0: 12, 1: 10}


def test_the_waiting_that_is_tolerated_may_be_everything_or_nothing() -> None:
    layer_s = {0: 1.0, 1: 2.0}

    assert determined(layer_s, waiting_fraction=1.0) == {0: 12, 1: 12}
    # Nobody may wait at all: 6 layers of 2 s are 12 layers of 1 s.
    assert determined(layer_s, waiting_fraction=0.0) == {0: 12, 1: 6}


def test_nobody_is_asked_to_train_less_than_the_least_depth() -> None:
    assert determined({0: 1.0, 1: 100.0}, min_depth=3) == {0: 12, 1: 3}


def test_a_device_that_may_train_few_layers_is_never_given_more() -> None:
    depths = determine_depths(lambda device, depth: float(depth), {0: 12, 1: 4}, 0.5, 1)

    assert depths == {0: 12, 1: 4}


def test_without_known_devices_there_is_nothing_to_determine() -> None:
    assert determine_depths(lambda device, depth: 1.0, {}, 0.2, 1) == {}


@given(SPEEDS_S, st.floats(0.0, 1.0), st.integers(1, 12), st.floats(0.0, 50.0))
def test_the_fastest_device_keeps_all_layers_and_the_search_ends_for_a_reason(
    speeds_s: list[float], waiting_fraction: float, min_depth: int, fixed_s: float
) -> None:
    layer_s = dict(enumerate(speeds_s))

    depths = determined(layer_s, 12, waiting_fraction, min_depth, fixed_s)

    times_s = [fixed_s + depths[device] * layer_s[device] for device in layer_s]
    slowest = times_s.index(max(times_s))
    assert depths[speeds_s.index(min(speeds_s))] == 12
    assert all(min_depth <= depth <= 12 for depth in depths.values())
    # It ends when waiting is tolerable, or when the slowest is at the least depth or is the fastest itself.
    tolerable = mean_waiting_fraction(times_s) <= waiting_fraction + 1e-9
    ties = [device for device in layer_s if times_s[device] == pytest.approx(times_s[slowest], rel=1e-9)]
    assert tolerable or any(depths[device] in (min_depth, 12) for device in ties)


def test_a_measurement_is_taken_per_layer_and_per_byte() -> None:
    seen = DeviceReport(
        device_id=0,
        status=Status.OK,
        download_s=2.0,
        forward_s=5.0,
        backward_s=12.0,
        upload_s=3.0,
        download_bytes=100,
        upload_bytes=60,
    )

    assert measured_capacity(seen, depth=4) == Capacity(
        forward_s=5.0, backward_s_per_layer=3.0, download_s_per_byte=0.02, upload_s_per_byte=0.05
    )


def test_the_estimator_is_an_exponential_moving_average() -> None:
    old = Capacity(forward_s=10.0, backward_s_per_layer=1.0, download_s_per_byte=4.0, upload_s_per_byte=0.0)
    new = Capacity(forward_s=20.0, backward_s_per_layer=3.0, download_s_per_byte=4.0, upload_s_per_byte=8.0)

    # Three quarters of the old and one quarter of the new.
    assert old.blend(new, 0.75) == Capacity(
        forward_s=12.5, backward_s_per_layer=1.5, download_s_per_byte=4.0, upload_s_per_byte=2.0
    )


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
    ("given", "message"),
    [
        ({"min_depth": 0}, "min_depth must be between 1 and 4 layers, got 0"),
        ({"min_depth": 5}, "min_depth must be between 1 and 4 layers, got 5"),
        ({"smoothing": 1.5}, r"smoothing must be between 0 and 1, got 1\.5"),
        ({"waiting_fraction": -0.1}, r"waiting_fraction must be between 0 and 1, got -0\.1"),
    ],
)
def test_impossible_parameters_are_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Legend(**given).form(tiny_model(4))  # type: ignore[arg-type]
