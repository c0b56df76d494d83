"""Split rounds: in every local step devices and server compute in turns, on either side of a cut through the model.

A round begins with the bottom on its way to the devices. In each step a device computes its bottom forward and sends
what it gives, with the labels; the server computes the top forward and backward; the gradient comes back, and the
device computes its bottom backward. Behind the last step the bottoms return. Without merging, every device has a top of
its own at the server and waits for nobody until the round ends (SplitFed: Thapa et al. 2022, arXiv 2004.12088, version
1; from memory). With merging, the server computes one step of one top on what all devices have sent, so each step is a
barrier (MergeSFL, arXiv 2311.13348).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from emulator.errors import PlanError
from emulator.forms.base import AdapterForm
from emulator.forms.cut import CutAssignment, CutForm
from emulator.protocols.base import Aggregator, RoundProtocol
from emulator.records import Arrays, Assignment, RoundPlan
from emulator.world.clock import Event, Process
from emulator.world.devices import DeviceLost
from emulator.world.testbed import Testbed

_Done = tuple[dict[int, int], list[int]]
"""How many steps each device has been part of, and who has delivered."""


@dataclass(frozen=True)
class CutRounds(RoundProtocol):
    """Flat rounds over a form that is cut; all devices take equally many steps where they merge.

    What a device that is lost on the way had sent by then has been part of the merged steps, and the top keeps it; its
    bottom is gone. Without merging, its top is gone as well.
    """

    merges: bool
    exchanges_steps: ClassVar[bool] = True

    @property
    def task(self) -> str:
        """The import path of what hosts have to compute in such rounds, for ``Policy.task``."""
        return f"emulator.learning.tasks.cut:{'train_merged' if self.merges else 'train_copies'}"

    def check(self, form: AdapterForm, task: str) -> None:
        if not isinstance(form, CutForm):
            raise ValueError(f"{type(self).__name__} needs a form that cuts the model, {type(form).__name__} does not")
        if task != self.task:
            raise ValueError(f"{type(self).__name__}(merges={self.merges}) needs the task {self.task!r}, got {task!r}")

    def run_round(self, testbed: Testbed, policy: Aggregator, plan: RoundPlan, state: Arrays) -> Process[Arrays]:
        form = testbed.form
        self.refuse_groups_and_ends(testbed, plan, "a step needs the whole cohort")
        if not isinstance(form, CutForm):
            raise PlanError(
                f"round {testbed.round.round_index}: {type(self).__name__} needs a form that cuts the model,"
                f" {type(form).__name__} does not"
            )
        for device, assignment in plan.assignments.items():
            if isinstance(assignment, CutAssignment) and assignment.merges is not self.merges:
                raise PlanError(
                    f"round {testbed.round.round_index}, device {device}: merges must be {self.merges}, as the policy's"
                    f" {type(self).__name__} has it, got {assignment.merges!r}"
                )
        parts = {device: _DevicePart(testbed, form, assignment) for device, assignment in plan.assignments.items()}
        for assignment in plan.assignments.values():
            testbed.hand_out(assignment, state)
        play = self._merged if self.merges else self._side_by_side
        n_done, delivered = yield from play(testbed, parts)
        if not testbed.resolves:
            return state
        jobs = [
            testbed.job(replace(assignment, n_steps=n_done[device]), state)
            for device, assignment in plan.assignments.items()
            if n_done[device]
        ]
        updates = [update for update in testbed.resolve(jobs) if update.device_id in delivered]
        return policy.aggregate(state, updates) if updates else state

    def _merged(self, testbed: Testbed, parts: dict[int, _DevicePart]) -> Process[_Done]:
        """Play the round."""
        if len({part.n_steps for part in parts.values()}) > 1:
            raise PlanError(f"round {testbed.round.round_index}: devices that merge must take equally many steps")
        n_done, present = dict.fromkeys(parts, 0), list(parts)
        for step in range(max((part.n_steps for part in parts.values()), default=0)):
            present = yield from _together(testbed, {device: parts[device].send(step) for device in present})
            if not present:
                return n_done, []
            for device in present:
                n_done[device] += 1
            yield testbed.serve(sum(parts[device].top_flop for device in present))
        return n_done, (yield from _together(testbed, {device: parts[device].finish() for device in present}))

    def _side_by_side(self, testbed: Testbed, parts: dict[int, _DevicePart]) -> Process[_Done]:
        """As above. Every device has a server of its own."""

        def play(part: _DevicePart) -> Process[None]:
            for step in range(part.n_steps):
                yield from part.send(step)
                yield testbed.serve(part.top_flop)
            yield from part.finish()

        delivered = yield from _together(testbed, {device: play(part) for device, part in parts.items()})
        return {device: part.n_steps if device in delivered else 0 for device, part in parts.items()}, delivered


class _DevicePart:
    """What one device and the server do for one another in a round."""

    def __init__(self, testbed: Testbed, form: CutForm, assignment: Assignment) -> None:
        model = testbed.model
        self._testbed, self._device_id, self.n_steps = testbed, assignment.device_id, assignment.n_steps
        self._bottom_down_bytes = form.download_bytes(assignment, model)
        self._bottom_up_bytes = form.upload_bytes(assignment, model)
        self._down_bytes = form.step_download_bytes(assignment, model)
        self._up_bytes = form.step_upload_bytes(assignment, model)
        self._work = form.work(assignment, model)
        self.top_flop = testbed.top_flop(form.whole_work(assignment, model), self._work)

    def send(self, step: int) -> Process[None]:
        """From the end of the step before up to the arrival of what the bottom gives in ``step``."""
        if step == 0:
            yield self._testbed.download(self._device_id, self._bottom_down_bytes)
        else:
            yield self._testbed.download(self._device_id, self._down_bytes, begins_inner_round=False)
        # Nothing lies between the backward pass of a step and the forward pass of the next.
        yield self._compute(forward=True, backward=step > 0)
        yield self._testbed.upload(self._device_id, self._up_bytes)

    def finish(self) -> Process[None]:
        """The end of the last step, and the bottom's way back."""
        yield self._testbed.download(self._device_id, self._down_bytes, begins_inner_round=False)
        yield self._compute(forward=False, backward=True)
        yield self._testbed.upload(self._device_id, self._bottom_up_bytes)

    def _compute(self, forward: bool, backward: bool) -> Event:
        part = 1 / self.n_steps
        return self._testbed.compute(
            self._device_id, self._work, forward_fraction=part * forward, backward_fraction=part * backward
        )


def _together(testbed: Testbed, parts: Mapping[int, Process[None]]) -> Process[list[int]]:
    """Let the devices play their ``parts`` side by side until all have finished or are lost; who has finished."""

    def unless_lost(part: Process[None]) -> Process[bool]:
        try:
            yield from part
        except DeviceLost:
            return False
        return True

    finished: list[bool] = yield testbed.all_of([testbed.process(unless_lost(part)) for part in parts.values()])
    return [device for device, is_there in zip(parts, finished, strict=True) if is_there]
