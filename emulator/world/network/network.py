"""The network: transfers in flight, each as fast as its link, and what it shares with others, let it be.

A transfer of ``n`` payload bytes waits for its link's latency and then flows like a fluid. Where a fraction ``p`` of
what is sent is lost and sent again, independently each time, a byte is sent ``1 / (1 - p)`` times on average (the mean
of a geometric distribution): ``n / (1 - p)`` bytes pass the link and whatever is shared. Figures of links are thus
rates of sending; that TCP also slows down when it sees losses is not modelled.

A network in which nothing is shared serves each transfer in closed form, with one event.
"""

import numpy as np
from numpy.typing import NDArray

from emulator.world.clock import Clock
from emulator.world.network.links import Links
from emulator.world.network.shared_network import SharedCapacity, SharedNetwork
from emulator.world.network.transfers import Direction, Transfer


class Network:
    """The transfers of all devices."""

    def __init__(self, clock: Clock, links: Links, shared: SharedCapacity | None = None) -> None:
        self._clock = clock
        self._replays = links.replays
        self._latency_s: list[float] = links.latency_s.tolist()
        self._delivered_fraction: list[float] = (1 - links.loss_fraction).tolist()
        self._shared = SharedNetwork(clock, links, shared) if shared else None

    def start(self, device_id: int, direction: Direction, n_bytes: int, rate_bytes_per_s: float) -> Transfer:
        """Send ``n_bytes`` now on a link of this rate, which it keeps; one that replays a trace goes by that instead.

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
