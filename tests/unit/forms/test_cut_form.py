"""A transformer that is cut: what a device holds, and what crosses the network."""

from dataclasses import replace

import pytest

from emulator.forms.cut_lora import CutLoraForm, cut_form
from emulator.seeds import Seeds
from emulator.shapes.catalog import model_spec
from emulator.testing import tiny_model, tiny_state
from emulator.world.price.memory import peak_memory
from emulator.world.price.step_kinds import step_of

MODEL = tiny_model(n_layers=4)
FORM = CutLoraForm(ranks=(2, 3, 4, 5), cut=2)
SETTINGS = FORM.assignment(1, n_steps=3, batch_size=5, learning_rate=0.1, top_learning_rate=0.2, merges=True)


def test_a_device_holds_the_adapters_below_the_cut_and_no_head() -> None:
    payload = FORM.project(tiny_state(FORM, MODEL, Seeds(0)), SETTINGS)

    assert {name.split(".")[1] for name in payload} == {"0", "1"}
    assert all(name.startswith("layers.") for name in payload)


def test_bytes_are_those_of_the_bottom_and_of_the_hidden_states() -> None:
    # (in + out) of query and value, 4 bytes each; ranks 2 and 3 lie below the cut
    assert FORM.download_bytes(SETTINGS, MODEL) == FORM.upload_bytes(SETTINGS, MODEL) == 4 * 2 * 32 * (2 + 3)
    assert FORM.step_download_bytes(SETTINGS, MODEL) == 4 * 5 * 8 * 16
    assert FORM.step_upload_bytes(SETTINGS, MODEL) == 4 * 5 * 8 * 16 + 2 * 5


def test_a_sample_of_roberta_base_at_128_tokens_is_393_kilobytes() -> None:
    model = model_spec("roberta-base", n_labels=2, seq_len=128, head="output")
    one = replace(SETTINGS, batch_size=1)

    assert cut_form(model, rank=8, cut=3).step_download_bytes(one, model) == 128 * 768 * 4 == 393_216


def test_the_bottom_costs_less_than_the_whole_and_has_no_head() -> None:
    bottom, whole = FORM.work(SETTINGS, MODEL), FORM.whole_work(SETTINGS, MODEL)

    assert (bottom.forward_layers, bottom.backward_layers) == (2, 2)
    assert (whole.forward_layers, whole.backward_layers) == (4, 4)
    assert step_of(MODEL, bottom).forward_flop < step_of(MODEL, whole).forward_flop
    assert step_of(MODEL, bottom).backward_flop < step_of(MODEL, whole).backward_flop
    held = [peak_memory(MODEL, replace(each, batch_size=512), "fp32").total_bytes for each in (bottom, whole)]
    assert held[0] < held[1]


def test_the_default_cut_is_behind_the_first_quarter() -> None:
    cuts = [cut_form(tiny_model(n_layers), rank=2, cut=None).cut for n_layers in (2, 4, 12)]  # type: ignore[attr-defined]

    assert cuts == [1, 1, 3]


@pytest.mark.parametrize("cut", [-1, 4, 9])
def test_layers_must_be_left_on_either_side(cut: int) -> None:
    with pytest.raises(ValueError, match=f"cut must be a whole number from 1 to 3, .* got {cut}"):
        cut_form(MODEL, rank=2, cut=cut).check_model(MODEL)


def test_impossible_assignments_are_refused() -> None:
    FORM.check(SETTINGS, MODEL)
    for wrong, message in (
        (replace(SETTINGS, top_learning_rate=0.0), "top_learning_rate must be a positive number, got 0.0"),
        (replace(SETTINGS, depth=2), "all 4 layers are trained"),
        (replace(SETTINGS, ranks=(2, 3, 4, 1)), "all 4 layers are trained"),
    ):
        with pytest.raises(ValueError, match=message):
            FORM.check(wrong, MODEL)
