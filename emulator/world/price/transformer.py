"""A step of a transformer, with the adapters of whatever form."""

from dataclasses import dataclass, replace

from device_profiles.records import KnownRange
from emulator.records import WorkKind
from emulator.shapes.spec import ModelSpec
from emulator.world.price import elements, flop, kept, operations
from emulator.world.price.base_weights import BaseWeights
from emulator.world.price.layers import Layers
from emulator.world.price.optimizer import held_bytes, moved_bytes
from emulator.world.price.step import (
    BACKWARD_WEIGHT_BYTES,
    ELEMENT_BYTES,
    FLOAT_BYTES,
    FORWARD_WEIGHT_BYTES,
    PLAIN_BYTES,
    Attention,
    MemoryUse,
    ModelStep,
    StepDemand,
    total_demand,
)


@dataclass(frozen=True)
class TransformerStep(ModelStep):
    """One step on a transformer."""

    @property
    def layers(self) -> Layers:
        """The layers as they are held."""
        return Layers(self.model, self.work)

    @property
    def computed(self) -> Layers:
        """The layers as they are computed, some of them perhaps several times."""
        return self.layers.in_turn

    @property
    def forward_flop(self) -> float:
        return flop.forward_flop(self.computed)

    @property
    def backward_flop(self) -> float:
        return flop.backward_flop(self.computed)

    @property
    def n_trained_parameters(self) -> float:
        return kept.n_trained_parameters(self.layers)

    @property
    def n_held_parameters(self) -> float:
        return self.n_trained_parameters + self.layers.n_adapter_parameters(range(self.layers.first))

    def demand(self) -> StepDemand:
        sizes = self.savers.pass_sizes(self.work.batch_size)
        passes = [self._of_examples(size)._pass_demand() for size in sizes]
        optimizer_bytes = moved_bytes(self.optimizer, len(sizes)) * self.n_trained_parameters
        return replace(total_demand(passes), optimizer_bytes=optimizer_bytes)

    def memory(self, *, attention: Attention = "eager", dropout: bool = False) -> MemoryUse:
        largest = self._of_examples(self.savers.pass_sizes(self.work.batch_size)[0])
        n_adapters = self.layers.n_adapter_parameters(range(self.work.forward_layers))
        activations_bytes, workspace_bytes = largest._pass_bytes(attention, dropout)
        return MemoryUse(
            weights_bytes=round(self._held.held_bytes + FLOAT_BYTES * n_adapters),
            activations_bytes=round(activations_bytes),
            optimizer_bytes=round(held_bytes(self.optimizer) * self.n_trained_parameters),
            workspace_bytes=round(workspace_bytes),
        )

    def _of_examples(self, n_examples: int) -> "TransformerStep":
        """A step of so many examples, computed in one pass."""
        if n_examples == self.work.batch_size and self.savers.accumulation_steps == 1:
            return self
        work = replace(self.work, batch_size=n_examples)
        return replace(self, work=work, savers=replace(self.savers, accumulation_steps=1))

    @property
    def _held(self) -> BaseWeights:
        """The base model as it is held."""
        return BaseWeights(self.layers, self.precision, self.savers.base_precision)

    @property
    def _read(self) -> BaseWeights:
        """The base model as it is computed with."""
        return BaseWeights(self.computed, self.precision, self.savers.base_precision)

    def _pass_demand(self) -> StepDemand:
        """What one forward and backward pass asks for; the optimizer is left out."""
        layers, precision, base = self.computed, self.precision, self._read
        which = range(layers.work.forward_layers)
        conversion = base.conversion(which, with_head=True)
        forward = StepDemand(
            forward_flop=self.forward_flop + conversion.flop,
            backward_flop=0.0,
            forward_bytes=base.read_bytes(which, FORWARD_WEIGHT_BYTES[precision], with_head=True),
            backward_bytes=0.0,
            n_forward_operations=operations.n_forward_operations(layers) + conversion.n_operations,
            n_backward_operations=0,
            forward_element_bytes=ELEMENT_BYTES[precision] * elements.n_forward_elements(layers),
            backward_element_bytes=0.0,
            quantization_bytes=0.0,
            optimizer_bytes=0.0,
            forward_conversion_bytes=conversion.n_bytes,
        )
        return forward if self.work.kind is WorkKind.INFERENCE else self._with_backward(forward)

    def _with_backward(self, forward: StepDemand) -> StepDemand:
        layers, precision, base, which = self.computed, self.precision, self._read, self.computed.differentiated
        conversion = base.conversion(which, with_head=True)
        backward_bytes = base.read_bytes(which, BACKWARD_WEIGHT_BYTES[precision], with_head=True)
        demand = replace(
            forward,
            backward_flop=self.backward_flop + conversion.flop,
            backward_bytes=backward_bytes + FLOAT_BYTES * self.n_trained_parameters * layers.is_whole,
            n_backward_operations=operations.n_backward_operations(layers) + conversion.n_operations,
            backward_element_bytes=ELEMENT_BYTES[precision] * elements.n_backward_elements(layers),
            quantization_bytes=kept.quantized_bytes(layers, precision),
            backward_conversion_bytes=conversion.n_bytes,
        )
        return self._with_recomputation(demand) if self.savers.checkpointing else demand

    def _with_recomputation(self, demand: StepDemand) -> StepDemand:
        """With the forward pass through the differentiated layers, which checkpointing computes once more."""
        layers, precision, base, which = self.computed, self.precision, self._read, self.computed.differentiated
        again = base.conversion(which, with_head=False)
        read_bytes = base.read_bytes(which, FORWARD_WEIGHT_BYTES[precision], with_head=False)
        n_elements = elements.n_layers_forward_elements(layers, which)
        return replace(
            demand,
            backward_flop=demand.backward_flop + flop.layers_forward_flop(layers, which) + again.flop,
            backward_bytes=demand.backward_bytes + read_bytes,
            n_backward_operations=demand.n_backward_operations
            + operations.n_layers_forward_operations(layers, which)
            + again.n_operations,
            backward_element_bytes=demand.backward_element_bytes + ELEMENT_BYTES[precision] * n_elements,
            backward_conversion_bytes=demand.backward_conversion_bytes + again.n_bytes,
        )

    def _pass_bytes(self, attention: Attention, dropout: bool) -> tuple[float, float]:
        """What a pass keeps from its forward for its backward pass, and what it needs beside.

        With checkpointing it needs most in the backward pass: there a layer is whole again, while what the head and the
        loss kept is gone.
        """
        layers, precision, base = self.computed, self.precision, self._read
        layer_bytes = layers.n_tokens * kept.workspace_elements(layers, attention) * PLAIN_BYTES[precision]
        layer_bytes += base.converted_bytes
        loss_bytes = kept.loss_workspace_bytes(layers) + base.converted_head_bytes
        if not (self.savers.checkpointing and self.work.backward_layers):
            kept_bytes = kept.activations_bytes(layers, precision, attention, dropout)
            kept_bytes += base.half_copies_bytes(layers.differentiated, with_head=True)
            return kept_bytes, max(layer_bytes, loss_bytes)
        head_copies_bytes = base.half_copies_bytes(range(0), with_head=True)
        kept_bytes = kept.checkpointed_bytes(layers, precision, dropout, base.stored) + head_copies_bytes
        recomputed_bytes = kept.recomputed_bytes(layers, precision, attention, dropout)
        recomputed_bytes += max(
            base.half_copies_bytes(range(layer, layer + 1), with_head=False) for layer in layers.differentiated
        )
        gone_bytes = kept.behind_layers_bytes(layers, precision) + head_copies_bytes
        return kept_bytes, max(loss_bytes, recomputed_bytes + layer_bytes - gone_bytes)

    def outside(self, known: KnownRange) -> str | None:
        n_examples, seq_len = self.savers.pass_sizes(self.work.batch_size)[0], self.work.seq_len
        return outside_sizes(self.model, n_examples * seq_len, f"batch {n_examples} x length {seq_len}", known)


def outside_sizes(model: ModelSpec, n_tokens: int, told: str, known: KnownRange) -> str | None:
    """Which of a step's tokens, in words as they are ``told``, and the model's size lies outside ``known``, if any."""
    if not known.min_step_tokens <= n_tokens <= known.max_step_tokens:
        return f"{told} = {n_tokens} tokens a step, known from {known.min_step_tokens} to {known.max_step_tokens}"
    if not known.min_model_parameters <= model.n_parameters <= known.max_model_parameters:
        return (
            f"{model.name} with {model.n_parameters / 1e6:.0f} M parameters, known from "
            f"{known.min_model_parameters / 1e6:.0f} to {known.max_model_parameters / 1e6:.0f} M"
        )
    return None
