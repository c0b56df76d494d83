"""Sequence-to-sequence: a response to a prompt, by a model that reads the one and gives the other."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from emulator.objective.causal import Causal
from emulator.shapes.catalog import Head, encoder_decoder_spec, encoder_decoder_spec_from_config
from emulator.shapes.encoder_decoder import EncoderDecoderSpec
from emulator.shapes.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Seq2Seq(Causal):
    """Evaluated as causal language modelling is, on the tokens of responses, which are all learnt.

    Attributes:
        response_seq_len: tokens at which responses are cut; where it is not given, those at which prompts are.
    """

    response_seq_len: int | None = None

    kind: ClassVar[str] = "seq2seq"
    reader: ClassVar[str] = "emulator.learning.data.passages:load_responses"
    learning: ClassVar[str] = "emulator.learning.objective.seq2seq:Seq2SeqLearning"
    family: ClassVar[str | None] = "encoder-decoder"

    def spec(
        self,
        name: str,
        *,
        n_labels: int,
        seq_len: int,
        head: Head,
        seq_len_key: str = "data.seq_len",
        config: Mapping[str, Any] | None = None,
        like: ModelSpec | None = None,
    ) -> EncoderDecoderSpec:
        response_len = self.response_len or self.response_seq_len or seq_len
        if isinstance(like, EncoderDecoderSpec) and not self.response_len:
            response_len = like.response_len_at(seq_len)
        if config is None:
            return encoder_decoder_spec(name, seq_len=seq_len, response_len=response_len)
        return encoder_decoder_spec_from_config(config, name=name, seq_len=seq_len, response_len=response_len)

    def priced(self, trained: ModelSpec) -> ModelSpec:
        if self.response_len is None:
            return trained
        assert isinstance(trained, EncoderDecoderSpec)
        return replace(trained, response_len=self.response_len)
