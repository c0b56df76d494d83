"""Write a policy and compare it with FedLoRA over three seeds.

    python examples/02_own_policy.py [FOLDER]

Models are not trained here, so that it takes seconds: what is compared is time, bytes, energy and waiting. Without the
setting ``training.enabled`` the same script also tells accuracies.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

import emulator
from emulator.analysis import compare
from emulator.policy import ClusterView, LoraForm, Policy, RoundPlan, RoundReport, lora_plan
from emulator.report.terminal.comparison import render

SETTINGS = {"rounds": 20, "training.enabled": False}


@dataclass(kw_only=True)
class HalfDepth(Policy):
    """The slower half of the devices trains only the upper half of the layers."""

    rank: int = 8
    step_s: dict[int, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def form(self, model):
        return LoraForm(ranks=(self.rank,) * model.n_layers)

    def plan(self, view: ClusterView) -> RoundPlan:
        n_layers = view.model.n_layers
        slow = sorted(view.available, key=lambda device: self.step_s.get(device, 0.0))[len(view.available) // 2 :]
        depths = {device: n_layers // 2 if device in slow else n_layers for device in view.available}
        return lora_plan(view, self.form(view.model).ranks, depths)

    def observe(self, report: RoundReport) -> None:
        self.step_s = {device: seen.compute_s / max(1, seen.n_steps) for device, seen in report.devices.items()}


def main(folder: Path) -> None:
    runs = [
        emulator.emulate(
            {**SETTINGS, "policy.path": policy, "seed": seed}, out=folder / f"{policy.split(':')[-1]}-s{seed}"
        )
        for policy in ("fedlora", f"{__name__}:HalfDepth")
        for seed in range(3)
    ]
    compared = compare(runs, baseline="fedlora")
    Console().print(render(compared))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/own_policy"))
