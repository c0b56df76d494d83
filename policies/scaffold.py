"""SCAFFOLD: LoRA adapters whose local training is corrected by control variates.

System
    Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020, arXiv 1910.06378,
    algorithm 1 with option II; adapters in the place of the whole model.

Idea
    On data that differ, devices drift to optima of their own. Each keeps an estimate of its own gradient, the server
    one of the mean gradient, and the difference of the two is added to every local step. Both estimates are renewed by
    what a round has shown, and travel with what is trained: twice the bytes of FedLoRA, both ways.

Mapping
    x -> the server state; y_i -> a device's adapters and head; c, c_i -> ``Controls.server``, ``Controls.own``;
    K -> ``training.local_steps``; eta_l -> ``training.learning_rate``; eta_g -> 1, or ``server.learning_rate`` of a
    server optimizer; N -> all devices of the testbed; S -> those that deliver; r -> ``rank``.

Deviations
    1. c_i is the mean of a device's gradients over its local steps. With plain SGD that is option II to the letter,
       ``c_i - c + (x - y_i) / (K eta_l)``; it stays a mean of gradients under AdamW, momentum, clipping and weight
       decay, where the letter would give none. Under AdamW the corrected gradient is what the optimizer is given.
    2. What is averaged in LoRA is A and B, so that the control variates are those of A and B, too.
    3. The trained part of the head travels with the adapters and has control variates like them.
    4. c_i lies on the device; here the policy keeps it for the device, so that a checkpoint has it. The memory that a
       device needs for c, c_i and the sum of its gradients, three numbers for each that it trains, is not priced.
    5. All reachable devices take part, as in ``fedlora``.

Defaults
    rank = 8, depth: all layers, as in ``fedlora``. eta_g = 1: the paper's, in all of its experiments. Devices count
    alike, as in the paper, whatever their numbers of examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from emulator.algorithms.aggregation import staleness_discount
from emulator.algorithms.control import CONTROL, Controls
from emulator.forms.base import AdapterForm
from emulator.forms.controlled_lora import ControlledLoraForm
from emulator.forms.lora import lora_plan, uniform_ranks
from emulator.policy import Count, Policy
from emulator.records import Arrays, ClusterView, RoundPlan, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class Scaffold(Policy):
    """The same depth and rank on every device, and control variates against the drift of each.

    Args:
        rank: LoRA rank of every adapted layer.
        depth: how many layers are adapted, counted from the output; all where it is not given.
    """

    rank: Count = 8
    depth: Count | None = None

    task = "emulator.learning.tasks.controls:train_with_controls"

    _controls: Controls | None = field(default=None, init=False, repr=False)

    families = frozenset({"transformer", "encoder-decoder"})

    def form(self, model: ModelSpec) -> ControlledLoraForm:
        return ControlledLoraForm(ranks=uniform_ranks(model, self.rank, self.depth))

    def plan(self, view: ClusterView) -> RoundPlan:
        if self._controls is None:
            self._controls = Controls(view.n_devices)
        depth = self.depth or view.model.n_layers
        return lora_plan(view, uniform_ranks(view.model, self.rank, self.depth), dict.fromkeys(view.available, depth))

    def carried_by(self, device_id: int) -> Arrays:
        return {} if self._controls is None else self._controls.correction(device_id)

    def weight(self, update: Update) -> float:
        return staleness_discount(update.staleness)

    def finish(self, form: AdapterForm, state: Arrays, mean: Arrays, updates: Sequence[Update]) -> Arrays:
        assert self._controls is not None  # plan() has been called
        for update in updates:
            if control := _control_of(update):
                self._controls.renew(update.device_id, control)
        return mean


def _control_of(update: Update) -> Arrays:
    """What the device has reported as its control variate; empty without training."""
    return {name.removeprefix(CONTROL): own for name, own in update.reported.items() if name.startswith(CONTROL)}
