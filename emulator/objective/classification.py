"""Classification: one of several labels for each example."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from emulator.objective.agreement import Hits, calibration_error, confusion_matrix, matthews_correlation
from emulator.objective.base import Objective, added_up
from emulator.records import Evaluation, EvaluationShard
from emulator.shapes.catalog import Head, model_spec, model_spec_from_config
from emulator.shapes.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Classification(Objective):
    """Evaluated by accuracy, cross-entropy, F1, Matthews' correlation and calibration."""

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
        total = added_up(shards)
        evaluation = Evaluation(accuracy=total.n_correct / total.n, loss=total.loss_sum / total.n, n_examples=total.n)
        said = total.predictions
        if said is None:
            return evaluation
        matrix = confusion_matrix(said.targets, said.predicted, said.n_labels)
        hits = Hits.of_matrix(matrix)
        is_right = said.targets == said.predicted
        return replace(
            evaluation,
            macro_f1=hits.macro_f1(),
            class_f1=tuple(hits.f1_by_label()),
            mcc=matthews_correlation(matrix),
            calibration_error=None if said.confidence is None else calibration_error(said.confidence, is_right),
        )
