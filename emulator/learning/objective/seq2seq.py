"""Sequence-to-sequence: the cross-entropy of each token of a response, given a prompt and all that was said before."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DataError
from emulator.learning.data.options import Choice
from emulator.learning.data.passages import PassageData, load_responses
from emulator.learning.data.response_tokens import tokenize_response_options, tokenize_responses
from emulator.learning.data.source import DataSource
from emulator.learning.data.tokens import Cut, TokenData
from emulator.learning.model.places import Place
from emulator.learning.model.role import SEQ2SEQ_MODEL, Role
from emulator.learning.objective.causal import CausalLearning
from emulator.objective.seq2seq import Seq2Seq


class Seq2SeqLearning(CausalLearning):
    """The learning side of :class:`emulator.objective.seq2seq.Seq2Seq`.

    An encoder reads the prompt. The decoder is forced to read the response, one place further on, so that it foretells
    each of its tokens; logits are those of responses without their padding.
    """

    role: ClassVar[Role] = SEQ2SEQ_MODEL

    def load(self, data: DataSource, seed: int) -> PassageData:
        return load_responses(data, seed)

    def tokens(
        self, rows: Sequence[Any], labels: NDArray[np.int64], tokenizer: Any, seq_len: int
    ) -> tuple[TokenData, Cut]:
        return tokenize_responses(rows, tokenizer, seq_len, self._response_seq_len(seq_len))

    def held_out(
        self, rows: Sequence[Any], labels: NDArray[np.int64], tokenizer: Any, seq_len: int
    ) -> tuple[TokenData, Cut]:
        if isinstance(rows[0], Choice):
            return tokenize_response_options(rows, tokenizer, seq_len, self._response_seq_len(seq_len))
        return self.tokens(rows, labels, tokenizer, seq_len)

    def check(self, rows: Sequence[Any], place: Place, tokenizer: Any) -> None:
        super().check(rows, place, tokenizer)
        family = place.config["model_type"]
        if family == "t5" and not isinstance(place.config.get("decoder_start_token_id"), int):
            raise DataError(
                f"model.train: config.json of {place.name!r} does not say with which token responses begin; set its "
                "decoder_start_token_id, which for T5 is the id of its padding"
            )

    def limits(self, seq_len: int) -> str:
        own = self._response_seq_len(seq_len)
        return f"data.seq_len={seq_len}" + (f" or data.response_seq_len={own}" if own != seq_len else "")

    def _response_seq_len(self, seq_len: int) -> int:
        assert isinstance(self.objective, Seq2Seq)
        return self.objective.response_seq_len or seq_len
