"""The network: transfers in flight, each as fast as its link, and what it shares with others, let it be.

A transfer of ``n`` payload bytes waits for its link's latency and then flows like a fluid. Where a fraction ``p`` of
what is sent is lost and sent again, independently each time, a byte is sent ``1 / (1 - p)`` times on average (the mean
of a geometric distribution): ``n / (1 - p)`` bytes pass the link and whatever is shared. Figures of links are thus
rates of sending; that TCP also slows down when it sees losses is not modelled.

A device that shares nothing is served in closed form, with one event per transfer. Otherwise access points and server
are divided max-min fairly among the transfers in flight, and divided again whenever one starts or ends or a link's rate
changes; between these moments all rates are constant, so that every end is known exactly.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from device_profiles.records import ClusterSpec
from emulator.clock import Clock, Event
from emulator.world.fair_share import cut_rates, max_min_rates
from emulator.world.flows import Cell, Flows
from emulator.world.links import Links


class Direction(IntEnum):
    """Down is from the server to a device."""

    DOWN = 0
    UP = 1


@dataclass(frozen=True, slots=True)
class SharedCapacity:
    """What transfers compete for. ``point_of_device`` has the access point of each device.

    ``points_bytes_per_s`` is what each point carries, down and up together, and ``server_bytes_per_s`` what the server
    does: down (egress), up (ingress). Infinite where there is no limit.
    """

    point_of_device: NDArray[np.int64]
    points_bytes_per_s: tuple[float, ...]
    server_bytes_per_s: tuple[float, float]


def shared_capacity(cluster: ClusterSpec) -> SharedCapacity | None:
    """What the devices of a cluster share; None where that is nothing."""
    points, server = cluster.access_points, cluster.server
    if points is None and server is None:
        return None
    device_ids = np.arange(cluster.n_devices)
    return SharedCapacity(
        (device_ids // points.consecutive_devices) % points.count if points else np.zeros_like(device_ids),
        (points.bytes_per_s,) * points.count if points else (np.inf,),
        (server.egress_bytes_per_s, server.ingress_bytes_per_s) if server else (np.inf, np.inf),
    )


class Transfer:
    """``n_bytes`` of payload on their way. ``event`` happens when the last has arrived; then ``duration_s`` is known.

    ``delivered_bytes`` are fewer than ``n_bytes`` where the transfer was stopped.
    """

    __slots__ = (
        "delivered_bytes",
        "device_id",
        "direction",
        "duration_s",
        "event",
        "latency",
        "n_bytes",
        "sent_bytes",
        "start_s",
    )

    def __init__(self, device_id: int, direction: Direction, n_bytes: int, sent_bytes: float, start_s: float) -> None:
        """``sent_bytes`` are the whole payload and what is sent again."""
        self.device_id = device_id
        self.direction = direction
        self.n_bytes = n_bytes
        self.sent_bytes = sent_bytes
        self.start_s = start_s
        self.delivered_bytes = n_bytes
        self.duration_s = np.nan
        self.event: Event
        self.latency: Event


class Network:
    """The transfers of all devices."""

    def __init__(self, clock: Clock, links: Links, shared: SharedCapacity | None = None) -> None:
        self._clock = clock
        self._replays = links.replays
        self._latency_s: list[float] = links.latency_s.tolist()
        self._delivered_fraction: list[float] = (1 - links.loss_fraction).tolist()
        self._shared = _SharedNetwork(clock, links, shared) if shared else None

    def start(self, device_id: int, direction: Direction, n_bytes: int, rate_bytes_per_s: float) -> Transfer:
        """Send ``n_bytes`` now on a link of this rate; a link that replays a trace goes by that instead.

        Raises:
            ValueError: the device has a transfer under way and shares capacity with others.
        """
        now_s = self._clock.now_s
        transfer = Transfer(device_id, direction, n_bytes, n_bytes / self._delivered_fraction[device_id], now_s)
        latency_s = self._latency_s[device_id]
        if self._shared is not None:
            self._shared.start(transfer, latency_s, rate_bytes_per_s)
            return transfer
        if device_id in self._replays:
            flow_s = self._replays[device_id][direction].duration_s(now_s + latency_s, transfer.sent_bytes)
        else:
            flow_s = transfer.sent_bytes / rate_bytes_per_s
        transfer.duration_s = latency_s + flow_s
        transfer.event = self._clock.timeout(transfer.duration_s)
        return transfer

    def is_under_way(self, transfer: Transfer) -> bool:
        """Whether a transfer has neither ended nor been stopped."""
        if self._shared is not None:
            return self._shared.holds(transfer)
        return not transfer.event.processed and transfer.event.due_serial != 0

    def arrived_bytes(self, transfer: Transfer) -> int:
        """The payload of a transfer that has arrived until now, in whole bytes."""
        if not self.is_under_way(transfer):
            return transfer.delivered_bytes
        sent = self._shared.sent_bytes(transfer) if self._shared is not None else self._sent_bytes(transfer)
        payload_bytes = int(sent * self._delivered_fraction[transfer.device_id])
        return max(0, min(transfer.n_bytes, payload_bytes))

    def stop(self, transfer: Transfer) -> bool:
        """Break off a transfer; whether it was still under way.

        If so, what has arrived by now is its ``delivered_bytes``, and its event does not happen any more, unless the
        caller lets it succeed or fail.
        """
        if not self.is_under_way(transfer):
            return False
        transfer.delivered_bytes = self.arrived_bytes(transfer)
        if self._shared is not None:
            self._shared.stop(transfer)
        else:
            self._clock.cancel(transfer.event)
        transfer.duration_s = self._clock.now_s - transfer.start_s
        return True

    def rates_in_force(self) -> NDArray[np.float64]:
        """How fast each device sends or receives now, in bytes/s, where capacity is shared; shape ``(n_devices,)``."""
        return self._shared.rates_in_force() if self._shared is not None else np.full(len(self._latency_s), np.nan)

    def _sent_bytes(self, transfer: Transfer) -> float:
        """What a transfer has sent that shares nothing."""
        latency_s = self._latency_s[transfer.device_id]
        flow_s = self._clock.now_s - transfer.start_s - latency_s
        if flow_s <= 0:
            return 0.0
        if transfer.device_id in self._replays:
            replay = self._replays[transfer.device_id][transfer.direction]
            return replay.carried_bytes(transfer.start_s + latency_s, self._clock.now_s)
        return transfer.sent_bytes * flow_s / (transfer.duration_s - latency_s)


class _SharedNetwork:
    """Divides what is shared: each access point by itself, or all together while the server is what limits them."""

    def __init__(self, clock: Clock, links: Links, shared: SharedCapacity) -> None:
        self._clock = clock
        self._replays = links.replays
        n_points = len(shared.points_bytes_per_s)
        # Flows are kept in the order of access points, so that the flows of one are a slice of all.
        order = np.argsort(shared.point_of_device, kind="stable")
        self._slot_of_device: list[int] = np.argsort(order, kind="stable").tolist()
        self._point_of_slot: list[int] = shared.point_of_device[order].tolist()
        bounds: list[int] = np.searchsorted(self._point_of_slot, np.arange(n_points + 1)).tolist()
        self._flows = Flows(len(order))
        self._cells = [
            Cell(self._flows, slice(bounds[point], bounds[point + 1]), capacity, self._on_wake)
            for point, capacity in enumerate(shared.points_bytes_per_s)
        ]
        self._whole = Cell(self._flows, slice(0, len(order)), np.inf, self._on_wake)
        self._capacities = np.array([*shared.points_bytes_per_s, *shared.server_bytes_per_s])
        self._resources = np.array([self._point_of_slot, np.full(len(order), n_points)])
        self._goes_up = np.zeros(len(order))
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
        transfer.latency.callbacks.append(lambda _: self._join(slot, transfer, rate))

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

    def _join(self, slot: int, transfer: Transfer, rate: float) -> None:
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
        self._changed.update(self._point_of_slot[slot] for slot in cell.step_links(now_s))
        self._divide()

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
