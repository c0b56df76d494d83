"""Transfers that compete for access points and the server: max-min fair at every moment, exact at every event.

Between two events all rates are constant. An event is the start or the end of a transfer, or a change of a link's rate;
then what has flowed is counted, capacity is divided anew, and the next event is scheduled in place of the one that was
expected. Access points are independent of each other as long as the server is not short, and divided one by one.

A device that roams has a slot at each point that it may be at, of which it uses that of the point where it is; what
remains of a transfer moves on with it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.base import Walk
from device_profiles.records import ClusterSpec
from emulator.world.clock import Clock, Event
from emulator.world.network.fair_share import cut_rates, max_min_rates
from emulator.world.network.flows import Cell, Flows
from emulator.world.network.links import Links
from emulator.world.network.transfers import Transfer


@dataclass(frozen=True, slots=True)
class SharedCapacity:
    """What transfers compete for. ``point_of_device`` has the access point of each device.

    Of a device that roams it has the first point of its link, from which on the link's points have their numbers.
    ``points_bytes_per_s`` is what each point carries, down and up together, and ``server_bytes_per_s`` what the server
    does: down (egress), up (ingress). Infinite where there is no limit.
    """

    point_of_device: NDArray[np.int64]
    points_bytes_per_s: tuple[float, ...]
    server_bytes_per_s: tuple[float, float]


def shared_capacity(cluster: ClusterSpec) -> SharedCapacity | None:
    """What the devices of a cluster share; None where that is nothing."""
    points, server = cluster.access_points, cluster.server
    roamed = [link for link in dict.fromkeys(entry.link for entry in cluster.entries) if link.points_bytes_per_s()]
    if points is None and server is None and not roamed:
        return None
    device_ids = np.arange(cluster.n_devices)
    point_of_device = (device_ids // points.consecutive_devices) % points.count if points else np.zeros_like(device_ids)
    points_bytes_per_s = (points.bytes_per_s,) * points.count if points else (np.inf,)
    for link in roamed:
        is_on_it = [entry.link == link for entry in cluster.entry_by_device]
        point_of_device[is_on_it] = len(points_bytes_per_s)
        points_bytes_per_s += link.points_bytes_per_s()
    return SharedCapacity(
        point_of_device,
        points_bytes_per_s,
        (server.egress_bytes_per_s, server.ingress_bytes_per_s) if server else (np.inf, np.inf),
    )


def _places(shared: SharedCapacity, walks: Mapping[int, Walk]) -> Iterator[tuple[int, int]]:
    """Every access point and device that may be there."""
    for device_id, point in enumerate(shared.point_of_device.tolist()):
        n_points = walks[device_id].n_points if device_id in walks else 1
        yield from ((point + number, device_id) for number in range(n_points))


class SharedNetwork:
    """Divides what is shared: each access point by itself, or all together while the server is what limits them."""

    def __init__(self, clock: Clock, links: Links, shared: SharedCapacity) -> None:
        self._clock = clock
        self._replays = links.replays
        n_points = len(shared.points_bytes_per_s)
        self._walks = links.walks
        self._first_point: list[int] = shared.point_of_device.tolist()
        # Flows are kept in the order of access points, so that the flows of one are a slice of all.
        places = sorted(_places(shared, links.walks))
        self._point_of_slot = [point for point, _ in places]
        self._slot_at = {(device_id, point): slot for slot, (point, device_id) in enumerate(places)}
        self._slot_of_device = [self._present_slot(device_id) for device_id in range(len(self._first_point))]
        bounds: list[int] = np.searchsorted(self._point_of_slot, np.arange(n_points + 1)).tolist()
        self._flows = Flows(len(places))
        self._cells = [
            Cell(self._flows, slice(bounds[point], bounds[point + 1]), capacity, self._on_wake)
            for point, capacity in enumerate(shared.points_bytes_per_s)
        ]
        self._whole = Cell(self._flows, slice(0, len(places)), np.inf, self._on_wake)
        self._capacities = np.array([*shared.points_bytes_per_s, *shared.server_bytes_per_s])
        self._resources = np.array([self._point_of_slot, np.full(len(places), n_points)])
        self._goes_up = np.zeros(len(places))
        self._egress_bytes_per_s, self._ingress_bytes_per_s = shared.server_bytes_per_s
        self._may_be_short = sum(shared.points_bytes_per_s) > min(shared.server_bytes_per_s)
        self._is_coupled = False
        self._changed: set[int] = set()
        self._division: Event | None = None

    def start(self, transfer: Transfer, latency_s: float, rate: float) -> None:
        slot = self._slot_of_device[transfer.device_id]
        if self._flows.transfers[slot] is not None:
            raise ValueError(f"a device has one transfer at a time, got a second one of device {transfer.device_id!r}")
        self._flows.transfers[slot] = transfer
        transfer.event = Event()
        transfer.latency = self._clock.timeout(latency_s)
        transfer.latency.callbacks.append(lambda _: self._join(transfer, rate))

    def holds(self, transfer: Transfer) -> bool:
        """Whether a transfer is under way."""
        return self._flows.transfers[self._slot_of_device[transfer.device_id]] is transfer

    def sent_bytes(self, transfer: Transfer) -> float:
        """What a transfer under way has sent until now."""
        if not transfer.latency.processed:
            return 0.0
        slot = self._slot_of_device[transfer.device_id]
        return transfer.sent_bytes - self._flows.left_bytes(slot, self._clock.now_s)

    def stop(self, transfer: Transfer) -> None:
        """Take a transfer out of the network."""
        slot = self._slot_of_device[transfer.device_id]
        self._clock.cancel(transfer.latency)
        if not transfer.latency.processed:
            self._flows.transfers[slot] = None
            return
        self._flows.clear(slot)
        self._changed.add(self._point_of_slot[slot])
        self._divide()

    def rates_in_force(self) -> NDArray[np.float64]:
        return self._flows.rate[self._slot_of_device]

    def _join(self, transfer: Transfer, rate: float) -> None:
        slot = self._follow(transfer.device_id)
        replay = self._replays.get(transfer.device_id)
        steps = replay[transfer.direction].steps(self._clock.now_s) if replay else None
        self._flows.fill(slot, transfer.sent_bytes, rate, steps)
        self._resources[1, slot] = len(self._cells) + transfer.direction
        self._goes_up[slot] = transfer.direction
        self._divide_soon(slot)

    def _divide_soon(self, slot: int) -> None:
        """Divide at this moment, but only once for all transfers that start at it."""
        self._changed.add(self._point_of_slot[slot])
        if self._division is None:
            self._division = self._clock.timeout(0.0)
            self._division.callbacks.append(lambda _: self._divide())

    def _on_wake(self, cell: Cell) -> None:
        now_s = self._clock.now_s
        cell.advance(now_s)
        for slot in cell.ended():
            transfer = self._flows.transfers[slot]
            assert transfer is not None
            self._flows.clear(slot)
            self._changed.add(self._point_of_slot[slot])
            transfer.duration_s = now_s - transfer.start_s
            self._clock.succeed(transfer.event)
        for slot in cell.step_links(now_s):
            self._changed.add(self._point_of_slot[slot])
            transfer = self._flows.transfers[slot]
            assert transfer is not None
            if transfer.device_id in self._walks:
                self._changed.add(self._point_of_slot[self._follow(transfer.device_id)])
        self._divide()

    def _follow(self, device_id: int) -> int:
        """The slot of the point where a device is now; a transfer of it that waits or flows elsewhere goes there."""
        old, new = self._slot_of_device[device_id], self._present_slot(device_id)
        if new != old:
            self._flows.move(old, new)
            self._goes_up[new], self._resources[1, new] = self._goes_up[old], self._resources[1, old]
            self._slot_of_device[device_id] = new
        return new

    def _present_slot(self, device_id: int) -> int:
        walk, point = self._walks.get(device_id), self._first_point[device_id]
        return self._slot_at[device_id, point + (walk.point_at(self._clock.now_s) if walk else 0)]

    def _divide(self) -> None:
        """Divide anew what the access points of changed flows share, and everything if the server is short."""
        if self._division is not None:
            self._clock.cancel(self._division)
            self._division = None
        now_s = self._clock.now_s
        changed = [self._cells[point] for point in sorted(self._changed)]
        self._changed.clear()
        for cell in changed:
            cell.divide()
        was_coupled, self._is_coupled = self._is_coupled, self._server_is_short()
        if self._is_coupled:
            self._whole.advance(now_s)
            if not was_coupled:
                for cell in self._cells:
                    cell.rest(self._clock)
            flows = self._flows
            rates = cut_rates(flows.alone, flows.cap, self._resources, self._capacities)
            if rates is None:
                rates = max_min_rates(flows.cap, self._resources, self._capacities)
            flows.rate[:] = rates
            self._whole.schedule(self._clock)
            return
        if was_coupled:
            self._whole.rest(self._clock)
            changed = self._cells
        for cell in changed:
            cell.advance(now_s)
            cell.follow()
            cell.schedule(self._clock)

    def _server_is_short(self) -> bool:
        """Whether the access points could together bring more than the server can serve."""
        if not self._may_be_short:
            return False
        up = float(self._flows.alone @ self._goes_up)
        down = float(self._flows.alone @ (1 - self._goes_up))
        return down > self._egress_bytes_per_s or up > self._ingress_bytes_per_s
