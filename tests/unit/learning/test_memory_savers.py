"""Checkpointing and accumulation learn what plain training learns; a base in few bits is what it is restored to."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emulator.forms.lora import LoraForm
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.base_weights import in_precision
from emulator.learning.settings import NumericSettings
from emulator.records import BasePrecision, LocalOptimizer
from tests.unit.learning import test_causal_training as causal
from tests.unit.learning import test_stacked_training as stacked
from tests.unit.learning.tiny_models import tiny_content

FORM, SETTINGS = stacked.FORM, stacked.SETTINGS
SAVERS: dict[str, dict[str, Any]] = {
    "checkpointing": {"checkpointing": True},
    "two passes": {"accumulation_steps": 2},
    "more passes than examples": {"accumulation_steps": 64},
    "both": {"checkpointing": True, "accumulation_steps": 3},
}
EVERYTHING = stacked.HETEROGENEITY["everything"]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return tiny_content("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return causal.prepared("llama", tmp_path_factory.mktemp("llama"))[0]


@pytest.mark.parametrize("savers", SAVERS.values(), ids=SAVERS.keys())
def test_devices_that_differ_train_as_with_peft_in_one_plain_pass(content: HostContent, savers: dict[str, Any]) -> None:
    work = stacked.jobs(stacked.server_state(content, FORM), **EVERYTHING)
    assert stacked.largest_difference(content, FORM, work, replace(SETTINGS, **savers)) < 1e-5


@pytest.mark.parametrize("family", ["llama", "distilbert"])
@pytest.mark.parametrize("savers", SAVERS.values(), ids=SAVERS.keys())
def test_so_do_other_families(family: str, savers: dict[str, Any], tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path)
    work = stacked.jobs(stacked.server_state(content, FORM), batch_size=[4, 1, 7])
    assert stacked.largest_difference(content, FORM, work, replace(SETTINGS, **savers)) < 1e-5


@pytest.mark.parametrize("savers", SAVERS.values(), ids=SAVERS.keys())
def test_the_loss_of_a_causal_model_is_the_mean_over_all_tokens_of_a_step_in_however_many_passes(
    decoder: HostContent, savers: dict[str, Any]
) -> None:
    """Responses differ in length, so that a mean of the means of passes would be another one."""
    work = causal.jobs(causal.server_state(decoder), batch_size=[4, 5, 2])
    updates = DeviceHost(decoder, replace(causal.SETTINGS, **savers)).train(causal.TASK, causal.FORM, work)
    for job, update in zip(work, updates, strict=True):
        expected, losses = causal.trained_alone(decoder, job)
        assert update.metrics["train_loss"] == pytest.approx(np.mean(losses), abs=1e-5)
        assert max(np.abs(update.payload[name] - array).max() for name, array in expected.items()) < 1e-5


@pytest.mark.parametrize("savers", SAVERS.values(), ids=SAVERS.keys())
@pytest.mark.parametrize("optimizer", stacked.OPTIMIZERS.values(), ids=stacked.OPTIMIZERS.keys())
def test_clipping_and_the_proximal_term_see_the_gradient_of_the_whole_step(
    content: HostContent, optimizer: LocalOptimizer, savers: dict[str, Any]
) -> None:
    work = stacked.jobs(stacked.server_state(content, FORM), batch_size=[4, 1, 7])
    assert stacked.largest_difference(content, FORM, work, replace(SETTINGS, optimizer=optimizer, **savers)) < 1e-5


def test_dropout_is_drawn_again_as_it_was_when_a_layer_is_computed_again(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path)
    work = stacked.jobs(stacked.server_state(content, FORM))
    plain, checkpointed = (
        DeviceHost(content, replace(SETTINGS, dropout=True, checkpointing=on)).train(stacked.TASK, FORM, work)
        for on in (False, True)
    )
    dry = DeviceHost(content, SETTINGS).train(stacked.TASK, FORM, work)
    for one, other, without in zip(plain, checkpointed, dry, strict=True):
        assert max(np.abs(one.payload[name] - other.payload[name]).max() for name in one.payload) < 1e-5
        assert one.metrics["train_loss"] != pytest.approx(without.metrics["train_loss"], abs=1e-5)


def test_checkpointing_keeps_the_inputs_of_layers_and_little_else(tmp_path: Path) -> None:
    content = tiny_content("llama", tmp_path, full=True)
    form = LoraForm(ranks=(4, 4, 4), targets=("query", "value", "mlp_up"))
    work = stacked.jobs(stacked.server_state(content, form), batch_size=[8, 8])
    kept_bytes = {}
    for on in (False, True):
        host = DeviceHost(content, replace(SETTINGS, checkpointing=on))
        kept_bytes[on] = kept(host, lambda host=host: host.train(stacked.TASK, form, work[:1]))
    inputs_bytes = 4 * 3 * 8 * 16 * 16  # 3 layers, 8 examples of 16 tokens, hidden size 16
    assert inputs_bytes < kept_bytes[True] < 3 * inputs_bytes  # the last norm and the head are beside
    assert kept_bytes[False] > 4 * kept_bytes[True]


def kept(host: DeviceHost, train: Callable[[], object]) -> int:
    """Bytes of all that autograd keeps of the first step, but for what the model and the devices hold."""
    owned = {tensor.untyped_storage().data_ptr() for tensor in (*host.model.parameters(), *host.model.buffers())}
    found: dict[int, torch.Tensor] = {}

    class FirstStep(Exception):
        pass

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in owned:
            found[address] = tensor
        return tensor

    def end(step: int) -> None:
        raise FirstStep

    host.on_step = end
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), pytest.raises(FirstStep):
        train()
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


@pytest.mark.parametrize("precision", ["bfloat16", "int8", "nf4"])
def test_a_base_in_few_bits_trains_as_peft_does_on_the_weights_that_it_is_restored_to(
    content: HostContent, precision: BasePrecision
) -> None:
    low = replace(content, model=in_precision(content.model, precision))
    work = stacked.jobs(stacked.server_state(content, FORM), **EVERYTHING)
    assert stacked.largest_difference(low, FORM, work, SETTINGS) < 1e-5
    # It must matter, or nothing was compared.
    updates = [DeviceHost(each, SETTINGS).train(stacked.TASK, FORM, work)[0] for each in (content, low)]
    assert updates[0].metrics["train_loss"] != updates[1].metrics["train_loss"]


def test_moments_of_eight_bits_do_not_depend_on_who_shares_the_stack(content: HostContent) -> None:
    settings = NumericSettings(run_seed=7, weight_decay=0.05, optimizer=LocalOptimizer(name="adamw_8bit"))
    work = stacked.jobs(stacked.server_state(content, FORM), **EVERYTHING)
    together = DeviceHost(content, settings).train(stacked.TASK, FORM, work)
    for job, update in zip(work, together, strict=True):
        [alone] = DeviceHost(content, settings).train(stacked.TASK, FORM, [job])
        # A sum in another order may fall on the other side between two codes.
        off = np.concatenate([np.abs(alone.payload[name] - array).ravel() for name, array in update.payload.items()])
        assert np.quantile(off, 0.99) < 1e-5
    whole = DeviceHost(content, SETTINGS).train(stacked.TASK, FORM, work)
    assert max(float(np.abs(whole[1].payload[name] - together[1].payload[name]).max()) for name in whole[1].payload) > 0
