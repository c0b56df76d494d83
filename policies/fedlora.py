"""FedLoRA: every device trains the same LoRA adapters, the server averages A and B.

System
    FedIT: Zhang et al., "Towards Building the Federated GPT: Federated Instruction Tuning", ICASSP 2024,
    arXiv 2305.05644. Papers on heterogeneous devices call the same thing FedLoRA and measure against it.

Idea
    Each round every device receives the averaged adapters, trains all of them on its own data and sends them back. The
    server averages A and B, weighted by the devices' numbers of examples. Nobody looks at what a device can do.

Mapping
    r -> ``rank``; number of adapted layers -> ``depth``; p_k = n_k / sum n -> the weights of ``Policy.aggregate``.

Deviations
    1. The trained part of the classification head travels with the adapters and is averaged like them; the paper
       instruction-tunes a generator, which has no such head.
    2. All reachable devices take part, as in the systems that use it as their baseline; the paper samples 5 %.

Defaults
    rank = 8: the baseline's rank in the systems measured against it (from memory); the sum over twelve layers, 96, is
    close to that of LEGEND's default rank law, 90. depth is not given: all layers, as in the paper.
"""

from dataclasses import dataclass

from emulator.forms.lora import LoraForm, lora_plan, uniform_ranks
from emulator.policy import Count, Policy
from emulator.records import ClusterView, RoundPlan
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class FedLora(Policy):
    """The same depth and rank on every device.

    Args:
        rank: LoRA rank of every adapted layer.
        depth: how many layers are adapted, counted from the output; all where it is not given.
    """

    rank: Count = 8
    depth: Count | None = None

    families = frozenset({"transformer", "encoder-decoder"})

    def form(self, model: ModelSpec) -> LoraForm:
        return LoraForm(ranks=uniform_ranks(model, self.rank, self.depth))

    def plan(self, view: ClusterView) -> RoundPlan:
        depth = self.depth or view.model.n_layers
        return lora_plan(view, uniform_ranks(view.model, self.rank, self.depth), dict.fromkeys(view.available, depth))
