"""Transfers of devices that roam: exact through hand-overs, sharing what is shared where each device is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_profiles.catalog import load_cluster, load_link
from device_profiles.link_kinds.base import LinkSpec
from device_profiles.link_kinds.roaming import RoamingLink
from device_profiles.link_kinds.walks import Point, RecordedWalk
from emulator.seeds import Seeds
from emulator.world.clock import Clock, Process
from emulator.world.network.links import Links
from emulator.world.network.network import Network
from emulator.world.network.shared_network import SharedCapacity, shared_capacity
from emulator.world.network.transfers import Direction, Transfer
from tests.unit.world.network.test_network import Sent, constant, filled, rate_of

INF = float("inf")
DOWN = Direction.DOWN
Walked = Sequence[tuple[float, int]]
"""When a device goes where: seconds, and the number of an access point."""


def point(number: int, rate: float, shared: float) -> Point:
    return Point(name=f"point {number}", min_bytes_per_s=rate, max_bytes_per_s=rate, shared_bytes_per_s=shared)


def roaming(
    points: Sequence[tuple[float, float]], walks: Sequence[Walked], gap_s: float = 0.0, period_s: float = INF
) -> RoamingLink:
    """``points`` have a rate and what they carry for all; device ``i`` takes the walk of its number."""
    return RoamingLink(
        name="roaming",
        access_points=tuple(point(number, *figures) for number, figures in enumerate(points)),
        gap_s=(gap_s, gap_s),
        walks=tuple(
            RecordedWalk(
                start_s=tuple(start_s for start_s, _ in walk),
                points=tuple(number for _, number in walk),
                period_s=period_s,
            )
            for walk in walks
        ),
        latency_s=0.0,
        provenance={},
        sha256="",
    )


def network(links: Sequence[LinkSpec], server: tuple[float, float] = (INF, INF)) -> tuple[Clock, Network]:
    """Devices that do not roam are at a point without a limit."""
    clock, points = Clock(), [INF]
    first = dict.fromkeys(links, 0)
    for link in first:
        if link.points_bytes_per_s():
            first[link] = len(points)
            points += link.points_bytes_per_s()
    shared = SharedCapacity(np.array([first[link] for link in links]), tuple(points), server)
    return clock, Network(clock, Links(links, Seeds(0)), shared)


def ends(links: Sequence[LinkSpec], sent: Sequence[Sent], server: tuple[float, float] = (INF, INF)) -> list[float]:
    clock, net = network(links, server)

    def send(one: Sent) -> Process[float]:
        yield clock.timeout(one.start_s)
        yield net.start(one.device_id, one.direction, one.n_bytes, rate_of(links[one.device_id])).event
        return clock.now_s

    def everyone() -> Process[list[float]]:
        arrived: list[float] = yield clock.all_of([clock.process(send(one)) for one in sent])
        return arrived

    return clock.run(everyone())


def test_a_transfer_goes_on_at_the_rate_of_the_point_that_its_device_has_come_to() -> None:
    link = roaming([(100, INF), (40, INF)], [[(0, 0), (2, 1)]])

    # 200 in two seconds, then 100 at 40.
    assert ends([link], [Sent(0, 0.0, 300)]) == [4.5]


def test_nothing_passes_during_a_hand_over() -> None:
    link = roaming([(100, INF), (40, INF)], [[(0, 0), (2, 1)]], gap_s=0.5)

    assert ends([link], [Sent(0, 0.0, 300)]) == [5.0]
    # One that begins in the gap waits for its end.
    assert ends([link], [Sent(0, 2.25, 40)]) == [3.5]


def test_who_leaves_a_point_leaves_its_share_to_those_who_stay_and_takes_one_where_it_comes() -> None:
    link = roaming([(1000, 100), (1000, 60)], [[(0, 0)], [(0, 0), (2, 1)], [(0, 1)]])

    # Two have 50 each at the first point for 2 s, the third 60. Then the first has 100 for itself, over at 3 s with
    # 200; the others have 30 each: the third had 120 of 150 and is over at 3 s, the second has 100 + 30 then, and
    # 60 for the 70 that are left.
    sent = [Sent(0, 0.0, 200), Sent(1, 0.0, 200), Sent(2, 0.0, 150)]
    assert ends([link] * 3, sent) == pytest.approx([3.0, 3.0 + 70 / 60, 3.0], abs=1e-9)


def test_a_hand_over_leaves_the_share_of_who_goes_to_the_others_at_once() -> None:
    link = roaming([(1000, 100), (1000, 100)], [[(0, 0)], [(0, 0), (1, 1), (3, 0)]], gap_s=1.0)

    # 50 each for 1 s. The second is in a gap until 2 s, has 100 at the other point until 3 s, and is in a gap until
    # 4 s; the first has 100 from 1 s on, until both have 50 each from 4 s on.
    assert ends([link] * 2, [Sent(0, 0.0, 400), Sent(1, 0.0, 200)]) == pytest.approx([5.0, 5.0], abs=1e-9)


def test_devices_that_roam_and_others_share_the_server_s_link() -> None:
    link = roaming([(100, INF), (10, INF)], [[(0, 0), (1, 1)]])

    # 50 each; from 1 s on the first has 10 and leaves 90 to the other.
    assert ends([link, constant(100)], [Sent(0, 0.0, 60), Sent(1, 0.0, 140)], (100.0, INF)) == [2.0, 2.0]


def test_a_device_that_moved_while_it_sent_nothing_shares_where_it_is_now() -> None:
    link = roaming([(100, 100), (100, 20)], [[(0, 0), (5, 1), (100, 0)]])
    clock, net = network([link])

    def device() -> Process[list[float]]:
        found = []
        for start_s in (0.0, 10.0, 100.0):
            yield clock.timeout(start_s - clock.now_s)
            begun_s = clock.now_s
            yield net.start(0, DOWN, 100, 100.0).event
            found.append(clock.now_s - begun_s)
        return found

    assert clock.run(device()) == [1.0, 5.0, 1.0]


def test_a_device_that_moves_during_the_latency_begins_where_it_has_come_to() -> None:
    link = replace(roaming([(100, INF), (40, INF)], [[(0, 0), (2, 1)]]), latency_s=1.0)

    assert ends([link], [Sent(0, 1.5, 40)]) == [3.5]


def test_a_transfer_can_be_stopped_during_the_latency_within_which_its_device_moved() -> None:
    link = replace(roaming([(100, 100), (40, 100)], [[(0, 0), (2, 1)]]), latency_s=1.0)
    clock, net = network([link])

    def device() -> Process[float]:
        yield clock.timeout(1.5)
        transfer = net.start(0, DOWN, 40, 100.0)
        yield clock.timeout(0.75)
        assert net.stop(transfer)
        assert transfer.delivered_bytes == 0
        yield net.start(0, DOWN, 40, 100.0).event
        return clock.now_s

    assert clock.run(device()) == 2.25 + 1.0 + 1.0


quarters = st.integers(1, 24).map(lambda number: number / 4)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[LinkSpec], list[Sent], tuple[float, float]]:
    n_devices, n_points = draw(st.integers(1, 6)), draw(st.integers(2, 3))
    limit = st.one_of(st.just(INF), st.integers(5, 120).map(float))
    points = [(float(draw(st.integers(1, 60))), draw(limit)) for _ in range(n_points)]
    walks = []
    for _ in range(n_devices):
        moments = [0.0, *sorted(set(draw(st.lists(quarters, max_size=5))))]
        walk = [draw(st.integers(0, n_points - 1))]
        for _ in moments[1:]:
            walk.append((walk[-1] + draw(st.integers(1, n_points - 1))) % n_points)
        walks.append(list(zip(moments, walk, strict=True)))
    link = roaming(
        points, walks, gap_s=draw(st.sampled_from([0.0, 0.25, 1.0])), period_s=draw(st.sampled_from([INF, 7]))
    )
    links = [draw(st.sampled_from([link, link, constant(30)])) for _ in range(n_devices)]
    sent = [
        Sent(number, draw(st.integers(0, 8)) / 4, draw(st.integers(1, 300)), draw(st.sampled_from(Direction)))
        for number in range(n_devices)
    ]
    return links, sent, (draw(limit), draw(limit))


@settings(deadline=None)
@given(worlds())
def test_ends_are_those_of_exact_arithmetic(world: Any) -> None:
    assert ends(*world) == pytest.approx([float(end_s) for end_s in exact_ends(*world)], abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(worlds(), st.integers(1, 40))
def test_what_has_arrived_of_a_stopped_transfer_is_missing_from_no_other_s_time(world: Any, stop_quarters: int) -> None:
    links, sent, server = world
    clock, net = network(links, server)
    begun: list[tuple[Sent, Transfer]] = []

    def send(one: Sent) -> Process[None]:
        yield clock.timeout(one.start_s)
        begun.append((one, net.start(one.device_id, one.direction, one.n_bytes, rate_of(links[one.device_id]))))

    def until_stopped() -> Process[list[tuple[Sent, Transfer]]]:
        for one in sent:
            clock.process(send(one))
        yield clock.timeout(stop_quarters / 4)
        for _, transfer in begun:
            net.stop(transfer)
        return list(begun)

    stopped = clock.run(until_stopped())

    exact = exact_ends(links, sent, server, until_s=Fraction(stop_quarters, 4))
    for one, transfer in stopped:
        arrived = exact[sent.index(one)]
        assert int(max(arrived - Fraction(1, 10**6), 0)) <= transfer.delivered_bytes <= arrived + Fraction(1, 10**6)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_no_point_carries_more_than_it_can_whoever_comes(seed: int) -> None:
    link = replace(roaming([(50, 70), (80, 90), (20, 30)], []), walks=(), mean_dwell_s=2.0, gap_s=(0.05, 0.4))
    links = Links([link] * 6, Seeds(seed))
    clock = Clock()
    net = Network(clock, links, SharedCapacity(np.zeros(6, np.int64), link.points_bytes_per_s(), (INF, INF)))

    def send(device_id: int) -> Process[None]:
        yield net.start(device_id, Direction(device_id % 2), 2000, 100.0).event

    def watch() -> Process[int]:
        everyone, n_seen = clock.all_of([clock.process(send(device_id)) for device_id in range(6)]), 0
        while not everyone.processed:
            yield clock.timeout(0.37)
            points = np.array([links.walks[device_id].point_at(clock.now_s) for device_id in range(6)])
            carried = np.bincount(points, net.rates_in_force(), minlength=3)
            assert (carried <= np.array(link.points_bytes_per_s()) * (1 + 1e-12)).all()
            rates = links.rates(0, clock.now_s).down_bytes_per_s
            assert (net.rates_in_force() <= rates * (1 + 1e-12)).all()
            n_seen += 1
        return n_seen

    # 12,000 bytes through points that carry 190 together take at least 63 s.
    assert clock.run(watch()) > 100


def test_a_cluster_s_devices_share_the_points_of_the_links_that_they_are_on() -> None:
    link, cluster = load_link("roaming-wifi"), load_cluster("jetson80-shared-wifi")
    first, *others = cluster.entries
    shared = shared_capacity(replace(cluster, entries=(replace(first, link=link), *others)))

    assert shared is not None
    assert shared.points_bytes_per_s == (150e6 / 8,) * 4 + (200e6 / 8, 150e6 / 8, 100e6 / 8, 100e6 / 8)
    assert shared.point_of_device[: first.count].tolist() == [4] * first.count
    assert shared.point_of_device[first.count :].max() == 3
    alone = load_cluster("jetson80")
    assert shared_capacity(replace(alone, entries=(replace(alone.entries[0], link=link),))) is not None


def exact_ends(
    links: Sequence[LinkSpec], sent: Sequence[Sent], server: tuple[float, float], until_s: Fraction | None = None
) -> list[Fraction]:
    """When each has arrived, or how much of each by ``until_s``, by progressive filling in rational numbers."""
    left = [Fraction(one.n_bytes) for one in sent]
    end_s, now_s = [Fraction(0)] * len(sent), Fraction(0)
    points = next(([INF, *link.points_bytes_per_s()] for link in links if isinstance(link, RoamingLink)), [INF])
    while any(left) and (until_s is None or now_s < until_s):
        flowing = [k for k, one in enumerate(sent) if left[k] and one.start_s <= now_s]
        places = [place_of(link, device_id, now_s) for device_id, link in enumerate(links)]
        caps = {k: places[sent[k].device_id].cap for k in flowing}
        rates = filled(caps, sent, points, [place.point for place in places], server)
        # Everything else happens at a quarter of a second.
        moments = [(4 * now_s // 1 + 1) / Fraction(4)]
        moments += [now_s + left[k] / rates[k] for k in flowing if rates[k]] + ([until_s] if until_s else [])
        step_s = min(moments) - now_s
        now_s += step_s
        for k in flowing:
            left[k] -= rates[k] * step_s
            if not left[k]:
                end_s[k] = now_s
    return end_s if until_s is None else [one.n_bytes - rest for one, rest in zip(sent, left, strict=True)]


@dataclass(frozen=True)
class Place:
    """Where a device is, and what its link carries there."""

    point: int
    cap: Fraction


def place_of(link: LinkSpec, device_id: int, now_s: Fraction) -> Place:
    if not isinstance(link, RoamingLink):
        return Place(0, Fraction(30))
    walk = link.walks[device_id % len(link.walks)]
    n_periods = int(now_s / walk.period_s) + 1
    visits = list(zip(walk.start_s, walk.points, strict=True))
    if walk.period_s < INF:
        visits = [(n * walk.period_s + start_s, number) for n in range(n_periods) for start_s, number in visits]
    *before, (start_s, number) = [visit for visit in visits if visit[0] <= now_s]
    while before and before[-1][1] == number:
        *before, (start_s, number) = before
    in_gap = bool(before) and now_s < start_s + link.gap_s[0]
    return Place(1 + number, Fraction(0 if in_gap else link.access_points[number].min_bytes_per_s))
