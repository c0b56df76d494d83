"""The contract of the learning side of an objective."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from emulator.learning.data.batches import Batch
from emulator.learning.data.source import DataSource
from emulator.learning.data.tokens import Cut, TokenData
from emulator.learning.model.places import Place
from emulator.learning.model.role import Role
from emulator.objective.base import Objective
from emulator.records import EvaluationShard
from emulator.shapes.spec import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """What was read for an objective, row by row.

    Attributes:
        train, test: the rows, as the objective's own ``tokens`` takes them.
        train_labels, test_labels: ``(n,)``, by which rows are spread over the devices: the labels, or what stands for
            them; all 0 without labels.
        train_rows: ``(n,)``, the numbers of the training rows in the source's part for training, from 0.
        label_names: the classes; empty without.
        majority_accuracy: share of the most frequent class among the held-out rows; None without classes.
        understood: what was read, and as what, as plain data.
        read_as: what a user's own data were understood to be, a sentence.
        remarks: what somebody who reads the results should know of them, a sentence each.
        strata: the names of what stands for labels in ``train_labels``; None where these are the labels.
        owners: ``(n,)``, who owns each training row; None where the source has no column that says so.
    """

    train: Sequence[Any]
    train_labels: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    test: Sequence[Any]
    test_labels: NDArray[np.int64]
    label_names: tuple[str, ...]
    majority_accuracy: float | None
    understood: Mapping[str, Any]
    read_as: tuple[str, ...]
    remarks: tuple[str, ...]
    strata: tuple[str, ...] | None = None
    owners: tuple[str, ...] | None = None

    @property
    def names_of_strata(self) -> tuple[str, ...]:
        """What ``train_labels`` number."""
        return self.label_names if self.strata is None else self.strata


class Learning(ABC):
    """The learning side of an :class:`~emulator.objective.base.Objective`; one for each host, and one that prepares.

    Attributes:
        role: what the model is loaded as.
    """

    role: ClassVar[Role]

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    @abstractmethod
    def read(self, data: DataSource, seed: int) -> Examples:
        """The rows of a data set.

        Raises:
            DataError: they are not what this objective learns from.
        """

    @abstractmethod
    def tokens(
        self, rows: Sequence[Any], labels: NDArray[np.int64], tokenizer: Any, seq_len: int
    ) -> tuple[TokenData, Cut]:
        """Rows of :class:`Examples` as tokens, at most ``seq_len`` each, with what was cut off.

        Raises:
            DataError: nothing of a row is left to be learnt.
        """

    def held_out(
        self, rows: Sequence[Any], labels: NDArray[np.int64], tokenizer: Any, seq_len: int
    ) -> tuple[TokenData, Cut]:
        """Held-out rows as :meth:`tokens`; a row may become several.

        Raises:
            DataError: nothing of a row is left to be evaluated.
        """
        return self.tokens(rows, labels, tokenizer, seq_len)

    def n_rows(self, row: Any) -> int:
        """How many rows a held-out one becomes in :meth:`held_out`."""
        return 1

    def limits(self, seq_len: int) -> str:
        """The settings by which rows are cut at ``seq_len`` tokens, for messages."""
        return f"data.seq_len={seq_len}"

    def check(self, rows: Sequence[Any], place: Place, tokenizer: Any) -> None:
        """Called before the weights of the model at ``place`` are loaded.

        Raises:
            DataError: it cannot learn from such ``rows``.
        """

    def arranged(self, train: TokenData, offsets: NDArray[np.int64]) -> tuple[TokenData, NDArray[np.int64]]:
        """Training rows as they are drawn, those of device ``d`` from ``offsets[d]`` up to ``offsets[d + 1]``."""
        return train, offsets

    def measured(self, spec: ModelSpec, train: TokenData) -> ModelSpec:
        """The trained model's shapes, with what only its data tell."""
        return spec

    def fit(self, model: Any) -> None:
        """Make a host's resident model ready; called once."""

    def logits(self, run: Callable[[], Tensor], batch: Batch) -> Tensor:
        """What ``run``, the forward pass over ``batch``, gives for what the loss is about."""
        return run()

    def rows_at_once(self, data: TokenData, most: int) -> int:
        """How many rows of ``data`` a forward pass without gradients takes, at most ``most``."""
        return most

    @abstractmethod
    def losses(self, logits: Tensor, batch: Batch, n_devices: int) -> Tensor:
        """``(rows,)``, so weighted that the sum over a device's rows is its loss; rows of weight 0 have none."""

    @abstractmethod
    def score(self, logits: Tensor, batch: Batch) -> EvaluationShard:
        """The sums over the rows of ``batch``."""
