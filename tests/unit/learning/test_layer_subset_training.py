"""A device that has some of the layers trains exactly the network of those layers: plain transformers, list cut."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from emulator.forms.layer_subset import LayerSubsetLoraForm
from emulator.forms.lora import LoraForm
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.export import peft_name, to_peft
from emulator.records import Arrays, Job
from emulator.seeds import Seeds
from tests.unit.learning.test_stacked_training import SETTINGS, TASK, jobs, server_state
from tests.unit.learning.tiny_models import CONFIGS, tiny_content

FORM = LayerSubsetLoraForm(ranks=(3, 3, 3), targets=("query", "value", "mlp_down"))
SUBSETS: list[tuple[int, ...]] = [(3, 3, 3), (3, 0, 0), (0, 0, 3), (3, 0, 3), (0, 3, 0)]


def cut(content: HostContent, payload: Arrays, ranks: tuple[int, ...]) -> tuple[Any, dict[str, nn.Parameter]]:
    """A peft model whose list of layers has only those with a rank, and its trained parameters."""
    model = to_peft(content.model, payload, FORM.scaling).eval()
    model.requires_grad_(False)
    parameters = dict(model.named_parameters())
    leaves = {name: parameters[peft_name(content.model, name)].requires_grad_() for name in payload}
    path = content.model.layer_paths()[0].removesuffix(".0")
    whole = model.base_model.model.get_submodule(path)
    chosen = nn.ModuleList([layer for layer, rank in zip(whole, ranks, strict=True) if rank])
    model.base_model.model.set_submodule(path, chosen)
    if content.model.config["model_type"] == "albert":  # which counts the layers itself
        config = model.base_model.model.config
        config.num_hidden_groups, config.num_hidden_layers = len(chosen), 2 * len(chosen)
    return model, leaves


def alone(content: HostContent, job: Job) -> Arrays:
    ranks = job.assignment.ranks  # type: ignore[attr-defined]
    model, leaves = cut(content, FORM.project(job.state, job.assignment), ranks)
    optimizer = torch.optim.AdamW(leaves.values(), lr=job.assignment.learning_rate, weight_decay=SETTINGS.weight_decay)
    for rows in draw_rows(job, content.local_rows(job.device_id), Seeds(SETTINGS.run_seed)):
        batch = make_batch(rows, content.train, "cpu")
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: leaf.detach().numpy() for name, leaf in leaves.items()}


# The convolution of deberta-v2 stays behind the first layer of the whole model, whichever layers a device has.
@pytest.mark.parametrize("family", [family for family in CONFIGS if family != "deberta-v2"])
def test_devices_with_different_layers_train_as_if_alone(family: str, tmp_path: Any) -> None:
    content = tiny_content(family, tmp_path, n_devices=5)
    state = server_state(content, FORM)
    varying: Any = {"ranks": SUBSETS, "n_steps": [3, 4, 2, 4, 1], "batch_size": [4, 2, 4, 3, 4]}
    work = jobs(state, **varying)
    updates = DeviceHost(content, SETTINGS).train(TASK, FORM, work)
    for job, update in zip(work, updates, strict=True):
        expected = alone(content, job)
        assert set(update.payload) == set(expected)
        assert max(np.abs(update.payload[name] - array).max() for name, array in expected.items()) < 1e-5


@pytest.mark.parametrize(
    "subsets", [[(3, 0, 0), (0, 3, 0)], [(0, 3, 0), (0, 3, 0)]], ids=["nobody has the last", "one"]
)
def test_a_layer_that_nobody_has_is_passed_by(subsets: list[tuple[int, ...]], tmp_path: Any) -> None:
    content = tiny_content("bert", tmp_path)
    work = jobs(server_state(content, FORM), ranks=subsets)
    for job, update in zip(work, DeviceHost(content, SETTINGS).train(TASK, FORM, work), strict=True):
        expected = alone(content, job)
        assert max(np.abs(update.payload[name] - array).max() for name, array in expected.items()) < 1e-5


def test_logits_are_those_of_the_network_of_these_layers(tmp_path: Any) -> None:
    content = tiny_content("roberta", tmp_path)
    state, host = server_state(content, FORM), DeviceHost(content, SETTINGS)
    work = jobs(state, ranks=SUBSETS)
    adapters = host.attach(FORM)
    payloads = [FORM.project(state, job.assignment) for job in work]
    adapters.load(payloads, [job.assignment for job in work])
    batch = make_batch(np.tile(np.arange(6), len(work)), content.test, "cpu")
    with torch.no_grad():
        ours = host.logits(batch, content.test).view(len(work), 6, -1)
        one = make_batch(np.arange(6), content.test, "cpu")
        for logits, payload, ranks in zip(ours, payloads, SUBSETS, strict=True):
            model, _ = cut(content, payload, ranks)
            theirs = model(input_ids=one.input_ids, attention_mask=one.attention_mask).logits
            assert torch.allclose(logits, theirs, atol=1e-5)


def test_evaluation_and_other_forms_use_the_whole_network(tmp_path: Any) -> None:
    content = tiny_content("bert", tmp_path)
    state = server_state(content, FORM)
    plain = LoraForm(ranks=FORM.ranks, targets=FORM.targets)
    host = DeviceHost(content, SETTINGS)
    host.train(TASK, FORM, jobs(state, ranks=SUBSETS[:4]))
    fresh = DeviceHost(content, SETTINGS)
    assert host.evaluate(FORM, state, range(50)) == fresh.evaluate(plain, state, range(50))
    before, after = (one.train(TASK, plain, jobs(state, ranks=[(3, 3, 3)])) for one in (fresh, host))
    assert all(np.array_equal(before[0].payload[name], after[0].payload[name]) for name in before[0].payload)
