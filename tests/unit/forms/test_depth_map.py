"""A priced model that is deeper than the trained one is paid for as if the upper layers had been trained in it."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from emulator.config import load_config, parse_setting
from emulator.errors import ConfigError
from emulator.forms.base import AdapterForm
from emulator.forms.cut_lora import CutLoraForm
from emulator.forms.gated_lora import GatedLoraForm
from emulator.forms.ia3 import Ia3Form
from emulator.forms.layerwise import LayerwiseAssignment
from emulator.forms.lora import LoraAssignment, LoraForm
from emulator.records import Assignment
from emulator.running.compose import check_settings
from emulator.running.inputs import with_depth_of
from emulator.shapes.catalog import model_spec
from emulator.shapes.spec import ModelSpec
from emulator.testing import tiny_model

PROPORTIONAL = load_config(None, [parse_setting("model.depth_map=proportional")])
SETTINGS: dict[str, Any] = {"device_id": 0, "n_steps": 5, "batch_size": 8, "learning_rate": 0.1}


def roberta() -> ModelSpec:
    return model_spec("roberta-base", n_labels=2, seq_len=128, head="output")


def minilm() -> ModelSpec:
    """Wang et al. 2020, arXiv 2002.10957: 6 layers of 384."""
    return replace(roberta(), name="minilm", n_layers=6, hidden_size=384, head_size=32, intermediate_size=1536)


def lora(ranks: tuple[int, ...], depth: int, quantized_layers: int = 0) -> LoraAssignment:
    return LoraAssignment(**SETTINGS, ranks=ranks, depth=depth, quantized_layers=quantized_layers)


def layerwise(depth: int) -> LayerwiseAssignment:
    return LayerwiseAssignment(**SETTINGS, depth=depth)


def test_six_layers_of_minilm_pay_for_the_twelve_of_roberta() -> None:
    model = with_depth_of(minilm(), roberta(), PROPORTIONAL)
    form = LoraForm(ranks=(8,) * 6)
    assignment = lora((8,) * 6, depth=2)

    assert (model.n_layers, model.n_priced_layers) == (6, 12)
    assert model.n_parameters == roberta().n_parameters
    # The upper 4 layers come back: rank 8, A and B of query and value, 768 wide; and the head's output, 2 · 768 + 2.
    assert form.upload_bytes(assignment, model) == 4 * (4 * 8 * 2 * (768 + 768) + 2 * 769)
    assert form.download_bytes(assignment, model) == 4 * (12 * 8 * 2 * (768 + 768) + 2 * 769)
    work = form.work(assignment, model)
    assert (work.forward_layers, work.backward_layers) == (12, 4)


@pytest.mark.parametrize(
    ("n_trained", "n_priced", "priced_depths"),
    [
        (6, 12, [0, 2, 4, 6, 8, 10, 12]),
        (4, 4, [0, 1, 2, 3, 4]),
        (3, 7, [0, 2, 5, 7]),  # 7/3 = 2.33, 14/3 = 4.67
        (4, 6, [0, 2, 3, 5, 6]),  # 1.5 and 4.5 are halves
    ],
)
def test_a_depth_stands_for_its_share_of_the_priced_layers(
    n_trained: int, n_priced: int, priced_depths: list[int]
) -> None:
    model = with_depth_of(tiny_model(n_trained), tiny_model(n_priced), PROPORTIONAL)

    assert [model.priced_depth(depth) for depth in range(n_trained + 1)] == priced_depths
    # Layers are numbered from the input: the one nearest to the output stands for as many as depth 1 does.
    stands_for = model.by_priced_layer(range(n_trained))
    assert [stands_for.count(n_trained - depth) for depth in range(1, n_trained + 1)] == [
        after - before for before, after in pairwise(priced_depths)
    ]
    assert list(stands_for) == sorted(stands_for)


CASES: list[tuple[AdapterForm, AdapterForm, Assignment, Assignment]] = [
    (
        LoraForm(ranks=(1, 2, 3)),
        LoraForm(ranks=(1, 1, 2, 2, 3, 3)),
        lora((0, 2, 1), 2, quantized_layers=1),
        lora((0, 0, 2, 2, 1, 1), 4, quantized_layers=2),
    ),
    (
        LoraForm(ranks=(1, 2, 3), trains_a=False),
        LoraForm(ranks=(1, 1, 2, 2, 3, 3), trains_a=False),
        lora((1, 2, 3), 1),
        lora((1, 1, 2, 2, 3, 3), 2),
    ),
    (
        GatedLoraForm(ranks=(2, 2, 2)),
        GatedLoraForm(ranks=(2,) * 6),
        lora((2, 2, 2), 3),
        lora((2,) * 6, 6),
    ),
    (Ia3Form(), Ia3Form(), layerwise(2), layerwise(4)),
]


@pytest.mark.parametrize(("form", "deep_form", "assignment", "deep"), CASES, ids=["lora", "ffa", "gated", "ia3"])
def test_costs_are_those_of_a_deep_model_that_is_trained_itself(
    form: AdapterForm, deep_form: AdapterForm, assignment: Assignment, deep: Assignment
) -> None:
    model = with_depth_of(tiny_model(3), tiny_model(6), PROPORTIONAL)

    assert form.work(assignment, model) == deep_form.work(deep, tiny_model(6))
    for count in ("download_bytes", "upload_bytes", "extra_download_bytes", "extra_upload_bytes"):
        assert getattr(form, count)(assignment, model) == getattr(deep_form, count)(deep, tiny_model(6))


@pytest.mark.parametrize(("form", "deep_form", "assignment", "deep"), CASES, ids=["lora", "ffa", "gated", "ia3"])
def test_what_is_trained_goes_by_the_trained_layers(
    form: AdapterForm, deep_form: AdapterForm, assignment: Assignment, deep: Assignment
) -> None:
    model = with_depth_of(tiny_model(3), tiny_model(6), PROPORTIONAL)

    trained = [form.is_trained(f"layers.{layer}.query.lora_B", assignment, model) for layer in range(3)]
    assert trained == [layer >= 3 - assignment.backward_layers for layer in range(3)]


def test_without_the_setting_layers_must_agree() -> None:
    plain = load_config(None, [])
    with pytest.raises(
        ConfigError, match=r"12 layers but the trained model has 6; .* \(model.depth_map = 'proportional'\), got"
    ):
        with_depth_of(minilm(), roberta(), plain)
    with pytest.raises(ConfigError, match=r"6 layers but the trained model has 12; .* or model.price = 'trained', got"):
        with_depth_of(roberta(), minilm(), plain)


def test_a_shallower_priced_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least the 12 layers of the trained model; .* got 'minilm' with 6"):
        with_depth_of(roberta(), minilm(), PROPORTIONAL)


@pytest.mark.parametrize("policy", ["fedra", "fedspine", "mergesfl", "flora", "slora", "fedara"])
def test_policies_whose_costs_do_not_map_are_refused_before_anything_is_loaded(policy: str) -> None:
    config = load_config(
        None, [parse_setting(each) for each in ("model.depth_map=proportional", f"policy.path={policy}")]
    )
    with pytest.raises(ConfigError, match=r"model.depth_map: policy policies\..* choose another policy"):
        check_settings(config)


def test_forms_that_cost_by_other_rules_do_not_map() -> None:
    assert LoraForm.maps_depth
    assert not CutLoraForm.maps_depth
