"""Max-min fairness: known divisions, and the conditions that no other division fulfils."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.world.network.fair_share import Vector, cut_rates, max_min_rates, water_level


@pytest.mark.parametrize(
    ("caps", "capacity", "level"),
    [
        ([5.0, 5.0], 10.0, np.inf),  # all fit, with nothing to spare
        ([8.0, 8.0, 8.0], 12.0, 4.0),
        ([1.0, 8.0, 8.0], 12.0, 5.5),  # (12 - 1) / 2
        ([1.0, 4.0, 9.0, 9.0], 18.0, 6.5),  # 4 is below its share only when 1 has left some: (18 - 1 - 4) / 2
        ([0.0, 8.0, 8.0], 12.0, 6.0),  # a flow of cap 0 takes no part
        ([3.0], 2.0, 2.0),
        ([], 2.0, np.inf),
    ],
)
def test_the_level_is_where_capped_flows_fill_the_capacity(caps: list[float], capacity: float, level: float) -> None:
    assert water_level(np.array(caps), capacity) == level


def test_flows_of_two_access_points_share_a_server_that_is_short() -> None:
    # Point 0 gives its two flows 5 each, so that of the server's 20 there are 10 for the flow at point 1.
    rates = max_min_rates(np.array([50.0] * 3), np.array([[0, 0, 1], [2, 2, 2]]), np.array([10.0, 30.0, 20.0]))

    assert rates.tolist() == [5.0, 5.0, 10.0]


def test_what_the_server_limits_leaves_room_at_the_access_point_for_the_other_direction() -> None:
    # One flow down, held at 2 by the egress (resource 1), one up (resource 2): they share 10 at the access point.
    rates = max_min_rates(np.array([50.0, 50.0]), np.array([[0, 0], [1, 2]]), np.array([10.0, 2.0, 100.0]))

    assert rates.tolist() == [2.0, 8.0]


@given(st.data())
def test_every_flow_has_its_cap_or_a_full_resource_on_which_nobody_has_more(data: st.DataObject) -> None:
    n_points, n_flows = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 12))
    amount = st.one_of(st.floats(0.5, 100.0), st.sampled_from([1.0, 2.0, 4.0]))
    caps = np.array(data.draw(st.lists(st.one_of(st.just(0.0), amount), min_size=n_flows, max_size=n_flows)))
    points = data.draw(st.lists(st.integers(0, n_points - 1), min_size=n_flows, max_size=n_flows))
    directions = data.draw(st.lists(st.integers(n_points, n_points + 1), min_size=n_flows, max_size=n_flows))
    limit = st.one_of(st.just(np.inf), amount.map(lambda value: 4 * value))
    capacities = np.array(data.draw(st.lists(limit, min_size=n_points + 2, max_size=n_points + 2)))
    resources = np.array([points, directions])

    rates = max_min_rates(caps, resources, capacities)

    alone = np.array(
        [min(cap, level_at(caps, points, capacities, point)) for cap, point in zip(caps, points, strict=True)]
    )
    cut = cut_rates(alone, caps, resources, capacities)
    assert cut is None or cut == pytest.approx(rates, rel=1e-12)
    used = sum(np.bincount(row, rates, minlength=n_points + 2) for row in resources)
    assert (rates <= caps).all()
    assert (used <= capacities * (1 + 1e-12)).all()
    is_full = used >= capacities * (1 - 1e-12)
    for flow in np.flatnonzero(rates < caps):
        assert any(
            is_full[resource] and rates[flow] >= rates[resources[row] == resource].max() * (1 - 1e-12)
            for row, resource in enumerate(resources[:, flow])
        )


def level_at(caps: Vector, points: list[int], capacities: Vector, point: int) -> float:
    return water_level(caps[np.array(points) == point], capacities[point])


def test_cutting_down_is_not_enough_where_it_leaves_room_that_another_wants() -> None:
    # Down is held at 2 by the server; up can then have 8 of the access point's 10.
    resources, capacities = np.array([[0, 0], [1, 2]]), np.array([10.0, 2.0, 100.0])
    caps, alone = np.array([50.0, 50.0]), np.array([5.0, 5.0])

    assert cut_rates(alone, caps, resources, capacities) is None
    enough = cut_rates(alone, np.array([50.0, 5.0]), resources, capacities)  # up has all that its link carries
    assert enough is not None
    assert enough.tolist() == [2.0, 5.0]
