"""How devices train: optimizer, schedule, and what else a run says of it."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from emulator.records.compression import NO_COMPRESSION, Compression
from emulator.records.savers import NO_SAVERS, MemorySavers


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalOptimizer:
    """How a device changes what it trains by its gradients.

    Attributes:
        name: ``adamw``; ``adamw_8bit``, whose moments are kept in eight bits; or ``sgd``, whose ``momentum`` is 0 where
            it has none.
        max_gradient_norm: to which gradients are clipped; None where they are not.
        proximal_mu: of the term that holds a device to where it began; 0 for none.
    """

    name: Literal["adamw", "adamw_8bit", "sgd"] = "adamw"
    momentum: float = 0.0
    max_gradient_norm: float | None = None
    proximal_mu: float = 0.0


ADAMW = LocalOptimizer()


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How the learning rate follows the rounds: it rises over ``warmup_rounds``, then falls over ``decay_rounds``."""

    warmup_rounds: int = 0
    decay: Literal["constant", "linear", "cosine"] = "constant"
    decay_rounds: int = 1
    floor: float = 0.0

    def factor(self, round_index: int) -> float:
        """What a learning rate is multiplied by in a round; above 0, and 1 at its highest.

        Warm-up ends at 1 in its last round. Behind it, in round t of T, ``linear`` is ``1 - (1 - floor) t / T`` and
        ``cosine`` is ``floor + (1 - floor) (1 + cos(pi t / T)) / 2`` (Loshchilov and Hutter 2017, arXiv 1608.03983,
        equation 5); from round ``T - 1`` on it stays.
        """
        if round_index < self.warmup_rounds:
            return (round_index + 1) / self.warmup_rounds
        done = min(round_index - self.warmup_rounds, self.decay_rounds - 1) / self.decay_rounds
        if self.decay == "linear":
            return 1 - (1 - self.floor) * done
        if self.decay == "cosine":
            return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2
        return 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingDefaults:
    """The run's settings for local training; policies take them over or deviate on purpose.

    ``precision`` is the arithmetic on all devices, ``fp32`` or ``amp``, and ``dropout`` whether they train with the
    model's own dropout, whose masks take memory, ``optimizer`` how they change what they train, ``savers`` what they do
    to need less memory, and ``compression`` how payloads are encoded; the server knows all of it as it sends the
    program.
    """

    n_steps: int
    batch_size: int
    learning_rate: float
    precision: str = "fp32"
    dropout: bool = False
    optimizer: LocalOptimizer = ADAMW
    schedule: Schedule = Schedule()
    savers: MemorySavers = NO_SAVERS
    compression: Compression = NO_COMPRESSION

    def in_round(self, round_index: int) -> "TrainingDefaults":
        """These settings with the learning rate of a round."""
        factor = self.schedule.factor(round_index)
        return self if factor == 1 else replace(self, learning_rate=self.learning_rate * factor)
