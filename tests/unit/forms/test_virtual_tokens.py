"""What prompts and prefixes ship and cost, and what they refuse: closed forms."""

from dataclasses import replace

import numpy as np
import pytest

from emulator.forms.layerwise import LayerwiseAssignment
from emulator.forms.prefix_tuning import PrefixTuningForm
from emulator.forms.prompt_tuning import PromptTuningForm
from emulator.forms.virtual_tokens import VirtualTokensForm
from emulator.records import Update
from emulator.seeds import Seeds
from emulator.shapes.catalog import causal_spec, model_spec
from emulator.shapes.design import ENCODER
from emulator.testing import tiny_model
from emulator.world.price.step_kinds import step_of

PROMPT = PromptTuningForm(n_virtual_tokens=20)
PREFIX = PrefixTuningForm(n_virtual_tokens=30)
PROJECTED = PrefixTuningForm(n_virtual_tokens=30, projection_size=64)
FORMS = [PROMPT, PREFIX, PROJECTED]
ROBERTA = model_spec("roberta-base", n_labels=2, seq_len=128, head="output")
LLAMA = causal_spec("llama-3.2-1b", seq_len=128, response_len=32)
H, L, B, S = 768, 12, 4, 128
N_HEAD = 2 * H + 2


def everywhere(depth: int) -> LayerwiseAssignment:
    return LayerwiseAssignment(device_id=0, n_steps=2, batch_size=B, learning_rate=0.1, depth=depth)


@pytest.mark.parametrize(
    ("form", "n_parameters"),
    [
        (PROMPT, 20 * H),
        (PREFIX, 2 * L * 30 * H),
        (PROJECTED, 30 * H + 64 * H + 64 + 2 * L * H * (64 + 1)),
    ],
)
def test_bytes_and_parameters_are_the_virtual_tokens_and_the_head(form: VirtualTokensForm, n_parameters: int) -> None:
    step = step_of(ROBERTA, form.work(everywhere(L), ROBERTA))
    assert form.download_bytes(everywhere(L), ROBERTA) == 4 * (n_parameters + N_HEAD)
    assert form.upload_bytes(everywhere(L), ROBERTA) == 4 * (n_parameters + N_HEAD)
    assert (step.n_trained_parameters, step.n_held_parameters) == (n_parameters + N_HEAD, n_parameters + N_HEAD)
    arrays = form.initial(ROBERTA, Seeds(0))
    assert sum(array.size for array in arrays.values()) == n_parameters


def test_keys_and_values_are_as_wide_as_those_of_grouped_heads() -> None:
    assert PREFIX.initial(LLAMA, Seeds(0))["layers.15.prefix.value"].shape == (30, 8 * 64)
    assert PREFIX.upload_bytes(everywhere(16), LLAMA) == 4 * 2 * 16 * 30 * 512


@pytest.mark.parametrize("form", FORMS)
def test_a_deeper_priced_model_has_the_keys_of_its_own_layers(form: VirtualTokensForm) -> None:
    deeper = replace(ROBERTA, n_layers=4, deeper_layers=12)
    assert form.upload_bytes(everywhere(4), deeper) == form.upload_bytes(everywhere(12), ROBERTA)
    assert form.work(everywhere(4), deeper) == form.work(everywhere(12), ROBERTA)


def test_a_key_in_front_takes_two_products_forward_and_four_backward() -> None:
    one, other = (step_of(ROBERTA, PrefixTuningForm(n_virtual_tokens=n).work(everywhere(L), ROBERTA)) for n in (10, 11))
    assert other.forward_flop - one.forward_flop == L * 2 * (2 * B * S * H)
    # In the lowest layer no query needs a gradient.
    assert other.backward_flop - one.backward_flop == (4 * L - 1) * (2 * B * S * H)


def test_every_device_holds_and_trains_all_of_it() -> None:
    state = PREFIX.initial(tiny_model(3), Seeds(0))
    payload = PREFIX.project(state, everywhere(3))
    assert payload.keys() == state.keys()
    assert all(PREFIX.is_trained(name, everywhere(3), tiny_model(3)) for name in payload)
    trained = {name: array + np.float32(1) for name, array in payload.items()}
    update = Update(device_id=0, assignment=everywhere(3), payload=trained, n_examples=1, metrics={})
    assert PREFIX.embed(update, state).arrays == trained


@pytest.mark.parametrize("form", FORMS)
def test_another_depth_than_all_layers_is_refused(form: VirtualTokensForm) -> None:
    with pytest.raises(
        ValueError, match="depth must be the model's 3 layers, since virtual tokens act from the lowest"
    ):
        form.check(everywhere(2), tiny_model(3))
    form.check(everywhere(3), tiny_model(3))


@pytest.mark.parametrize("form", FORMS)
def test_more_tokens_than_the_model_has_positions_are_refused(form: VirtualTokensForm) -> None:
    n = form.n_virtual_tokens
    form.check_model(ROBERTA.with_seq_len(512 - n))
    said = rf"{n} virtual tokens in front of {513 - n} tokens take 513 positions, and the model has 512; lower"
    with pytest.raises(ValueError, match=said):
        form.check_model(ROBERTA.with_seq_len(513 - n))


def test_sizes_that_are_none_and_narrow_embeddings_are_refused() -> None:
    with pytest.raises(ValueError, match="n_virtual_tokens must be a whole number of at least 1, got 0"):
        PromptTuningForm(n_virtual_tokens=0).check_model(ROBERTA)
    with pytest.raises(ValueError, match="projection_size must be a whole number of at least 1, got 0"):
        PrefixTuningForm(projection_size=0).check_model(ROBERTA)
    narrow = replace(ROBERTA, design=replace(ENCODER, n_projection_weights=128 * H))
    with pytest.raises(ValueError, match="embeddings are narrower than its layers"):
        PROMPT.check_model(narrow)
