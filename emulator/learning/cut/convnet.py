"""A host for convnets that are cut: their features are merged at the server, their gradients dispatched to the devices.

The training step of MergeSFL (arXiv 2311.13348, released code): all devices' features are one batch, on whose mean
cross-entropy the top takes a step of SGD; device i gets its slice of the features' gradient, times ``sum_j d_j / d_i``,
with which its bottom takes one. A device that has a top of its own is a cohort of one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from emulator.forms.base import AdapterForm
from emulator.forms.cut import CutAssignment
from emulator.learning.data.batches import draw_rows
from emulator.learning.data.images import ImageData
from emulator.learning.data.partition import Rows
from emulator.learning.host import begin_process, imported
from emulator.learning.objective.classification import label_shard
from emulator.learning.settings import NumericSettings
from emulator.learning.upload import uploaded
from emulator.records import Arrays, EvaluationShard, Job, Update
from emulator.seeds import Seeds
from emulator.shapes.convnet import ConvNetLayer, ConvNetSpec

Weights = dict[str, Tensor]
"""Weights by the names of the server state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvNetContent:
    """All that goes once into the object store; as :class:`emulator.learning.host.HostContent`, for images."""

    is_pretrained: ClassVar[Literal[False]] = False

    model: ConvNetSpec
    train: ImageData
    test: ImageData
    offsets: NDArray[np.int64]

    def local_rows(self, device_id: int) -> Rows:
        """The training rows of one device, in ascending order."""
        return np.arange(self.offsets[device_id], self.offsets[device_id + 1])

    def start(self, settings: NumericSettings) -> "ConvNetHost":
        """A host for this content."""
        return ConvNetHost(self, settings)


class ConvNetHost:
    """Trains and evaluates on behalf of devices; as :class:`emulator.learning.host.DeviceHost`, for convnets."""

    def __init__(self, content: ConvNetContent, settings: NumericSettings) -> None:
        begin_process(settings)
        self.content, self.settings = content, settings
        self.on_step: Callable[[int], None] = lambda step: None
        """Called after each local step of a stack, with its number from 0: for whoever sets the pace of training."""

    def train(self, task: str, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
        """Runs the function at the import path ``task`` over the jobs of one stack."""
        updates: list[Update] = imported(task)(self, form, jobs)
        return updates

    def evaluate(self, form: AdapterForm, state: Arrays, rows: range) -> EvaluationShard:
        """The server ``state`` on the held-out ``rows``."""
        weights = {name: torch.tensor(array, device=self.settings.device) for name, array in state.items()}
        total, model = EvaluationShard(0.0, 0, 0), self.content.model
        with torch.no_grad():
            for start in range(rows.start, rows.stop, self.settings.eval_batch_size):
                pixels, labels = self.batch(
                    self.content.test, np.arange(start, min(start + self.settings.eval_batch_size, rows.stop))
                )
                features = forward(model.layers[: model.cut], "bottom", weights, pixels)
                logits = forward(model.layers[model.cut :], "top", weights, features)
                total += label_shard(logits, labels)
        return total

    def batch(self, data: ImageData, rows: Rows) -> tuple[Tensor, Tensor]:
        """Pixels and labels of the given rows."""
        device = self.settings.device
        return uploaded(data.pixels[rows], device), uploaded(data.labels[rows], device)

    def prefix(self) -> tuple[int, int]:
        """Nothing is frozen, so nothing is kept."""
        return 0, 0


class MergedConvNet:
    """Devices with a bottom each and one top. ``jobs`` are trained in their order, which follows from them alone."""

    def __init__(self, host: ConvNetHost, form: AdapterForm, jobs: Sequence[Job]) -> None:
        self._host, self._jobs, self._seeds = host, jobs, Seeds(host.settings.run_seed)
        state, model = jobs[0].state, host.content.model
        self._bottom_layers, self._top_layers = model.layers[: model.cut], model.layers[model.cut :]
        bottom = form.project(state, jobs[0].assignment)
        self._bottoms = [self._leaves(form.project(job.state, job.assignment)) for job in jobs]
        self._top = self._leaves({name: array for name, array in state.items() if name not in bottom})
        self._losses = torch.zeros(len(jobs), dtype=torch.float64, device=host.settings.device)

    def run(self) -> list[Update]:
        """The updates, in the order of the jobs: each device's bottom, and the top."""
        host = self._host
        rows = [draw_rows(job, host.content.local_rows(job.device_id), self._seeds) for job in self._jobs]
        for step in range(max(job.assignment.n_steps for job in self._jobs)):
            active = [index for index, job in enumerate(self._jobs) if job.assignment.n_steps > step]
            self._step(active, [rows[index][step] for index in active])
            host.on_step(step)
        top = _arrays(self._top)
        return [
            Update(
                device_id=job.device_id,
                round_index=job.round_index,
                inner_round=job.inner_round,
                assignment=job.assignment,
                payload={**_arrays(bottom), **top},
                n_examples=len(host.content.local_rows(job.device_id)),
                metrics={"train_loss": loss / job.assignment.n_steps},
            )
            for job, bottom, loss in zip(self._jobs, self._bottoms, self._losses.tolist(), strict=True)
        ]

    def _step(self, active: Sequence[int], rows: Sequence[Rows]) -> None:
        batches = [self._host.batch(self._host.content.train, own) for own in rows]
        features = [
            forward(self._bottom_layers, "bottom", self._bottoms[index], pixels)
            for index, (pixels, _) in zip(active, batches, strict=True)
        ]
        merged = torch.cat([own.detach() for own in features]).requires_grad_()
        logits = forward(self._top_layers, "top", self._top, merged)
        entropies = F.cross_entropy(logits, torch.cat([labels for _, labels in batches]), reduction="none")
        names, leaves = list(self._top), list(self._top.values())
        *top_gradients, feature_gradient = torch.autograd.grad(entropies.mean(), [*leaves, merged])
        sizes = [len(own) for own in rows]
        sent_back = dispatched(feature_gradient, sizes)
        for index, own, gradient in zip(active, features, sent_back, strict=True):
            bottom = self._bottoms[index]
            gradients = torch.autograd.grad(own, list(bottom.values()), gradient)
            _descend(bottom, dict(zip(bottom, gradients, strict=True)), self._jobs[index].assignment.learning_rate)
        _descend(self._top, dict(zip(names, top_gradients, strict=True)), self._top_learning_rate(active[0]))
        for index, own in zip(active, torch.split(entropies.detach(), sizes), strict=True):
            self._losses[index] += own.mean()

    def _top_learning_rate(self, index: int) -> float:
        assignment = self._jobs[index].assignment
        assert isinstance(assignment, CutAssignment)  # the form has refused anything else
        return assignment.top_learning_rate

    def _leaves(self, arrays: Arrays) -> Weights:
        device = self._host.settings.device
        return {name: torch.tensor(array, device=device).requires_grad_() for name, array in arrays.items()}


def dispatched(gradient: Tensor, batch_sizes: Sequence[int]) -> list[Tensor]:
    """The slices of ``gradient (sum of batch_sizes, ...)``, each scaled to the gradient of its device's own mean loss.

    ``gradient`` is that of the mean over the merged batch; device i gets its slice times ``sum_j d_j / d_i``.
    """
    total = sum(batch_sizes)
    return [
        own * (total / size) for own, size in zip(torch.split(gradient, list(batch_sizes)), batch_sizes, strict=True)
    ]


def forward(layers: Sequence[ConvNetLayer], part: str, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """What ``layers`` make of ``x``: ``(n, channels, height, width)`` or ``(n, features)``.

    A convolution pads so that height and width stay; pooling takes the largest; in front of a linear map all is flat.
    """
    for layer in layers:
        weight, bias = weights[f"{part}.{layer.name}.weight"], weights[f"{part}.{layer.name}.bias"]
        if len(layer.weight) == 2:
            x = F.linear(x.flatten(1), weight, bias)
        else:
            x = F.conv2d(x, weight, bias, padding=layer.weight[2] // 2)
        if layer.has_relu:
            x = torch.relu(x)
        if layer.pool > 1:
            x = F.max_pool2d(x, layer.pool, ceil_mode=layer.pool_rounds_up)
    return x


def _descend(weights: Weights, gradients: Mapping[str, Tensor], learning_rate: float) -> None:
    """One step of SGD, in place."""
    with torch.no_grad():
        for name, weight in weights.items():
            weight.sub_(gradients[name], alpha=learning_rate)


def _arrays(weights: Weights) -> dict[str, NDArray[np.float32]]:
    return {name: weight.numpy(force=True).copy() for name, weight in weights.items()}
