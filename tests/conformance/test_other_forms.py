"""A policy with a form that is no LoRA is as short as one with LoRA, and conforms."""

from dataclasses import dataclass

from emulator.forms.bottleneck import BottleneckForm
from emulator.forms.ia3 import Ia3Form
from emulator.forms.layerwise import layerwise_plan
from emulator.policy import Policy
from emulator.records import ClusterView, RoundPlan
from emulator.shapes.spec import ModelSpec
from emulator.testing import PolicyConformance
from policies.fedpeft import FedPeft


@dataclass(kw_only=True)
class FedIa3(Policy):
    """Every device trains the same vectors, and the server averages them."""

    depth: int = 0

    def form(self, model: ModelSpec) -> Ia3Form:
        return Ia3Form()

    def plan(self, view: ClusterView) -> RoundPlan:
        return layerwise_plan(view, dict.fromkeys(view.available, self.depth or view.model.n_layers))


@dataclass(kw_only=True)
class FedBottleneck(Policy):
    """Every device trains the same adapters, a part of the devices only those of the upper layers."""

    width: int = 6

    def form(self, model: ModelSpec) -> BottleneckForm:
        return BottleneckForm(width=self.width)

    def plan(self, view: ClusterView) -> RoundPlan:
        return layerwise_plan(view, {device: 1 + device % view.model.n_layers for device in view.available})


class TestPrompts(PolicyConformance):
    def policy(self) -> Policy:
        return FedPeft(adapter="prompt", n_virtual_tokens=4)


class TestPrefixes(PolicyConformance):
    def policy(self) -> Policy:
        return FedPeft(adapter="prefix", n_virtual_tokens=4)


class TestProjectedPrefixes(PolicyConformance):
    def policy(self) -> Policy:
        return FedPeft(adapter="prefix", n_virtual_tokens=4, projection_size=6)


class TestFedBottleneck(PolicyConformance):
    def policy(self) -> Policy:
        return FedBottleneck()


class TestFedIa3(PolicyConformance):
    def policy(self) -> Policy:
        return FedIa3()


class TestFedIa3OnTheUpperLayers(PolicyConformance):
    def policy(self) -> Policy:
        return FedIa3(depth=2)
