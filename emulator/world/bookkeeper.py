"""Enters what devices do into their ledgers and the log of a round: when it ends, is cut, or the round ends."""

from emulator.records import ActivityKind, Evaluation, RoundReport
from emulator.world.battery import Battery
from emulator.world.clock import Clock
from emulator.world.heat import Heat
from emulator.world.ledger import Ledger, Ongoing
from emulator.world.network.network import Network
from emulator.world.open_round import OpenRound


class Bookkeeper:
    """Enters spans of emulated time, bytes and joules; every second of a device is in the books once.

    ``heat`` are the boards' temperatures and ``battery`` their batteries, which follow from what is entered; None where
    they play no part.
    """

    def __init__(self, clock: Clock, network: Network, heat: Heat | None, battery: Battery | None = None) -> None:
        self._clock = clock
        self._network = network
        self._heat = heat
        self._battery = battery

    def enter(self, opened: OpenRound, device_id: int, ongoing: Ongoing, *, has_ended: bool) -> None:
        """What of ``ongoing`` is done by now and not in the books yet."""
        ledger, now_s = opened.ledgers[device_id], self._clock.now_s
        arrived_bytes = 0
        if ongoing.transfer is not None:
            ongoing.duration_s = ongoing.transfer.duration_s
            arrived_bytes = self._network.arrived_bytes(ongoing.transfer)
        part = ongoing.book(now_s, has_ended, arrived_bytes)
        ledger.add(ongoing, part)
        if part.spent_s > 0 or part.share > 0:
            watts = ongoing.drawn_w(opened.conditions.modes[device_id])
            self._log(opened, device_id, ongoing.kind, part.n_bytes, watts)

    def enter_wait(self, opened: OpenRound, device_id: int) -> None:
        """The time since the device was last busy, up to now."""
        ledger, now_s = opened.ledgers[device_id], self._clock.now_s
        if now_s > ledger.busy_until_s:
            ledger.waiting_s += now_s - ledger.busy_until_s
            self._wait(opened, device_id)

    def close(self, opened: OpenRound, evaluation: Evaluation | None) -> RoundReport:
        """Whoever is not busy has waited until now; what the server has seen of the round."""
        end_s = self._clock.now_s
        for device_id in range(len(opened.ledgers)):
            self.enter_wait(opened, device_id)
            if end_s == opened.start_s:  # in a round of no length, each device has an activity of no length
                self._wait(opened, device_id)
        return RoundReport(
            round_index=opened.round_index,
            start_s=opened.start_s,
            end_s=end_s,
            devices={device_id: ledger.report(device_id) for device_id, ledger in enumerate(opened.ledgers)},
            evaluation=evaluation,
        )

    def _wait(self, opened: OpenRound, device_id: int) -> None:
        self._log(opened, device_id, ActivityKind.WAIT, 0, opened.conditions.modes[device_id].idle_w)

    def _log(self, opened: OpenRound, device_id: int, kind: ActivityKind, n_bytes: int, watts: float) -> None:
        """An activity from where the device's books end until now."""
        end_s = self._clock.now_s
        if self._battery:
            *earlier, last = self._battery.draw(device_id, watts, end_s)
            for span in earlier:  # parts of a wait in which the device was on or off
                self._add(opened, device_id, kind, n_bytes, span.watts, span.end_s)
                n_bytes = 0
            watts = last.watts
        self._add(opened, device_id, kind, n_bytes, watts, end_s)

    def _add(
        self, opened: OpenRound, device_id: int, kind: ActivityKind, n_bytes: int, watts: float, end_s: float
    ) -> None:
        ledger = opened.ledgers[device_id]
        if self._heat:
            self._heat.advance(device_id, watts, end_s - ledger.busy_until_s)
        ledger.energy_j += opened.activities.add(
            device_id, _inner_round(ledger), kind, ledger.busy_until_s, end_s, n_bytes, watts
        )
        ledger.busy_until_s = end_s


def _inner_round(ledger: Ledger) -> int:
    return max(0, ledger.n_inner_rounds - 1)
