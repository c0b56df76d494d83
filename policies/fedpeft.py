"""FedPEFT: bottleneck adapters, IA3, prompts or prefixes instead of LoRA, averaged array by array.

System
    The averaging of any parameter-efficient form in FS-LLM: Kuang et al., "FederatedScope-LLM: A Comprehensive Package
    for Fine-tuning Large Language Models in Federated Learning", KDD 2024, arXiv 2309.00363; seen in the authors' code.

Idea
    The server keeps only what is trained. Devices train it and send it back, and the server averages every array,
    whatever it means. So the form of the adapters is one choice of many, and costs and accuracy of it can be compared.

Mapping
    adapter -> ``adapter``, with :mod:`emulator.forms.bottleneck`, :mod:`emulator.forms.ia3`,
    :mod:`emulator.forms.prompt_tuning` and :mod:`emulator.forms.prefix_tuning`; reduction -> ``reduction``; number of
    virtual tokens -> ``n_virtual_tokens``; p_k = n_k / sum n -> the weights of ``Policy.aggregate``. LoRA is the policy
    ``fedlora``.

Deviations
    1. Bottleneck adapters stand behind the feed-forward part alone, with GELU; those of the library that FS-LLM uses
       stand behind attention as well, with ReLU.
    2. P-tuning, whose virtual tokens a small network gives, is left out; of a prefix the keys and values may come from
       one.
    3. The trained part of the classification head travels with the adapters and is averaged like them.

Defaults
    reduction = 16: the library's. n_virtual_tokens: 20 for a prompt, 30 for a prefix, as in the authors' code. IA3
    wants a larger step than LoRA (Liu et al. 2022 train at 3e-3) and virtual tokens one 10 to 100 times as large (from
    memory), which is the run's to set. depth: all layers; virtual tokens act from the lowest on and have no other.
    projection_size: none, as PEFT has it.
"""

from dataclasses import dataclass
from typing import Literal

from emulator.forms.bottleneck import BottleneckForm
from emulator.forms.ia3 import Ia3Form
from emulator.forms.layerwise import LayerwiseForm, layerwise_plan
from emulator.forms.prefix_tuning import PrefixTuningForm
from emulator.forms.prompt_tuning import PromptTuningForm
from emulator.forms.virtual_tokens import VirtualTokensForm
from emulator.policy import Count, Policy
from emulator.records import ClusterView, RoundPlan
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class FedPeft(Policy):
    """The same adapters of the chosen form on every device.

    Args:
        adapter: the form, bottleneck, ia3, prompt or prefix.
        reduction: hidden size over the width of a bottleneck adapter.
        depth: how many layers are adapted, counted from the output; all where it is not given, and with virtual tokens.
        n_virtual_tokens: how many of a prompt or a prefix; 20 or 30 where it is not given.
        projection_size: hidden units through which a prefix is projected; it is not, where it is not given.
    """

    adapter: Literal["bottleneck", "ia3", "prompt", "prefix"] = "bottleneck"
    reduction: Count = 16
    depth: Count | None = None
    n_virtual_tokens: Count | None = None
    projection_size: Count | None = None

    def __post_init__(self) -> None:
        if self.n_virtual_tokens is not None and self.adapter not in ("prompt", "prefix"):
            raise ValueError(f"n_virtual_tokens is for a prompt or a prefix, got {self.n_virtual_tokens!r}")
        if self.projection_size is not None and self.adapter != "prefix":
            raise ValueError(f"projection_size is for a prefix, got {self.projection_size!r}")

    def form(self, model: ModelSpec) -> LayerwiseForm | VirtualTokensForm:
        if self.adapter in ("prompt", "prefix"):
            return self._virtual_tokens(model)
        if (self.depth or 1) > model.n_layers:
            raise ValueError(f"depth must be at most the model's {model.n_layers} layers, got {self.depth!r}")
        if self.adapter == "ia3":
            return Ia3Form()
        return BottleneckForm(width=max(1, model.hidden_size // self.reduction))

    def plan(self, view: ClusterView) -> RoundPlan:
        return layerwise_plan(view, dict.fromkeys(view.available, self.depth or view.model.n_layers))

    def _virtual_tokens(self, model: ModelSpec) -> VirtualTokensForm:
        if self.depth not in (None, model.n_layers):
            raise ValueError(
                f"depth does not apply to a {self.adapter}, which acts from the lowest layer on; leave it out, got"
                f" {self.depth!r}"
            )
        if self.adapter == "prompt":
            return PromptTuningForm(n_virtual_tokens=self.n_virtual_tokens or 20)
        return PrefixTuningForm(n_virtual_tokens=self.n_virtual_tokens or 30, projection_size=self.projection_size)
