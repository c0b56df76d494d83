"""Evaluation adds up over shards, and hosts are interchangeable."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emulator.backends.content import numeric_settings
from emulator.backends.stacks import evaluation_shards
from emulator.config import load_config
from emulator.errors import ConfigError
from emulator.forms.lora import LoraForm
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.export import to_peft
from emulator.learning.settings import NumericSettings
from tests.unit.learning.test_stacked_training import FORM, SETTINGS, TASK, jobs, server_state
from tests.unit.learning.tiny_models import tiny_content


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return tiny_content("roberta-prelayernorm", tmp_path_factory.mktemp("model"))


def test_shards_add_up_to_peft_on_the_whole_data(content: HostContent) -> None:
    state = server_state(content, FORM)
    host = DeviceHost(content, NumericSettings(run_seed=0, eval_batch_size=7, weight_decay=0.01))
    shards = [host.evaluate(FORM, state, rows) for rows in evaluation_shards(50, 20)]
    data = content.test
    ids = torch.from_numpy(data.input_ids.astype(np.int64))
    mask = torch.from_numpy(np.arange(ids.shape[1]) < data.lengths[:, None])
    with torch.no_grad():
        logits = to_peft(content.model, state, FORM.scaling).eval()(input_ids=ids, attention_mask=mask).logits
    labels = torch.from_numpy(data.labels)
    assert sum(shard.n for shard in shards) == 50
    assert sum(shard.n_correct for shard in shards) == int((logits.argmax(1) == labels).sum())
    loss = float(F.cross_entropy(logits, labels, reduction="sum"))
    assert sum(shard.loss_sum for shard in shards) == pytest.approx(loss, rel=1e-5)


def test_what_a_host_did_before_leaves_no_trace(content: HostContent) -> None:
    state = server_state(content, FORM)
    fresh, used = DeviceHost(content, SETTINGS), DeviceHost(content, SETTINGS)
    other_form = LoraForm(ranks=(2, 2, 2), targets=("key",), scaling=1.0)
    used.train(TASK, other_form, jobs(server_state(content, other_form), ranks=[(2, 2, 2)] * 2))
    used.evaluate(FORM, state, range(30))
    for ours, theirs in zip(*(host.train(TASK, FORM, jobs(state)) for host in (fresh, used)), strict=True):
        assert all(np.array_equal(ours.payload[name], theirs.payload[name]) for name in ours.payload)


def test_bfloat16_stays_near_float32(content: HostContent) -> None:
    state = server_state(content, FORM)
    float32 = NumericSettings(run_seed=0, weight_decay=0.01)
    settings = [float32, replace(float32, precision="bfloat16")]
    exact, rough = (DeviceHost(content, setting).evaluate(FORM, state, range(50)) for setting in settings)
    assert rough.loss_sum == pytest.approx(exact.loss_sum, rel=0.05)
    assert DeviceHost(content, settings[1]).train(TASK, FORM, jobs(state))[0].metrics["train_loss"] > 0


def test_the_arithmetic_of_a_gpu_is_refused_on_a_cpu(content: HostContent) -> None:
    with pytest.raises(ConfigError, match=r"'tf32' is arithmetic of GPUs.*give float32 or bfloat16"):
        DeviceHost(content, replace(SETTINGS, precision="tf32"))
    without = load_config(None, [("training.precision", "tf32"), ("backend.gpus_per_host", 0.0)])
    with pytest.raises(ConfigError, match="'tf32' is arithmetic of GPUs"):
        numeric_settings(without)
    within = load_config(None, [("training.precision", "tf32"), ("backend.gpus_per_host", 1.0)])
    assert numeric_settings(within).precision == "tf32"
