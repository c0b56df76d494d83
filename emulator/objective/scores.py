"""The scores of a run: which figures tell how well it is learnt, and which way each of them is better."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from emulator.errors import ConfigError, did_you_mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A figure of held-out rows after a round: a column of the table ``rounds``.

    Attributes:
        name: of the column.
        title: what people call it.
        is_higher_better: whether more of it is better.
        low, high: between which it lies; None without an end.
    """

    name: str
    title: str
    is_higher_better: bool = True
    low: float | None = 0.0
    high: float | None = 1.0

    def reaches(self, value: float, target: float) -> bool:
        """Whether ``value`` is as good as ``target``, or better."""
        return value >= target if self.is_higher_better else value <= target

    def best(self, values: Iterable[float]) -> float:
        """The best of ``values``, of which there is one."""
        return max(values) if self.is_higher_better else min(values)

    def worst(self, values: Iterable[float]) -> float:
        """The worst of ``values``, of which there is one."""
        return min(values) if self.is_higher_better else max(values)

    def check(self, value: float, what: str) -> None:
        """Raise ConfigError where ``value``, called ``what``, cannot be a value of this score."""
        is_low = self.low is not None and not value >= self.low
        is_high = self.high is not None and not value <= self.high
        if is_low or is_high or value != value:
            ends = f"from {self.low:g} to {self.high:g}" if self.high is not None else f"of {self.low:g} or more"
            raise ConfigError(f"{what} is {self.with_article} {ends}, got {value!r}")

    @property
    def with_article(self) -> str:
        """The title behind an article."""
        return f"an {self.title}" if self.title[0] in "aeiou" else f"a {self.title}"


_ALL = (
    Score(name="accuracy", title="accuracy"),
    Score(name="loss", title="loss", is_higher_better=False, high=None),
    Score(name="perplexity", title="perplexity", is_higher_better=False, low=1.0, high=None),
    Score(name="token_accuracy", title="token accuracy"),
    Score(name="macro_f1", title="macro F1"),
    Score(name="micro_f1", title="micro F1"),
    Score(name="exact_match", title="exact match"),
    Score(name="mcc", title="Matthews correlation", low=-1.0),
    Score(name="calibration_error", title="calibration error", is_higher_better=False),
    Score(name="pearson", title="Pearson correlation", low=-1.0),
    Score(name="spearman", title="Spearman correlation", low=-1.0),
    Score(name="mse", title="squared error", is_higher_better=False, high=None),
    Score(name="own_score_mean", title="mean score of devices"),
    Score(name="own_score_worst_tenth", title="score of the worst tenth of devices"),
    Score(name="own_score_spread", title="spread of the scores of devices", is_higher_better=False),
    Score(name="own_loss_mean", title="mean loss of devices", is_higher_better=False, high=None),
    Score(name="own_loss_worst_tenth", title="loss of the worst tenth of devices", is_higher_better=False, high=None),
    Score(name="own_loss_spread", title="spread of the losses of devices", is_higher_better=False, high=None),
    Score(name="option_accuracy", title="option accuracy"),
    Score(name="option_accuracy_norm", title="option accuracy by character"),
)
SCORES: Mapping[str, Score] = MappingProxyType({score.name: score for score in _ALL})
"""All scores by name."""

QUOTED_OF: Mapping[str, str] = MappingProxyType(
    {
        "classification": "accuracy",
        "causal": "token_accuracy",
        "seq2seq": "token_accuracy",
        "multi_label": "micro_f1",
        "regression": "spearman",
    }
)
"""What people quote of each kind of task, in the order in which runs are asked for it."""
QUOTED = tuple(dict.fromkeys(QUOTED_OF.values()))


def score_named(name: str, where: str) -> Score:
    """The score ``name``, which was given as ``where``.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in SCORES:
        hint = did_you_mean(name, SCORES) or ";"
        raise ConfigError(f"{where}: there is no score {name!r}{hint} there is: {', '.join(SCORES)}")
    return SCORES[name]
