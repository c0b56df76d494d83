"""FFA-LoRA: A stays as it was drawn, only B is trained and averaged, so that the mean of B gives the mean of B A.

System
    FFA-LoRA: Sun et al., "Improving LoRA in Privacy-preserving Federated Learning", ICLR 2024, arXiv 2403.12313.

Idea
    Averaging A and B apart is not averaging their products. With one A for everybody it is: mean(B) A = mean(B A). Half
    of the adapter need not travel, and noise that is added for privacy is not multiplied by other noise.

Mapping
    A_0 -> ``lora_A`` as the server draws it once; B_k -> ``lora_B``; r -> ``rank``; alpha / r -> ``scaling``; eta ->
    ``learning_rate_scale`` times the run's.

Deviations
    1. A is never sent: every device draws it from the run's seed. The paper's count of what travels, half of LoRA's,
       implies the same (sourced from public code).
    2. The trained part of the classification head travels with the adapters and is averaged like them.
    3. The mean is weighted by the devices' numbers of examples, as everywhere here; the public code averages evenly.

Defaults
    rank = 8, scaling = 2: r 8 and alpha 16 in the public code (FedSA-LoRA's repository, settings for GLUE); the paper
    tunes alpha (from memory). A starts as PEFT draws it there and here. learning_rate_scale = 1: that code takes SGD at
    0.02, of a search, which says nothing of a rate for AdamW; with half of the parameters trained, 2 to 5 would be fair
    (from memory), and is left to who compares. depth is not given: all layers.
"""

from dataclasses import dataclass, replace

from emulator.forms.lora import LoraForm, lora_plan, uniform_ranks
from emulator.policy import Count, Policy, Positive
from emulator.records import ClusterView, RoundPlan
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class FfaLora(Policy):
    """The same depth and rank on every device; A is frozen.

    Args:
        rank: LoRA rank of every adapted layer.
        depth: how many layers are adapted, counted from the output; all where it is not given.
        scaling: what the product B A is multiplied by.
        learning_rate_scale: what the run's learning rate is multiplied by.
    """

    rank: Count = 8
    depth: Count | None = None
    scaling: float = 2.0
    learning_rate_scale: Positive = 1.0

    families = frozenset({"transformer", "encoder-decoder"})

    def form(self, model: ModelSpec) -> LoraForm:
        return LoraForm(ranks=uniform_ranks(model, self.rank, self.depth), scaling=self.scaling, trains_a=False)

    def plan(self, view: ClusterView) -> RoundPlan:
        depth = self.depth or view.model.n_layers
        rate = self.learning_rate_scale * view.training.learning_rate
        view = replace(view, training=replace(view.training, learning_rate=rate))
        return lora_plan(view, self.form(view.model).ranks, dict.fromkeys(view.available, depth))
