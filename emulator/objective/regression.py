"""Regression: one number for each example."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from emulator.objective.agreement import pearson, spearman
from emulator.objective.base import added_up
from emulator.objective.head import HeadObjective
from emulator.records import Evaluation, EvaluationShard


@dataclass(frozen=True, kw_only=True, slots=True)
class Regression(HeadObjective):
    """Evaluated by the mean squared error and by how far numbers, and their ranks, are correlated."""

    kind: ClassVar[str] = "regression"
    reader: ClassVar[str] = "emulator.learning.data.numbers:load_numbers"
    learning: ClassVar[str] = "emulator.learning.objective.regression:RegressionLearning"
    scores: ClassVar[tuple[str, ...]] = ("spearman", "loss", "pearson", "mse")

    def n_outputs(self, n_labels: int) -> int:
        return 1

    def evaluation(self, shards: Sequence[EvaluationShard]) -> Evaluation:
        total = added_up(shards)
        said = total.predictions
        assert said is not None
        loss = total.loss_sum / total.n
        return Evaluation(
            accuracy=None,
            loss=loss,
            n_examples=total.n,
            pearson=pearson(said.predicted, said.targets),
            spearman=spearman(said.predicted, said.targets),
            mse=loss,
        )
