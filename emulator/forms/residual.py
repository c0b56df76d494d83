"""LoRA beside a change of the frozen weights that all devices share: what averaging A and B leaves out of the mean."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import Embedded, check_stored_apart, is_whole_number
from emulator.forms.lora import BYTES_PER_PARAMETER, LoraAssignment, LoraForm, adapter_name, lora_assignment
from emulator.records import Arrays, Assignment, ClusterView, Extra, RoundPlan, RoundReport, Status, Update, Work
from emulator.seeds import Seeds
from emulator.shapes.spec import LinearShape, ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ResidualAssignment(LoraAssignment):
    """LoRA settings of one device that keeps up with a residual.

    ``residual_rank`` is the rank, per adapted matrix, of what the residual has grown by since the device last had it:
    it travels as two factors, or whole where that is less. It is one number, or one for each layer. ``draw_seed`` is
    for adapters that a device draws itself.
    """

    residual_rank: int | tuple[int, ...]
    draw_seed: int = 0

    def residual_rank_at(self, layer: int) -> int:
        """``residual_rank`` of one layer."""
        return self.residual_rank[layer] if isinstance(self.residual_rank, tuple) else self.residual_rank


@dataclass(frozen=True, kw_only=True)
class ResidualLoraForm(LoraForm):
    """``(W + R) x + scaling · B A x``. The residual ``R (out, in)`` belongs to the server; no device trains it.

    Where ``restarts``, the server keeps no adapters: in every round a device draws A anew, starts from B = 0, and what
    it has trained goes into the residual. Otherwise adapters are kept as in LoRA. Where ``shares_draw``, too, all
    devices of a round draw the same A; if they do not train it either (``trains_a`` off), it never travels, neither
    with an update nor as a factor of the residual.
    """

    restarts: bool = False
    shares_draw: bool = False

    attachment: ClassVar[str] = "emulator.learning.attach.residual:StackedResidualLora"
    maps_depth: ClassVar[bool] = False
    fits_encoder_decoders: ClassVar[bool] = False

    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        arrays = dict(super().initial(model, seeds))
        residuals: dict[str, NDArray[np.float32]] = {}
        for layer, target in self.sites():
            shape = model.matrix(target)
            residuals[residual_name(layer, target)] = np.zeros((shape.out_features, shape.in_features), np.float32)
        return residuals if self.restarts else residuals | arrays

    def sites(self) -> Iterator[tuple[int, str]]:
        """The adapted matrices: layer from the input, and name."""
        return ((layer, target) for layer, rank in enumerate(self.ranks) if rank for target in self.targets)

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        held = _residual(assignment)
        residuals = {residual_name(*site): state[residual_name(*site)] for site in self.sites()}
        if not self.restarts:
            return {**residuals, **super().project(state, assignment)}
        head = {name: array for name, array in state.items() if name.startswith("head.")}
        return {**head, **residuals, **self._drawn(residuals, held)}

    def embed(self, update: Update, state: Arrays) -> Embedded:
        """Adapters that restart come back as what they add to the residual, whole; others as in LoRA.

        A factor that a device has drawn and not trained is drawn here, too.
        """
        trained = {name: array for name, array in update.payload.items() if not name.endswith(".residual")}
        if not self.restarts:
            return super().embed(replace(update, payload=trained), state)
        arrays = {name: array for name, array in trained.items() if name.startswith("head.")}
        if not self.trains_a:
            trained = {**self._drawn(state, _residual(update.assignment)), **trained}
        for layer, target in self.sites():
            name_a, name_b = (adapter_name(layer, target, matrix) for matrix in ("lora_A", "lora_B"))
            if name_a in trained:
                product = np.float32(self.scaling) * (trained[name_b] @ trained[name_a])
                arrays[residual_name(layer, target)] = state[residual_name(layer, target)] + product
        return Embedded(arrays)

    def is_trained(self, name: str, assignment: Assignment, model: ModelSpec) -> bool:
        return not name.endswith(".residual") and super().is_trained(name, assignment, model)

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        """With what a device merges into its weights before it trains: what it lacks of the residual.

        ``W + B A`` of a rank r takes a product of ``2 r in out`` FLOP, reads both factors, and reads and writes the
        weights; a residual that has come whole is added to them.
        """
        work, held = super().work(assignment, model), _residual(assignment)
        return replace(work, once=sum((self._merged(held, model, *site) for site in self.sites()), Extra()))

    def _merged(self, held: ResidualAssignment, model: ModelSpec, layer: int, target: str) -> Extra:
        shape, rank = model.matrix(target), held.residual_rank_at(layer)
        n_whole, n_factors = shape.out_features * shape.in_features, rank * (shape.out_features + shape.in_features)
        if rank == 0:
            return Extra()
        if self._travels_whole(shape, rank):
            return Extra(n_bytes=BYTES_PER_PARAMETER * 3 * n_whole, n_operations=1)
        return Extra(2.0 * rank * n_whole, BYTES_PER_PARAMETER * (2 * n_whole + n_factors), 1)

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        held = _residual(assignment)
        adapters = 0 if self.restarts else self._adapter_bytes(held, model)
        return BYTES_PER_PARAMETER * model.n_head_parameters + adapters + self._residual_bytes(held, model)

    def extra_download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        held = _residual(assignment)
        whole = sum(model.matrix(target).out_features * model.matrix(target).in_features for _, target in self.sites())
        drawn = self._adapter_bytes(held, model) if self.restarts else 0
        return self._residual_bytes(held, model) - BYTES_PER_PARAMETER * whole - drawn

    def plain_download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """A residual travels as factors, or not at all."""
        return self._residual_bytes(_residual(assignment), model)

    def is_received(self, name: str) -> bool:
        return name.startswith("head.") or not (self.restarts or name.endswith(".residual"))

    @property
    def begins_anew(self) -> bool:
        return self.restarts

    def check_model(self, model: ModelSpec) -> None:
        check_stored_apart(self.targets, model)
        super().check_model(model)

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        if not isinstance(assignment, ResidualAssignment):
            raise ValueError(f"ResidualLoraForm takes a ResidualAssignment, not a {type(assignment).__name__}")
        given = assignment.residual_rank
        each = given if isinstance(given, tuple) else (given,) * model.n_layers
        if len(each) != model.n_layers or not all(is_whole_number(rank) and rank >= 0 for rank in each):
            raise ValueError(
                f"residual_rank must be a whole number of at least 0, or one for each of {model.n_layers} layers,"
                f" got {given!r}"
            )
        super().check(assignment, model)

    def _drawn(self, residuals: Arrays, held: ResidualAssignment) -> Arrays:
        """A device's own adapters at the start of a round, drawn as the server would draw them."""
        rng = Seeds(held.draw_seed).rng("local_adapter", 0 if self.shares_draw else held.device_id)
        drawn: dict[str, NDArray[np.float32]] = {}
        for layer, target in self.sites():
            out_features, in_features = residuals[residual_name(layer, target)].shape
            if rank := held.ranks[layer]:
                bound = in_features**-0.5
                lora_a = rng.uniform(-bound, bound, (rank, in_features)).astype(np.float32)
                drawn[adapter_name(layer, target, "lora_A")] = lora_a
                drawn[adapter_name(layer, target, "lora_B")] = np.zeros((out_features, rank), np.float32)
        return drawn

    def _adapter_bytes(self, held: LoraAssignment, model: ModelSpec) -> int:
        shapes = [model.matrix(target) for target in self.targets]
        return BYTES_PER_PARAMETER * sum(held.ranks) * sum(shape.in_features + shape.out_features for shape in shapes)

    def _residual_bytes(self, held: ResidualAssignment, model: ModelSpec) -> int:
        n_parameters = 0
        for layer, target in self.sites():
            shape, rank = model.matrix(target), held.residual_rank_at(layer)
            n_parameters += min(self._n_factors(shape, rank), shape.in_features * shape.out_features)
        return BYTES_PER_PARAMETER * n_parameters

    def _n_factors(self, shape: LinearShape, rank: int) -> int:
        """Parameters that travel of a change of that rank, as factors."""
        return rank * (shape.out_features + (shape.in_features if self.trains_a else 0))

    def _travels_whole(self, shape: LinearShape, rank: int) -> bool:
        return self._n_factors(shape, rank) > shape.in_features * shape.out_features


def residual_plan(
    view: ClusterView,
    ranks: Mapping[int, tuple[int, ...]],
    depth: int,
    residual_ranks: Mapping[int, int] | Mapping[int, tuple[int, ...]],
) -> RoundPlan:
    """A flat round in which device ``d`` trains ``depth`` layers with its ``ranks[d]``, after a residual comes to it.

    ``residual_ranks[d]`` is the rank of what device ``d`` lacks of the residual, 0 where it is absent.
    """
    draw_seed = int(view.rng.integers(2**62))
    assignments = {}
    for device, own in ranks.items():
        held = lora_assignment(device, view.training, own, depth)
        assignments[device] = ResidualAssignment(
            **{each.name: getattr(held, each.name) for each in fields(held)},
            residual_rank=residual_ranks.get(device, 0),
            draw_seed=draw_seed,
        )
    return RoundPlan(assignments=assignments)


def lacking_ranks(before: Mapping[int, int], report: RoundReport, ranks: Callable[[int], int]) -> dict[int, int]:
    """For each device the rank of what the residual has grown by since the device last had it.

    ``report`` closes a round in which the update of device ``d`` has added ``ranks(d)`` to the residual; who delivered
    had all that came ``before``.
    """
    arrived = {device for device, seen in report.devices.items() if seen.status is Status.OK}
    grown = sum(ranks(device) for device in arrived)
    return {device: grown + (0 if device in arrived else before.get(device, 0)) for device in report.devices}


def residual_name(layer: int, target: str) -> str:
    """The name of a residual, such as ``layers.3.query.residual``."""
    return adapter_name(layer, target, "residual")


def _residual(assignment: Assignment) -> ResidualAssignment:
    assert isinstance(assignment, ResidualAssignment)  # check() has refused anything else
    return assignment
