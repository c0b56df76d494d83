"""Local training that scores attention heads and feed-forward channels by gradients that it has anyway, or by weights.

No gradient of a frozen weight is ever formed. A unit's score is a sum over its rows or columns of a matrix, smoothed
over the local steps, divided by the norm over all units of the matrix, and added up over those of its matrices that
count. There are three measures:

``gradient``
    For a matrix ``W`` with adapters ``scaling · B A``, its gradient is estimated as ``G = dB A + B dA - dB dA`` and the
    importance of a weight as ``|G_ij (W + scaling B A)_ij|``, the first order of what the loss would change without it
    (LoRAPrune, Zhang et al. 2023, arXiv 2305.18403, section 3). A kind of unit of whose matrices none has an adapter is
    scored by ``taylor``.
``taylor``
    For a unit with output ``x``, the sum over examples of ``|x dL/dx|``, itself a sum over tokens: the first order of
    what the loss of an example would change without the unit (Michel et al. 2019, arXiv 1905.10650, equation 2). As the
    matrix ``W`` that reads ``x`` has the gradient ``δ x'``, it is ``|Σ_ij W_ij dL/dW_ij|`` over the unit's columns, the
    importance by weight and gradient of LLM-Pruner (Ma et al. 2023, arXiv 2305.11627, section 3.2; from memory).
``magnitude``
    ``|W + scaling B A|``; of a kind of unit without an adapter, ``|W|`` of the matrices that every model has.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor

from emulator.forms.base import AdapterForm, Site
from emulator.forms.kept_units import KINDS, MAGNITUDE_OF, READERS, UnitKind, kind_of, mask_name, score_name
from emulator.forms.lora import LoraForm
from emulator.forms.pruned_lora import Importance, pruned_assignment
from emulator.learning.attach.pruned_lora import StackedPrunedLora
from emulator.learning.host import DeviceHost
from emulator.learning.local_training import LocalTraining
from emulator.records import Arrays, Job, Update

_READER_OF = {kind_of(target): target for target in READERS}

Measured = tuple[str, int, str]
"""What a running score is about: a measure, a layer and a matrix."""
ADAPTERS: Measured = ("adapters", 0, "")
"""Not a score of units, but that of all adapters together."""


def train_and_score(host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
    """Local training in which devices that are asked to measure the importance of their units; they report it."""
    return ScoredTraining(host, form, jobs).run()


class ScoredTraining(LocalTraining):
    """Reports ``layers.{l}.head_score`` and ``layers.{l}.channel_score``, ``(n_units,)``, 0 for a unit that is gone.

    Metrics: ``kept_fraction``, what is left of a device's model, and, where it measures, ``adapter_importance``, the
    first-order importance ``Σ |θ dL/dθ|`` of its adapters, smoothed in the same way.
    """

    adapters: StackedPrunedLora

    def __init__(self, host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> None:
        super().__init__(host, form, jobs)
        self._assignments = [pruned_assignment(job.assignment) for job in self.jobs]
        self._measures = [assignment.importance for assignment in self._assignments]
        shares = [assignment.smoothing for assignment in self._assignments]
        self._renewal = 1 - torch.tensor(shares, dtype=torch.float32, device=host.settings.device)
        self._smoothed: dict[Measured, Tensor] = {}  # (n_devices, ...)
        assert isinstance(form, LoraForm)
        self._adapted_kinds = {kind_of(target) for target in form.targets}

    def run(self) -> list[Update]:
        watched = {kind for measure in self._measures for kind in self._by_first_order(measure)}
        readers = {place: reader for place, reader in self.adapters.readers.items() if place[1] in watched}
        for (layer, kind), reader in readers.items():
            reader.first_order = partial(self._take_first_order, layer, kind)
        try:
            with self.host.row_by_row() if readers else nullcontext():
                return super().run()
        finally:
            for reader in readers.values():
                reader.first_order = None

    @torch.no_grad()
    def after_backward(self, step: int, n_active: int) -> None:
        if set(self._measures) == {"none"}:
            return
        stack, total = self.adapters.stack, torch.zeros(n_active, device=self._renewal.device)
        for matrix in self.adapters.adapted():
            a, b = stack.leaf(matrix.lora_a), stack.leaf(matrix.lora_b)
            d_a, d_b = (stack.gradient(name)[:n_active] for name in (matrix.lora_a, matrix.lora_b))
            total += (a * d_a).abs().sum(dim=(1, 2)) + (b * d_b).abs().sum(dim=(1, 2))
            weight, place = matrix.weight.float(), (matrix.layer, matrix.target)
            if "gradient" in self._measures:
                scores = weight_scores(weight, matrix.scaling, a, b, d_a, d_b)
                self._renew(("gradient", *place), self._by_unit(matrix.layer, matrix.target, scores))
            if "magnitude" in self._measures:
                scores = torch.baddbmm(weight, b, a, alpha=matrix.scaling).abs()
                self._renew(("magnitude", *place), self._by_unit(matrix.layer, matrix.target, scores))
        if "magnitude" in self._measures:
            for (layer, target), weight in self._without_adapters():
                scores = weight.float().abs().expand(n_active, -1, -1)
                self._renew(("magnitude", layer, target), self._by_unit(layer, target, scores))
        self._renew(ADAPTERS, total)

    def reported(self, row: int) -> Arrays:
        measure = self._measures[row]
        if measure == "none":
            return {}
        summed: dict[str, Tensor] = {}
        for (own, layer, target), smoothed in self._smoothed.items():
            kind = kind_of(target)
            if own != ("taylor" if kind in self._by_first_order(measure) else measure):
                continue
            scores = smoothed[row]
            normalised = scores / scores.norm().clamp(min=torch.finfo(torch.float32).tiny)
            name = score_name(layer, kind)
            summed[name] = summed[name] + normalised if name in summed else normalised
        return {name: scores.numpy(force=True).copy() for name, scores in summed.items()}

    def metrics(self, row: int) -> Mapping[str, float]:
        found = dict(super().metrics(row))
        found["kept_fraction"] = self._assignments[row].kept.kept_fraction
        if self._measures[row] != "none":
            found["adapter_importance"] = float(self._smoothed[ADAPTERS][row])
        return found

    def _by_first_order(self, measure: Importance) -> AbstractSet[UnitKind]:
        """The kinds of units that ``measure`` scores by the input of what reads them."""
        if measure == "taylor":
            return set(KINDS)
        return set(KINDS) - self._adapted_kinds if measure == "gradient" else set()

    def _take_first_order(self, layer: int, kind: UnitKind, first_order: Tensor) -> None:
        n_units = self.adapters.stack.shapes[mask_name(layer, kind)][0]
        n_active = len(self.adapters.stack.leaf(mask_name(layer, kind)))
        by_token = first_order.view(
            n_active, len(first_order) // n_active, -1, n_units, first_order.shape[-1] // n_units
        )
        self._renew(("taylor", layer, _READER_OF[kind]), by_token.sum(dim=(2, 4)).abs().sum(dim=1))

    def _without_adapters(self) -> Iterator[tuple[Site, Tensor]]:
        """The matrices by whose weights those kinds of units are ranked that have no adapters."""
        for site, weight in self.adapters.weights.items():
            kind = kind_of(site[1])
            if kind not in self._adapted_kinds and site[1] in MAGNITUDE_OF[kind]:
                yield site, weight

    def _by_unit(self, layer: int, target: str, scores: Tensor) -> Tensor:
        """``(n, out, in) -> (n, n_units)``, 0 for units that are gone."""
        mask = self.adapters.stack.leaf(mask_name(layer, kind_of(target)))
        summed = scores.sum(dim=1 if target in READERS else 2)
        return summed.view(len(scores), mask.shape[1], -1).sum(dim=2) * mask

    def _renew(self, key: Measured, latest: Tensor) -> None:
        """Takes over the first measurement, and of each later one a share, for the devices that are still at work."""
        if key not in self._smoothed:  # all devices take the first step
            self._smoothed[key] = latest.clone()
            return
        share = self._renewal[: len(latest)].view(-1, *[1] * (latest.dim() - 1))
        self._smoothed[key][: len(latest)].lerp_(latest, share.expand_as(latest))


def weight_scores(weight: Tensor, scaling: float, a: Tensor, b: Tensor, d_a: Tensor, d_b: Tensor) -> Tensor:
    """``|G (W + scaling B A)|`` for each weight, ``(n, out, in)``.

    Args:
        weight: ``(out, in)``, frozen, the same for all devices.
        scaling: of the adapters.
        a, d_a: ``(n, r, in)``, a factor and its gradient.
        b, d_b: ``(n, out, r)``.
    """
    # dB A + B dA - dB dA = [dB, B] [A - dA; dA]
    gradient = torch.bmm(torch.cat([d_b, b], dim=2), torch.cat([a - d_a, d_a], dim=1))
    return gradient.mul_(torch.baddbmm(weight, b, a, alpha=scaling)).abs_()
