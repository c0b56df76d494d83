"""Classification with several labels: for each label, the binary cross-entropy of whether an example has it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from emulator.learning.data.batches import Batch
from emulator.learning.data.label_sets import indicators, load_label_sets
from emulator.learning.data.on_disk import kept_like
from emulator.learning.data.source import DataSource
from emulator.learning.data.tokens import Cut, TokenData, tokenize
from emulator.learning.model.role import MULTI_LABEL_CLASSIFIER, Role
from emulator.learning.objective.base import Examples, Learning
from emulator.records import EvaluationShard, Predictions


class MultiLabelLearning(Learning):
    """The learning side of :class:`emulator.objective.multi_label.MultiLabel`.

    A row is a text and its indicators, ``(n_labels,)``, 1 for each label that it has.
    """

    role: ClassVar[Role] = MULTI_LABEL_CLASSIFIER

    def read(self, data: DataSource, seed: int) -> Examples:
        read = load_label_sets(data, seed)
        rows, names = read.rows, read.label_names
        train, test = (indicators(part.values, names) for part in (rows.train, rows.test))
        return Examples(
            train=kept_like(rows.train.texts, zip(rows.train.texts, train, strict=True)),
            train_labels=rows.train_strata,
            train_rows=rows.train_rows,
            owners=rows.owners,
            test=kept_like(rows.test.texts, zip(rows.test.texts, test, strict=True)),
            test_labels=rows.test_strata,
            label_names=names,
            majority_accuracy=None,
            understood={
                **rows.understood(data.source),
                "classes": {name: [int(part[:, k].sum()) for part in (train, test)] for k, name in enumerate(names)},
            },
            read_as=rows.read_as(data.source, f"with any of {len(names)} labels"),
            remarks=rows.remarks(),
            strata=rows.strata,
        )

    def tokens(
        self, rows: Sequence[Any], labels: NDArray[np.int64], tokenizer: Any, seq_len: int
    ) -> tuple[TokenData, Cut]:
        data, cut = tokenize([text for text, _ in rows], labels, tokenizer, seq_len)
        return replace(data, labels=np.stack([own for _, own in rows])), cut

    def losses(self, logits: Tensor, batch: Batch, n_devices: int) -> Tensor:
        return _entropies(logits, batch.labels) * batch.weights

    def score(self, logits: Tensor, batch: Batch) -> EvaluationShard:
        predicted, targets = logits > 0, batch.labels > 0
        return EvaluationShard(
            loss_sum=float(_entropies(logits, batch.labels).sum()),
            n_correct=int((predicted == targets).all(dim=1).sum()),
            n=len(batch.rows),
            predictions=Predictions(
                targets=targets.numpy(force=True), predicted=predicted.numpy(force=True), n_labels=logits.shape[1]
            ),
        )


def _entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """``(rows,)``, the mean over labels, as transformers has it."""
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=1)
