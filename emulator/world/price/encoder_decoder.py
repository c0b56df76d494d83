"""A step of an encoder-decoder: two stacks of layers one after the other, each at a length of its own.

Depth is counted from the output. While only layers of the decoder are trained, nothing of the encoder is differentiated
or kept: autograd keeps what it gives alone, once for all layers that have an adapter on a key or value of it, and the
keys and values that each differentiated layer makes of it. As soon as a layer of the encoder is trained, the gradient
comes to it through the keys and values of every layer of the decoder, so that all of these are differentiated.
"""

from dataclasses import dataclass, replace

from device_profiles.records import KnownRange
from emulator.records import Adapters, WorkKind
from emulator.shapes.encoder_decoder import EncoderDecoderSpec
from emulator.world.price.step import (
    FLOAT_BYTES,
    PLAIN_BYTES,
    Attention,
    MemoryUse,
    ModelStep,
    StepDemand,
    total_demand,
)
from emulator.world.price.transformer import TransformerStep, outside_sizes


@dataclass(frozen=True)
class EncoderDecoderStep(ModelStep):
    """One step on an encoder-decoder whose adapters are trained, or inference."""

    model: EncoderDecoderSpec

    def __post_init__(self) -> None:
        if self.work.kind in (WorkKind.WEIGHTS, WorkKind.LAYERS):
            raise ValueError(f"{self.model.name} is an encoder-decoder, of which adapters alone are priced")

    @property
    def encoder(self) -> TransformerStep:
        """The part of it that is the encoder's, which is mere inference where no layer of it is trained."""
        n, depth = self.model.n_encoder_layers, self.work.backward_layers - self.model.n_decoder_layers
        kind = self.work.kind if depth > 0 else WorkKind.INFERENCE
        work = replace(
            self.work,
            forward_layers=n,
            backward_layers=max(depth, 0),
            adapters=_part(self.work.adapters, slice(n)),
            kind=kind,
        )
        return TransformerStep(self._sized.encoder, work, self.precision, self.optimizer, self.savers)

    @property
    def decoder(self) -> TransformerStep:
        """The part of it that is the decoder's, with the head."""
        sized, depth = self._sized, self.work.backward_layers
        n = self.model.n_decoder_layers
        work = replace(
            self.work,
            seq_len=sized.response_len,
            forward_layers=n,
            backward_layers=min(depth, n),
            adapters=_part(self.work.adapters, slice(self.model.n_encoder_layers, None)),
        )
        model = sized.decoder(encoder_is_trained=depth > n)
        return TransformerStep(model, work, self.precision, self.optimizer, self.savers)

    @property
    def _sized(self) -> EncoderDecoderSpec:
        return self.model.with_seq_len(self.work.seq_len)

    @property
    def forward_flop(self) -> float:
        return self.encoder.forward_flop + self.decoder.forward_flop

    @property
    def backward_flop(self) -> float:
        return self.encoder.backward_flop + self.decoder.backward_flop

    @property
    def n_trained_parameters(self) -> float:
        return self.encoder.n_trained_parameters + self.decoder.n_trained_parameters

    @property
    def n_held_parameters(self) -> float:
        return self.encoder.n_held_parameters + self.decoder.n_held_parameters

    def demand(self) -> StepDemand:
        return total_demand([self.encoder.demand(), self.decoder.demand()])

    def memory(self, *, attention: Attention = "eager", dropout: bool = False) -> MemoryUse:
        encoder, decoder = (each.memory(attention=attention, dropout=dropout) for each in (self.encoder, self.decoder))
        # In its backward pass what the decoder kept is gone, where the encoder computes layers again.
        workspace_bytes = max(decoder.workspace_bytes, encoder.workspace_bytes - decoder.activations_bytes)
        if not self.savers.checkpointing:
            workspace_bytes = max(decoder.workspace_bytes, encoder.workspace_bytes)
        return MemoryUse(
            weights_bytes=encoder.weights_bytes + decoder.weights_bytes,
            activations_bytes=encoder.activations_bytes + decoder.activations_bytes + self.between_bytes,
            optimizer_bytes=encoder.optimizer_bytes + decoder.optimizer_bytes,
            workspace_bytes=workspace_bytes,
        )

    @property
    def between_bytes(self) -> int:
        """What is kept between the two: the input of the encoder's last norm, and what that gives."""
        decoder, hidden = self.decoder, self.model.hidden_size
        n_tokens = self.savers.pass_sizes(self.work.batch_size)[0] * self.work.seq_len
        n_bytes = 0
        if self.encoder.work.backward_layers:
            n_bytes += FLOAT_BYTES * n_tokens * (hidden + 1)
        # With checkpointing it is what layers are given.
        is_given = self.savers.checkpointing and decoder.work.backward_layers > 0
        if decoder.work.kind is not WorkKind.INFERENCE and (is_given or _is_read(decoder)):
            n_bytes += PLAIN_BYTES[self.precision] * n_tokens * hidden
        return n_bytes

    def outside(self, known: KnownRange) -> str | None:
        n_examples = self.savers.pass_sizes(self.work.batch_size)[0]
        lengths = (self.work.seq_len, self.decoder.work.seq_len)
        told = f"batch {n_examples} x length {lengths[0]} + {lengths[1]}"
        return outside_sizes(self.model, n_examples * sum(lengths), told, known)


def _part(adapters: Adapters, which: slice) -> Adapters:
    """The adapters of some of the layers."""
    return Adapters(adapters.layers[which], adapters.ranks[which])


def _is_read(decoder: TransformerStep) -> bool:
    """Whether a trained adapter of a differentiated layer reads what the encoder gives."""
    layers = decoder.layers
    return any(
        adapter.place in ("cross_key", "cross_value") and adapter.reads_input
        for layer in layers.differentiated
        for adapter in layers.kind(layer)
    )
