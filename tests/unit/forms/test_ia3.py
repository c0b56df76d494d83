"""What IA3 ships and costs: closed forms."""

import numpy as np
import pytest

from emulator.forms.ia3 import Ia3Form
from emulator.forms.layerwise import LayerwiseAssignment
from emulator.records import Update
from emulator.seeds import Seeds
from emulator.shapes.catalog import model_spec
from emulator.testing import tiny_model
from emulator.world.price.step_kinds import step_of

FORM = Ia3Form()
ROBERTA = model_spec("roberta-base", n_labels=2, seq_len=128, head="output")
H, M, B, S = 768, 3072, 4, 128
N_HEAD = 2 * H + 2


def holding(depth: int) -> LayerwiseAssignment:
    return LayerwiseAssignment(device_id=0, n_steps=2, batch_size=B, learning_rate=0.1, depth=depth)


def test_three_vectors_a_layer_start_at_one() -> None:
    arrays = FORM.initial(tiny_model(4), Seeds(0))
    assert {name: array.shape for name, array in arrays.items() if name.startswith("layers.3.")} == {
        "layers.3.key.scale": (16,),
        "layers.3.value.scale": (16,),
        "layers.3.mlp_down.scale": (32,),
    }
    assert len(arrays) == 4 * 3
    assert all((array == 1).all() for array in arrays.values())


def test_what_is_projected_comes_back_to_its_place() -> None:
    state = FORM.initial(tiny_model(4), Seeds(0))
    payload = FORM.project(state, holding(1))
    assert set(payload) == {"layers.3.key.scale", "layers.3.value.scale", "layers.3.mlp_down.scale"}
    trained = {name: array + np.float32(1) for name, array in payload.items()}
    update = Update(device_id=0, assignment=holding(1), payload=trained, n_examples=1, metrics={})
    embedded = FORM.embed(update, state)
    assert (embedded.support, set(embedded.arrays)) == ({}, set(payload))


@pytest.mark.parametrize("depth", [0, 1, 12])
def test_bytes_and_parameters_are_the_vectors_and_the_head(depth: int) -> None:
    n_parameters = depth * (2 * H + M) + N_HEAD
    step = step_of(ROBERTA, FORM.work(holding(depth), ROBERTA))
    assert FORM.download_bytes(holding(depth), ROBERTA) == FORM.upload_bytes(holding(depth), ROBERTA)
    assert FORM.upload_bytes(holding(depth), ROBERTA) == 4 * n_parameters
    assert (step.n_trained_parameters, step.n_held_parameters) == (n_parameters, n_parameters)


def test_vectors_cost_no_matrix_product() -> None:
    none, some = (step_of(ROBERTA, FORM.work(holding(depth), ROBERTA)) for depth in (0, 12))
    assert some.forward_flop == none.forward_flop
    # One more layer above the lowest: 24 b s h² for its frozen matrices, and four products of attention.
    one, two = (step_of(ROBERTA, FORM.work(holding(depth), ROBERTA)).backward_flop for depth in (1, 2))
    assert two - one == 24 * B * S * H**2 + 4 * 2 * B * S**2 * H


def test_what_is_scaled_is_kept() -> None:
    one, two = (step_of(ROBERTA, FORM.work(holding(depth), ROBERTA)).memory().activations_bytes for depth in (1, 2))
    # Of a frozen layer query, key, value, softmax, both norms' inputs and statistics, GELU's input; and key, value and
    # the feed-forward part's inner activations before they are scaled.
    assert two - one == 4 * B * S * ((3 * H + 12 * S + 2 * H + 4 + M) + (2 * H + M))


def test_another_kind_of_assignment_is_refused() -> None:
    with pytest.raises(ValueError, match="depth must be a whole number between 0 and the model's 4 layers, got 5"):
        FORM.check(holding(5), tiny_model(4))
