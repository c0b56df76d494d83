"""Shapes of an encoder-decoder: an encoder reads a prompt, and a decoder gives the words of a response to it."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from emulator.shapes.causal import CausalSpec
from emulator.shapes.design import CROSS
from emulator.shapes.spec import CrossAttention, ModelSpec

Stack = TypeVar("Stack", bound=ModelSpec)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderDecoderSpec(ModelSpec):
    """Two stacks of layers and a language model head behind the second, of which nothing is trained.

    Layers are counted in the order of the forward pass: those of the encoder first, then those of the decoder, so that
    the layer nearest to the output is the decoder's last. ``seq_len`` are the tokens of a prompt.

    Attributes:
        n_encoder_layers: the first of its layers, which are the encoder's.
        vocabulary_size: logits of a token.
        response_len: tokens per example that the decoder reads, each of which has logits.
        n_other_encoder_parameters: of its encoder alone, what is not in its layers: the table of relative positions,
            and the norm behind the last layer.
    """

    n_encoder_layers: int
    vocabulary_size: int
    response_len: int
    n_other_encoder_parameters: int

    @property
    def family(self) -> str:
        return "encoder-decoder"

    @property
    def n_decoder_layers(self) -> int:
        """The last of its layers."""
        return self.n_layers - self.n_encoder_layers

    @property
    def matrices(self) -> tuple[str, ...]:
        """Those of a decoder's layer, which has all that an encoder's has."""
        return (*self.own_matrices, *CROSS.values())

    def matrices_of(self, layer: int) -> tuple[str, ...]:
        return self.own_matrices if layer < self.n_encoder_layers else self.matrices

    @property
    def has_like_layers(self) -> bool:
        return False

    @property
    def encoder(self) -> ModelSpec:
        """Its encoder. The layers that come behind it are counted, so that it has no head."""
        return self._stack(
            ModelSpec,
            n_layers=self.n_layers,
            n_embedding_parameters=self.n_other_encoder_parameters,
            seq_len=self.seq_len,
            is_decoder=False,
        )

    def decoder(self, *, encoder_is_trained: bool) -> "DecoderSpec":
        """Its decoder, to which the head and the table of words are counted."""
        return self._stack(
            DecoderSpec,
            n_layers=self.n_decoder_layers,
            n_embedding_parameters=self.n_embedding_parameters - self.n_other_encoder_parameters,
            seq_len=self.response_len,
            is_decoder=True,
            n_frozen_head_parameters=self.n_frozen_head_parameters,
            vocabulary_size=self.vocabulary_size,
            response_len=self.response_len,
            cross=CrossAttention(n_tokens=self.seq_len, is_trained=encoder_is_trained),
        )

    def _stack(self, kind: type[Stack], **own: Any) -> Stack:
        return kind(
            name=self.name,
            hidden_size=self.hidden_size,
            n_heads=self.n_heads,
            n_kv_heads=self.n_kv_heads,
            head_size=self.head_size,
            intermediate_size=self.intermediate_size,
            gated_mlp=self.gated_mlp,
            head={},
            design=self.design,
            **own,
        )

    @property
    def n_parameters(self) -> int:
        encoder, decoder = self.encoder, self.decoder(encoder_is_trained=False)
        in_layers = self.n_encoder_layers * encoder.n_layer_parameters
        in_layers += self.n_decoder_layers * decoder.n_layer_parameters
        return in_layers + self.n_embedding_parameters + self.n_frozen_head_parameters

    def n_head_rows(self, seq_len: int, n_virtual_tokens: int = 0) -> int:
        return self.response_len_at(seq_len)

    def response_len_at(self, seq_len: int) -> int:
        """Tokens of a response where prompts have ``seq_len`` tokens: in the same proportion, at least one."""
        if seq_len == self.seq_len:
            return self.response_len
        return max(1, round(seq_len * self.response_len / self.seq_len))

    @property
    def n_frozen_head_weights(self) -> int:
        """Those of the head, also where they are the embeddings."""
        return self.vocabulary_size * self.hidden_size

    def n_logits(self, seq_len: int, n_virtual_tokens: int = 0) -> int:
        return self.n_head_rows(seq_len) * self.vocabulary_size

    def with_seq_len(self, seq_len: int) -> "EncoderDecoderSpec":
        """The same model with prompts of another length, and responses in the same proportion."""
        return replace(self, seq_len=seq_len, response_len=self.response_len_at(seq_len))


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderSpec(CausalSpec):
    """The decoder of an encoder-decoder, whose layers attend to what the encoder gives, too."""

    cross: CrossAttention

    @property
    def cross_attention(self) -> CrossAttention:
        return self.cross

    @property
    def matrices(self) -> tuple[str, ...]:
        return (*self.own_matrices, *CROSS.values())
