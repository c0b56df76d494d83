"""Rounds of policies that prune, on testbeds whose devices report random scores where they are asked to measure."""

from dataclasses import replace

import numpy as np

from emulator.forms.kept_units import KeptUnits
from emulator.forms.pruned_lora import PrunedLoraAssignment
from emulator.policy import Policy
from emulator.records import Job, Update
from emulator.testing import PlayedRound, SmallTestbed, small_testbed, tiny_model
from emulator.testing.trouble import Trouble, no_trouble

N_HEADS, N_CHANNELS = 4 * 2, 4 * 32  # of the tiny model on four layers


def scoring(policy: Policy, trouble: Trouble = no_trouble, n_devices: int = 3) -> SmallTestbed:
    """A testbed whose devices score their units at random, and whose state has the masks of a whole model."""
    small = small_testbed(policy, n_devices=n_devices, trouble=trouble, reports=scored)
    small.state = {**small.state, **KeptUnits.whole({}, tiny_model(4)).arrays()}  # made-up states have made-up masks
    return small


def scored(job: Job, update: Update) -> Update:
    own = update.assignment
    assert isinstance(own, PrunedLoraAssignment)
    if own.importance == "none":
        return update
    rng = np.random.default_rng((job.round_index, update.device_id))
    reported = {name: rng.random(a.shape).astype(np.float32) for name, a in own.kept.equal_scores().items()}
    metrics = {"train_loss": 2.0 / (1 + job.round_index), "adapter_importance": float(1 + update.device_id)}
    return replace(update, reported=reported, metrics=metrics)


def settings(played: PlayedRound, device: int = 0) -> PrunedLoraAssignment:
    found = played.plan.assignments[device]
    assert isinstance(found, PrunedLoraAssignment)
    return found


def n_pruned(kept: KeptUnits | None) -> tuple[int, int]:
    """Heads and channels that are gone."""
    assert kept is not None
    return kept.n_pruned("head"), kept.n_pruned("channel")


def only_shrinks(before: KeptUnits, after: KeptUnits) -> bool:
    """Whether nothing has come back."""
    return all(
        not (new & ~old).any()
        for kind in ("head", "channel")
        for old, new in zip(before.masks(kind), after.masks(kind), strict=True)
    )
