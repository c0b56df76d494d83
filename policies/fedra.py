"""FedRA: in each round, each device trains a shallower model of layers drawn at random, as many as it can bear.

System
    Su et al., "FedRA: A Random Allocation Strategy for Federated Tuning to Unleash the Power of Heterogeneous Clients",
    ECCV 2024, arXiv 2311.11227. Allocation, local form and aggregation were seen in the authors' code.

Idea
    A weak device cannot hold the whole model, and if it always had the same layers, the others would be tuned by strong
    devices alone. So the server draws anew in each round which layers a device has. The device joins them into a
    model, trains LoRA on it and sends its adapters back; each layer is averaged over those who had it.

Mapping
    allocation matrix -> the layers with a rank in each device's assignment; c_i -> ``layer_counts``; the shallower
    model -> ``emulator.forms.layer_subset.LayerSubsetLoraForm``; aggregation -> a uniform mean for each layer over
    its owners.

Deviations
    1. The classes of devices follow from observed speeds, in groups of near-equal size, the slowest devices with the
       fewest layers; the authors' code assigns them by the devices' numbers. A device that has not been seen yet gets
       the lower middle class.
    2. Adapters are on query and value, without dropout, with the scaling of all LoRA forms here, and the step size is
       the run's, so that policies are compared on one local form; the authors tune a vision transformer's attention
       output and second feed-forward map at rank and alpha 8, with dropout 0.1 and step size 0.01. ``targets`` sets it.
    3. Of the head, only the trained part is averaged; the model's norms stay frozen.

Defaults
    layer_shares: those of the authors' code, which gives 12, 10, 8, 6, 4 or 3 of twelve layers. rank = 8: the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from emulator.algorithms.balancing import speed_classes
from emulator.forms.layer_subset import LayerSubsetLoraForm
from emulator.forms.lora import LoraAssignment, uniform_ranks
from emulator.policy import Count, FractionAboveZero, Nonempty, Policy
from emulator.records import ClusterView, RoundPlan, RoundReport, Status, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class FedRa(Policy):
    """As many layers as a device's speed allows, which ones by lot.

    Args:
        rank: LoRA rank of every layer.
        layer_shares: shares of the layers that the classes of devices get, the slowest class first.
        targets: the adapted matrices of each layer.
    """

    rank: Count = 8
    layer_shares: Annotated[tuple[FractionAboveZero, ...], Nonempty] = (1 / 4, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0)
    targets: tuple[str, ...] = ("query", "value")

    _layer_s: dict[int, float] = field(default_factory=dict, init=False, repr=False)  # of a step, for each layer
    _counts: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    def form(self, model: ModelSpec) -> LayerSubsetLoraForm:
        if min(self.layer_shares) * model.n_layers < 0.5:
            raise ValueError(
                f"layer_shares must each give at least half of one of the model's {model.n_layers} layers, "
                f"{0.5 / model.n_layers:.3g}, got {self.layer_shares!r}"
            )
        return LayerSubsetLoraForm(ranks=uniform_ranks(model, self.rank, 0), targets=self.targets)

    def plan(self, view: ClusterView) -> RoundPlan:
        n_layers = view.model.n_layers
        counts = layer_counts(n_layers, self.layer_shares)
        classes = speed_classes(self._layer_s, len(counts))
        unseen = (len(counts) - 1) // 2
        assignments = {}
        for device in view.available:
            self._counts[device] = counts[classes.get(device, unseen)]
            layers = set(view.rng.choice(n_layers, self._counts[device], replace=False).tolist())
            assignments[device] = LoraAssignment(
                device_id=device,
                n_steps=view.training.n_steps,
                batch_size=view.training.batch_size,
                learning_rate=view.training.learning_rate,
                ranks=tuple(self.rank if layer in layers else 0 for layer in range(n_layers)),
                depth=n_layers,
            )
        return RoundPlan(assignments=assignments)

    def observe(self, report: RoundReport) -> None:
        for device, seen in report.devices.items():
            if seen.status is Status.OK:
                self._layer_s[device] = seen.compute_s / (seen.n_steps * self._counts[device])

    def weight(self, update: Update) -> float:
        """The mean is uniform: of each layer over its owners, and of the head over all."""
        return 1.0


def layer_counts(n_layers: int, shares: Sequence[float]) -> tuple[int, ...]:
    """How many layers each class of devices gets: its share, rounded, but at least one."""
    return tuple(max(1, round(share * n_layers)) for share in shares)
