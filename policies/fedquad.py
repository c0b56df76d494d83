"""FedQuad: LoRA depth by what a device can do in time, quantized activations by what it can hold in memory.

System
    "FedQuad: Adaptive Layer-wise LoRA Deployment and Activation Quantization for Federated Fine-Tuning",
    arXiv 2506.01001 (title from memory). Of the paper only the abstract was at hand; each formula below says what it
    rests on.

Idea
    More tuned layers take more time and more memory, most of it for activations that wait for the backward pass. A
    layer can keep them in few bits instead, which costs some time. The server finds for each device the pairs of depth
    and number of quantized layers that fit its memory and that no other pair beats, and picks among them greedily.

Mapping
    d -> ``Setting.depth``; a -> ``Setting.quantized_layers``; M(d, a) -> ``emulator.world.price.memory.needed_bytes``
    of the work, with the declared ``allocator``; M_i -> the declared ``memory_bytes`` times ``memory_fraction``;
    a_min(d) and the feasible set -> ``feasible_settings``; the efficient set -> ``efficient_settings``; T(d, a) ->
    ``Capacity.completion_s`` with ``d + quantization_cost * a`` layers; greedy choice ->
    ``emulator.algorithms.balancing.relieve_slowest``.
    Ablations: ``quantize = false``, ``adapt_depth = false``. The baseline "FedLoRA at the deepest depth that every
    device can hold" is the policy ``uniform_depth``.

Deviations
    1. All equations are reconstructed: the abstract says that feasible and efficient pairs are identified first and
       that a greedy strategy then selects, not how.
    2. A pair's gain is its depth. Gradient norms per layer would order the pairs alike: gains only add up with depth.
    3. The greedy search only takes from the slowest device, so no later pass can give anything back without making
       the round longer; there is none.
    4. Memory is predicted by the formula that the testbed itself goes by, which the server can compute as it knows
       model and settings; a server in the field would err. So no plan is ever above a device's memory. A device that
       cannot hold even ``min_depth`` layers is left out.
    5. What is quantized is all that a layer keeps: in groups of 64 with a minimum and a step, rounded at random. The
       quantized layers are the lowest tuned ones, whose activations wait longest.
    6. Without depth adaptation each device tunes all layers, or as many as fit, quantizing only as many as it must.

Defaults
    bits = 4: not stated; chosen because a summary of the paper speaks of 58 % less memory, which 8 bits reach with
    large batches only.
    quantization_cost = 0.1, waiting_fraction = 0.2, min_depth = 1: not stated in what was at hand; chosen. smoothing =
    0.8: the group's common estimator (from memory). rank = 8: that of FedLoRA, to which it compares.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal

from emulator.algorithms.balancing import relieve_slowest
from emulator.algorithms.estimation import Capacities, Capacity, measured_capacity
from emulator.compression.payloads import download_bytes, upload_bytes
from emulator.errors import PlanError
from emulator.forms.lora import LoraAssignment, LoraForm, lora_template, uniform_ranks
from emulator.policy import Count, Fraction, NotNegative, Policy
from emulator.records import ClusterView, DeviceReport, RoundPlan, RoundReport
from emulator.shapes.spec import ModelSpec
from emulator.world.price.memory import AllocatorName, needed_bytes


@dataclass(frozen=True, slots=True)
class Setting:
    """How many layers a device tunes, and how many of these, the lowest ones, keep their activations quantized."""

    depth: int
    quantized_layers: int


@dataclass(kw_only=True)
class FedQuad(Policy):
    """Depth and quantized layers per device, within its memory and by its estimated speed.

    Args:
        rank: LoRA rank of every tuned layer.
        bits: what activations are quantized to.
        quantize: whether layers may be quantized at all.
        adapt_depth: whether slow devices tune fewer layers than fit.
        memory_fraction: share of a device's memory that training may take.
        quantization_cost: time of a quantized layer beyond its own, as a share of its backward pass.
        smoothing: share of the old estimate in the capacity estimator.
        waiting_fraction: mean waiting that is tolerated, as a share of the slowest device's time.
        min_depth: no device tunes fewer layers than this.
    """

    declares: ClassVar[frozenset[str]] = frozenset({"memory_bytes", "allocator"})

    rank: Count = 8
    bits: Literal[4, 8] = 4
    quantize: bool = True
    adapt_depth: bool = True
    memory_fraction: Fraction = 1.0
    quantization_cost: NotNegative = 0.1
    smoothing: Fraction = 0.8
    waiting_fraction: Fraction = 0.2
    min_depth: Count = 1

    _capacities: Capacities = field(init=False, repr=False)
    _settings: dict[int, Setting] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._capacities = Capacities(self.smoothing)

    def form(self, model: ModelSpec) -> LoraForm:
        if self.min_depth > model.n_layers:
            raise ValueError(f"min_depth must be at most the model's {model.n_layers} layers, got {self.min_depth!r}")
        return LoraForm(ranks=uniform_ranks(model, self.rank, 0))

    def plan(self, view: ClusterView) -> RoundPlan:
        form = self.form(view.model)
        assignments = self._assignments(view, form)
        training = view.training

        def needs_bytes(setting: Setting, allocator: AllocatorName) -> int:
            return needed_bytes(view.model, form.work(assignments[setting], view.model), training, allocator)

        def fits(limit_bytes: float, allocator: AllocatorName, setting: Setting) -> bool:
            return needs_bytes(setting, allocator) <= limit_bytes

        how = view.model, training.compression
        sent_bytes = {
            setting: (download_bytes(form, assignment, *how), upload_bytes(form, assignment, *how))
            for setting, assignment in assignments.items()
        }

        def completion_s(device: int, setting: Setting) -> float:
            n_layers = setting.depth + self.quantization_cost * setting.quantized_layers
            return self._capacities.known[device].completion_s(n_layers, *sent_bytes[setting])

        choices: dict[int, Sequence[Setting]] = {}
        feasible: dict[tuple[float, AllocatorName], list[Setting]] = {}
        for device in view.available:
            facts = view.declared[device]
            kind = self.memory_fraction * facts["memory_bytes"], facts["allocator"]
            if kind not in feasible:
                feasible[kind] = feasible_settings(assignments, partial(fits, *kind))
            if settings := feasible[kind]:
                choices[device] = settings if self.adapt_depth else settings[-1:]
        if not choices:
            least_bytes = min(needs_bytes(setting, name) for setting in assignments for _, name in feasible)
            raise PlanError(
                f"round {view.round_index}: no available device can hold {self.min_depth} tuned layers, which need"
                f" {least_bytes} bytes; lower training.batch_size or raise policy.memory_fraction"
            )
        known = sorted(choices.keys() & self._capacities.known.keys())
        choices |= {device: efficient_settings(choices[device], partial(completion_s, device)) for device in known}
        levels = {device: len(settings) - 1 for device, settings in choices.items()}
        levels |= relieve_slowest(
            lambda device, level: completion_s(device, choices[device][level]),
            {device: levels[device] for device in known},
            self.waiting_fraction,
            0,
        )
        self._settings = {device: choices[device][level] for device, level in levels.items()}
        return RoundPlan(
            assignments={device: replace(assignments[one], device_id=device) for device, one in self._settings.items()}
        )

    def observe(self, report: RoundReport) -> None:
        def measured(device: int, seen: DeviceReport) -> Capacity:
            setting = self._settings[device]
            # Half of what quantizing costs is in each pass.
            quantized = self.quantization_cost * setting.quantized_layers / 2
            latest = measured_capacity(seen, setting.depth + quantized)
            return replace(latest, forward_s=max(0.0, latest.forward_s - quantized * latest.backward_s_per_layer))

        self._capacities.observe(report, measured)

    def _assignments(self, view: ClusterView, form: LoraForm) -> dict[Setting, LoraAssignment]:
        """What each setting asks of a device, whichever it is."""
        found = {}
        for depth in range(self.min_depth, view.model.n_layers + 1):
            plain = lora_template(view.training, form.ranks, depth)
            for n_quantized in range((depth if self.quantize else 0) + 1):
                quantized = replace(plain, quantized_layers=n_quantized, activation_bits=self.bits)
                found[Setting(depth, n_quantized)] = quantized
        return found


def feasible_settings(settings: Iterable[Setting], fits: Callable[[Setting], bool]) -> list[Setting]:
    """``(d, a_min(d))`` for each depth that fits, shallow to deep (reconstructed).

    ``a_min(d) = min{a : M(d, a) <= M_i}``: as few quantized layers as the memory allows, since they only cost time.
    """
    fewest: dict[int, Setting] = {}
    for setting in sorted(settings, key=lambda one: (one.depth, one.quantized_layers)):
        if setting.depth not in fewest and fits(setting):
            fewest[setting.depth] = setting
    return list(fewest.values())


def efficient_settings(feasible: Sequence[Setting], completion_s: Callable[[Setting], float]) -> list[Setting]:
    """Those that no other setting beats, as deep in less time, or deeper in as little (reconstructed)."""
    efficient: list[Setting] = []
    shortest_s = float("inf")
    for setting in sorted(feasible, key=lambda one: -one.depth):
        if (time_s := completion_s(setting)) < shortest_s:
            efficient.append(setting)
            shortest_s = time_s
    return efficient[::-1]
