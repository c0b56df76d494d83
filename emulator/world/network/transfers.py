"""A transfer between server and device: what is sent, and what became of it."""

from enum import IntEnum

from emulator.world.clock import Event


class Direction(IntEnum):
    """Down is from the server to a device."""

    DOWN = 0
    UP = 1


class Transfer:
    """``n_bytes`` of payload on their way; ``event`` happens when the last has arrived.

    ``duration_s``, latency included, is infinite until it is known: from the start where nothing is shared, else from
    the end. ``delivered_bytes`` are fewer than ``n_bytes`` where the transfer was stopped.
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
        self.duration_s = float("inf")
        self.event: Event
        self.latency: Event
