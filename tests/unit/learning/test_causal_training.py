"""Causal language models in a stack agree with transformers, peft and torch.optim.AdamW, one device at a time."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from emulator.errors import DataError
from emulator.forms.lora import LoraAssignment, LoraForm
from emulator.learning.data.batches import draw_rows
from emulator.learning.data.source import DataSource
from emulator.learning.data.spread import Partition
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.decoder import is_fast_decoder
from emulator.learning.model.export import peft_name, save_peft_adapter, to_peft
from emulator.learning.model.places import locate
from emulator.learning.objective import causal
from emulator.learning.objective.causal import CausalLearning
from emulator.learning.prepare import prepare
from emulator.learning.settings import NumericSettings
from emulator.objective.causal import Causal
from emulator.records import Arrays, Job, Prepared
from emulator.seeds import Seeds
from emulator.shapes.causal import CausalSpec
from emulator.shapes.design import as_stored
from tests.unit.learning.tiny_decoders import FAMILIES, OTHERS, save_tiny_decoder, write_rows

TASK = "emulator.learning.tasks.local:train_adapter"
SETTINGS = NumericSettings(run_seed=7, weight_decay=0.05)
FORM = LoraForm(ranks=(4, 4, 4), targets=("query", "value", "mlp_up"))


def prepared(family: str, folder: Path, objective: Causal | None = None, **data: Any) -> tuple[HostContent, Prepared]:
    """A tiny decoder with 36 rows for three devices, and 4 held out."""
    columns = data or {"prompt_column": "prompt", "response_column": "response"}
    source = DataSource(source=write_rows(folder / "rows.jsonl"), **columns)
    return prepare(
        train_model=save_tiny_decoder(family, folder / "model"),
        data=source,
        seq_len=64,
        n_devices=3,
        partition=Partition(),
        run_seed=7,
        objective=objective or Causal(),
    )


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return prepared("llama", tmp_path_factory.mktemp("llama"))[0]


def server_state(content: HostContent, form: LoraForm = FORM) -> Arrays:
    """Random adapters, B not zero."""
    rng, state = np.random.default_rng(5), {}
    targets = as_stored(form.targets, {target for _, target in content.model.sites})
    for (layer, target), weight in content.model.weights(list(content.model.sites)).items():
        if target in targets:
            out_features, in_features = weight.shape
            for name, shape in (("lora_A", (4, in_features)), ("lora_B", (out_features, 4))):
                state[f"layers.{layer}.{target}.{name}"] = rng.normal(0, 0.2, shape).astype(np.float32)
    return state


def jobs(state: Arrays, **varying: Sequence[Any]) -> list[Job]:
    usual = {"n_steps": 4, "batch_size": 4, "learning_rate": 2e-3, "ranks": (4, 4, 4), "depth": 3}
    n_devices = len(next(iter(varying.values()), range(3)))
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


def labelled(content: HostContent, rows: Any) -> dict[str, torch.Tensor]:
    """A batch as transformers takes it: whole rows, with labels of -100 where nothing is learnt."""
    data = content.train
    assert data.scored is not None
    ids = torch.from_numpy(data.input_ids[rows].astype(np.int64))
    mask = torch.from_numpy(np.arange(ids.shape[1]) < data.lengths[rows][:, None])
    labels = ids.masked_fill(~torch.from_numpy(data.scored[rows]), -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def trained_alone(content: HostContent, job: Job) -> tuple[Arrays, list[float]]:
    """What peft and torch.optim.AdamW make of a device's job in the most obvious way, and the loss of each step."""
    payload = FORM.project(job.state, job.assignment)
    model = to_peft(content.model, payload, FORM.scaling).eval()
    parameters = dict(model.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    assert isinstance(job.assignment, LoraAssignment)
    trained = [name for name in payload if int(name.split(".")[1]) in job.assignment.trained_layers]
    leaves = [parameters[peft_name(content.model, name)].requires_grad_() for name in trained]
    optimizer = torch.optim.AdamW(leaves, lr=job.assignment.learning_rate, weight_decay=SETTINGS.weight_decay)
    losses = []
    for rows in draw_rows(job, content.local_rows(job.device_id), Seeds(SETTINGS.run_seed)):
        loss = model(**labelled(content, rows)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return {name: leaf.detach().numpy() for name, leaf in zip(trained, leaves, strict=True)}, losses


def check_against_peft(content: HostContent, work: Sequence[Job]) -> None:
    updates = DeviceHost(content, SETTINGS).train(TASK, FORM, work)
    for job, update in zip(work, updates, strict=True):
        expected, losses = trained_alone(content, job)
        assert set(update.payload) == set(expected)
        assert update.metrics["train_loss"] == pytest.approx(np.mean(losses), abs=1e-5)
        assert max(np.abs(update.payload[name] - array).max() for name, array in expected.items()) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_as_with_peft(family: str, tmp_path: Path) -> None:
    content, _ = prepared(family, tmp_path)
    assert is_fast_decoder(content.model) == (family not in OTHERS)
    check_against_peft(content, jobs(server_state(content), depth=[3, 2, 3]))


def test_devices_that_differ_train_as_if_alone(content: HostContent) -> None:
    state = server_state(content)
    check_against_peft(content, jobs(state, depth=[1, 3, 2], batch_size=[5, 2, 1], n_steps=[3, 4, 1]))


def test_twenty_steps_of_one_device_come_to_the_loss_of_a_plain_loop(content: HostContent) -> None:
    whole = replace(content, offsets=np.array([0, len(content.train.lengths)]))
    [job] = jobs(server_state(content), n_steps=[20])
    [update] = DeviceHost(whole, SETTINGS).train(TASK, FORM, [job])
    expected, losses = trained_alone(whole, job)
    assert update.metrics["train_loss"] == pytest.approx(np.mean(losses), abs=1e-4)
    after = [labelled_loss(whole, arrays) for arrays in (update.payload, expected)]
    assert after[0] == pytest.approx(after[1], abs=1e-4)
    assert after[1] < losses[0] - 0.5  # it has learnt something


def labelled_loss(content: HostContent, state: Arrays) -> float:
    """Of the training data, as transformers has it."""
    with torch.no_grad():
        model = to_peft(content.model, state, FORM.scaling).eval()
        return float(model(**labelled(content, np.arange(len(content.train.lengths)))).loss)


def test_an_evaluation_is_transformers_own_loss_over_all_tokens_learnt(content: HostContent) -> None:
    state = server_state(content)
    whole = replace(content, test=content.train)
    host = DeviceHost(whole, replace(SETTINGS, eval_batch_size=7))
    shards = [host.evaluate(FORM, state, rows) for rows in (range(20), range(20, 36))]
    evaluation = Causal().evaluation(shards)
    assert evaluation.n_examples == 36
    assert evaluation.loss == pytest.approx(labelled_loss(whole, state), abs=1e-5)


def test_the_perplexity_of_plain_texts_is_that_of_transformers(tmp_path: Path) -> None:
    content, described = prepared("llama", tmp_path, text_column="response")
    host = DeviceHost(content, SETTINGS)
    evaluation = Causal().evaluation([host.evaluate(FORM, {}, range(described.n_test_examples))])

    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    n_tokens, total = 0, 0.0
    for row, length in enumerate(content.test.lengths):
        ids = torch.from_numpy(content.test.input_ids[row : row + 1, :length].astype(np.int64))
        with torch.no_grad():  # its mean over all tokens but the first
            total += float(base(input_ids=ids, labels=ids).loss) * (length - 1)
        n_tokens += int(length) - 1
    assert evaluation.perplexity == pytest.approx(np.exp(total / n_tokens), rel=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_an_exported_adapter_gives_the_runs_own_evaluation(family: str, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    content, _ = prepared(family, tmp_path)
    state = server_state(content)
    save_peft_adapter(content.model, state, FORM.scaling, tmp_path / "adapter")
    model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    with torch.no_grad():
        loss = float(model(**labelled(content, np.arange(36))).loss)
    assert loss == pytest.approx(labelled_loss(content, state), abs=1e-6)
    assert not (tmp_path / "adapter" / "labels.json").exists()


@pytest.mark.parametrize("family", [family for family in FAMILIES if not family.startswith(("opt", "gpt2"))])
def test_texts_that_share_a_row_are_learnt_as_by_themselves(family: str, tmp_path: Path) -> None:
    apart, _ = prepared(family, tmp_path)
    together, described = prepared(family, tmp_path, Causal(packs=True))
    assert len(together.train.lengths) < len(apart.train.lengths) / 2
    assert described.n_examples.tolist() == np.diff(together.offsets).tolist()
    state = server_state(apart)
    [before], [after] = ([job] for job in jobs(state, n_steps=[1], learning_rate=[0.0]) * 2)
    losses = []
    for content, job in ((apart, before), (together, after)):
        n_rows = int(content.offsets[1])  # all that the first device has, in one batch
        whole = replace(job, assignment=replace(job.assignment, batch_size=n_rows))
        [update] = DeviceHost(content, SETTINGS).train(TASK, FORM, [whole])
        losses.append(update.metrics["train_loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_step_on_packed_rows_changes_adapters_as_one_on_their_texts_does(tmp_path: Path) -> None:
    state, payloads = None, []
    for packs in (False, True):
        content, _ = prepared("llama", tmp_path, Causal(packs=packs))
        state = state or server_state(content)
        [job] = jobs(state, n_steps=[1], batch_size=[int(content.offsets[1])])
        [update] = DeviceHost(content, SETTINGS).train(TASK, FORM, [job])
        payloads.append(update.payload)
    apart, together = payloads
    assert max(np.abs(apart[name] - together[name]).max() for name in apart) < 1e-5


def test_packing_is_refused_where_texts_are_not_known_to_stay_apart(tmp_path: Path) -> None:
    learning = CausalLearning(Causal(packs=True))
    place = locate(save_tiny_decoder("llama", tmp_path))
    learning.check([()], place, None)
    other = replace(place, config={"model_type": "opt"})
    with pytest.raises(DataError, match=r"data.packing: it is not known .* in a opt model; .* llama, mistral"):
        learning.check([()], other, None)


def test_a_head_that_is_the_embeddings_is_there_once(tmp_path: Path) -> None:
    content, described = prepared("llama-tied", tmp_path)
    assert "lm_head.weight" not in content.model.arrays
    assert isinstance(described.model, CausalSpec)
    assert described.model.n_parameters == sum(array.size for array in content.model.arrays.values())


def test_responses_alone_are_priced(content: HostContent, tmp_path: Path) -> None:
    _, described = prepared("llama", tmp_path)
    assert content.train.scored is not None
    assert isinstance(described.model, CausalSpec)
    mean = content.train.scored.sum() / len(content.train.lengths)
    assert abs(described.model.response_len - mean) <= 0.5
    assert described.model.head == {}
    assert described.label_histograms.tolist() == [[12], [12], [12]]


def test_layers_below_the_lowest_adapter_are_computed_once(content: HostContent) -> None:
    form = replace(FORM, ranks=(0, 0, 4))
    state = {name: array for name, array in server_state(content).items() if name.startswith("layers.2.")}
    work = jobs(state, ranks=[(0, 0, 4)] * 3, depth=[1, 1, 1], n_steps=[4, 2, 3])
    within, without = DeviceHost(content, SETTINGS), DeviceHost(content, replace(SETTINGS, prefix_cache_bytes=0))
    for one, other in zip(within.train(TASK, form, work), without.train(TASK, form, work), strict=True):
        assert max(np.abs(one.payload[name] - other.payload[name]).max() for name in other.payload) < 1e-6
    assert (within.prefix()[0], without.prefix()[0]) == (2, 0)


def test_dropout_is_drawn_by_the_layers_of_transformers(content: HostContent) -> None:
    host = DeviceHost(content, replace(SETTINGS, dropout=True))
    plain = DeviceHost(content, SETTINGS)
    work = jobs(server_state(content))  # of a model whose configuration drops nothing
    for one, other in zip(host.train(TASK, FORM, work), plain.train(TASK, FORM, work), strict=True):
        assert max(np.abs(one.payload[name] - other.payload[name]).max() for name in other.payload) < 1e-5


def test_what_is_kept_in_few_bits_is_kept_of_the_layers_of_transformers(content: HostContent) -> None:
    quantized = [
        replace(job, assignment=replace(job.assignment, quantized_layers=1)) for job in jobs(server_state(content))
    ]
    host, other = DeviceHost(content, SETTINGS), DeviceHost(content, SETTINGS)
    other._layers._decoder = None  # as a model that is left to transformers
    for one, two in zip(host.train(TASK, FORM, quantized), other.train(TASK, FORM, quantized), strict=True):
        assert all(np.array_equal(one.payload[name], array) for name, array in two.payload.items())


def test_large_vocabularies_are_evaluated_in_fewer_rows(content: HostContent, monkeypatch: pytest.MonkeyPatch) -> None:
    host = DeviceHost(content, SETTINGS)
    assert content.test.scored is not None
    row_logits = content.test.scored.sum(axis=1).mean() * content.model.config["vocab_size"]
    assert host.learning.rows_at_once(content.test, 128) == 128
    whole = host.evaluate(FORM, {}, range(4))
    monkeypatch.setattr(causal, "MOST_LOGITS", int(2.5 * row_logits))
    assert host.learning.rows_at_once(content.test, 128) == 2
    assert host.evaluate(FORM, {}, range(4)).loss_sum == pytest.approx(whole.loss_sum, rel=1e-6)
