"""Classification: the cross-entropy of an example's label."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from emulator.learning.data.batches import Batch
from emulator.learning.data.source import DataSource
from emulator.learning.data.texts import BUILTIN, TextData, described
from emulator.learning.data.tokens import Cut, TokenData, tokenize
from emulator.learning.model.role import CLASSIFIER, Role
from emulator.learning.objective.base import Examples, Learning
from emulator.records import EvaluationShard, Predictions


class ClassificationLearning(Learning):
    """The learning side of :class:`emulator.objective.classification.Classification`."""

    role: ClassVar[Role] = CLASSIFIER

    def read(self, data: DataSource, seed: int) -> Examples:
        texts = data.load(seed)
        return Examples(
            train=texts.train_texts,
            train_labels=texts.train_labels,
            train_rows=texts.train_rows,
            owners=texts.owners,
            test=texts.test_texts,
            test_labels=texts.test_labels,
            label_names=texts.label_names,
            majority_accuracy=float(np.bincount(texts.test_labels).max() / len(texts.test_labels)),
            understood=described(texts, data.source),
            read_as=_read_as(texts, data.source),
            remarks=texts.remarks,
        )

    def tokens(
        self, rows: Sequence[Any], labels: NDArray[np.int64], tokenizer: Any, seq_len: int
    ) -> tuple[TokenData, Cut]:
        return tokenize(rows, labels, tokenizer, seq_len)

    def losses(self, logits: Tensor, batch: Batch, n_devices: int) -> Tensor:
        return F.cross_entropy(logits, batch.labels, reduction="none") * batch.weights

    def score(self, logits: Tensor, batch: Batch) -> EvaluationShard:
        return label_shard(logits, batch.labels)


def label_shard(logits: Tensor, labels: Tensor) -> EvaluationShard:
    """The sums over rows with ``logits (rows, n_labels)`` of which ``labels (rows,)`` are so."""
    called = logits.argmax(dim=1)
    confidence = logits.softmax(dim=1).gather(1, called[:, None])[:, 0]
    return EvaluationShard(
        loss_sum=float(F.cross_entropy(logits, labels, reduction="sum")),
        n_correct=int((called == labels).sum()),
        n=len(labels),
        predictions=Predictions(
            targets=labels.numpy(force=True),
            predicted=called.numpy(force=True),
            n_labels=logits.shape[1],
            confidence=confidence.double().numpy(force=True),
        ),
    )


def _read_as(texts: TextData, source: str) -> tuple[str, ...]:
    """A line about what a user's own data were understood to be."""
    if source == BUILTIN:
        return ()
    return (
        f"data: {source} read as {texts.form}: {len(texts.train_texts)} training and {len(texts.test_texts)} held-out "
        f"examples of {len(texts.label_names)} classes",
    )
