"""Classification: one of several labels for each example."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from emulator.objective.agreement import Hits, calibration_error, confusion_matrix, matthews_correlation
from emulator.objective.base import added_up
from emulator.objective.head import HeadObjective
from emulator.records import Evaluation, EvaluationShard


@dataclass(frozen=True, kw_only=True, slots=True)
class Classification(HeadObjective):
    """Evaluated by accuracy, cross-entropy, F1, Matthews' correlation and calibration."""

    kind: ClassVar[str] = "classification"
    reader: ClassVar[str] = "emulator.learning.data.source:load_texts"
    learning: ClassVar[str] = "emulator.learning.objective.classification:ClassificationLearning"
    scores: ClassVar[tuple[str, ...]] = ("accuracy", "loss", "macro_f1", "mcc", "calibration_error")
    own_score: ClassVar[str | None] = "accuracy"
    has_images: ClassVar[bool] = True

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
