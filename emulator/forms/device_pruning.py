"""Pruning device by device: what each has left, by importance that it has measured itself, and one model of all."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from emulator.forms.kept_units import KeptUnits, common_units, pruned_to_sparsity
from emulator.forms.pruned_lora import PrunedLoraAssignment
from emulator.records import Arrays, Update


@dataclass(kw_only=True)
class DevicePruning:
    """What pruning has left on each device, and what it is known to hold important.

    Attributes:
        kept: the units that are left, of devices that have been pruned.
        sparsity: the share that was asked to be gone.
        scores: the latest importance of the units, of devices that have reported any.
        stages: how often it was time to prune when a device was last pruned.
    """

    kept: dict[int, KeptUnits] = field(default_factory=dict, init=False)
    sparsity: dict[int, float] = field(default_factory=dict, init=False)
    scores: dict[int, Arrays] = field(default_factory=dict, init=False)
    stages: dict[int, int] = field(default_factory=dict, init=False)

    def is_due(self, device: int, stage: int, equal: Arrays | None) -> bool:
        """Whether a device is to be pruned now: it is time, and there is something to go by.

        Args:
            device: its id.
            stage: how often it was time to prune so far.
            equal: what to go by for want of a report, in runs that do not train.
        """
        return stage > self.stages.get(device, 0) and (device in self.scores or equal is not None)

    def prune(self, device: int, stage: int, wanted: float, whole: KeptUnits, equal: Arrays | None) -> None:
        """Takes a device's least important units away until the share ``wanted`` is gone; what is gone stays so."""
        scores = self.scores.get(device, equal)
        assert scores is not None  # it was due
        self.kept[device] = pruned_to_sparsity(self.kept.get(device, whole), scores, wanted)
        self.sparsity[device], self.stages[device] = wanted, stage

    def hear(self, updates: Sequence[Update], *, carries: bool) -> None:
        """Takes over what devices report.

        Args:
            updates: of a round.
            carries: whether a device's scores go on from those of its earlier rounds, as
                ``s <- m s + (1 - m) s_round``, where ``m`` is what smoothing leaves of an old score after its steps.
        """
        for update in updates:
            own = update.assignment
            if not update.reported or not isinstance(own, PrunedLoraAssignment):
                continue
            before = self.scores.get(update.device_id) if carries else None
            if before is None:
                self.scores[update.device_id] = update.reported
                continue
            memory = np.float32(own.smoothing**own.n_steps)
            self.scores[update.device_id] = {
                name: memory * before[name] + (1 - memory) * latest for name, latest in update.reported.items()
            }


def weight_of_kept(update: Update) -> float:
    """``1 - p_i``, the share of units that is left on the device; 1 where nothing can be pruned."""
    own = update.assignment
    return own.kept.kept_fraction if isinstance(own, PrunedLoraAssignment) else 1.0


def with_common_units(state: Arrays, mean: Arrays, updates: Sequence[Update]) -> Arrays:
    """``mean`` with the masks of one pruned model for all, which :func:`common_units` makes of the devices' own.

    Args:
        state: of the server before, with the masks of its pruned model.
        mean: the aggregated state.
        updates: those that it is made of.
    """
    before = KeptUnits.in_state(state)
    if not updates or before is None:
        return state
    kept = [update.assignment.kept for update in updates if isinstance(update.assignment, PrunedLoraAssignment)]
    return {**mean, **common_units(before, kept, [update.n_examples for update in updates]).arrays()}


def with_units(mean: Arrays, kept: KeptUnits) -> Arrays:
    """``mean`` with the masks of what is ``kept``, where it has masks."""
    return mean if KeptUnits.in_state(mean) is None else {**mean, **kept.arrays()}


def mean_scores(updates: Sequence[Update]) -> Arrays | None:
    """The importance of units on average over the devices that report it, weighted by examples; None without any."""
    reports = [update for update in updates if update.reported]
    n_examples = sum(update.n_examples for update in reports)
    if not n_examples:
        return None
    shares = [update.n_examples / n_examples for update in reports]
    return {
        name: np.sum([share * one.reported[name] for share, one in zip(shares, reports, strict=True)], axis=0).astype(
            np.float32
        )
        for name in reports[0].reported
    }
