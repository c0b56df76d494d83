"""What an optimizer moves and holds for each parameter, in arrays that can be counted."""

from dataclasses import replace

import pytest

from emulator.records import ADAMW, NO_ADAPTERS, LocalOptimizer, TrainingDefaults, WorkKind
from emulator.world.price.memory import peak_memory
from emulator.world.price.optimizer import held_bytes, moved_bytes
from emulator.world.price.step_kinds import step_of
from emulator.world.pricing import Pricing
from tests.unit.world.price.test_step_time import ROBERTA, lora

SGD = LocalOptimizer(name="sgd")
ARRAYS = {
    # arrays moved: parameter, gradient, moments read; parameter, moments written
    "adamw": (ADAMW, 4 + 3, 1 + 2),
    "sgd": (SGD, 2 + 1, 1),
    "momentum": (LocalOptimizer(name="sgd", momentum=0.9), 3 + 2, 1 + 1),
    # beside: the parameter, where it began and the gradient read, the gradient written; where it began is held
    "proximal": (LocalOptimizer(name="sgd", proximal_mu=0.1), 3 + 4, 1 + 1),
    # beside: the gradient read for its norm; read and written again
    "clipped": (LocalOptimizer(name="sgd", max_gradient_norm=1.0), 3 + 3, 1),
}


@pytest.mark.parametrize(("optimizer", "n_moved", "n_held"), ARRAYS.values(), ids=ARRAYS.keys())
def test_bytes_are_those_of_the_arrays_that_are_touched_and_kept(
    optimizer: LocalOptimizer, n_moved: int, n_held: int
) -> None:
    assert (moved_bytes(optimizer), held_bytes(optimizer)) == (4 * n_moved, 4 * n_held)
    model, work = ROBERTA, lora(2)
    step = step_of(model, work, "fp32", optimizer)
    assert step.demand().optimizer_bytes == 4 * n_moved * step.n_trained_parameters
    assert (
        peak_memory(model, work, "fp32", optimizer=optimizer).optimizer_bytes == 4 * n_held * step.n_trained_parameters
    )


def test_a_run_pays_for_the_optimizer_that_it_asks_for() -> None:
    model, work = ROBERTA, replace(lora(2), adapters=NO_ADAPTERS, kind=WorkKind.WEIGHTS)
    n = step_of(model, work).n_trained_parameters

    def pricing(optimizer: LocalOptimizer) -> Pricing:
        return Pricing(model, TrainingDefaults(n_steps=1, batch_size=8, learning_rate=0.1, optimizer=optimizer))

    adamw_bytes, sgd_bytes = (pricing(each).peak_memory_bytes(work, "pytorch_cuda") for each in (ADAMW, SGD))
    assert adamw_bytes - sgd_bytes == pytest.approx(8 * n, rel=0.1)  # moments come in whole segments
