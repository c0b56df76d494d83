"""FedLoRA at the deepest depth that every device can hold: the baseline of systems that adapt depth to memory.

System
    No paper's own: the baseline that FedQuad (arXiv 2506.01001) and its kind are measured against where FedLoRA's full
    depth does not fit the smallest device. Reconstructed.

Idea
    Every device trains the same adapters, those of the layers nearest to the output. How many layers these are is set
    once, by the device with the least memory.

Mapping
    M(d) <= min_i M_i -> ``emulator.world.price.memory.needed_bytes`` against the declared ``memory_bytes``,
    for the devices of each ``allocator``.

Deviations
    1. The least memory is taken over all devices of the cluster, also those that cannot be reached at present, so that
       the depth stays the same over the rounds.
    2. The server keeps adapters for all layers, as it does not know the devices when it makes them. Those below the
       depth never travel and stay zero.

Defaults
    rank = 8: that of FedLoRA. memory_fraction = 1: all the memory that a device declares.
"""

from dataclasses import dataclass
from typing import ClassVar

from emulator.errors import PlanError
from emulator.forms.lora import LoraForm, lora_plan, lora_template, uniform_ranks
from emulator.policy import Count, Fraction, Policy
from emulator.records import ClusterView, RoundPlan
from emulator.shapes.spec import ModelSpec
from emulator.world.price.memory import AllocatorName, needed_bytes


@dataclass(kw_only=True)
class UniformDepth(Policy):
    """The same depth on every device: the deepest that fits into all of them.

    Args:
        rank: LoRA rank of every tuned layer.
        memory_fraction: share of a device's memory that training may take.
    """

    declares: ClassVar[frozenset[str]] = frozenset({"memory_bytes", "allocator"})

    rank: Count = 8
    memory_fraction: Fraction = 1.0

    families = frozenset({"transformer", "encoder-decoder"})

    def form(self, model: ModelSpec) -> LoraForm:
        return LoraForm(ranks=uniform_ranks(model, self.rank, 0))

    def plan(self, view: ClusterView) -> RoundPlan:
        form = self.form(view.model)
        least_bytes: dict[AllocatorName, float] = {}
        for facts in view.declared.values():
            limit_bytes = self.memory_fraction * facts["memory_bytes"]
            least_bytes[facts["allocator"]] = min(limit_bytes, least_bytes.get(facts["allocator"], limit_bytes))

        def needs_bytes(depth: int, allocator: AllocatorName) -> int:
            work = form.work(lora_template(view.training, form.ranks, depth), view.model)
            return needed_bytes(view.model, work, view.training, allocator)

        depth = view.model.n_layers
        for allocator, limit_bytes in least_bytes.items():
            while needs_bytes(depth, allocator) > limit_bytes:
                depth -= 1
                if depth == 0:
                    raise PlanError(
                        f"round {view.round_index}: one tuned layer needs {needs_bytes(1, allocator)} bytes, more than"
                        f" the smallest device's {round(limit_bytes)}; lower training.batch_size or raise"
                        " policy.memory_fraction"
                    )
        return lora_plan(view, form.ranks, dict.fromkeys(view.available, depth), hold_below=False)
