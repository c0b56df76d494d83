"""``[server]``: what the server makes of the mean that a round came to."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from emulator.config.section import Positive, Section

_ADAPTIVE = ("fedadagrad", "fedadam", "fedyogi")


class ServerConfig(Section):
    """A step of the server's own, for policies that aggregate by a mean and make nothing else of it."""

    optimizer: Literal["fedavgm", "fedadagrad", "fedadam", "fedyogi"] | None = None
    """fedavgm: momentum (Hsu et al. 2019); fedadagrad, fedadam, fedyogi: Reddi et al. 2021, algorithm 2. Without it,
    the mean is the server state. What it keeps is in checkpoints; it costs no emulated time."""
    learning_rate: Positive | None = None
    """Of the server's step; where it is not given, 1 for fedavgm and 0.01 for the others, whose steps have about that
    size in each coordinate."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the former steps' direction that is kept, beta_1."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """For fedadam and fedyogi: how much of the second moment is kept, beta_2."""
    adaptivity: Positive = 1e-3
    """For the adaptive ones: what is added to the root of the second moment, tau; the larger, the less they adapt."""

    @property
    def rate(self) -> float:
        """``learning_rate``, or what it is where it is not given."""
        return self.learning_rate or (0.01 if self.optimizer in _ADAPTIVE else 1.0)

    @model_validator(mode="after")
    def _belongs_to_an_optimizer(self) -> "ServerConfig":
        if self.optimizer is None and self.learning_rate is not None:
            raise ValueError(
                "server.learning_rate is for a server optimizer: set server.optimizer to fedavgm, fedadagrad, fedadam "
                f"or fedyogi, or leave it out, got {self.learning_rate!r}"
            )
        return self
