"""How good a server state is, and the shards of which that is put together."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The server state's quality on held-out data. What an objective does not measure is None.

    Attributes:
        accuracy: share of examples classified right.
        loss: mean loss, of examples or, where it is about tokens, of these.
        n_examples: held-out examples.
        perplexity: the exponential of a mean loss of tokens.
        token_accuracy: share of tokens that are foretold as the likeliest.
        macro_f1: mean over labels of F1, the harmonic mean of precision and recall.
        micro_f1: F1 of all labels counted together.
        exact_match: share of examples of which all labels are right, or all tokens foretold as the likeliest.
        mcc: Matthews' correlation.
        calibration_error: how far confidence and accuracy are apart.
        class_f1: F1 of each label; None in it for one that does not occur.
        pearson, spearman: correlation of numbers, and of their ranks, with those that are so.
        mse: mean squared error of numbers.
        option_accuracy: share of choices whose answer is the likeliest option.
        option_accuracy_norm: the same, by the log-likelihood per character.
        own_scores, own_losses: by device, on the rows that it has held out of its own; empty without such rows.
        own_score_mean, own_loss_mean: means over these devices.
        own_score_worst_tenth, own_loss_worst_tenth: means over the worst tenth of them.
        own_score_spread, own_loss_spread: standard deviations over them.
    """

    accuracy: float | None
    loss: float
    n_examples: int
    perplexity: float | None = None
    token_accuracy: float | None = None
    macro_f1: float | None = None
    micro_f1: float | None = None
    exact_match: float | None = None
    mcc: float | None = None
    calibration_error: float | None = None
    class_f1: tuple[float | None, ...] | None = None
    pearson: float | None = None
    spearman: float | None = None
    mse: float | None = None
    option_accuracy: float | None = None
    option_accuracy_norm: float | None = None
    own_scores: Mapping[int, float] = field(default_factory=dict)
    own_losses: Mapping[int, float] = field(default_factory=dict)
    own_score_mean: float | None = None
    own_score_worst_tenth: float | None = None
    own_score_spread: float | None = None
    own_loss_mean: float | None = None
    own_loss_worst_tenth: float | None = None
    own_loss_spread: float | None = None

    def of_server(self) -> "Evaluation":
        """What a server knows: nothing of rows that devices keep for themselves."""
        unknown: Any = {name: None for name in self.__slots__ if name.startswith("own_")}
        return replace(self, **{**unknown, "own_scores": {}, "own_losses": {}})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predictions:
    """What a model says of held-out rows, row by row, in any order.

    Attributes:
        targets, predicted: what is so, and what the model says: ``(n,)`` labels or numbers, ``(n, n_labels)`` for sets
            of labels.
        n_labels: how many labels there are; 0 for numbers.
        confidence: ``(n,)``, the probability that the model gives to what it says; None where it gives none.
    """

    targets: NDArray[Any]
    predicted: NDArray[Any]
    n_labels: int = 0
    confidence: NDArray[np.float64] | None = None

    def __add__(self, other: "Predictions") -> "Predictions":
        sure = [each.confidence for each in (self, other) if each.confidence is not None]
        return Predictions(
            targets=np.concatenate([self.targets, other.targets]),
            predicted=np.concatenate([self.predicted, other.predicted]),
            n_labels=self.n_labels,
            confidence=np.concatenate(sure) if len(sure) == 2 else None,
        )


@dataclass(frozen=True, slots=True)
class OptionScore:
    """How likely an option of choice number ``choice`` is: the sum of its tokens' log-likelihoods, in nats."""

    choice: int
    is_answer: bool
    n_characters: int
    log_likelihood: float


@dataclass(frozen=True, slots=True)
class EvaluationShard:
    """Sums over the ``n`` rows of one shard of held-out data; the caller adds them up in shard order.

    Where the loss is about tokens, the sums run over the ``n_tokens`` that it is about, and ``n_exact`` counts the rows
    of which all are foretold; otherwise ``predictions`` are those of the rows. Where rows are options of choices, the
    sums are about answers, and ``options`` has all of them, in any order.
    """

    loss_sum: float
    n_correct: int
    n: int
    n_tokens: int = 0
    predictions: Predictions | None = field(default=None, compare=False)
    n_exact: int = 0
    options: tuple[OptionScore, ...] = ()

    def __add__(self, other: "EvaluationShard") -> "EvaluationShard":
        both = [each.predictions for each in (self, other) if each.predictions is not None]
        return EvaluationShard(
            self.loss_sum + other.loss_sum,
            self.n_correct + other.n_correct,
            self.n + other.n,
            self.n_tokens + other.n_tokens,
            sum(both[1:], both[0]) if both else None,
            self.n_exact + other.n_exact,
            self.options + other.options,
        )
