"""Classification with several labels: any number of them, none too, for each example."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from emulator.objective.agreement import Hits
from emulator.objective.base import added_up
from emulator.objective.head import HeadObjective
from emulator.records import Evaluation, EvaluationShard


@dataclass(frozen=True, kw_only=True, slots=True)
class MultiLabel(HeadObjective):
    """Evaluated by binary cross-entropy, the mean over labels; by F1; and by the share of whole sets that are right."""

    kind: ClassVar[str] = "multi_label"
    reader: ClassVar[str] = "emulator.learning.data.label_sets:load_label_sets"
    learning: ClassVar[str] = "emulator.learning.objective.multi_label:MultiLabelLearning"
    scores: ClassVar[tuple[str, ...]] = ("micro_f1", "loss", "macro_f1", "exact_match")
    own_score: ClassVar[str | None] = "micro_f1"

    def evaluation(self, shards: Sequence[EvaluationShard]) -> Evaluation:
        total = added_up(shards)
        said = total.predictions
        assert said is not None
        hits = Hits.of_sets(said.targets, said.predicted)
        return Evaluation(
            accuracy=None,
            loss=total.loss_sum / total.n,
            n_examples=total.n,
            macro_f1=hits.macro_f1(),
            micro_f1=hits.micro_f1(),
            exact_match=total.n_correct / total.n,
            class_f1=tuple(hits.f1_by_label()),
        )
