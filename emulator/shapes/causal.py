"""Shapes of a causal language model: a decoder whose head gives a logit for each word of its vocabulary."""

from dataclasses import dataclass, replace

from emulator.shapes.spec import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class CausalSpec(ModelSpec):
    """A decoder with its language model head, of which nothing is trained.

    Attributes:
        vocabulary_size: logits of a token.
        response_len: tokens of an example that the loss is about, and which alone have logits.
    """

    vocabulary_size: int
    response_len: int

    def n_head_rows(self, seq_len: int, n_virtual_tokens: int = 0) -> int:
        return share_of(seq_len - n_virtual_tokens, self.response_len / self.seq_len)

    @property
    def n_frozen_head_weights(self) -> int:
        """Those of the head, also where they are the embeddings."""
        return self.vocabulary_size * self.hidden_size

    def n_logits(self, seq_len: int, n_virtual_tokens: int = 0) -> int:
        return self.n_head_rows(seq_len, n_virtual_tokens) * self.vocabulary_size

    def with_seq_len(self, seq_len: int) -> "CausalSpec":
        """The same model at another sequence length, of which the response has the same share."""
        return replace(self, seq_len=seq_len, response_len=self.n_head_rows(seq_len))


def share_of(seq_len: int, fraction: float) -> int:
    """So large a part of ``seq_len`` tokens, at least one."""
    return min(seq_len, max(1, round(seq_len * fraction)))
