"""FeDeRA: adapters start as the principal part of the pre-trained weights instead of from nothing.

System
    FeDeRA: Yan et al., "FeDeRA: Efficient Fine-tuning of Language Models in Federated Learning Leveraging Weight
    Decomposition", arXiv 2404.18848. Of the paper the abstract was at hand.

Idea
    On data that differ from device to device, LoRA falls behind full fine-tuning. If A and B hold the largest singular
    values of the weights, training changes what matters most of them from its first step on; for the rest, rounds
    are those of FedLoRA.

Mapping
    W_0 = U S V'; B = U_r S_r^(1/2), A = S_r^(1/2) V_r' (S_r over the scaling, so that s B A is the part of rank r) ->
    ``emulator.forms.principal.PrincipalLoraForm``; W_0 - s B A -> the frozen weights and the form's residual.

Deviations
    1. That the start is the singular value decomposition of the pre-trained weights is sourced (abstract). That the
       root of the singular values goes to both factors, and that their product is taken from the frozen weights, so
       that the start changes nothing, is from memory; PiSSA (arXiv 2404.02948) does both.
    2. The decomposition costs no bytes, as every device has the weights, and its time on the devices is not counted.
    3. The product of the means is not the mean of the products, as in FedLoRA. Here both factors are large from the
       start, so that what is lost is larger; nothing corrects it.
    4. Adapters are on query and value; the trained part of the head travels with them and is averaged like them.

Defaults
    rank = 8, all layers: those of the FedLoRA baseline, so that both are compared at one rank.
"""

from dataclasses import dataclass

from emulator.forms.lora import uniform_ranks
from emulator.forms.principal import PrincipalLoraForm
from emulator.forms.residual import residual_plan
from emulator.policy import Count, Policy
from emulator.records import ClusterView, RoundPlan
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class FeDeRa(Policy):
    """The same depth and rank on every device, from the singular vectors of the pre-trained weights.

    Args:
        rank: LoRA rank of every adapted layer.
        depth: how many layers are adapted, counted from the output; all where it is not given.
    """

    rank: Count = 8
    depth: Count | None = None

    def form(self, model: ModelSpec) -> PrincipalLoraForm:
        return PrincipalLoraForm(ranks=uniform_ranks(model, self.rank, self.depth))

    def plan(self, view: ClusterView) -> RoundPlan:
        ranks = dict.fromkeys(view.available, uniform_ranks(view.model, self.rank, self.depth))
        return residual_plan(view, ranks, self.depth or view.model.n_layers, residual_ranks={})
