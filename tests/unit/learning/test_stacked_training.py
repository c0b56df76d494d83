"""Stacked training agrees with peft and torch.optim, one device at a time."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from emulator.forms.lora import LoraAssignment, LoraForm
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.settings import NumericSettings
from emulator.records import Arrays, Job, LocalOptimizer, Update
from emulator.shapes.design import as_stored
from tests.unit.learning import one_at_a_time
from tests.unit.learning.tiny_models import CONFIGS, tiny_content

TASK = "emulator.learning.tasks.local:train_adapter"
SETTINGS = NumericSettings(run_seed=7, weight_decay=0.05)
FORM = LoraForm(ranks=(4, 4, 4))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return tiny_content("bert", tmp_path_factory.mktemp("bert"))


def server_state(content: HostContent, form: LoraForm) -> Arrays:
    """Random adapters (B not zero, so that every gradient is alive) and the initial head."""
    rng = np.random.default_rng(5)
    state = dict(content.model.head_arrays())
    for layer, rank in enumerate(form.ranks):
        for target in as_stored(form.targets, {target for _, target in content.model.sites}) if rank else ():
            out_features, in_features = content.model.weights([(layer, target)])[layer, target].shape
            for name, shape in (("lora_A", (rank, in_features)), ("lora_B", (out_features, rank))):
                state[f"layers.{layer}.{target}.{name}"] = rng.normal(0, 0.2, shape).astype(np.float32)
    return state


def jobs(state: Arrays, **varying: Sequence[Any]) -> list[Job]:
    """One job per device; each keyword gives one setting's value per device."""
    n_devices = len(next(iter(varying.values()), range(3)))
    usual = {"n_steps": 4, "batch_size": 4, "learning_rate": 2e-3, "ranks": (4, 4, 4), "depth": 3}
    return [
        Job(
            device_id=device,
            round_index=2,
            inner_round=0,
            assignment=LoraAssignment(
                device_id=device, **(usual | {key: values[device] for key, values in varying.items()})
            ),
            state=state,
        )
        for device in range(n_devices)
    ]


def test_a_device_with_two_jobs_of_a_call_has_an_update_for_each(content: HostContent) -> None:
    state = server_state(content, FORM)
    [first] = jobs(state, n_steps=[4])
    second = replace(first, inner_round=1)

    together = DeviceHost(content, SETTINGS).train(TASK, FORM, [second, first])

    assert [update.key for update in together] == [second.key, first.key]
    for update, job in zip(together, (second, first), strict=True):
        [alone] = DeviceHost(content, SETTINGS).train(TASK, FORM, [job])
        for name, array in alone.payload.items():
            assert update.payload[name] == pytest.approx(array, abs=1e-5)
    # They draw other batches, so that what they have learnt differs.
    assert together[0].metrics != together[1].metrics


def largest_difference(content: HostContent, form: LoraForm, work: list[Job], settings: NumericSettings) -> float:
    """Between the stacked updates and the reference's, over all devices and arrays; names must be the same."""
    updates = DeviceHost(content, settings).train(TASK, form, work)
    differences = []
    for job, update in zip(work, updates, strict=True):
        expected, loss = one_at_a_time.train(
            content, form, job, settings.run_seed, settings.weight_decay, settings.optimizer
        )
        assert update.device_id == job.device_id
        assert set(update.payload) == set(expected)
        assert update.metrics["train_loss"] == pytest.approx(loss, abs=1e-5)
        differences += [np.abs(update.payload[name] - array).max() for name, array in expected.items()]
    return float(max(differences))


HETEROGENEITY = {
    "alike": {},
    "depth": {"depth": [3, 1, 2, 0]},
    "ranks": {"ranks": [(4, 4, 4), (1, 2, 3), (4, 1, 2)]},
    "layers without an adapter": {"ranks": [(0, 0, 2), (0, 4, 4), (0, 1, 1)], "depth": [1, 2, 3]},
    "batch sizes": {"batch_size": [4, 1, 7]},
    "steps": {"n_steps": [1, 5, 3]},
    "more steps than examples": {"n_steps": [7, 7, 7], "batch_size": [4, 8, 3]},
    "learning rates": {"learning_rate": [2e-3, 1e-4, 5e-3]},
    "everything": {
        "depth": [1, 3, 2, 3],
        "ranks": [(0, 0, 4), (1, 2, 3), (0, 4, 1), (4, 4, 4)],
        "batch_size": [5, 2, 4, 1],
        "n_steps": [3, 4, 1, 6],
        "learning_rate": [2e-3, 4e-3, 1e-4, 1e-3],
    },
}


OPTIMIZERS = {
    "sgd": LocalOptimizer(name="sgd"),
    "momentum": LocalOptimizer(name="sgd", momentum=0.9),
    "clipped": LocalOptimizer(max_gradient_norm=0.05),
    "clipped sgd": LocalOptimizer(name="sgd", max_gradient_norm=0.05),
    "proximal": LocalOptimizer(proximal_mu=2.0),
    "all": LocalOptimizer(name="sgd", momentum=0.5, max_gradient_norm=0.5, proximal_mu=1.0),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_each_optimizer_is_that_of_torch_for_devices_that_differ(
    content: HostContent, optimizer: LocalOptimizer
) -> None:
    varying = dict(HETEROGENEITY["everything"])
    if optimizer.name == "sgd":
        varying["learning_rate"] = [0.05, 0.02, 0.1, 0.05]  # whose steps are as long as gradients are
    work = jobs(server_state(content, FORM), **varying)
    settings = replace(SETTINGS, optimizer=optimizer)
    assert largest_difference(content, FORM, work, settings) < 1e-5
    # What is asked for must matter, or nothing was compared.
    plain = DeviceHost(content, SETTINGS).train(TASK, FORM, work)[0].payload
    shaped = DeviceHost(content, settings).train(TASK, FORM, work)[0].payload
    assert max(float(np.abs(plain[name] - array).max()) for name, array in shaped.items()) > 1e-4


@pytest.mark.parametrize("varying", HETEROGENEITY.values(), ids=HETEROGENEITY.keys())
def test_devices_that_differ_train_as_if_alone(content: HostContent, varying: dict[str, Sequence[Any]]) -> None:
    work = jobs(server_state(content, FORM), **varying)
    assert largest_difference(content, FORM, work, SETTINGS) < 1e-5


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("head", ["output", "full"])
def test_every_family_trains_as_with_peft(family: str, head: str, tmp_path: Any) -> None:
    content = tiny_content(family, tmp_path, head=head)
    form = LoraForm(ranks=(3, 3, 3), targets=("query", "value", "attention_output", "mlp_up", "mlp_down"))
    work = jobs(server_state(content, form), depth=[3, 2, 3], ranks=[(3, 3, 3), (1, 2, 3), (2, 2, 2)])
    assert largest_difference(content, form, work, SETTINGS) < 1e-5


def by_device(updates: list[Update]) -> dict[int, Arrays]:
    return {update.device_id: update.payload for update in updates}


def test_gradients_do_not_mix(content: HostContent) -> None:
    state = server_state(content, FORM)
    host = DeviceHost(content, SETTINGS)
    together = by_device(host.train(TASK, FORM, jobs(state)))
    changed = dict(state) | {name: array + 1 for name, array in state.items()}
    work = jobs(state)
    work[1] = jobs(changed)[1]
    others = by_device(host.train(TASK, FORM, work))
    assert all(np.array_equal(together[0][name], others[0][name]) for name in together[0])
    assert not np.array_equal(together[1]["layers.0.query.lora_A"], others[1]["layers.0.query.lora_A"])


def test_padded_ranks_stay_exactly_zero(content: HostContent) -> None:
    host = DeviceHost(content, SETTINGS)
    host.train(TASK, FORM, jobs(server_state(content, FORM), ranks=[(4, 4, 4), (1, 1, 1)]))
    adapters = host.attach(FORM)
    n_held_back = 2 * 3 * 3 * (16 + 16)  # 2 targets, 3 layers, 3 missing ranks, 16 inputs and 16 outputs
    assert int((adapters.stack.values[1] == 0).sum()) == n_held_back


def test_adapters_below_the_depth_are_held_and_not_sent_back(content: HostContent) -> None:
    state = server_state(content, FORM)
    shallow, deep = DeviceHost(content, SETTINGS).train(TASK, FORM, jobs(state, depth=[1, 3]))
    assert {name.split(".")[1] for name in shallow.payload if name.startswith("layers.")} == {"2"}
    assert {name.split(".")[1] for name in deep.payload if name.startswith("layers.")} == {"0", "1", "2"}


def test_frozen_weights_never_change(content: HostContent) -> None:
    before = {name: array.copy() for name, array in content.model.arrays.items()}
    DeviceHost(content, SETTINGS).train(TASK, FORM, jobs(server_state(content, FORM)))
    assert all(np.array_equal(array, before[name]) for name, array in content.model.arrays.items())


def test_backward_stops_at_the_lowest_trained_layer(content: HostContent) -> None:
    host = DeviceHost(content, SETTINGS)
    host.train(TASK, FORM, jobs(server_state(content, FORM), depth=[1, 1]))
    wanted = [name for name, module in host.model.named_modules() if getattr(module, "adapter", None) is not None]
    needing = [name for name in wanted if host.model.get_submodule(name).adapter[0].requires_grad]
    assert needing == ["bert.encoder.layer.2.attention.self.query", "bert.encoder.layer.2.attention.self.value"]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(content: HostContent) -> None:
    state = server_state(content, FORM)
    runs = [
        by_device(DeviceHost(content, NumericSettings(run_seed=seed, weight_decay=0.01)).train(TASK, FORM, jobs(state)))
        for seed in (7, 7, 8)
    ]
    assert all(np.array_equal(runs[0][0][name], runs[1][0][name]) for name in runs[0][0])
    assert not np.array_equal(runs[0][0]["layers.0.query.lora_A"], runs[2][0]["layers.0.query.lora_A"])


def test_dropout_is_drawn_from_the_seed_and_leaves_the_global_generator_alone(content: HostContent) -> None:
    state = server_state(content, FORM)
    host = DeviceHost(content, NumericSettings(run_seed=7, dropout=True, weight_decay=0.01))
    before = torch.random.get_rng_state()
    first, second = (by_device(host.train(TASK, FORM, jobs(state))) for _ in range(2))
    plain = DeviceHost(content, NumericSettings(run_seed=7, weight_decay=0.01))
    without = by_device(plain.train(TASK, FORM, jobs(state)))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(np.array_equal(first[0][name], second[0][name]) for name in first[0])
    assert not np.array_equal(first[0]["layers.0.query.lora_A"], without[0]["layers.0.query.lora_A"])


def test_read_only_arrays_are_not_copied(content: HostContent) -> None:
    arrays = content.model.arrays
    for array in arrays.values():
        array.flags.writeable = False
    host = DeviceHost(content, SETTINGS)
    embedding = "bert.embeddings.word_embeddings.weight"
    assert host.model.state_dict()[embedding].data_ptr() == arrays[embedding].ctypes.data
    assert len(host.train(TASK, FORM, jobs(server_state(content, FORM)))) == 3
