"""FedPEFT: bottleneck adapters, IA3 or prompts instead of LoRA, averaged array by array.

System
    The averaging of any parameter-efficient form in FS-LLM: Kuang et al., "FederatedScope-LLM: A Comprehensive Package
    for Fine-tuning Large Language Models in Federated Learning", KDD 2024, arXiv 2309.00363; seen in the authors' code.

Idea
    The server keeps only what is trained. Devices train it and send it back, and the server averages every array,
    whatever it means. So the form of the adapters is one choice of many, and costs and accuracy of it can be compared.

Mapping
    adapter -> ``adapter``, with :mod:`emulator.forms.bottleneck`, :mod:`emulator.forms.ia3` and
    :mod:`emulator.forms.prompt_tuning`; reduction -> ``reduction``; number of virtual tokens -> ``n_virtual_tokens``;
    p_k = n_k / sum n -> the weights of ``Policy.aggregate``. LoRA is the policy ``fedlora``.

Deviations
    1. Bottleneck adapters stand behind the feed-forward part alone, with GELU; those of the library that FS-LLM uses
       stand behind attention as well, with ReLU.
    2. P-tuning, whose virtual tokens a small network gives, is left out.
    3. The trained part of the classification head travels with the adapters and is averaged like them.

Defaults
    reduction = 16: the library's. n_virtual_tokens = 20: the authors' code. IA3 wants a larger step than LoRA (Liu et
    al. 2022 train at 3e-3) and prompts one 10 to 100 times as large (from memory), which is the run's to set. depth: all
    layers; virtual tokens are in front of them all, so that they have no other.
"""

from dataclasses import dataclass
from typing import Literal

from emulator.forms.bottleneck import BottleneckForm
from emulator.forms.ia3 import Ia3Form
from emulator.forms.layerwise import LayerwiseForm, layerwise_plan
from emulator.forms.prompt_tuning import PromptTuningForm
from emulator.forms.virtual_tokens import VirtualTokensForm
from emulator.policy import Count, Policy
from emulator.records import ClusterView, RoundPlan
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class FedPeft(Policy):
    """The same adapters of the chosen form on every device.

    Args:
        adapter: the form, bottleneck, ia3 or prompt.
        reduction: hidden size over the width of a bottleneck adapter.
        depth: how many layers are adapted, counted from the output; all where it is not given, and with a prompt.
        n_virtual_tokens: how many stand in front of each row with a prompt.
    """

    adapter: Literal["bottleneck", "ia3", "prompt"] = "bottleneck"
    reduction: Count = 16
    depth: Count | None = None
    n_virtual_tokens: Count = 20

    def form(self, model: ModelSpec) -> LayerwiseForm | VirtualTokensForm:
        if self.adapter == "prompt":
            if self.depth not in (None, model.n_layers):
                raise ValueError(
                    "depth does not apply to a prompt, which is in front of all layers; leave it out, got"
                    f" {self.depth!r}"
                )
            return PromptTuningForm(n_virtual_tokens=self.n_virtual_tokens)
        if (self.depth or 1) > model.n_layers:
            raise ValueError(f"depth must be at most the model's {model.n_layers} layers, got {self.depth!r}")
        if self.adapter == "ia3":
            return Ia3Form()
        return BottleneckForm(width=max(1, model.hidden_size // self.reduction))

    def plan(self, view: ClusterView) -> RoundPlan:
        return layerwise_plan(view, dict.fromkeys(view.available, self.depth or view.model.n_layers))
