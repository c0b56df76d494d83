"""Pruning at once by gradient and weight: a calibration batch on each device, then one small model for all.

System
    After LLM-Pruner: Ma et al., "LLM-Pruner: On the Structural Pruning of Large Language Models", arXiv 2305.11627,
    whose importance is, to first order, what the loss would change without a structure; APT (Zhao et al., arXiv
    2401.12200) ranks by activation and gradient too. As a baseline for ``fedspine``; both are from memory.

Idea
    Which units matter is known better from data than from weights alone. A few examples tell it, once; the least
    important units then go together, and adapters recover what was lost.

Mapping
    I = |sum_ij W_ij dL/dW_ij| over a structure -> the measure ``taylor`` of ``emulator.learning.tasks.importance``;
    calibration samples -> a batch of each device; recovery with LoRA -> the rounds that follow.

Deviations
    1. The sum runs over the matrix that reads a unit's output alone, where it follows from activation and gradient
       without any gradient of a weight; LLM-Pruner adds up over all matrices of a group. The absolute value is taken
       example by example, as Michel et al. (arXiv 1905.10650) do.
    2. Examples stay on the devices: in the first round each device measures a batch and sends a float32 for each unit,
       which is paid for; the server averages by numbers of examples. The step is an ordinary one, whose change of the
       adapters is kept.
    3. Heads are ranked over all layers, channels too, after division by the norm of a layer. LLM-Pruner prunes each
       layer alike, and spares the first and the last ones.
    4. APT's adaptive ranks, outliers and distillation are left out: rank and adapters are those of all baselines.

Defaults
    target_sparsity = 0.5, rank = 8 on query and value: those of ``fedspine``. calibration_steps = 1: one batch of a
    device; over eighty devices these are more examples than the ten to fifty of LLM-Pruner (from memory).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from emulator.forms.base import AdapterForm
from emulator.forms.device_pruning import mean_scores, with_units
from emulator.forms.kept_units import KeptUnits, pruned_to_sparsity
from emulator.forms.pruned_lora import PrunedLoraForm, pruned_lora_assignment, pruned_plan
from emulator.policy import Count, FractionBelowOne, Nonempty, Policy
from emulator.records import Arrays, ClusterView, RoundPlan, RoundReport, Status, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class TaylorPruning(Policy):
    """All pruning after a first round of calibration, by gradient and weight.

    Args:
        target_sparsity: share of heads and of channels that are gone.
        calibration_steps: local steps, of a batch each, that a device measures and takes in the first round.
        rank: LoRA rank of every layer.
        targets: the adapted matrices of each layer.
    """

    target_sparsity: FractionBelowOne = 0.5
    calibration_steps: Count = 1
    rank: Count = 8
    targets: Annotated[tuple[str, ...], Nonempty] = ("query", "value")

    task: ClassVar[str] = "emulator.learning.tasks.importance:train_and_score"

    _kept: KeptUnits | None = field(default=None, init=False, repr=False)
    _is_calibrated: bool = field(default=False, init=False, repr=False)

    def form(self, model: ModelSpec) -> PrunedLoraForm:
        return PrunedLoraForm(ranks=(self.rank,) * model.n_layers, targets=self.targets)

    def plan(self, view: ClusterView) -> RoundPlan:
        whole = KeptUnits.whole(view.state, view.model)
        if self._kept is None and self._is_calibrated and not view.state:  # without training, any will do
            self._kept = pruned_to_sparsity(whole, whole.equal_scores(), self.target_sparsity)
        return self._calibration(view, whole) if self._kept is None else pruned_plan(view, self.rank, self._kept)

    def finish(self, form: AdapterForm, state: Arrays, mean: Arrays, updates: Sequence[Update]) -> Arrays:
        whole, scores = KeptUnits.in_state(state), mean_scores(updates)
        if self._kept is None and whole is not None and scores is not None:
            self._kept = pruned_to_sparsity(whole, scores, self.target_sparsity)
        return mean if self._kept is None else with_units(mean, self._kept)

    def observe(self, report: RoundReport) -> None:
        self._is_calibrated |= any(seen.status is Status.OK for seen in report.devices.values())

    def _calibration(self, view: ClusterView, whole: KeptUnits) -> RoundPlan:
        return RoundPlan(
            assignments={
                device: replace(
                    pruned_lora_assignment(device, view.training, view.model, self.rank, whole),
                    n_steps=self.calibration_steps,
                    importance="taylor",
                    smoothing=1 - 1 / self.calibration_steps,
                )
                for device in view.available
            }
        )
