"""Regression: the squared error of an example's number."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from emulator.learning.data.batches import Batch
from emulator.learning.data.numbers import load_numbers
from emulator.learning.data.on_disk import kept_like
from emulator.learning.data.source import DataSource
from emulator.learning.data.tokens import Cut, TokenData, tokenize
from emulator.learning.model.role import REGRESSOR, Role
from emulator.learning.objective.base import Examples, Learning
from emulator.records import EvaluationShard, Predictions


class RegressionLearning(Learning):
    """The learning side of :class:`emulator.objective.regression.Regression`. A row is a text and its number."""

    role: ClassVar[Role] = REGRESSOR

    def read(self, data: DataSource, seed: int) -> Examples:
        rows = load_numbers(data, seed)
        train, test = (
            kept_like(part.texts, zip(part.texts, part.values, strict=True)) for part in (rows.train, rows.test)
        )
        return Examples(
            train=train,
            train_labels=rows.train_strata,
            train_rows=rows.train_rows,
            owners=rows.owners,
            test=test,
            test_labels=rows.test_strata,
            label_names=(),
            majority_accuracy=None,
            understood={
                **rows.understood(data.source),
                "numbers": {"least": min(rows.train.values), "most": max(rows.train.values)},
            },
            read_as=rows.read_as(data.source, "with a number each"),
            remarks=rows.remarks(),
            strata=rows.strata,
        )

    def tokens(
        self, rows: Sequence[Any], labels: NDArray[np.int64], tokenizer: Any, seq_len: int
    ) -> tuple[TokenData, Cut]:
        data, cut = tokenize([text for text, _ in rows], labels, tokenizer, seq_len)
        return replace(data, labels=np.array([number for _, number in rows], dtype=np.float32)), cut

    def losses(self, logits: Tensor, batch: Batch, n_devices: int) -> Tensor:
        return F.mse_loss(logits[:, 0], batch.labels, reduction="none") * batch.weights

    def score(self, logits: Tensor, batch: Batch) -> EvaluationShard:
        return EvaluationShard(
            loss_sum=float(F.mse_loss(logits[:, 0], batch.labels, reduction="sum")),
            n_correct=0,
            n=len(batch.rows),
            predictions=Predictions(
                targets=batch.labels.double().numpy(force=True), predicted=logits[:, 0].double().numpy(force=True)
            ),
        )
