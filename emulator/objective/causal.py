"""Causal language modelling: the next token of a text, or of a response to a prompt."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from emulator.objective.base import Objective
from emulator.records import Evaluation, EvaluationShard
from emulator.shapes.catalog import Head, causal_spec, causal_spec_from_config
from emulator.shapes.causal import CausalSpec, share_of
from emulator.shapes.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Causal(Objective):
    """Evaluated by the mean cross-entropy of tokens, its exponential, and the share of tokens foretold.

    Attributes:
        response_len: tokens per example whose loss the boards pay for; where it is not given, as many as the trained
            examples have, or all where nothing is trained.
    """

    response_len: int | None = None

    kind: ClassVar[str] = "causal"
    reader: ClassVar[str] = "emulator.learning.data.passages:load_passages"
    learning: ClassVar[str] = "emulator.learning.objective.causal:CausalLearning"
    scores: ClassVar[tuple[str, ...]] = ("token_accuracy", "loss", "perplexity")

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
    ) -> ModelSpec:
        response_len = self.response_len or seq_len
        if isinstance(like, CausalSpec) and not self.response_len:
            response_len = share_of(seq_len, like.response_len / like.seq_len)
        response_len = min(response_len, seq_len)
        if config is None:
            return causal_spec(name, seq_len=seq_len, response_len=response_len, seq_len_key=seq_len_key)
        return causal_spec_from_config(
            config, name=name, seq_len=seq_len, response_len=response_len, seq_len_key=seq_len_key
        )

    def priced(self, trained: ModelSpec) -> ModelSpec:
        if self.response_len is None:
            return trained
        assert isinstance(trained, CausalSpec)
        return replace(trained, response_len=min(self.response_len, trained.seq_len))

    def evaluation(self, shards: Sequence[EvaluationShard]) -> Evaluation:
        n_tokens = sum(shard.n_tokens for shard in shards)
        loss = sum(shard.loss_sum for shard in shards) / n_tokens
        return Evaluation(
            accuracy=None,
            loss=loss,
            n_examples=sum(shard.n for shard in shards),
            perplexity=math.exp(min(loss, MOST_EXPONENT)),
            token_accuracy=sum(shard.n_correct for shard in shards) / n_tokens,
        )


MOST_EXPONENT = 700.0
"""Whose exponential is still a number."""
