"""Causal language modelling: the next token of a text, or of a response to a prompt."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from emulator.objective.base import Objective
from emulator.records import Evaluation, EvaluationShard, OptionScore
from emulator.shapes.catalog import Head, causal_spec, causal_spec_from_config
from emulator.shapes.causal import CausalSpec, share_of
from emulator.shapes.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Causal(Objective):
    """Evaluated by the mean cross-entropy of tokens, its exponential, and the share of tokens foretold.

    Attributes:
        response_len: tokens per example whose loss the boards pay for; where it is not given, as many as the trained
            examples have, or all where nothing is trained.
        packs: whether training texts share rows.
    """

    response_len: int | None = None
    packs: bool = False

    kind: ClassVar[str] = "causal"
    reader: ClassVar[str] = "emulator.learning.data.passages:load_passages"
    learning: ClassVar[str] = "emulator.learning.objective.causal:CausalLearning"
    scores: ClassVar[tuple[str, ...]] = (
        "token_accuracy",
        "loss",
        "perplexity",
        "exact_match",
        "option_accuracy",
        "option_accuracy_norm",
    )
    own_score: ClassVar[str | None] = "token_accuracy"

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
        n_examples = sum(shard.n for shard in shards)
        loss = sum(shard.loss_sum for shard in shards) / n_tokens
        plain, by_character = option_accuracies([score for shard in shards for score in shard.options])
        return Evaluation(
            accuracy=None,
            loss=loss,
            n_examples=n_examples,
            perplexity=math.exp(min(loss, MOST_EXPONENT)),
            token_accuracy=sum(shard.n_correct for shard in shards) / n_tokens,
            exact_match=sum(shard.n_exact for shard in shards) / n_examples,
            option_accuracy=plain,
            option_accuracy_norm=by_character,
        )


def option_accuracies(scores: Sequence[OptionScore]) -> tuple[float | None, float | None]:
    """Share of choices whose answer is the likeliest option: by log-likelihood, and by log-likelihood per character.

    These are ``acc`` and ``acc_norm`` of the ``lm-evaluation-harness`` (Gao et al. 2021, Zenodo 10.5281/zenodo.5371628;
    ``process_results`` of its multiple choice tasks). Without scores there is neither.
    """
    choices: dict[int, list[OptionScore]] = {}
    for score in scores:
        choices.setdefault(score.choice, []).append(score)
    if not choices:
        return None, None
    plain = sum(max(each, key=lambda one: one.log_likelihood).is_answer for each in choices.values())
    by_character = sum(
        max(each, key=lambda one: one.log_likelihood / one.n_characters).is_answer for each in choices.values()
    )
    return plain / len(choices), by_character / len(choices)


MOST_EXPONENT = 700.0
"""Whose exponential is still a number."""
