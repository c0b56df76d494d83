"""FedPEFT: every array of the chosen form is averaged by examples."""

from typing import Literal

import numpy as np
import pytest

from emulator.errors import ConfigError
from emulator.forms.bottleneck import BottleneckForm
from emulator.forms.ia3 import Ia3Form
from emulator.forms.prefix_tuning import PrefixTuningForm
from emulator.forms.prompt_tuning import PromptTuningForm
from emulator.policy.catalog import build_policy
from emulator.testing import small_testbed, tiny_model
from policies.fedpeft import FedPeft


@pytest.mark.parametrize("adapter", ["bottleneck", "ia3", "prompt", "prefix"])
def test_every_array_is_the_mean_weighted_by_examples(adapter: str) -> None:
    played = small_testbed(build_policy("fedpeft", {"adapter": adapter}), n_devices=3, n_layers=2).play_round()
    total = sum(update.n_examples for update in played.updates)

    assert set(played.updates[0].payload) == set(played.before)
    for name in played.before:
        expected = sum(update.n_examples / total * update.payload[name] for update in played.updates)
        assert np.allclose(played.after[name], expected, atol=1e-6)


def test_the_width_is_the_hidden_size_over_the_reduction() -> None:
    assert FedPeft(reduction=4).form(tiny_model(2)) == BottleneckForm(width=4)  # 16 wide
    assert FedPeft(reduction=32).form(tiny_model(2)) == BottleneckForm(width=1)
    assert FedPeft(adapter="ia3").form(tiny_model(2)) == Ia3Form()


@pytest.mark.parametrize(("adapter", "n_layer"), [("bottleneck", 2 * 16 * 2 + 2 + 16), ("ia3", 16 + 16 + 32)])
def test_layers_below_the_depth_are_neither_sent_nor_trained(adapter: str, n_layer: int) -> None:
    policy = build_policy("fedpeft", {"adapter": adapter, "depth": 2, "reduction": 8})
    small = small_testbed(policy, n_devices=3, n_layers=3)
    played = small.play_round()
    model, assignment = small.testbed.model, played.plan.assignments[0]

    for direction in ("download_bytes", "upload_bytes"):
        assert getattr(small.testbed.form, direction)(assignment, model) == 4 * (2 * n_layer + model.n_head_parameters)
    assert all(np.array_equal(played.after[name], played.before[name]) for name in played.before if "layers.0" in name)


def test_an_adapter_that_is_not_known_and_a_depth_beyond_the_model_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"policy\.adapter"):
        build_policy("fedpeft", {"adapter": "p_tuning"})
    with pytest.raises(ValueError, match="at most the model's 2 layers"):
        FedPeft(depth=3).form(tiny_model(2))


def test_virtual_tokens_are_as_many_as_the_library_has_or_as_is_asked_for() -> None:
    assert FedPeft(adapter="prompt").form(tiny_model(2)) == PromptTuningForm(n_virtual_tokens=20)
    assert FedPeft(adapter="prefix").form(tiny_model(2)) == PrefixTuningForm(n_virtual_tokens=30)
    asked = FedPeft(adapter="prefix", n_virtual_tokens=4, projection_size=6)
    assert asked.form(tiny_model(2)) == PrefixTuningForm(n_virtual_tokens=4, projection_size=6)


@pytest.mark.parametrize("adapter", ["prompt", "prefix"])
def test_depth_does_not_apply_to_virtual_tokens(adapter: Literal["prompt", "prefix"]) -> None:
    with pytest.raises(ValueError, match=f"depth does not apply to a {adapter}, which acts from the lowest layer on"):
        FedPeft(adapter=adapter, depth=1).form(tiny_model(2))


def test_settings_of_another_form_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_virtual_tokens is for a prompt or a prefix, got 4"):
        build_policy("fedpeft", {"adapter": "ia3", "n_virtual_tokens": 4})
    with pytest.raises(ConfigError, match="projection_size is for a prefix, got 4"):
        build_policy("fedpeft", {"adapter": "prompt", "projection_size": 4})
