"""What a computation comes to on a board in a round: whether it fits in memory, how long it takes, where it fails."""

import math
from dataclasses import dataclass, replace

from device_profiles.records import DeviceProfile
from emulator.records import ActivityKind, TrainingDefaults, Work
from emulator.shapes.spec import ModelSpec
from emulator.world.clock import Clock
from emulator.world.devices import Boards
from emulator.world.heat import Heat
from emulator.world.ledger import Ongoing
from emulator.world.open_round import OpenRound
from emulator.world.price.step_time import ComputeCost
from emulator.world.pricing import Pricing

ROUNDING = 1e-9
"""Fractions of a piece of work that add up to less than one by no more than this are the whole of it."""


@dataclass(frozen=True, slots=True)
class Fractions:
    """The part of a piece of work that is computed at a time, of its forward and of its backward passes."""

    forward: float
    backward: float


class Computations:
    """Begins computations on the boards of a testbed. ``heat`` is None where boards do not slow down.

    Attributes:
        pricing: what work costs, before anything that a round brings.
    """

    def __init__(
        self, clock: Clock, boards: Boards, heat: Heat | None, model: ModelSpec, training: TrainingDefaults
    ) -> None:
        self.pricing = Pricing(model, training)
        self._clock = clock
        self._boards = boards
        self._heat = heat

    def fits(self, opened: OpenRound, device_id: int, work: Work) -> bool:
        """Whether the device has the memory that ``work`` needs; its ledger keeps the most that it was asked for."""
        ledger, profile = opened.ledgers[device_id], opened.devices[device_id].profile
        needed_bytes = self.pricing.peak_memory_bytes(work, profile.allocator)
        ledger.peak_memory_bytes = max(ledger.peak_memory_bytes, needed_bytes)
        return ledger.peak_memory_bytes <= profile.memory_limit_bytes

    def begin(self, opened: OpenRound, device_id: int, work: Work, parts: Fractions) -> tuple[Ongoing, float | None]:
        """The computation, and how many seconds after its start the device drops out of it, if it does."""
        profile, mode = opened.devices[device_id].profile, opened.conditions.modes[device_id]
        self.pricing.note_range(profile, work)
        cost, ledger = self.pricing.cost(work, mode), opened.ledgers[device_id]
        cost = self._swapped(cost, profile, work)
        forward_s, backward_s = cost.forward_s * parts.forward, cost.backward_s * parts.backward
        whole_s, before = cost.forward_s + cost.backward_s, ledger.computed_share
        share = (forward_s + backward_s) / whole_s if whole_s > 0 else (parts.forward + parts.backward) / 2
        ledger.computed_share += share
        factor = opened.jitter.factor(device_id, math.floor(before + ROUNDING))
        switch_s = self._switch_s(opened, device_id, before)
        duration_s = switch_s + (forward_s + backward_s) * factor
        slowdown = self._slowdown(device_id, cost.busy.drawn_w(mode), duration_s)
        factor, switch_s, duration_s = factor * slowdown, switch_s * slowdown, duration_s * slowdown
        ongoing = Ongoing(
            kind=ActivityKind.COMPUTE,
            start_s=self._clock.now_s,
            duration_s=duration_s,
            event=self._clock.timeout(duration_s),
            forward_s=switch_s + forward_s * factor,
            backward_s=backward_s * factor,
            work_flop=cost.forward_flop * parts.forward + cost.backward_flop * parts.backward,
            busy=cost.busy,
        )
        drop_share = opened.drop_shares.get(device_id, math.inf)
        fails_s = (drop_share - before) / share * duration_s if before <= drop_share < before + share else None
        return ongoing, fails_s

    def _swapped(self, cost: ComputeCost, profile: DeviceProfile, work: Work) -> ComputeCost:
        """With what it takes to push out, and to get back, what does not fit into the memory of the device.

        What a forward pass pushes out comes back in the backward pass, or in the same one where there is no other. The
        board is as busy as without while it waits for that.
        """
        if profile.swap is None:
            return cost
        missing_bytes = profile.missing_bytes(self.pricing.peak_memory_bytes(work, profile.allocator))
        if missing_bytes == 0:
            return cost
        write_s = work.n_steps * profile.swap.write_s(missing_bytes)
        read_s = work.n_steps * profile.swap.read_s(missing_bytes)
        if cost.backward_s == 0:
            return replace(cost, forward_s=cost.forward_s + write_s + read_s)
        return replace(cost, forward_s=cost.forward_s + write_s, backward_s=cost.backward_s + read_s)

    def _switch_s(self, opened: OpenRound, device_id: int, computed_share: float) -> float:
        """What a change of power mode adds to a device's first computation in a round."""
        is_first = computed_share == 0 and device_id in opened.conditions.switched
        return self._boards.mode_switch_penalty_s if is_first else 0.0

    def _slowdown(self, device_id: int, watts: float, duration_s: float) -> float:
        """How much longer a computation of ``duration_s`` takes on a board as warm and as busy as it is now."""
        if duration_s <= 0:
            return 1.0
        slower_s = duration_s
        if self._heat is not None:
            slower_s = self._heat.throttled_s(device_id, watts, slower_s)
        if self._boards.foreground is not None:
            slower_s = self._boards.foreground.stretched_s(device_id, self._clock.now_s, slower_s)
        return slower_s / duration_s
