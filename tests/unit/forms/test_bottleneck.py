"""What bottleneck adapters ship and cost: closed forms."""

from dataclasses import replace

import numpy as np
import pytest

from emulator.forms.bottleneck import BottleneckAssignment, BottleneckForm
from emulator.forms.layerwise import LayerwiseAssignment
from emulator.records import Update
from emulator.seeds import Seeds
from emulator.shapes.catalog import model_spec
from emulator.testing import tiny_model, tiny_state
from emulator.world.price.step_kinds import step_of

WIDTH = 48
FORM = BottleneckForm(width=WIDTH)
ROBERTA = model_spec("roberta-base", n_labels=2, seq_len=128, head="output")
H, M, B, S = 768, 3072, 4, 128
N_HEAD = 2 * H + 2
N_LAYER = 2 * H * WIDTH + WIDTH + H


def holding(depth: int) -> LayerwiseAssignment:
    return LayerwiseAssignment(device_id=0, n_steps=2, batch_size=B, learning_rate=0.1, depth=depth)


def test_the_start_is_near_zero_and_cut_at_two_deviations() -> None:
    arrays = FORM.initial(tiny_model(4), Seeds(0))
    weights = np.concatenate([array.ravel() for name, array in arrays.items() if name.endswith("_weight")])
    # of a normal cut at two deviations: sqrt(1 - 4 φ(2) / (2 Φ(2) - 1)) = 0.8796
    assert weights.std() == pytest.approx(0.8796e-3, rel=0.05)
    assert np.abs(weights).max() <= 2e-3
    assert not any(array.any() for name, array in arrays.items() if name.endswith("_bias"))


def test_what_is_projected_comes_back_to_its_place() -> None:
    state = FORM.initial(tiny_model(4), Seeds(0))
    payload = FORM.project(state, holding(2))
    assert {name.split(".")[1] for name in payload} == {"2", "3"}
    trained = {name: array + np.float32(1) for name, array in payload.items()}
    embedded = FORM.embed(Update(device_id=0, assignment=holding(2), payload=trained, n_examples=1, metrics={}), state)
    assert (embedded.support, set(embedded.arrays)) == ({}, set(payload))
    assert all(array.shape == state[name].shape for name, array in embedded.arrays.items())


@pytest.mark.parametrize("depth", [0, 1, 12])
def test_bytes_and_parameters_are_the_adapters_and_the_head(depth: int) -> None:
    n_parameters = depth * N_LAYER + N_HEAD
    step = step_of(ROBERTA, FORM.work(holding(depth), ROBERTA))
    assert FORM.download_bytes(holding(depth), ROBERTA) == FORM.upload_bytes(holding(depth), ROBERTA)
    assert FORM.upload_bytes(holding(depth), ROBERTA) == 4 * n_parameters
    assert (step.n_trained_parameters, step.n_held_parameters) == (n_parameters, n_parameters)


def test_flop_are_two_matrices_more_in_each_layer() -> None:
    none, one, two, three = (step_of(ROBERTA, FORM.work(holding(depth), ROBERTA)) for depth in range(4))
    product = 2 * B * S * H * WIDTH
    assert two.forward_flop - none.forward_flop == 2 * 2 * product
    # A layer above the lowest: its frozen matrices, four products of attention, and each adapter's matrix twice.
    frozen = 24 * B * S * H**2 + 4 * 2 * B * S**2 * H
    assert three.backward_flop - two.backward_flop == frozen + 4 * product
    # The lowest: the adapter alone, whose input needs no gradient.
    head = 2 * B * (H * H + H + 2 * H)  # the head's input needs a gradient, as it does not at depth 0
    assert one.backward_flop - none.backward_flop == head + 3 * product


def test_memory_is_what_the_adapter_reads_and_both_sides_of_its_activation() -> None:
    one, two = (step_of(ROBERTA, FORM.work(holding(depth), ROBERTA)).memory().activations_bytes for depth in (1, 2))
    # Of a frozen layer: query, key, value, softmax, both norms' inputs and statistics, GELU's input.
    frozen = 3 * H + 12 * S + 2 * H + 4 + M
    assert two - one == 4 * B * S * (frozen + H + 2 * WIDTH)


def test_an_impossible_width_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be a whole number of at least 1, got 0"):
        BottleneckForm(width=0).check_model(ROBERTA)


def test_a_device_may_hold_the_first_units_alone_and_pays_for_these() -> None:
    wide, narrow = BottleneckForm(width=5), BottleneckForm(width=2)
    model = tiny_model(n_layers=3)
    common = {"device_id": 0, "n_steps": 1, "batch_size": 2, "learning_rate": 0.1, "depth": 2}
    held, whole = BottleneckAssignment(**common, width=2), LayerwiseAssignment(**common)  # type: ignore[arg-type]
    state = tiny_state(wide, model, Seeds(0))
    payload = wide.project(state, held)

    assert np.array_equal(payload["layers.2.mlp_down.up_weight"], state["layers.2.mlp_down.up_weight"][:, :2])
    assert np.array_equal(payload["layers.1.mlp_down.down_bias"], state["layers.1.mlp_down.down_bias"][:2])
    assert payload["layers.1.mlp_down.up_bias"].shape == (16,)
    assert wide.work(held, model) == narrow.work(whole, model)
    assert wide.download_bytes(held, model) == narrow.download_bytes(whole, model) == wide.upload_bytes(held, model)
    back = wide.embed(Update(device_id=0, assignment=held, payload=payload, n_examples=1, metrics={}), state)
    assert back.support["layers.2.mlp_down.down_weight"][:2].all()
    assert not back.support["layers.2.mlp_down.down_weight"][2:].any()
    assert "layers.2.mlp_down.up_bias" not in back.support
    with pytest.raises(ValueError, match="between 1 and the server's 5, got 6"):
        wide.check(replace(held, width=6), model)
