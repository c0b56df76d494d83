"""The learning side of :mod:`emulator.forms.lora_tail`: training that shrinks the last ranks (HetLoRA, 2401.06432)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from emulator.forms.base import AdapterForm
from emulator.forms.lora_tail import TailAssignment, tail_product
from emulator.learning.host import DeviceHost
from emulator.learning.local_training import LocalTraining
from emulator.learning.upload import uploaded
from emulator.records import Job, Update


def train_with_tail_penalty(host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
    """Training whose loss has :class:`~emulator.forms.lora_tail.TailAssignment`'s penalty.

    The metrics ``tail_before`` and ``tail_after`` are the sum of ``||B_tail||_F * ||A_tail||_F`` over the trained
    adapters as received, and as sent back.
    """
    training, updates = TailTraining(host, form, jobs), []
    received = {job.key: training.held(job) for job in jobs}
    for update in training.run():
        assignment = _tail(update)
        before = {name: received[update.key][name] for name in update.payload}
        tails = {
            "tail_before": tail_product(before, assignment),
            "tail_after": tail_product(update.payload, assignment),
        }
        updates.append(replace(update, metrics={**update.metrics, **tails}))
    return updates


class TailTraining(LocalTraining):
    """:class:`LocalTraining` with the penalty on the tail."""

    def penalty(self, n_active: int) -> Tensor | None:
        stack = self.adapters.stack
        assignments = [_tail(job) for job in self.jobs[:n_active]]
        if not any(one.tail_weight for one in assignments):
            return None
        device = str(stack.values.device)
        weights = uploaded(np.array([one.tail_weight for one in assignments], dtype=np.float32), device)
        total = weights.new_zeros(())
        for name, layer in self.adapters.array_layers.items():
            if not name.endswith("lora_A") or name not in stack.shapes:
                continue
            place = np.arange(stack.shapes[name][0])
            ranks = np.array([one.ranks[layer] * (layer in one.trained_layers) for one in assignments])
            starts = np.array([one.tail_start(one.ranks[layer]) for one in assignments])
            is_tail = (place >= starts[:, None]) & (place < ranks[:, None])  # (n_active, rank)
            tail = uploaded(is_tail.astype(np.float32), device)
            tail_a = stack.leaf(name) * tail[:, :, None]
            tail_b = stack.leaf(f"{name.removesuffix('lora_A')}lora_B") * tail[:, None, :]
            # The gradient of a norm of nothing but zeros, as that of the first B, is 0.
            norms = [torch.linalg.vector_norm(one, dim=(1, 2)) for one in (tail_a, tail_b)]
            total = total + (weights * norms[0] * norms[1]).sum()
        return total


def _tail(one: Job | Update) -> TailAssignment:
    assert isinstance(one.assignment, TailAssignment)
    return one.assignment
