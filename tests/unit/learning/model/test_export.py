"""A server state written as a PEFT adapter gives the same logits on top of the published base model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from emulator.forms.lora import LoraForm
from emulator.learning.attach.lora import StackedLora
from emulator.learning.data.batches import make_batch
from emulator.learning.host import DeviceHost
from tests.unit.learning.test_stacked_training import FORM, SETTINGS, server_state
from tests.unit.learning.tiny_models import CONFIGS, N_LABELS, tiny_content


def reloaded(base: Path, adapter: Path) -> Any:
    """As a user does it who has never heard of jetbed."""
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=N_LABELS)
    model.config.pad_token_id = 0
    return PeftModel.from_pretrained(model, adapter).eval()


@pytest.mark.parametrize("head", ["output", "full"])
@pytest.mark.parametrize("family", CONFIGS)
def test_the_exported_adapter_gives_the_hosts_logits(family: str, head: str, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path / "base", head=head)
    form = LoraForm(ranks=(0, 1, 3), targets=("query", "value", "mlp_down"), scaling=1.5)
    state = server_state(content, form)
    StackedLora.export(content.model, form, state, tmp_path / "adapter")
    host = DeviceHost(content, SETTINGS)
    host.attach(form).load([state], assignments=None)
    batch = make_batch(np.arange(12), content.test, "cpu")
    with torch.no_grad():
        ours = host.logits(batch, content.test)
        theirs = reloaded(tmp_path / "base", tmp_path / "adapter")(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask
        ).logits
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_files_are_safetensors_and_name_the_base_model(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path / "base")
    StackedLora.export(content.model, FORM, server_state(content, FORM), tmp_path / "adapter")
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    assert str(tmp_path / "base") in (tmp_path / "adapter" / "adapter_config.json").read_text()


def test_a_state_without_adapters_cannot_be_exported(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path / "base")
    with pytest.raises(ValueError, match="holds no LoRA adapter"):
        StackedLora.export(content.model, FORM, content.model.head_arrays(), tmp_path / "adapter")
