"""What one device computes by itself of a model that is cut: its bottom, forward and backward."""

from collections.abc import Sequence

import torch

from emulator.forms.base import AdapterForm
from emulator.learning.cut.convnet import ConvNetHost, forward
from emulator.learning.data.batches import draw_rows
from emulator.learning.host import DeviceHost
from emulator.records import Job, Update
from emulator.seeds import Seeds


def pass_bottoms(host: DeviceHost | ConvNetHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
    """Pass each job's batches through its bottom and a gradient of ones back, and learn nothing.

    What the gradient is, only the server knows, which has the top; how much there is to compute does not depend on it.
    The updates are empty.
    """
    for job in jobs:
        if isinstance(host, ConvNetHost):
            _pass_convnet(host, form, job)
        else:
            _pass_transformer(host, form, job)
    return [
        Update(
            device_id=job.device_id,
            round_index=job.round_index,
            inner_round=job.inner_round,
            assignment=job.assignment,
            payload={},
            n_examples=len(host.content.local_rows(job.device_id)),
            metrics={},
        )
        for job in jobs
    ]


def _pass_transformer(host: DeviceHost, form: AdapterForm, job: Job) -> None:
    adapters, bottom = host.attach(form), form.project(job.state, job.assignment)
    cut = adapters.lowest_layer({name: array for name, array in job.state.items() if name not in bottom})
    adapters.load([job.state], [job.assignment])
    rows = draw_rows(job, host.content.local_rows(job.device_id), Seeds(host.settings.run_seed))
    for step in range(job.assignment.n_steps):
        n_parts = min(host.settings.accumulation_steps, len(rows[step]))
        for number in range(n_parts):
            batch = host.train_tokens.stacked_part([rows[step]], number, n_parts)
            adapters.stack.backward(host.below(batch, cut).sum(), adds=number > 0)
        host.on_step(step)


def _pass_convnet(host: ConvNetHost, form: AdapterForm, job: Job) -> None:
    model, device = host.content.model, host.settings.device
    held = form.project(job.state, job.assignment)
    bottom = {name: torch.tensor(array, device=device).requires_grad_() for name, array in held.items()}
    rows = draw_rows(job, host.content.local_rows(job.device_id), Seeds(host.settings.run_seed))
    for step in range(job.assignment.n_steps):
        pixels, _ = host.batch(host.content.train, rows[step])
        features = forward(model.layers[: model.cut], "bottom", bottom, pixels)
        torch.autograd.grad(features.sum(), list(bottom.values()))
        host.on_step(step)
