"""Networks that lack some layers: work, bytes and refusals."""

from dataclasses import replace

import pytest

from emulator.forms.layer_subset import LayerSubsetLoraForm
from emulator.forms.lora import LoraAssignment, LoraForm
from emulator.shapes.catalog import model_spec
from emulator.testing import tiny_model
from emulator.world.price.memory import peak_memory
from emulator.world.price.step_kinds import step_of

FORM = LayerSubsetLoraForm(ranks=(4, 4, 4))
SOME = LoraAssignment(device_id=0, n_steps=2, batch_size=4, learning_rate=0.1, ranks=(4, 0, 4), depth=3)


def test_a_device_computes_the_layers_that_it_has() -> None:
    work = FORM.work(SOME, tiny_model(3))
    assert (work.forward_layers, work.backward_layers, work.skipped_layers, work.adapters.ranks) == (2, 2, 1, (4, 4))


def test_only_the_adapters_of_its_layers_travel_with_the_head() -> None:
    # two layers, two matrices, rank 4, 16 inputs and outputs; a head of 3 · 16 + 3
    n_bytes = 4 * (2 * 2 * 4 * 32 + 51)
    assert FORM.download_bytes(SOME, tiny_model(3)) == FORM.upload_bytes(SOME, tiny_model(3)) == n_bytes


def test_four_of_twelve_layers_cost_what_a_model_of_four_layers_does() -> None:
    model = model_spec("roberta-base", n_labels=2, seq_len=128, head="output")
    layers = (0, 8, 0, 8, 0, 0, 8, 0, 0, 0, 8, 0)
    work = LayerSubsetLoraForm(ranks=(8,) * 12).work(replace(SOME, ranks=layers, depth=12), model)
    shallow = replace(model, n_layers=4)
    whole = LoraForm(ranks=(8,) * 4).work(replace(SOME, ranks=(8,) * 4, depth=4), shallow)
    assert step_of(model, work, "fp32").demand() == step_of(shallow, whole, "fp32").demand()
    assert peak_memory(model, work, "fp32") == peak_memory(shallow, whole, "fp32")


def test_impossible_settings_are_refused() -> None:
    model = tiny_model(3)
    FORM.check_model(model)
    FORM.check(SOME, model)
    with pytest.raises(ValueError, match=r"must be positive, got \(4, 0, 4\)"):
        LayerSubsetLoraForm(ranks=(4, 0, 4)).check_model(model)
    with pytest.raises(ValueError, match=r"depth must be the model.s 3 layers .*got 2"):
        FORM.check(replace(SOME, depth=2), model)
    with pytest.raises(ValueError, match=r"at least one layer, got ranks \(0, 0, 0\)"):
        FORM.check(replace(SOME, ranks=(0, 0, 0)), model)
