"""An exported adapter beside the host that trained it: both must give the same logits."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from emulator.forms.base import AdapterForm
from emulator.learning.data.batches import make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.records import Arrays
from tests.unit.learning.test_stacked_training import SETTINGS
from tests.unit.learning.tiny_models import N_LABELS


def reloaded(base: Path, adapter: Path) -> Any:
    """As a user does it who has never heard of jetbed."""
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=N_LABELS)
    model.config.pad_token_id = 0
    return PeftModel.from_pretrained(model, adapter).eval()


def host_and_reloaded_logits(
    content: HostContent, form: AdapterForm, state: Arrays, folder: Path
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the first twelve held-out rows, by a host that has ``state``, and by ``folder/adapter`` on
    ``folder/base``."""
    host = DeviceHost(content, SETTINGS)
    host.attach(form).load([state], assignments=None)
    batch = make_batch(np.arange(12), content.test, "cpu")
    with torch.no_grad():
        ours = host.logits(batch, content.test)
        theirs = reloaded(folder / "base", folder / "adapter")(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask.long()
        ).logits
    return ours, theirs
