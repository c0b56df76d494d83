"""LEGEND: LoRA depth by what a device can do, rank by where a layer lies.

System
    "Adaptive Parameter-Efficient Federated Fine-Tuning on Heterogeneous Devices" (LEGEND), arXiv 2412.20004.
    Of the paper only the abstract and its opening were at hand; each formula below says what it rests on.

Idea
    Adapters near the output matter most, so ranks grow towards the output and a slow device trains only the layers
    nearest to it. The server estimates each device's speed from past rounds and shortens the depth of the slowest until
    nobody waits long. Each layer is averaged over the devices that trained it.

Mapping
    k_i -> ``depths[i]``; r_l = r_1 + lambda (l - 1) -> ``rank_law(first_rank, rank_step)``; rho -> ``smoothing``;
    t-hat_i -> ``Capacity.forward_s``; mu_i -> ``Capacity.backward_s_per_layer``; beta_i -> ``Capacity.*_s_per_byte``;
    W <= epsilon -> ``waiting_fraction`` (of the slowest device's time); LCD -> ``determine_depths``.

Deviations
    1. The greedy LCD algorithm is reconstructed: the abstract names it and what it decides, not its steps.
    2. beta is estimated per byte and per direction instead of per unit of rank, since the head travels as well.
    3. A device that ran out of memory is held below the depth at which it did; the paper's resource constraints are
       known only by name.
    4. ``downlink = "full"``: a device also receives the adapters below its depth and applies them, frozen, in its
       forward pass; otherwise it would train against another model than the server's. ``"tuned"`` is the literal
       reading, in which only the layers that a device trains travel in either direction.

Defaults
    smoothing = 0.8: the estimator's factor in MergeSFL by the same group (from memory); assumed the same here.
    first_rank = 2, rank_step = 1, waiting_fraction = 0.2, min_depth = 1: not stated in what was at hand; chosen so that
    the ranks' sum over twelve layers, 90, is close to that of rank 8 everywhere, 96, and fixed before any run was made.
"""

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from emulator.forms.lora import LoraForm, lora_assignment, lora_plan
from emulator.model_spec import ModelSpec
from emulator.policy import Policy
from emulator.records import ClusterView, DeviceReport, RoundPlan, RoundReport, Status


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What the server believes about a device, from its telemetry (units in the names, per round)."""

    forward_s: float
    backward_s_per_layer: float
    download_s_per_byte: float
    upload_s_per_byte: float

    def blend(self, latest: "Capacity", smoothing: float) -> "Capacity":
        """``smoothing`` of the old estimate and the rest of the latest measurement (the group's common estimator)."""

        def blended(old: float, new: float) -> float:
            return smoothing * old + (1 - smoothing) * new

        return Capacity(
            forward_s=blended(self.forward_s, latest.forward_s),
            backward_s_per_layer=blended(self.backward_s_per_layer, latest.backward_s_per_layer),
            download_s_per_byte=blended(self.download_s_per_byte, latest.download_s_per_byte),
            upload_s_per_byte=blended(self.upload_s_per_byte, latest.upload_s_per_byte),
        )


@dataclass(kw_only=True)
class Legend(Policy):
    """Depth per device by its estimated speed, rank per layer by an arithmetic law.

    Args:
        first_rank: rank of the layer nearest to the input, r_1.
        rank_step: how much the rank grows per layer towards the output, lambda.
        smoothing: share of the old estimate in the capacity estimator, rho.
        waiting_fraction: mean waiting that is tolerated, as a share of the slowest device's time, epsilon.
        min_depth: no device trains fewer layers than this.
        downlink: full, or tuned (only the layers that a device trains).
    """

    first_rank: int = 2
    rank_step: float = 1.0
    smoothing: float = 0.8
    waiting_fraction: float = 0.2
    min_depth: int = 1
    downlink: Literal["full", "tuned"] = "full"

    _capacities: dict[int, Capacity] = field(default_factory=dict, init=False, repr=False)
    _most_layers: dict[int, int] = field(default_factory=dict, init=False, repr=False)
    _depths: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    def form(self, model: ModelSpec) -> LoraForm:
        if not 1 <= self.min_depth <= model.n_layers:
            raise ValueError(f"min_depth must be between 1 and {model.n_layers} layers, got {self.min_depth!r}")
        for name in ("smoothing", "waiting_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)!r}")
        if self.first_rank < 1:
            raise ValueError(f"first_rank must be at least 1, got {self.first_rank!r}")
        return LoraForm(ranks=rank_law(model.n_layers, self.first_rank, self.rank_step))

    def plan(self, view: ClusterView) -> RoundPlan:
        form, model = self.form(view.model), view.model
        most = {device: self._most_layers.get(device, model.n_layers) for device in view.available}
        settings = [
            lora_assignment(-1, view.training, form.ranks, depth, hold_below=self.downlink == "full")
            for depth in range(model.n_layers + 1)
        ]
        download_bytes = [form.download_bytes(setting, model) for setting in settings]
        upload_bytes = [form.upload_bytes(setting, model) for setting in settings]

        def completion_s(device: int, depth: int) -> float:
            known = self._capacities[device]
            download_s = known.download_s_per_byte * download_bytes[depth]
            upload_s = known.upload_s_per_byte * upload_bytes[depth]
            return download_s + upload_s + known.forward_s + depth * known.backward_s_per_layer

        known = {device: depth for device, depth in most.items() if device in self._capacities}
        self._depths = most | determine_depths(completion_s, known, self.waiting_fraction, self.min_depth)
        return lora_plan(view, form.ranks, self._depths, hold_below=self.downlink == "full")

    def observe(self, report: RoundReport) -> None:
        for device, seen in report.devices.items():
            if seen.status is Status.OUT_OF_MEMORY:
                self._most_layers[device] = max(self.min_depth, self._depths[device] - 1)
            elif seen.status is Status.OK:
                latest = measured_capacity(seen, self._depths[device])
                old = self._capacities.get(device, latest)
                self._capacities[device] = old.blend(latest, self.smoothing)


def rank_law(n_layers: int, first_rank: int, rank_step: float) -> tuple[int, ...]:
    """``r_l = r_1 + lambda (l - 1)``, rounded, at least 1; layer 1 is nearest to the input (from memory)."""
    return tuple(max(1, round(first_rank + rank_step * layer)) for layer in range(n_layers))


def measured_capacity(seen: DeviceReport, depth: int) -> Capacity:
    """One round's measurement of a device, per layer and per byte (from memory: the hats of the paper's estimator)."""
    return Capacity(
        forward_s=seen.forward_s,
        backward_s_per_layer=seen.backward_s / depth,
        download_s_per_byte=seen.download_s / seen.download_bytes,
        upload_s_per_byte=seen.upload_s / seen.upload_bytes,
    )


def determine_depths(
    completion_s: Callable[[int, int], float], most: Mapping[int, int], waiting_fraction: float, min_depth: int
) -> dict[int, int]:
    """LCD, LoRA Configuration Determination (reconstructed): a depth for each device of ``most``.

    Start from the most layers that each device may train. While the mean waiting time ``W = mean(max t - t_i)`` exceeds
    ``waiting_fraction`` of the slowest device's time, take one layer from the slowest device. The fastest device keeps
    all its layers, so that somebody trains every layer. ``completion_s(device, depth)`` is a device's expected time.
    """
    depths = dict(most)
    times_s = {device: completion_s(device, depth) for device, depth in depths.items()}
    if not times_s:
        return depths
    fastest = min(times_s, key=lambda device: (times_s[device], device))
    slowest_first = [(-time_s, device) for device, time_s in times_s.items()]
    heapq.heapify(slowest_first)
    total_s = sum(times_s.values())
    while True:
        longest_s, slowest = -slowest_first[0][0], slowest_first[0][1]
        mean_waiting_s = longest_s - total_s / len(times_s)
        if mean_waiting_s <= waiting_fraction * longest_s or slowest == fastest or depths[slowest] <= min_depth:
            return depths
        depths[slowest] -= 1
        shorter_s = completion_s(slowest, depths[slowest])
        total_s += shorter_s - longest_s
        heapq.heapreplace(slowest_first, (-shorter_s, slowest))
