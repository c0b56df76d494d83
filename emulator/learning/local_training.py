"""Local training of a stack of devices: every forward and backward pass is shared."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext

import torch
from torch import Tensor

from emulator.compression.payloads import received
from emulator.forms.base import AdapterForm
from emulator.learning.data.batches import draw_rows
from emulator.learning.data.partition import Rows
from emulator.learning.host import DeviceHost
from emulator.learning.model.quantization import ActivationQuantizer, rounding_keys
from emulator.learning.optimizer import Gradients, stacked_optimizer
from emulator.records import Arrays, Assignment, Job, Update
from emulator.seeds import Seeds


class LocalTraining:
    """All devices of a stack share every forward and backward pass.

    The loss is the sum of the devices' own, as the objective of the run has them, so that no device's gradient depends
    on another's data. A task that adds to the loss, or that measures while it trains, overrides :meth:`penalty`,
    :meth:`after_backward`, :meth:`after_step`, :meth:`metrics` or :meth:`reported`; one in which more is trained than a
    device holds, :meth:`held` and :meth:`held_together`; one whose devices cannot be parted, :meth:`passes`.

    Attributes:
        jobs: those with the most steps come first, so that the devices still at work are always the leading rows.
        adapters: holds the devices' arrays, in the order of ``jobs``.
    """

    def __init__(self, host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> None:
        self.host, self.form, self._given = host, form, jobs
        self.jobs = sorted(jobs, key=lambda job: -job.assignment.n_steps)
        self.seeds = Seeds(host.settings.run_seed)
        self.adapters = host.attach(form)
        self.losses = torch.zeros(len(jobs), device=host.settings.device)
        self._loss_sums: list[float] = []

    def penalty(self, n_active: int) -> Tensor | None:
        """What is added to the sum of the first ``n_active`` devices' losses."""
        return None

    def passes(self, n_active: int) -> Sequence[range]:
        """The rows of each forward and backward pass of a step; more than one only where there is no penalty."""
        return [range(n_active)]

    def held_together(self) -> Sequence[Tensor] | None:
        """The columns of the stack that are held in one place, whose gradients have one norm; None for all of them."""
        return None

    def after_backward(self, step: int, n_active: int) -> None:
        """Called between the gradients of a step and the change of the parameters by which they were computed."""

    def after_step(self, step: int, n_active: int) -> None:
        """Called after each step; ``self.adapters.stack.gradients`` are those of the step just taken."""

    def metrics(self, row: int) -> Mapping[str, float]:
        """What device ``row`` reports as numbers."""
        n_steps = self.jobs[row].assignment.n_steps
        return {"train_loss": self._loss_sums[row] / n_steps} if n_steps else {}

    def reported(self, row: int) -> Arrays:
        """What device ``row`` reports as arrays."""
        return {}

    def held(self, job: Job) -> Arrays:
        """What is loaded, trained and read for a device."""
        return received(self.form, job, self.host.settings.compression, self.seeds)

    def learning_rates(self, assignments: Sequence[Assignment]) -> Tensor:
        """``(n_devices, n_parameters)``, or ``(n_devices, 1)`` where a device has one for all that it trains."""
        return self.adapters.learning_rates(assignments)

    def run(self) -> list[Update]:
        """The updates, in the order in which the jobs were given."""
        assignments = [job.assignment for job in self.jobs]
        self.adapters.load([self.held(job) for job in self.jobs], assignments)
        self._train(assignments)
        self._loss_sums = self.losses.tolist()  # of all devices at once: what computes them is waited for here alone
        updates = {
            job.key: Update(
                device_id=job.device_id,
                round_index=job.round_index,
                inner_round=job.inner_round,
                assignment=job.assignment,
                payload=payload,
                n_examples=len(self.host.content.local_rows(job.device_id)),
                metrics=self.metrics(row),
                reported=self.reported(row),
            )
            for row, (job, payload) in enumerate(zip(self.jobs, self.adapters.read(), strict=True))
        }
        return [updates[job.key] for job in self._given]

    def _train(self, assignments: Sequence[Assignment]) -> None:
        host, settings, stack = self.host, self.host.settings, self.adapters.stack
        rates = self.learning_rates(assignments)
        asked = settings.optimizer
        optimizer = stacked_optimizer(asked, stack, rates, settings.weight_decay)
        gradients = Gradients(asked, stack, self.held_together())
        rows = [draw_rows(job, host.content.local_rows(job.device_id), self.seeds) for job in self.jobs]
        first_layer = 0 if settings.dropout else min(self.adapters.lowest_layer(job.state) for job in self.jobs)
        n_active = len(self.jobs)
        quantizer = self._quantizer(assignments[0])
        with ExitStack() as contexts:
            contexts.enter_context(_dropout(host, self.jobs[0], self.seeds))
            if quantizer:
                contexts.enter_context(host.layers_within(quantizer.around))
            for step in range(assignments[0].n_steps):
                n_now = sum(assignment.n_steps > step for assignment in assignments)
                if n_now != n_active:
                    n_active = n_now
                    self.adapters.activate(n_active)
                passes = self.passes(n_active)
                gradients.clear()
                for part in passes:
                    if len(passes) > 1:
                        self.adapters.activate(part.stop, part.start)
                    own_rows = [rows[row][step] for row in part]
                    n_parts = min(settings.accumulation_steps, max(len(own) for own in own_rows))
                    for number in range(n_parts):
                        if quantizer:
                            quantizer.begin_pass(step, n_active, number, n_parts)
                        losses = self._pass(own_rows, number, n_parts, first_layer)
                        penalty = self.penalty(n_active) if number == 0 else None
                        loss = losses.sum() if penalty is None else losses.sum() + penalty
                        stack.backward(loss, adds=number > 0)
                        self.losses[part.start : part.stop] += losses.detach().view(len(part), -1).sum(dim=1)
                self.after_backward(step, n_active)
                gradients.shape(n_active)
                optimizer.step(n_active)
                self.after_step(step, n_active)
                host.on_step(step)

    def _pass(self, rows: Sequence[Rows], number: int, n_parts: int, first_layer: int) -> Tensor:
        """The losses of a forward pass over part ``number`` of the batch of each device, ``(rows,)``."""
        tokens, learning = self.host.train_tokens, self.host.learning
        batch = tokens.stacked_batch(rows) if n_parts == 1 else tokens.stacked_part(rows, number, n_parts)
        logits = self.host.logits(batch, self.host.content.train, first_layer)
        return learning.losses(logits, batch, len(rows))

    def _quantizer(self, assignment: Assignment) -> ActivationQuantizer | None:
        """What keeps activations quantized, if the devices of this stack are asked to."""
        layers, bits = self.adapters.kept_quantized(assignment)
        if not layers:
            return None
        keys = [rounding_keys(job, self.seeds) for job in self.jobs]
        model = self.host.model
        parameters = [*model.parameters(), *model.buffers(), self.adapters.stack.values]
        return ActivationQuantizer(layers, bits, keys, parameters)


def _dropout(host: DeviceHost, first: Job, seeds: Seeds) -> AbstractContextManager[None]:
    """The model's own dropout, drawn from a stream of this stack, if the settings ask for it."""
    if not host.settings.dropout:
        return nullcontext()
    return host.training_mode(seeds.integer("dropout", first.round_index, first.inner_round, first.device_id))
