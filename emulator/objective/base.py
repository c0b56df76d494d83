"""The contract of an objective: what of it the server and the boards know."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from emulator.records import Evaluation, EvaluationShard
from emulator.shapes.catalog import Head
from emulator.shapes.spec import ModelSpec


class Objective(ABC):
    """What is learnt from the examples of a run. No torch: the coordinator never imports it.

    Attributes:
        kind: the value of the setting ``task.kind``.
        reader: the import path of the function that reads rows of a data source for it, without torch.
        learning: the import path (``module:Class``) of the counterpart in :mod:`emulator.learning` that makes
            batches of rows and has the loss.
        scores: which scores an evaluation has, the first of them the one that people quote.
        own_score: the score, from 0 to 1, by which devices are told apart on few rows of their own; None where only the
            loss tells.
        has_images: whether it can be learnt from images, too.
        family: of models that alone can learn it, as policies state it; None where models are of the family that their
            name says.
    """

    kind: ClassVar[str]
    reader: ClassVar[str]
    learning: ClassVar[str]
    scores: ClassVar[tuple[str, ...]]
    own_score: ClassVar[str | None] = None
    has_images: ClassVar[bool] = False
    family: ClassVar[str | None] = None

    def n_outputs(self, n_labels: int) -> int:
        """How many numbers a new head gives, where there are so many labels."""
        return n_labels

    @abstractmethod
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
        """The shapes of a model that learns this.

        Args:
            name: of the model, as for :func:`emulator.shapes.catalog.model_spec`.
            n_labels: number of classes, where there are any.
            seq_len: tokens per example.
            head: how much of a new head is trained, where there is one.
            seq_len_key: the setting that ``seq_len`` comes from, for messages.
            config: its config.json, where it is at hand.
            like: the trained model, whose examples are those that are priced.

        Raises:
            ConfigError: there is no such model, or it cannot learn this.
        """

    def priced(self, trained: ModelSpec) -> ModelSpec:
        """The shapes that are paid for where they are the ``trained`` model's own."""
        return trained

    @abstractmethod
    def evaluation(self, shards: Sequence[EvaluationShard]) -> Evaluation:
        """The evaluation over all held-out data; sums run in the order of the shards."""


def added_up(shards: Sequence[EvaluationShard]) -> EvaluationShard:
    """The sums over all ``shards``, of which there is one, in their order."""
    first, *others = shards
    return sum(others, first)
