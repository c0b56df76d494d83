"""What all counts of a transformer's step rest on: its layers at the width and with the adapters that a device has."""

from dataclasses import dataclass, replace

from emulator.records import Adapter, Adapters, LayerAdapters, Work, WorkKind
from emulator.shapes.spec import ModelSpec
from emulator.world.price.gradient_flow import GradientFlow, gradient_flow

LayerKind = tuple[Adapter, ...]
"""The adapters of a layer without their number: what the flow of gradients through it depends on."""


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers that a device computes in one step. Sizes are after pruning."""

    model: ModelSpec
    work: Work

    @property
    def in_turn(self) -> "Layers":
        """As many layers as are computed: one that is computed several times in turn counts as often."""
        n, work = self.model.layer_design.n_passes, self.work
        if n == 1:
            return self
        adapters = work.adapters
        model = replace(
            self.model,
            n_layers=n * self.model.n_layers,
            deeper_layers=None if self.model.deeper_layers is None else n * self.model.deeper_layers,
            design=replace(self.model.layer_design, n_passes=1),
        )
        work = replace(
            work,
            forward_layers=n * work.forward_layers,
            backward_layers=n * work.backward_layers,
            quantized_layers=n * work.quantized_layers,
            skipped_layers=n * work.skipped_layers,
            adapters=Adapters(
                tuple(each for each in adapters.layers for _ in range(n)),
                tuple(rank for rank in adapters.ranks for _ in range(n)),
            ),
        )
        return Layers(model, work)

    @property
    def n_tokens(self) -> int:
        return self.work.batch_size * self.work.seq_len

    @property
    def heads(self) -> float:
        """Elements of all heads together, for each token."""
        return self.model.n_heads * self.model.head_size * self.work.width_fraction

    @property
    def channels(self) -> float:
        """Feed-forward channels."""
        return self.model.intermediate_size * self.work.width_fraction

    @property
    def scores(self) -> float:
        """A row of attention for each head."""
        return self.model.n_heads * self.work.width_fraction * self.n_keys

    @property
    def n_keys(self) -> int:
        """Keys that a token of a row attends to, in a decoder those behind it among them, too."""
        return self.work.seq_len + self.work.n_virtual_keys

    @property
    def cross_scores(self) -> float:
        """A row of attention to what an encoder gives, for each head; 0 where there is none."""
        cross = self.model.cross_attention
        return self.model.n_heads * self.work.width_fraction * cross.n_tokens if cross else 0.0

    def rows(self, place: str) -> float:
        """What a matrix, or an adapter at it, is applied to, as a share of the tokens of the layers.

        Keys and values of attention to an encoder's output are made of the encoder's tokens.
        """
        cross = self.model.cross_attention
        if cross is None or place not in ("cross_key", "cross_value"):
            return 1
        return cross.n_tokens / self.work.seq_len

    @property
    def first(self) -> int:
        """The lowest differentiated layer."""
        return self.work.forward_layers - self.work.backward_layers

    @property
    def differentiated(self) -> range:
        return range(self.first, self.work.forward_layers)

    @property
    def holds_head(self) -> bool:
        """Whether the device computes up to the output; below a cut it holds no head."""
        return self.work.forward_layers + self.work.skipped_layers == self.model.n_priced_layers

    @property
    def n_logits(self) -> int:
        """Logits of all words of a vocabulary, for all tokens that are scored; a few classes count as none."""
        work = self.work
        return work.batch_size * self.model.n_logits(work.seq_len, work.n_virtual_tokens) if self.holds_head else 0

    @property
    def n_head_rows(self) -> int:
        """Rows that the head is applied to."""
        work = self.work
        return work.batch_size * self.model.n_head_rows(work.seq_len, work.n_virtual_tokens) if self.holds_head else 0

    @property
    def is_whole(self) -> bool:
        """Whether layers are trained whole."""
        return self.work.kind in (WorkKind.WEIGHTS, WorkKind.LAYERS)

    @property
    def trains_embeddings(self) -> bool:
        """Whether the embeddings are trained, as full fine-tuning does that leaves no layer frozen."""
        return self.work.kind is WorkKind.WEIGHTS and self.work.backward_layers == self.work.forward_layers

    @property
    def trains_whole_head(self) -> bool:
        """Whether the part of the head is trained that adapters leave frozen; it may be the table of embeddings."""
        return self.is_whole and (self.model.n_frozen_head_parameters > 0 or self.trains_embeddings)

    @property
    def n_layer_weights(self) -> float:
        """Parameters of one layer at its kept width; its norms are not pruned."""
        model = self.model
        n_matrices = sum(model.matrix(name).n_parameters for name in model.matrices)
        return n_matrices * self.work.width_fraction + model.n_layer_parameters - n_matrices

    @property
    def n_layer_others(self) -> float:
        """Parameters of a layer that are in no matrix: biases and norms."""
        n_in_matrices = 0.0
        for name in self.model.matrices:
            n_in, n_out = self.features(name)
            n_in_matrices += n_in * n_out
        return self.n_layer_weights - n_in_matrices

    def features(self, name: str) -> tuple[float, float]:
        """Input and output size of a matrix."""
        return self.model.kept_features(name, self.work.width_fraction)

    def adapters(self, layer: int) -> LayerAdapters:
        """The adapters of a layer, each with its number."""
        return self.work.adapters.at(layer)

    def kind(self, layer: int) -> LayerKind:
        """What of a layer's adapters does not depend on how many of each there are."""
        return tuple(adapter for adapter, _ in self.work.adapters.at(layer))

    def numbers(self, layers: range) -> dict[Adapter, int]:
        """How many of each adapter there are in ``layers``."""
        numbers: dict[Adapter, int] = {}
        for layer in layers:
            for adapter, number in self.work.adapters.at(layer):
                numbers[adapter] = numbers.get(adapter, 0) + number
        return numbers

    def n_adapter_parameters(self, layers: range) -> float:
        """Parameters of the adapters in ``layers``."""
        return sum(number * adapter.n_parameters for adapter, number in self.numbers(layers).items())

    def flow(self, kind: LayerKind, *, lowest: bool) -> GradientFlow:
        """The flow in a differentiated layer with these adapters: in the lowest one, or in those above it.

        Where norms come first, a model that is trained whole has a trained norm in front of its lowest layer, too.
        """
        has_trained_norm = self.model.layer_design.norms_first and self.is_whole
        layer_input = not lowest or has_trained_norm or self.trains_embeddings
        places = self.model.matrices if self.is_whole else tuple(adapter.place for adapter in kind)
        return gradient_flow(places, layer_input, self.model.cross_attention)
