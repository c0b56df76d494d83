"""What hosts compute: picklable functions over the jobs of one stack, named by import path."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
import torch.nn.functional as F

from emulator.forms.base import AdapterForm
from emulator.learning.batches import draw_rows, stacked_batch
from emulator.learning.host import DeviceHost
from emulator.learning.optimizer import StackedAdamW
from emulator.records import Job, Update
from emulator.seeds import Seeds


class Task(Protocol):
    """Trains the devices of one stack on a host, and returns their updates in the order of ``jobs``."""

    def __call__(self, host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]: ...


def train_adapter(host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
    """Local training as in FedAvg: each device takes its steps of AdamW from the server's state, on its own batches.

    All devices share every forward and backward pass. The loss is the sum of the devices' mean cross-entropies, so
    that no device's gradient depends on another's data.
    """
    settings, seeds = host.settings, Seeds(host.settings.run_seed)
    # The devices with the most steps come first: those still at work are always the leading rows.
    ordered = sorted(jobs, key=lambda job: -job.assignment.n_steps)
    assignments = [job.assignment for job in ordered]
    adapters = host.attach(form)
    adapters.load([form.project(job.state, job.assignment) for job in ordered], assignments)
    stack = adapters.stack
    optimizer = StackedAdamW(stack.values, stack.gradients, adapters.learning_rates(assignments), settings.weight_decay)
    rows = [draw_rows(job, host.content.local_rows(job.device_id), seeds) for job in ordered]
    first_layer = 0 if settings.dropout else min(adapters.lowest_layer(job.state) for job in jobs)
    losses = torch.zeros(len(ordered), device=settings.device)
    n_active = len(ordered)
    with _dropout(host, ordered[0], seeds):
        for step in range(assignments[0].n_steps):
            n_now = sum(assignment.n_steps > step for assignment in assignments)
            if n_now != n_active:
                n_active = n_now
                adapters.activate(n_active)
            batch = stacked_batch([own[step] for own in rows[:n_active]], host.content.train, settings.device)
            entropies = (
                F.cross_entropy(host.logits(batch, host.content.train, first_layer), batch.labels, reduction="none")
                * batch.weights
            )
            stack.backward(entropies.sum())
            optimizer.step(n_active)
            losses[:n_active] += entropies.detach().view(n_active, -1).sum(dim=1)
    updates = {
        job.device_id: Update(
            device_id=job.device_id,
            assignment=job.assignment,
            payload=payload,
            n_examples=len(host.content.local_rows(job.device_id)),
            metrics={"train_loss": loss / job.assignment.n_steps} if job.assignment.n_steps else {},
        )
        for job, payload, loss in zip(ordered, adapters.read(), losses.tolist(), strict=True)
    }
    return [updates[job.device_id] for job in jobs]


def _dropout(host: DeviceHost, first: Job, seeds: Seeds) -> AbstractContextManager[None]:
    """The model's own dropout, drawn from a stream of this stack, if the settings ask for it."""
    if not host.settings.dropout:
        return nullcontext()
    return host.training_mode(seeds.integer("dropout", first.round_index, first.inner_round, first.device_id))
