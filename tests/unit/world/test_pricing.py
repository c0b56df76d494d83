"""A run's prices are those of its settings, and what a profile is not known for is noted once."""

from dataclasses import replace

import pytest

from emulator.forms.lora import LoraForm, lora_assignment
from emulator.records import TrainingDefaults
from emulator.testing import tiny_model
from emulator.testing.small_world import made_up_devices
from emulator.world.price.memory import ALLOCATORS, peak_memory
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_time import price
from emulator.world.pricing import Pricing

MODEL = tiny_model()
FORM = LoraForm(ranks=(2,) * MODEL.n_layers)
TRAINING = TrainingDefaults(n_steps=3, batch_size=8, learning_rate=0.1)
WORK = FORM.work(lora_assignment(0, TRAINING, FORM.ranks, 4), MODEL)
[DEVICE] = made_up_devices(1)


@pytest.mark.parametrize("precision", ["fp32", "amp"])
@pytest.mark.parametrize("dropout", [False, True])
def test_the_precision_and_dropout_of_the_training_are_those_of_the_price(precision: str, dropout: bool) -> None:
    pricing = Pricing(MODEL, replace(TRAINING, precision=precision, dropout=dropout))

    assert pricing.cost(WORK, DEVICE.modes[0]) == price(MODEL, WORK, DEVICE.modes[0], precision)
    for allocator in ALLOCATORS:
        needed = peak_memory(MODEL, WORK, precision, allocator=allocator, dropout=dropout).total_bytes
        assert [pricing.peak_memory_bytes(WORK, allocator) for _ in range(2)] == [needed, needed]


def test_the_first_setting_that_a_profile_is_not_known_for_is_kept() -> None:
    pricing = Pricing(MODEL, TRAINING)

    for batch_size in (8, 9):
        pricing.note_range(DEVICE.profile, replace(WORK, batch_size=batch_size))

    assert pricing.outside_known_range == {"made-up-1": "the profile states no range in which it is known"}


def test_the_server_computes_what_the_device_does_not() -> None:
    bottom = replace(WORK, forward_layers=1, backward_layers=1)
    whole_flop, bottom_flop = (
        step.forward_flop + step.backward_flop for step in (step_of(MODEL, WORK), step_of(MODEL, bottom))
    )

    top_flop = Pricing(MODEL, TRAINING).top_flop(WORK, bottom)

    assert top_flop + bottom_flop == pytest.approx(whole_flop, rel=1e-12)
