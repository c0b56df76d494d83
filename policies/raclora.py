"""RAC-LoRA: a chain of adapters with one factor drawn and frozen, each merged into the weights before the next begins.

System
    RAC-LoRA: Malinovsky et al., "Randomized Asymmetric Chain of LoRA: The First Meaningful Theoretical Framework for
    Low-Rank Adaptation", arXiv 2410.08305; its federated version, Fed-RAC-LoRA. Seen in reviews and a third party's
    code, not in the paper.

Idea
    LoRA with both factors trained may not converge, and a chain of such adapters may not either. With one factor drawn
    at random and frozen, a step of the other is a step of gradient descent projected onto a random subspace; merging
    and drawing anew covers the whole space in time. In a federation all devices share the drawn factor, so that the
    mean of the trained factors is exact.

Mapping
    t -> the round; A_S, drawn and frozen -> the form's shared draw, ``ResidualLoraForm(shares_draw=True,
    trains_a=False)``; B-hat_t, from 0 -> what a device trains; W <- W + (alpha / r) mean(B-hat) A_S -> the mean of
    what each adds to the state's ``residual`` (sourced: a review and a third party's code); a chain step is one round.

Deviations
    1. A is drawn uniformly within 1/sqrt(in), as PEFT draws it and as in all LoRA forms here; the paper's is Gaussian.
       Training is AdamW with the run's step size; the theory is for gradient descent.
    2. A round is a step of the chain. The paper merges after epochs: about ten steps in a whole fine-tuning.
    3. The drawn factors cost nothing, since all know the seed. A device that has missed rounds is charged for B of all
       of them, until the whole matrix would be smaller, and then for that.
    4. The time in which a device merges is not counted.
    5. The trained part of the head travels both ways and is averaged: it is no adapter.

Defaults
    rank = 8: that of the FedLoRA baseline, so that both are compared at one rank; the paper's experiments have rank 2.
    depth: all layers.
"""

from dataclasses import dataclass, field

from emulator.forms.lora import uniform_ranks
from emulator.forms.residual import ResidualLoraForm, residual_plan
from emulator.policy import Count, Policy
from emulator.records import ClusterView, RoundPlan, RoundReport, Status
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class RacLora(Policy):
    """The same rank and depth on every device; in each round a new A, drawn and frozen, and a B from zero.

    Args:
        rank: LoRA rank of every adapted layer.
        depth: how many layers are adapted, counted from the output; all where it is not given.
    """

    rank: Count = 8
    depth: Count | None = None

    _lacking: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    def form(self, model: ModelSpec) -> ResidualLoraForm:
        ranks = uniform_ranks(model, self.rank, self.depth)
        return ResidualLoraForm(ranks=ranks, restarts=True, shares_draw=True, trains_a=False)

    def plan(self, view: ClusterView) -> RoundPlan:
        ranks = dict.fromkeys(view.available, uniform_ranks(view.model, self.rank, self.depth))
        return residual_plan(view, ranks, self.depth or view.model.n_layers, self._lacking)

    def observe(self, report: RoundReport) -> None:
        arrived = {device for device, seen in report.devices.items() if seen.status is Status.OK}
        grown = self.rank if arrived else 0
        self._lacking = {
            device: grown + (0 if device in arrived else self._lacking.get(device, 0)) for device in report.devices
        }
