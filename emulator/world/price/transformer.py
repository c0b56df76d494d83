"""A step of a transformer, with the adapters of whatever form."""

from dataclasses import dataclass

from device_profiles.records import KnownRange
from emulator.records import WorkKind
from emulator.world.price import elements, flop, kept, operations
from emulator.world.price.layers import Layers
from emulator.world.price.optimizer import held_bytes, moved_bytes
from emulator.world.price.step import (
    ALLOCATOR_FRACTION,
    BACKWARD_WEIGHT_BYTES,
    ELEMENT_BYTES,
    FLOAT_BYTES,
    FORWARD_WEIGHT_BYTES,
    PLAIN_BYTES,
    Attention,
    MemoryUse,
    ModelStep,
    StepDemand,
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
        layers, precision = self.computed, self.precision
        work = layers.work
        n_layer = layers.n_layer_weights
        n_head = flop.n_whole_head(self.model) if layers.holds_head else 0
        n_trained = self.n_trained_parameters
        backward_bytes = 0.0
        if work.kind is not WorkKind.INFERENCE:
            backward_bytes = BACKWARD_WEIGHT_BYTES[precision] * (work.backward_layers * n_layer + n_head)
            backward_bytes += FLOAT_BYTES * n_trained * layers.is_whole
        return StepDemand(
            forward_flop=self.forward_flop,
            backward_flop=self.backward_flop,
            forward_bytes=FORWARD_WEIGHT_BYTES[precision] * (work.forward_layers * n_layer + n_head),
            backward_bytes=backward_bytes,
            n_forward_operations=operations.n_forward_operations(layers),
            n_backward_operations=operations.n_backward_operations(layers),
            forward_element_bytes=ELEMENT_BYTES[precision] * elements.n_forward_elements(layers),
            backward_element_bytes=ELEMENT_BYTES[precision] * elements.n_backward_elements(layers),
            quantization_bytes=kept.quantized_bytes(layers, precision),
            optimizer_bytes=moved_bytes(self.optimizer) * n_trained,
        )

    def memory(self, *, attention: Attention = "eager", dropout: bool = False) -> MemoryUse:
        layers, computed = self.layers, self.computed
        n_weights = kept.n_base_parameters(layers) + layers.n_adapter_parameters(range(self.work.forward_layers))
        activations_bytes = kept.activations_bytes(computed, self.precision, attention, dropout)
        workspace_bytes = layers.n_tokens * kept.workspace_elements(layers, attention) * PLAIN_BYTES[self.precision]
        return MemoryUse(
            weights_bytes=round(FLOAT_BYTES * n_weights),
            activations_bytes=round(activations_bytes),
            optimizer_bytes=round(held_bytes(self.optimizer) * self.n_trained_parameters),
            workspace_bytes=round(max(workspace_bytes, kept.loss_workspace_bytes(layers))),
            allocator_bytes=round(ALLOCATOR_FRACTION * activations_bytes),
        )

    def outside(self, known: KnownRange) -> str | None:
        work, model, n_tokens = self.work, self.model, self.layers.n_tokens
        if not known.min_step_tokens <= n_tokens <= known.max_step_tokens:
            return (
                f"batch {work.batch_size} x length {work.seq_len} = {n_tokens} tokens a step, known from "
                f"{known.min_step_tokens} to {known.max_step_tokens}"
            )
        if not known.min_model_parameters <= model.n_parameters <= known.max_model_parameters:
            return (
                f"{model.name} with {model.n_parameters / 1e6:.0f} M parameters, known from "
                f"{known.min_model_parameters / 1e6:.0f} to {known.max_model_parameters / 1e6:.0f} M"
            )
        return None
