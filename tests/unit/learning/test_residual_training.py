"""A residual acts as if the frozen weights had been changed, in training, evaluation and export."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emulator.errors import ConfigError
from emulator.forms.lora import LoraAssignment, LoraForm
from emulator.forms.principal import PrincipalLoraForm
from emulator.forms.residual import ResidualAssignment, ResidualLoraForm, residual_name
from emulator.learning.attach.residual import StackedResidualLora
from emulator.learning.data.batches import make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.records import Arrays, Job
from emulator.seeds import Seeds
from emulator.shapes.catalog import model_spec_from_config
from tests.unit.learning import one_at_a_time
from tests.unit.learning.exported import host_and_reloaded_logits
from tests.unit.learning.test_stacked_training import SETTINGS, TASK, server_state
from tests.unit.learning.tiny_models import APART, N_LABELS, SEQ_LEN, tiny_content

TARGETS = ("query", "value", "mlp_down")
PLAIN = LoraForm(ranks=(3, 3, 3), targets=TARGETS, scaling=1.5)
FORM = ResidualLoraForm(ranks=(3, 3, 3), targets=TARGETS, scaling=1.5)


def residuals(content: HostContent) -> Arrays:
    rng = np.random.default_rng(8)
    return {
        residual_name(*site): rng.normal(0, 0.3, content.model.arrays[f"{path}.weight"].shape).astype(np.float32)
        for site, path in content.model.sites.items()
        if site[1] in TARGETS
    }


def changed(content: HostContent) -> HostContent:
    """The same content with the residuals in its frozen weights."""
    arrays = dict(content.model.arrays)
    for (layer, target), path in content.model.sites.items():
        if target in TARGETS:
            arrays[f"{path}.weight"] = arrays[f"{path}.weight"] + residuals(content)[residual_name(layer, target)]
    return replace(content, model=replace(content.model, arrays=arrays))


def job(device: int, state: Arrays, depth: int) -> Job:
    assignment = ResidualAssignment(
        device_id=device,
        n_steps=4,
        batch_size=4,
        learning_rate=2e-3,
        ranks=(3, 3, 3),
        depth=depth,
        residual_rank=0,
    )
    return Job(device_id=device, round_index=1, inner_round=0, assignment=assignment, state=state)


def as_plain(given: Job) -> Job:
    kept = {name: array for name, array in given.state.items() if not name.endswith("residual")}
    held = given.assignment
    assert isinstance(held, ResidualAssignment)
    settings = {name: getattr(held, name) for name in LoraAssignment.__dataclass_fields__}
    return replace(given, assignment=LoraAssignment(**settings), state=kept)


@pytest.mark.parametrize("family", APART)
def test_training_beside_a_residual_is_training_on_changed_weights(family: str, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path)
    state = {**server_state(content, PLAIN), **residuals(content)}
    work = [job(device, state, depth) for device, depth in enumerate((3, 2, 1))]

    for given, update in zip(work, DeviceHost(content, SETTINGS).train(TASK, FORM, work), strict=True):
        expected, _ = one_at_a_time.train(
            changed(content), PLAIN, as_plain(given), SETTINGS.run_seed, SETTINGS.weight_decay
        )
        assert set(update.payload) == set(expected)
        assert max(np.abs(update.payload[name] - array).max() for name, array in expected.items()) < 1e-5


def test_another_form_finds_the_frozen_weights_unchanged(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path)
    host, fresh = DeviceHost(content, SETTINGS), DeviceHost(content, SETTINGS)
    state = server_state(content, PLAIN)
    host.train(TASK, FORM, [job(0, {**state, **residuals(content)}, 3)])

    assert host.evaluate(PLAIN, state, range(50)) == fresh.evaluate(PLAIN, state, range(50))


@pytest.mark.parametrize("restarts", [False, True])
def test_the_export_holds_residual_and_adapter(restarts: bool, tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path / "base")
    form = replace(FORM, restarts=restarts)
    adapters = content.model.head_arrays() if restarts else server_state(content, PLAIN)
    state = {**adapters, **residuals(content)}
    StackedResidualLora.export(content.model, form, state, tmp_path / "adapter")
    ours, theirs = host_and_reloaded_logits(content, form, state, tmp_path)

    assert torch.allclose(ours, theirs, atol=1e-4)


def test_devices_of_a_stack_cannot_have_different_residuals(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path)
    state = {**server_state(content, PLAIN), **residuals(content)}
    other = {name: array + 1 for name, array in state.items()}

    with pytest.raises(ConfigError, match="devices_stacked must be 1"):
        DeviceHost(content, SETTINGS).train(TASK, FORM, [job(0, state, 3), job(1, other, 3)])


def test_adapters_that_start_as_part_of_the_weights_change_nothing_at_the_start(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path)
    form = PrincipalLoraForm(ranks=(3, 3, 3), targets=TARGETS)
    names = model_spec_from_config(content.model.config, name="tiny", n_labels=N_LABELS, seq_len=SEQ_LEN, head="output")
    arrays = form.fitted(form.initial(names, Seeds(0)), content.model.weights(form.sites_at_start()))
    host = DeviceHost(content, SETTINGS)
    batch = make_batch(np.arange(12), content.test, "cpu")
    logits = []
    for of, state in ((form, arrays), (PLAIN, PLAIN.initial(names, Seeds(0)))):
        host.attach(of).load([{**content.model.head_arrays(), **state}], assignments=None)
        with torch.no_grad():
            logits.append(host.logits(batch, content.test))

    assert torch.allclose(logits[0], logits[1], atol=1e-5)
    assert np.abs(arrays["layers.0.query.lora_B"]).max() > 0.01
