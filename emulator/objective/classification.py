"""Classification: one of several labels for each example."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from emulator.objective.base import Objective
from emulator.records import Evaluation, EvaluationShard
from emulator.shapes.catalog import Head, model_spec, model_spec_from_config
from emulator.shapes.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Classification(Objective):
    """Evaluated by accuracy and cross-entropy."""

    kind: ClassVar[str] = "classification"
    reader: ClassVar[str] = "emulator.learning.data.source:load_texts"
    learning: ClassVar[str] = "emulator.learning.objective.classification:ClassificationLearning"

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
        if config is None:
            return model_spec(name, n_labels=n_labels, seq_len=seq_len, head=head, seq_len_key=seq_len_key)
        return model_spec_from_config(
            config, name=name, n_labels=n_labels, seq_len=seq_len, head=head, seq_len_key=seq_len_key
        )

    def evaluation(self, shards: Sequence[EvaluationShard]) -> Evaluation:
        n_examples = sum(shard.n for shard in shards)
        return Evaluation(
            accuracy=sum(shard.n_correct for shard in shards) / n_examples,
            loss=sum(shard.loss_sum for shard in shards) / n_examples,
            n_examples=n_examples,
        )
