"""What a local step needs at its peak: weights, what is kept for the backward pass, optimizer, working set."""

from emulator.records import ADAMW, NO_SAVERS, LocalOptimizer, MemorySavers, Work
from emulator.shapes.spec import ModelSpec
from emulator.world.price.step import Attention, MemoryUse
from emulator.world.price.step_kinds import step_of


def peak_memory(
    model: ModelSpec,
    work: Work,
    precision: str,
    *,
    attention: Attention = "eager",
    dropout: bool = False,
    optimizer: LocalOptimizer = ADAMW,
    savers: MemorySavers = NO_SAVERS,
) -> MemoryUse:
    """The memory that a step of ``work`` on the priced ``model`` needs; see :class:`~emulator.world.price.step.Step`.

    For a policy that knows what its devices have.
    """
    return step_of(model, work, precision, optimizer, savers).memory(attention=attention, dropout=dropout)
