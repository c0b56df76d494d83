"""Transfers that share capacity end when closed forms, and exact arithmetic, say; no byte is lost or made."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_profiles.catalog import load_cluster
from device_profiles.link_kinds.base import LinkSpec
from device_profiles.link_kinds.constant import ConstantLink
from device_profiles.link_kinds.replay import RateTrace, Replay
from device_profiles.link_kinds.trace import TraceLink
from emulator.seeds import Seeds
from emulator.world.clock import Clock, Process
from emulator.world.network.links import Links
from emulator.world.network.network import Network
from emulator.world.network.shared_network import SharedCapacity, shared_capacity
from emulator.world.network.transfers import Direction, Transfer

INF = float("inf")
DOWN, UP = Direction.DOWN, Direction.UP


@dataclass(frozen=True)
class Sent:
    """Bytes that one device begins to send at a time."""

    device_id: int
    start_s: float
    n_bytes: int
    direction: Direction = DOWN


def constant(rate: float, latency_s: float = 0.0, loss_fraction: float = 0.0) -> ConstantLink:
    return ConstantLink(
        name=f"constant {rate}",
        download_bytes_per_s=rate,
        upload_bytes_per_s=rate,
        latency_s=latency_s,
        loss_fraction=loss_fraction,
        provenance={},
        sha256="",
    )


def changing(*rates: float) -> TraceLink:
    """A link whose rate changes every second."""
    trace = RateTrace(
        start_s=np.arange(len(rates), dtype=float), bytes_per_s=np.array(rates, float), period_s=float(len(rates))
    )
    return TraceLink(name="trace", download=trace, upload=trace, latency_s=0.0, provenance={}, sha256=str(rates))


def network(
    links: Sequence[LinkSpec],
    points: Sequence[float] = (INF,),
    point_of: Sequence[int] | None = None,
    server: tuple[float, float] = (INF, INF),
    *,
    is_shared: bool = True,
) -> tuple[Clock, Network]:
    """All devices are at point 0 unless ``point_of`` says otherwise. Traces begin at their first step."""
    clock, known = Clock(), Links(links, Seeds(0))
    for pair in known.replays.values():
        for replay in pair:
            assert isinstance(replay, Replay)
            replay.offset_s = 0.0
    point_of_device = np.array(point_of or [0] * len(links))
    return clock, Network(clock, known, SharedCapacity(point_of_device, tuple(points), server) if is_shared else None)


def rate_of(link: LinkSpec) -> float:
    return link.download_bytes_per_s if isinstance(link, ConstantLink) else float("nan")


def ends(links: Sequence[LinkSpec], sent: Sequence[Sent], *args: Any, **kwargs: Any) -> list[float]:
    """When each of ``sent`` has arrived."""
    clock, net = network(links, *args, **kwargs)

    def send(one: Sent) -> Process[float]:
        yield clock.timeout(one.start_s)
        yield net.start(one.device_id, one.direction, one.n_bytes, rate_of(links[one.device_id])).event
        return clock.now_s

    def everyone() -> Process[list[float]]:
        arrived: list[float] = yield clock.all_of([clock.process(send(one)) for one in sent])
        return arrived

    return clock.run(everyone())


def test_a_transfer_alone_has_its_link_s_rate_or_the_access_point_s() -> None:
    assert ends([constant(100)], [Sent(0, 1.0, 250)], [400.0]) == [3.5]
    assert ends([constant(100)], [Sent(0, 1.0, 250)], [50.0]) == [6.0]


def test_two_transfers_have_half_each_until_the_smaller_one_is_over() -> None:
    # 50 each until 2 s; then the rest of 100 alone.
    assert ends([constant(100)] * 2, [Sent(0, 0.0, 100), Sent(1, 0.0, 200)], [100.0]) == [2.0, 3.0]


def test_a_slow_link_leaves_to_the_others_what_it_cannot_use() -> None:
    # 30 for the slow one and 70 for the other, whose 140 are over at 2 s.
    assert ends([constant(100), constant(30)], [Sent(0, 0.0, 140), Sent(1, 0.0, 90)], [100.0]) == [2.0, 3.0]


@pytest.mark.parametrize("n_flows", [1, 2, 20, 80])
def test_equal_flows_of_different_lengths_end_in_closed_form(n_flows: int) -> None:
    sent = [Sent(device_id, 0.0, 100 * (device_id + 1)) for device_id in range(n_flows)]

    # Flow k has 100 (k + 1) bytes. Between two ends one more flow is over: 100 bytes for each of those left.
    expected = np.cumsum([100.0 * (n_flows - over) / 1000.0 for over in range(n_flows)])
    assert ends([constant(1e9)] * n_flows, sent, [1000.0]) == pytest.approx(expected, abs=1e-9)


def test_one_that_starts_later_slows_the_others_down_from_then_on() -> None:
    # Alone at 100 until 1 s (100 of 200 sent), then 50 each: the first is over at 3 s, the second has 100 of 150 then.
    assert ends([constant(100)] * 2, [Sent(0, 0.0, 200), Sent(1, 1.0, 150)], [100.0]) == [3.0, 3.5]


def test_both_directions_share_the_air_but_not_the_server_s_link() -> None:
    sent = [Sent(0, 0.0, 100, DOWN), Sent(1, 0.0, 100, UP)]

    assert ends([constant(100)] * 2, sent, [100.0]) == [2.0, 2.0]
    assert ends([constant(100)] * 2, sent, [INF], server=(100.0, 50.0)) == [1.0, 2.0]


def test_access_points_do_not_disturb_each_other_until_the_server_is_short() -> None:
    links, sent = [constant(100)] * 3, [Sent(0, 0.0, 140), Sent(1, 0.0, 90), Sent(2, 0.0, 200)]

    # 50 and 50 at the first point, 60 at the second. 90 are over at 1.8 s; 50 are left, at 100.
    assert ends(links, sent, [100.0, 60.0], [0, 0, 1]) == pytest.approx([2.3, 1.8, 200 / 60], abs=1e-9)
    # The server has 40 for each: 90 are over at 2.25 s. Then 60 for both others, which is all that point 1 carries;
    # 50 are left of the first, over 5/6 s later. The third has had 90 + 50 by then, and 60 left at 60.
    expected = [2.25 + 5 / 6, 2.25, 2.25 + 5 / 6 + 1]
    assert ends(links, sent, [100.0, 60.0], [0, 0, 1], (120.0, INF)) == pytest.approx(expected, abs=1e-9)


def test_a_rate_that_changes_on_the_way_changes_what_the_others_get() -> None:
    links = [changing(100, 20, 100), constant(100)]

    # 50 each for a second, then 20 and 80 for one, then 50 each: the first has 50 + 20 + 30, at 2.6 s. The second has
    # 50 + 80 + 30 by then, and 100 for itself.
    assert ends(links, [Sent(0, 0.0, 100), Sent(1, 0.0, 200)], [100.0]) == pytest.approx([2.6, 3.0], abs=1e-9)


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_link_that_carries_nothing_for_a_while_holds_a_transfer_up(is_shared: bool) -> None:
    [end_s] = ends([changing(100, 0, 0, 40)], [Sent(0, 0.5, 130)], is_shared=is_shared)

    assert end_s == pytest.approx(4.4, abs=1e-9)  # 50 in the first second, 40 in the fourth, 40 in the fifth


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_transfer_waits_for_the_latency_and_sends_again_what_is_lost(is_shared: bool) -> None:
    link = constant(100, latency_s=0.25, loss_fraction=0.2)

    # 100 bytes need 125 where a fifth is lost; an empty transfer waits all the same.
    assert ends([link], [Sent(0, 1.0, 100)], is_shared=is_shared) == [1.0 + 0.25 + 1.25]
    assert ends([link], [Sent(0, 1.0, 0)], is_shared=is_shared) == [1.25]


def test_nothing_is_used_while_a_transfer_waits_for_its_latency() -> None:
    links = [constant(100), constant(100, latency_s=1.0)]

    assert ends(links, [Sent(0, 0.0, 100), Sent(1, 0.0, 100)], [100.0]) == [1.0, 2.0]


def test_a_second_transfer_of_a_device_is_refused_where_capacity_is_shared() -> None:
    with pytest.raises(ValueError, match="one transfer at a time, got a second one of device 0"):
        ends([constant(100)], [Sent(0, 0.0, 100), Sent(0, 0.5, 100)], [100.0])


amounts = st.integers(1, 60)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[LinkSpec], list[Sent], list[float], list[int], tuple[float, float]]:
    n_devices, n_points = draw(st.integers(1, 7)), draw(st.integers(1, 3))
    link = st.one_of(amounts.map(constant), st.lists(amounts, min_size=2, max_size=4).map(lambda r: changing(*r)))
    limit = st.one_of(st.just(INF), st.integers(5, 120).map(float))
    return (
        [draw(link) for _ in range(n_devices)],
        [
            Sent(number, draw(st.integers(0, 8)) / 4, draw(st.integers(1, 300)), draw(st.sampled_from(Direction)))
            for number in range(n_devices)
        ],
        [draw(limit) for _ in range(n_points)],
        [draw(st.integers(0, n_points - 1)) for _ in range(n_devices)],
        (draw(limit), draw(limit)),
    )


@settings(deadline=None)
@given(worlds())
def test_ends_are_those_of_exact_arithmetic(world: Any) -> None:
    assert ends(*world) == pytest.approx([float(end_s) for end_s in exact_ends(*world)], abs=1e-9)


@given(worlds())
@settings(deadline=None, max_examples=20)
def test_the_same_transfers_end_at_the_same_times_to_the_bit(world: Any) -> None:
    assert ends(*world) == ends(*world)


@settings(deadline=None)
@given(worlds(), st.integers(1, 40), st.booleans())
def test_what_has_arrived_of_a_stopped_transfer_is_missing_from_no_other_s_time(
    world: Any, stop_quarters: int, is_shared: bool
) -> None:
    links, sent, points, point_of, server = world
    clock, net = network(links, points, point_of, server, is_shared=is_shared)
    begun: list[tuple[Sent, Transfer]] = []

    def send(one: Sent) -> Process[None]:
        yield clock.timeout(one.start_s)
        begun.append((one, net.start(one.device_id, one.direction, one.n_bytes, rate_of(links[one.device_id]))))

    def until_stopped() -> Process[list[tuple[Sent, Transfer]]]:
        for one in sent:
            clock.process(send(one))
        yield clock.timeout(stop_quarters / 4)
        arrived = [net.arrived_bytes(transfer) for _, transfer in begun]
        for _, transfer in begun:
            net.stop(transfer)
        assert [transfer.delivered_bytes for _, transfer in begun] == arrived
        return list(begun)

    stopped = clock.run(until_stopped())

    limits = (points, point_of, server) if is_shared else ([INF], [0] * len(links), (INF, INF))
    exact = exact_ends(links, sent, *limits, until_s=Fraction(stop_quarters, 4))
    for one, transfer in stopped:
        arrived = exact[sent.index(one)]  # whole bytes are counted, and rounding may take one that has just come
        assert int(max(arrived - Fraction(1, 10**6), 0)) <= transfer.delivered_bytes <= arrived + Fraction(1, 10**6)


def test_when_one_is_stopped_the_others_go_faster_and_its_event_does_not_happen() -> None:
    clock, net = network([constant(100)] * 2, [100.0])

    def both() -> Process[tuple[float, int]]:
        first, second = (net.start(device_id, DOWN, 200, 100.0) for device_id in (0, 1))
        yield clock.timeout(1.0)
        net.stop(first)
        yield second.event
        assert not first.event.processed
        return clock.now_s, first.delivered_bytes

    assert clock.run(both()) == (2.5, 50)  # 50 each in the first second, then 150 at 100


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_transfer_that_is_stopped_during_its_latency_has_brought_nothing(is_shared: bool) -> None:
    clock, net = network([constant(100, latency_s=1.0)], [50.0], is_shared=is_shared)

    def device() -> Process[float]:
        transfer = net.start(0, DOWN, 100, 100.0)
        yield clock.timeout(0.5)
        assert net.stop(transfer)
        assert (transfer.delivered_bytes, transfer.duration_s) == (0, 0.5)
        yield net.start(0, DOWN, 100, 100.0).event
        return clock.now_s

    assert clock.run(device()) == 0.5 + 1.0 + (2.0 if is_shared else 1.0)


def test_the_rates_in_force_are_those_of_the_devices() -> None:
    clock, net = network([constant(100), constant(100), constant(30)], [100.0, 20.0], [1, 0, 0])

    def devices() -> Process[list[float]]:
        for device_id in (0, 1, 2):
            net.start(device_id, DOWN, 1000, rate_of([constant(100), constant(100), constant(30)][device_id]))
        yield clock.timeout(1.0)
        rates: list[float] = net.rates_in_force().tolist()
        return rates

    assert clock.run(devices()) == [20.0, 70.0, 30.0]


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_transfer_that_has_ended_or_was_stopped_cannot_be_stopped(is_shared: bool) -> None:
    clock, net = network([constant(100)], is_shared=is_shared)

    def device() -> Process[list[bool]]:
        ended = net.start(0, DOWN, 100, 100.0)
        yield ended.event
        stopped = net.start(0, DOWN, 100, 100.0)
        yield clock.timeout(0.5)
        found = [net.stop(ended), net.stop(stopped), net.stop(stopped)]
        assert (ended.delivered_bytes, ended.duration_s) == (100, 1.0)
        assert (stopped.delivered_bytes, stopped.duration_s) == (50, 0.5)
        return found

    assert clock.run(device()) == [False, True, False]


def test_a_stopped_transfer_can_be_made_to_fail() -> None:
    clock, net = network([constant(100)], is_shared=False)

    def device() -> Process[str]:
        transfer = net.start(0, DOWN, 200, 100.0)

        def lose() -> Process[None]:
            yield clock.timeout(0.5)
            net.stop(transfer)
            clock.fail(transfer.event, KeyError("gone"))

        clock.process(lose())
        try:
            yield transfer.event
        except KeyError:
            return f"{transfer.delivered_bytes} bytes at {clock.now_s} s"
        return "arrived"

    assert clock.run(device()) == "50 bytes at 0.5 s"


def test_the_example_cluster_s_access_points_have_20_devices_each_and_all_rings() -> None:
    cluster = load_cluster("jetson80-shared-wifi")
    shared = shared_capacity(cluster)

    assert shared is not None
    assert np.bincount(shared.point_of_device).tolist() == [20] * 4
    for point in range(4):
        device_ids = np.flatnonzero(shared.point_of_device == point)
        assert np.bincount(device_ids % 4).tolist() == [5] * 4
    assert shared.points_bytes_per_s == (150e6 / 8,) * 4
    assert shared.server_bytes_per_s == (940e6 / 8,) * 2
    assert shared_capacity(load_cluster("jetson80")) is None


def exact_ends(
    links: Sequence[LinkSpec],
    sent: Sequence[Sent],
    points: Sequence[float],
    point_of: Sequence[int],
    server: tuple[float, float],
    until_s: Fraction | None = None,
) -> list[Fraction]:
    """When each has arrived, or how much of each by ``until_s``, by progressive filling in rational numbers."""
    left = [Fraction(one.n_bytes) for one in sent]
    end_s = [Fraction(0)] * len(sent)
    now_s = Fraction(0)
    while any(left) and (until_s is None or now_s < until_s):
        flowing = [k for k, one in enumerate(sent) if left[k] and one.start_s <= now_s]
        moments = [now_s // 1 + 1] + [Fraction(one.start_s) for one in sent if one.start_s > now_s]
        rates = filled({k: cap_of(links[sent[k].device_id], now_s) for k in flowing}, sent, points, point_of, server)
        moments += [now_s + left[k] / rates[k] for k in flowing] + ([until_s] if until_s else [])
        step_s = min(moments) - now_s
        now_s += step_s
        for k in flowing:
            left[k] -= rates[k] * step_s
            if not left[k]:
                end_s[k] = now_s
    return end_s if until_s is None else [one.n_bytes - rest for one, rest in zip(sent, left, strict=True)]


def cap_of(link: LinkSpec, now_s: Fraction) -> Fraction:
    if isinstance(link, ConstantLink):
        return Fraction(link.download_bytes_per_s)
    assert isinstance(link, TraceLink)
    return Fraction(link.download.bytes_per_s[int(now_s) % len(link.download.bytes_per_s)])


def filled(
    caps: dict[int, Fraction],
    sent: Sequence[Sent],
    points: Sequence[float],
    point_of: Sequence[int],
    server: tuple[float, float],
) -> dict[int, Fraction]:
    """All rates rise together; whoever meets its cap or a full resource stays where it is."""
    users: dict[tuple[str, int], set[int]] = {}
    for k in caps:
        users.setdefault(("point", point_of[sent[k].device_id]), set()).add(k)
        users.setdefault(("server", sent[k].direction), set()).add(k)
    capacity = {key: (points if key[0] == "point" else server)[key[1]] for key in users}
    rates, rising = dict.fromkeys(caps, Fraction(0)), set(caps)
    while rising:
        room = [caps[k] - rates[k] for k in rising]
        for key, members in users.items():
            if capacity[key] < INF and members & rising:
                spare = Fraction(capacity[key]) - sum(rates[k] for k in members)
                room.append(spare / len(members & rising))
        for k in rising:
            rates[k] += min(room)
        full = [
            members
            for key, members in users.items()
            if capacity[key] < INF and sum(rates[k] for k in members) == Fraction(capacity[key])
        ]
        rising -= {k for k in rising if rates[k] == caps[k]}.union(*full)
    return rates
