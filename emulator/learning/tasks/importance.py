"""Local training that scores attention heads and feed-forward channels by the gradients of the adapters alone.

No gradient of a frozen weight is ever formed. For a matrix ``W`` with adapters ``scaling · B A``, its gradient is
estimated as ``G = dB A + B dA - dB dA`` and the importance of a weight as ``|G_ij (W + scaling B A)_ij|``, the first
order of what the loss would change without it (LoRAPrune, Zhang et al. 2023, arXiv 2305.18403, section 3). A unit's
score is the sum over its rows or columns, smoothed over the local steps, divided by the norm over all units of the
matrix, and added up over those of its matrices that have adapters.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from emulator.forms.base import AdapterForm
from emulator.forms.kept_units import READERS, kind_of, mask_name, score_name
from emulator.forms.pruned_lora import pruned_assignment
from emulator.learning.attach.pruned_lora import AdaptedMatrix, StackedPrunedLora
from emulator.learning.host import DeviceHost
from emulator.learning.local_training import LocalTraining
from emulator.records import Arrays, Job, Update


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
        self._smoothed: dict[str, Tensor] = {}  # by what is measured, (n_devices, ...)

    @torch.no_grad()
    def after_backward(self, step: int, n_active: int) -> None:
        if set(self._measures) == {"none"}:
            return
        stack, total = self.adapters.stack, torch.zeros(n_active, device=self._renewal.device)
        for matrix in self.adapters.adapted():
            a, b = stack.leaf(matrix.lora_a), stack.leaf(matrix.lora_b)
            d_a, d_b = (stack.gradient(name)[:n_active] for name in (matrix.lora_a, matrix.lora_b))
            total += (a * d_a).abs().sum(dim=(1, 2)) + (b * d_b).abs().sum(dim=(1, 2))
            weight = matrix.weight.float()
            if "gradient" in self._measures:
                scores = weight_scores(weight, matrix.scaling, a, b, d_a, d_b)
                self._renew(_key("gradient", matrix), self._by_unit(matrix, scores))
            if "magnitude" in self._measures:
                scores = torch.baddbmm(weight, b, a, alpha=matrix.scaling).abs()
                self._renew(_key("magnitude", matrix), self._by_unit(matrix, scores))
        self._renew("adapters", total)

    def reported(self, row: int) -> Arrays:
        measure = self._measures[row]
        if measure == "none":
            return {}
        summed: dict[str, Tensor] = {}
        for matrix in self.adapters.adapted():
            scores = self._smoothed[_key(measure, matrix)][row]
            normalised = scores / scores.norm().clamp(min=torch.finfo(torch.float32).tiny)
            name = score_name(matrix.layer, kind_of(matrix.target))
            summed[name] = summed[name] + normalised if name in summed else normalised
        return {name: scores.numpy(force=True).copy() for name, scores in summed.items()}

    def metrics(self, row: int) -> Mapping[str, float]:
        found = dict(super().metrics(row))
        found["kept_fraction"] = self._assignments[row].kept.kept_fraction
        if self._measures[row] != "none":
            found["adapter_importance"] = float(self._smoothed["adapters"][row])
        return found

    def _by_unit(self, matrix: AdaptedMatrix, scores: Tensor) -> Tensor:
        """``(n, out, in) -> (n, n_units)``, 0 for units that are gone."""
        mask = self.adapters.stack.leaf(mask_name(matrix.layer, kind_of(matrix.target)))
        summed = scores.sum(dim=1 if matrix.target in READERS else 2)
        return summed.view(len(scores), mask.shape[1], -1).sum(dim=2) * mask

    def _renew(self, name: str, latest: Tensor) -> None:
        """Takes over the first measurement, and of each later one a share, for the devices that are still at work."""
        if name not in self._smoothed:  # all devices take the first step
            self._smoothed[name] = latest.clone()
            return
        share = self._renewal[: len(latest)].view(-1, *[1] * (latest.dim() - 1))
        self._smoothed[name][: len(latest)].lerp_(latest, share.expand_as(latest))


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


def _key(measure: str, matrix: AdaptedMatrix) -> str:
    return f"{measure} {matrix.layer} {matrix.target}"
