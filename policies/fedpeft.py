"""FedPEFT: bottleneck adapters or IA3 instead of LoRA, averaged array by array.

System
    The averaging of any parameter-efficient form in FS-LLM: Kuang et al., "FederatedScope-LLM: A Comprehensive Package
    for Fine-tuning Large Language Models in Federated Learning", KDD 2024, arXiv 2309.00363; seen in the authors' code.

Idea
    The server keeps only what is trained. Devices train it and send it back, and the server averages every array,
    whatever it means. So the form of the adapters is one choice of many, and costs and accuracy of it can be compared.

Mapping
    adapter -> ``adapter``, with :mod:`emulator.forms.bottleneck` and :mod:`emulator.forms.ia3`; reduction ->
    ``reduction``; p_k = n_k / sum n -> the weights of ``Policy.aggregate``. LoRA is the policy ``fedlora``.

Deviations
    1. Bottleneck adapters stand behind the feed-forward part alone, with GELU; those of the library that FS-LLM uses
       stand behind attention as well, with ReLU.
    2. Prompt, prefix and P-tuning are left out: no form here adds tokens or keys.
    3. The trained part of the classification head travels with the adapters and is averaged like them.

Defaults
    reduction = 16: the library's. IA3 wants a larger step than LoRA (Liu et al. 2022 train at 3e-3), which is the run's
    to set. depth: all layers.
"""

from dataclasses import dataclass
from typing import Literal

from emulator.forms.bottleneck import BottleneckForm
from emulator.forms.ia3 import Ia3Form
from emulator.forms.layerwise import layerwise_plan
from emulator.policy import Count, Policy
from emulator.records import ClusterView, RoundPlan
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class FedPeft(Policy):
    """The same adapters of the chosen form on every device.

    Args:
        adapter: the form, bottleneck or ia3.
        reduction: hidden size over the width of a bottleneck adapter.
        depth: how many layers are adapted, counted from the output; all where it is not given.
    """

    adapter: Literal["bottleneck", "ia3"] = "bottleneck"
    reduction: Count = 16
    depth: Count | None = None

    def form(self, model: ModelSpec) -> BottleneckForm | Ia3Form:
        if (self.depth or 1) > model.n_layers:
            raise ValueError(f"depth must be at most the model's {model.n_layers} layers, got {self.depth!r}")
        if self.adapter == "ia3":
            return Ia3Form()
        return BottleneckForm(width=max(1, model.hidden_size // self.reduction))

    def plan(self, view: ClusterView) -> RoundPlan:
        return layerwise_plan(view, dict.fromkeys(view.available, self.depth or view.model.n_layers))
