"""A server state written as a PEFT adapter gives the same logits on top of the published base model."""

import json
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification

from emulator.forms.lora import LoraForm
from emulator.learning.attach.lora import StackedLora
from tests.unit.learning.exported import host_and_reloaded_logits
from tests.unit.learning.test_stacked_training import FORM, server_state
from tests.unit.learning.tiny_models import CONFIGS, tiny_content


@pytest.mark.parametrize("head", ["output", "full"])
@pytest.mark.parametrize("family", CONFIGS)
def test_the_exported_adapter_gives_the_hosts_logits(family: str, head: str, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path / "base", head=head)
    form = LoraForm(ranks=(0, 1, 3), targets=("query", "value", "mlp_down"), scaling=1.5)
    state = server_state(content, form)
    StackedLora.export(content.model, form, state, tmp_path / "adapter")
    ours, theirs = host_and_reloaded_logits(content, form, state, tmp_path)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_files_are_safetensors_and_name_the_base_model(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path / "base")
    StackedLora.export(content.model, FORM, server_state(content, FORM), tmp_path / "adapter")
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    assert str(tmp_path / "base") in (tmp_path / "adapter" / "adapter_config.json").read_text()


def test_equal_ranks_need_no_patterns(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path / "base")
    form = LoraForm(ranks=(8, 8, 8), targets=("query", "value"), scaling=2.0)
    StackedLora.export(content.model, form, server_state(content, form), tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert [config[key] for key in ("r", "lora_alpha", "rank_pattern", "alpha_pattern")] == [8, 16, {}, {}]


def test_its_lists_are_in_one_order_whatever_process_writes_them(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path / "base")
    form = LoraForm(ranks=(8, 8, 8), targets=("value", "mlp_down", "query", "key"), scaling=2.0)
    StackedLora.export(content.model, form, server_state(content, form), tmp_path / "adapter")
    modules = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert len(modules) >= 4
    assert modules == sorted(modules)


def test_patterns_say_what_differs_alone(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path / "base")
    form = LoraForm(ranks=(2, 2, 4), targets=("query",), scaling=2.0)
    StackedLora.export(content.model, form, server_state(content, form), tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (2, 4)
    assert (list(config["rank_pattern"].values()), list(config["alpha_pattern"].values())) == ([4], [8])


def test_labels_are_what_a_classifier_is_loaded_with(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path / "base")
    StackedLora.export(content.model, FORM, server_state(content, FORM), tmp_path / "adapter")
    names = json.loads((tmp_path / "adapter" / "labels.json").read_text())
    model = AutoPeftModelForSequenceClassification.from_pretrained(
        tmp_path / "adapter", num_labels=len(names), id2label=dict(enumerate(names))
    )
    assert model.config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    modes = {path.stat().st_mode for path in (tmp_path / "adapter").iterdir()}
    assert len(modes) == 1


def test_a_state_without_adapters_cannot_be_exported(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path / "base")
    with pytest.raises(ValueError, match="holds no LoRA adapter"):
        StackedLora.export(content.model, FORM, content.model.head_arrays(), tmp_path / "adapter")
