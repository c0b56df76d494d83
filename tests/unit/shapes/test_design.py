"""Matrices that a model stores as one are one to whoever puts adapters on them."""

from typing import Any

import pytest

from emulator.errors import ConfigError
from emulator.forms.base import AdapterForm
from emulator.forms.cut_lora import CutLoraForm
from emulator.forms.diagonal import DiagonalLoraForm
from emulator.forms.ia3 import Ia3Form
from emulator.forms.lora import LoraAssignment, LoraForm
from emulator.forms.pruned_lora import PrunedLoraForm
from emulator.forms.residual import ResidualLoraForm
from emulator.forms.sparse_start import SparseStartLoraForm
from emulator.seeds import Seeds
from emulator.shapes.catalog import model_spec_from_config
from emulator.shapes.design import as_stored
from emulator.shapes.spec import ModelSpec
from tests.unit.shapes.test_model_catalog import CONFIGS

APART = ("query", "key", "value", "attention_output", "mlp_up", "mlp_down")


def spec(family: str, **changed: Any) -> ModelSpec:
    config = {**CONFIGS[family], **changed}
    return model_spec_from_config(config, name=f"a {family}", n_labels=5, seq_len=32, head="output")


def lora(ranks: tuple[int, ...] = (4, 4, 4), depth: int = 3) -> LoraAssignment:
    return LoraAssignment(device_id=0, n_steps=1, batch_size=2, learning_rate=0.1, ranks=ranks, depth=depth)


def test_parts_of_a_matrix_are_named_once_by_the_whole() -> None:
    stored = ("query_key_value", "mlp_up")
    assert as_stored(("query", "mlp_up", "value"), stored) == ("query_key_value", "mlp_up")
    assert as_stored(("query", "value"), APART) == ("query", "value")
    assert as_stored(("query_key_value",), stored) == ("query_key_value",)


def test_families_store_what_they_store() -> None:
    assert spec("bert").matrices == APART
    assert spec("gpt2").matrices == ("query_key_value", "attention_output", "mlp_up", "mlp_down")
    assert spec("phi3").matrices == ("query_key_value", "attention_output", "mlp_gate_up", "mlp_down")


def test_a_matrix_stored_as_one_is_as_wide_as_its_parts() -> None:
    # Phi-3 with 4 heads of 12 and 2 of keys and values: 48 + 2 x 24; gate and up of 96 each
    phi3 = spec("phi3")
    assert phi3.matrix("query_key_value").out_features == 96
    assert phi3.matrix("mlp_gate_up").out_features == 192
    assert not phi3.matrix("query_key_value").has_bias
    assert spec("gpt2").matrix("query_key_value").has_bias


def test_lora_on_query_and_value_is_one_adapter_on_the_matrix_that_has_both() -> None:
    form, model = LoraForm(ranks=(4, 4, 4)), spec("gpt2")
    form.check_model(model)
    state = form.initial(model, Seeds(0))
    assert {name.split(".")[2] for name in state} == {"query_key_value"}
    assert state["layers.0.query_key_value.lora_B"].shape == (3 * 48, 4)
    assert set(form.project(state, lora())) == set(state)
    # 4 bytes for each of 4 ranks of A and B in 3 layers, and the head's 5 x 48
    assert form.download_bytes(lora(), model) == 4 * (3 * 4 * (48 + 3 * 48) + 5 * 48)
    assert form.work(lora(), model).adapters.places == ("query_key_value",)


def test_what_is_trained_apart_can_be_priced_as_one() -> None:
    form = LoraForm(ranks=(4, 4, 4))
    for model in (spec("llama"), spec("phi3")):
        form.check_model(model)
    assert form.work(lora(), spec("llama")).adapters.places == ("query", "value")
    assert form.work(lora(), spec("phi3")).adapters.places == ("query_key_value",)


@pytest.mark.parametrize(
    "form",
    [
        DiagonalLoraForm(rank=4),
        ResidualLoraForm(ranks=(4, 4, 4)),
        SparseStartLoraForm(ranks=(4, 4, 4)),
        Ia3Form(),
    ],
    ids=lambda form: type(form).__name__,
)
def test_forms_that_need_matrices_by_themselves_say_so(form: AdapterForm) -> None:
    form.check_model(spec("llama"))
    with pytest.raises(ValueError, match=r"a phi3 stores query, key, value as one matrix; give targets = "):
        form.check_model(spec("phi3"))


def test_some_of_them_take_the_one_matrix() -> None:
    DiagonalLoraForm(rank=4, targets=("query_key_value",)).check_model(spec("phi3"))
    with pytest.raises(ValueError, match=r"a target must be one of the model's query, .*, got 'query_key_value'"):
        DiagonalLoraForm(rank=4, targets=("query_key_value",)).check_model(spec("llama"))


@pytest.mark.parametrize("family", ["gpt2", "phi3", "modernbert", "mpnet", "deberta-v2"])
def test_heads_are_not_cut_out_of_layers_that_need_them(family: str) -> None:
    with pytest.raises(ValueError, match=f"heads cannot be cut out of a {family}, whose layers compute attention"):
        PrunedLoraForm(ranks=(4, 4, 4)).check_model(spec(family))


def test_layers_that_share_weights_are_one_layer_computed_in_turn() -> None:
    whole, groups = spec("albert"), spec("albert in groups")
    assert (whole.n_layers, whole.layer_design.n_passes) == (1, 3)
    assert (groups.n_layers, groups.layer_design.n_passes) == (3, 2)


def test_a_model_of_one_layer_cannot_be_cut() -> None:
    with pytest.raises(ValueError, match=r"a albert cannot be cut: all its layers share one set of weights"):
        CutLoraForm(ranks=(4,), cut=1).check_model(spec("albert"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num_hidden_groups": 2}, "num_hidden_layers a multiple of num_hidden_groups, got 3 layers in 2 groups"),
        ({"num_hidden_groups": 0}, "num_hidden_layers a multiple of num_hidden_groups, got 3 layers in 0 groups"),
        ({"inner_group_num": 2}, "inner_group_num 1, got 2"),
    ],
)
def test_layers_that_are_shared_in_other_ways_are_refused(changed: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        spec("albert", **changed)
