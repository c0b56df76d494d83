"""What a run learns, by its configuration."""

from emulator.config import Config
from emulator.errors import ConfigError
from emulator.objective.base import Objective
from emulator.objective.causal import Causal
from emulator.objective.classification import Classification
from emulator.objective.multi_label import MultiLabel
from emulator.objective.regression import Regression
from emulator.objective.seq2seq import Seq2Seq
from emulator.shapes.spec import ModelSpec


def run_objective(config: Config) -> Objective:
    """The objective that the section ``task`` names."""
    kinds: dict[str, Objective] = {
        Classification.kind: Classification(),
        MultiLabel.kind: MultiLabel(),
        Regression.kind: Regression(),
        Causal.kind: Causal(response_len=config.task.price_response_len, packs=config.data.packing),
        Seq2Seq.kind: Seq2Seq(
            response_len=config.task.price_response_len,
            packs=config.data.packing,
            response_seq_len=config.data.response_seq_len,
        ),
    }
    return kinds[config.task.kind]


def trained_spec(config: Config) -> ModelSpec:
    """The trained model's shapes as far as they are known before its data is: with a head for two labels.

    Raises:
        ConfigError: there is no such model, or its config.json cannot be used.
    """
    try:
        return run_objective(config).spec(
            config.model.train, n_labels=2, seq_len=config.data.seq_len, head=config.model.head
        )
    except ConfigError as error:
        raise ConfigError(f"model.train: {str(error).removeprefix('model.train: ')}") from None
