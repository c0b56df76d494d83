"""BeamLoRA: ranks compete by learned gates; the least important ones become copies of the most important.

System
    BeamLoRA: Gu et al., "BeamLoRA: Beam-Constraint Low-Rank Adaptation", ACL 2025, arXiv 2502.13604. Form and
    replacement were seen in the authors' code; it is for one machine.

Idea
    Ranks of an adapter matter unequally, and their order changes as training goes on. Each rank has a gate that says
    how much it counts. From time to time the ranks that hardly count are given up, and promising ones go on twice in
    their place, each on its own way.

Mapping
    r softmax(g / T) -> :class:`emulator.forms.gated_lora.GatedLoraForm`; importance, the gates' mass ->
    ``emulator.forms.gated_lora.gate_mass``; the smallest set with mass 0.95 over all ranks of the model ->
    ``kept_mass``, ``important``; pruning and expansion -> ``expanded``; an interval of steps -> ``interval_rounds``.

Deviations
    1. The federation is our own: A, B and g are averaged by numbers of examples, and the server replaces ranks once
       every ``interval_rounds`` rounds (the authors: every 3,000 steps). Devices keep no optimizer state between
       rounds, so that none is copied.
    2. A copy is taken from the state at the last replacement (the authors: an earlier checkpoint): two equal ranks
       would have equal gradients and stay alike.
    3. The pair gets the mean of both masses each (the authors average the gates), so that the others' shares stay.
    4. The k-th least important rank of a matrix becomes a copy of its k-th most important one (the authors shuffle).
       Where fewer are important than are not, the rest stays.
    5. Adapters are on query and value (theirs: all seven maps of a LLaMA block). The trained part of the head travels.

Defaults
    temperature = 0.05, kept_mass = 0.95: the authors' scripts. rank = 8: that of the FedLoRA baseline (theirs is 64).
    interval_rounds = 5: not stated in rounds; chosen so that a run of twenty rounds replaces four times.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import AdapterForm
from emulator.forms.gated_lora import GATE, GatedLoraForm, gate_mass
from emulator.forms.lora import lora_plan, uniform_ranks
from emulator.policy import Count, FractionAboveZero, Policy, Positive
from emulator.records import Arrays, ClusterView, RoundPlan, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class BeamLora(Policy):
    """The same gated adapters on every device; the server replaces the ranks that hardly count.

    Args:
        rank: ranks of every adapted matrix.
        temperature: of the gates, T.
        kept_mass: share of the gates' mass that is kept.
        interval_rounds: rounds between two replacements.
    """

    rank: Count = 8
    temperature: Positive = 0.05
    kept_mass: FractionAboveZero = 0.95
    interval_rounds: Count = 5

    _n_rounds: int = field(default=0, init=False, repr=False)  # with the one that is planned
    _older: dict[str, NDArray[np.float32]] = field(default_factory=dict, init=False, repr=False)

    families = frozenset({"transformer", "encoder-decoder"})

    def form(self, model: ModelSpec) -> GatedLoraForm:
        return GatedLoraForm(ranks=uniform_ranks(model, self.rank, None), temperature=self.temperature)

    def plan(self, view: ClusterView) -> RoundPlan:
        self._n_rounds = view.round_index + 1
        n_layers = view.model.n_layers
        return lora_plan(view, (self.rank,) * n_layers, dict.fromkeys(view.available, n_layers))

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        if not self._older:
            self._older = _factors(state)
        merged = super().aggregate(form, state, updates)
        if self._n_rounds % self.interval_rounds:
            return merged
        older, self._older = self._older, _factors(merged)
        return expanded(merged, older, self.temperature, self.kept_mass)


def important(masses: Sequence[NDArray[np.float64]], kept_mass: float) -> list[NDArray[np.bool_]]:
    """For each matrix its ranks in the smallest set, over all matrices, that has ``kept_mass`` of the whole mass."""
    flat = np.concatenate(masses)
    order = np.argsort(-flat, kind="stable")
    reached = np.cumsum(flat[order])
    n = int(np.searchsorted(reached, kept_mass * reached[-1] - 1e-9)) + 1
    kept = np.zeros(len(flat), dtype=bool)
    kept[order[:n]] = True
    return np.split(kept, np.cumsum([len(mass) for mass in masses])[:-1])


def expanded(state: Arrays, older: Arrays, temperature: float, kept_mass: float) -> Arrays:
    """The ``state`` in which ranks that hardly count are copies of important ones as they were in ``older``."""
    places = [name.removesuffix(GATE) for name in state if name.endswith(GATE)]
    masses = [gate_mass(state[f"{place}{GATE}"], temperature) for place in places]
    changed = dict(state)
    for place, mass, kept in zip(places, masses, important(masses, kept_mass), strict=True):
        ascending = np.argsort(mass, kind="stable")
        n = min(int((~kept).sum()), int(kept.sum()))
        if not n:
            continue
        lost, copied = ascending[:n], ascending[::-1][:n]
        lora_a, lora_b, gate = (changed[f"{place}{name}"].copy() for name in ("lora_A", "lora_B", GATE))
        lora_a[lost] = older[f"{place}lora_A"][copied]
        lora_b[:, lost] = older[f"{place}lora_B"][:, copied]
        shared = (mass[lost] + mass[copied]) / 2
        # Gates say masses up to a constant: that of the rank that counts most before.
        top = int(ascending[-1])
        level = float(gate[top, 0]) + temperature * np.log(shared / mass[top])
        gate[lost, 0], gate[copied, 0] = level, level
        changed |= {f"{place}lora_A": lora_a, f"{place}lora_B": lora_b, f"{place}{GATE}": gate}
    return changed


def _factors(state: Arrays) -> dict[str, NDArray[np.float32]]:
    return {name: array for name, array in state.items() if name.endswith(("lora_A", "lora_B"))}
