"""Full fine-tuning trains as a plain loop over the model of transformers does, and is exported as that model."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from emulator.forms.full import FullForm
from emulator.forms.layerwise import LayerwiseAssignment
from emulator.learning.attach.full import TrainedWeights
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.parts import own_arrays, parameters_of
from emulator.learning.settings import NumericSettings
from emulator.records import Arrays, Job, LocalOptimizer
from emulator.seeds import Seeds
from emulator.shapes.catalog import causal_spec_from_config, model_spec_from_config
from emulator.shapes.spec import ModelSpec
from tests.unit.learning import test_causal_training
from tests.unit.learning.test_causal_training import labelled
from tests.unit.learning.tiny_decoders import FAMILIES
from tests.unit.learning.tiny_models import CONFIGS, N_LABELS, SEQ_LEN, tiny_content

TASK = "emulator.learning.tasks.local:train_adapter"
SETTINGS = NumericSettings(run_seed=7, weight_decay=0.05)
BY_SGD = replace(SETTINGS, optimizer=LocalOptimizer(name="sgd", momentum=0.9))
FORMS = {"upper": FullForm(depth=2), "layers": FullForm(), "all": FullForm(trains_embeddings=True)}


def classifier_spec(content: HostContent) -> ModelSpec:
    return model_spec_from_config(content.model.config, name="tiny", n_labels=N_LABELS, seq_len=SEQ_LEN, head="output")


def decoder_spec(content: HostContent) -> ModelSpec:
    return causal_spec_from_config(content.model.config, name="tiny", seq_len=64, response_len=8)


def server_state(content: HostContent, form: FullForm, spec: ModelSpec) -> Arrays:
    arrays = own_arrays(content.model, list(form.initial(spec, Seeds(0))))
    return {**arrays, **content.model.head_arrays()}


def job_of(state: Arrays, form: FullForm, n_layers: int, n_steps: int, rate: float) -> Job:
    assignment = LayerwiseAssignment(
        device_id=1, n_steps=n_steps, batch_size=4, learning_rate=rate, depth=form.depth or n_layers
    )
    return Job(device_id=1, round_index=0, inner_round=0, assignment=assignment, state=state)


def of_transformers(content: HostContent, rows: Any) -> dict[str, Any]:
    if content.train.scored is not None:
        return labelled(content, rows)
    batch = make_batch(rows, content.train, "cpu")
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.labels}


def trained_alone(content: HostContent, job: Job, settings: NumericSettings) -> tuple[Mapping[str, Any], list[float]]:
    """The parameters of the model of transformers after a plain loop, and the loss of each step."""
    model: Any = content.model.build().float()
    parameters = dict(model.named_parameters())
    trained = [name for name, _ in parameters_of(content.model, job.state)]
    leaves = [parameters[name] for name in trained]
    for leaf in leaves:
        leaf.data = leaf.data.clone()
        leaf.requires_grad_()
    rate, decay = job.assignment.learning_rate, settings.weight_decay
    model.tie_weights()
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(leaves, lr=rate, weight_decay=decay)
    if settings.optimizer.name == "sgd":
        optimizer = torch.optim.SGD(leaves, lr=rate, momentum=settings.optimizer.momentum, weight_decay=decay)
    losses = []
    for rows in draw_rows(job, content.local_rows(job.device_id), Seeds(settings.run_seed)):
        loss = model(**of_transformers(content, rows)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return {name: parameters[name].detach().numpy() for name in trained}, losses


def check_against_plain_loop(content: HostContent, form: FullForm, spec: ModelSpec) -> None:
    state = server_state(content, form, spec)
    job = job_of(state, form, spec.n_layers, 20, 3e-3)
    [update] = DeviceHost(content, BY_SGD).train(TASK, form, [job])
    expected, losses = trained_alone(content, job, BY_SGD)
    found = dict(parameters_of(content.model, update.payload))
    assert found.keys() == expected.keys()
    assert max(np.abs(found[name] - expected[name]).max() for name in expected) < 1e-5
    before = dict(parameters_of(content.model, state))
    assert max(np.abs(found[name] - before[name]).max() for name in expected) > 1e-3
    assert update.metrics["train_loss"] == pytest.approx(np.mean(losses), abs=1e-5)


@pytest.mark.parametrize(("family", "trained"), [*product(CONFIGS, ("upper", "all")), ("bert", "layers")])
def test_a_classifier_trains_as_in_a_plain_loop(family: str, trained: str, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path)
    check_against_plain_loop(content, FORMS[trained], classifier_spec(content))


@pytest.mark.parametrize(("family", "trained"), [*product(FAMILIES, ("upper", "all")), ("llama-tied", "layers")])
def test_a_language_model_trains_as_in_a_plain_loop(family: str, trained: str, tmp_path: Path) -> None:
    content, _ = test_causal_training.prepared(family, tmp_path)
    check_against_plain_loop(content, FORMS[trained], decoder_spec(content))


def test_with_adamw_the_losses_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    """Keys' biases have no gradient but that of rounding, of which AdamW makes whole steps; the losses do not know."""
    content = tiny_content("bert", tmp_path)
    form, spec = FORMS["all"], classifier_spec(content)
    job = job_of(server_state(content, form, spec), form, 3, 20, 1e-3)
    [update] = DeviceHost(content, SETTINGS).train(TASK, form, [job])
    assert update.metrics["train_loss"] == pytest.approx(np.mean(trained_alone(content, job, SETTINGS)[1]), abs=1e-5)


@pytest.mark.parametrize("family", CONFIGS)
def test_arrays_have_the_sizes_that_follow_from_the_shapes(family: str, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path)
    check_sizes(content, classifier_spec(content))


@pytest.mark.parametrize("family", FAMILIES)
def test_arrays_of_a_decoder_have_the_sizes_that_follow_from_the_shapes(family: str, tmp_path: Path) -> None:
    content, _ = test_causal_training.prepared(family, tmp_path)
    check_sizes(content, decoder_spec(content))


def check_sizes(content: HostContent, spec: ModelSpec) -> None:
    form = FORMS["all"]
    initial = {name: array.size for name, array in form.initial(spec, Seeds(0)).items()}
    found = {name: array.size for name, array in own_arrays(content.model, list(initial)).items()}
    if content.model.config["model_type"] == "modernbert":
        # The norm behind the embeddings, which is that in front of the first layer's attention, counts as the layer's.
        norm = spec.hidden_size
        found["layers.0.others"] += norm
        found["embeddings"] -= norm
    assert found == initial


@pytest.mark.parametrize("family", CONFIGS)
def test_an_exported_classifier_gives_the_hosts_logits_to_the_last_digit(family: str, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path / "base")
    state = changed(server_state(content, FORMS["all"], classifier_spec(content)))
    TrainedWeights.export(content.model, FORMS["all"], state, tmp_path / "model")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    for name, array in parameters_of(content.model, state):
        assert np.array_equal(model.get_parameter(name).detach().numpy(), array)
    host = DeviceHost(content, SETTINGS)
    host.attach(FORMS["all"]).load([state], assignments=None)
    batch = make_batch(np.arange(12), content.test, "cpu")
    with torch.no_grad():
        ours = host.logits(batch, content.test)
        theirs = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask.long()).logits
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exported_language_model_has_the_servers_weights(family: str, tmp_path: Path) -> None:
    content, _ = test_causal_training.prepared(family, tmp_path)
    state = changed(server_state(content, FORMS["all"], decoder_spec(content)))
    TrainedWeights.export(content.model, FORMS["all"], state, tmp_path / "exported")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "exported").eval()
    for name, array in parameters_of(content.model, state):
        assert np.array_equal(model.get_parameter(name).detach().numpy(), array)
    rows = np.arange(len(content.test.lengths))
    shard = DeviceHost(content, SETTINGS).evaluate(FORMS["all"], state, range(len(rows)))
    ids = torch.from_numpy(content.test.input_ids.astype(np.int64))
    mask = torch.from_numpy(np.arange(ids.shape[1]) < content.test.lengths[:, None])
    assert content.test.scored is not None
    labels = ids.masked_fill(~torch.from_numpy(content.test.scored), -100)
    with torch.no_grad():
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    assert shard.loss_sum / shard.n_tokens == pytest.approx(float(loss), rel=1e-5)


def changed(state: Arrays) -> Arrays:
    rng = np.random.default_rng(2)
    return {name: array + rng.normal(0, 0.01, array.shape).astype(np.float32) for name, array in state.items()}


def test_the_model_has_its_own_weights_back_when_another_form_comes(tmp_path: Path) -> None:
    content = tiny_content("roberta", tmp_path)
    host = DeviceHost(content, SETTINGS)
    before = {name: value.clone() for name, value in host.model.state_dict().items()}
    adapters = host.attach(FORMS["all"])
    adapters.load([changed(server_state(content, FORMS["all"], classifier_spec(content)))], assignments=None)
    with torch.no_grad():
        host.logits(make_batch(np.arange(2), content.test, "cpu"), content.test)
    adapters.detach()
    after = host.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_two_devices_do_not_share_a_pass(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path)
    state = server_state(content, FORMS["layers"], classifier_spec(content))
    with pytest.raises(ValueError, match="one device, got 2"):
        DeviceHost(content, SETTINGS).attach(FORMS["layers"]).load([state, state], None)
