"""Encoder-decoders train, device by device, as with peft, and their exported adapters give the same."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from emulator.errors import DataError
from emulator.forms.lora import LoraAssignment, LoraForm
from emulator.learning.data.batches import draw_rows
from emulator.learning.data.source import DataSource
from emulator.learning.data.spread import Partition
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.export import peft_name, save_peft_adapter, to_peft
from emulator.learning.prepare import prepare
from emulator.learning.settings import NumericSettings
from emulator.objective.seq2seq import Seq2Seq
from emulator.records import Arrays, Job, Prepared
from emulator.seeds import Seeds
from emulator.shapes.design import as_stored
from emulator.shapes.encoder_decoder import EncoderDecoderSpec
from tests.unit.learning.tiny_decoders import write_rows
from tests.unit.learning.tiny_encoder_decoders import (
    FAMILIES,
    N_DECODER_LAYERS,
    N_ENCODER_LAYERS,
    save_tiny_encoder_decoder,
)

TASK = "emulator.learning.tasks.local:train_adapter"
SETTINGS = NumericSettings(run_seed=7, weight_decay=0.05)
N_LAYERS = N_ENCODER_LAYERS + N_DECODER_LAYERS
FORM = LoraForm(ranks=(4,) * N_LAYERS)
EVERYWHERE = replace(FORM, targets=("query", "key", "value", "attention_output", "mlp_up", "mlp_down"))


def prepared(
    family: str, folder: Path, objective: Seq2Seq | None = None, seq_len: int = 32, **how: Any
) -> tuple[HostContent, Prepared]:
    """A tiny encoder-decoder with 36 rows for three devices, and 4 held out."""
    return prepare(
        train_model=save_tiny_encoder_decoder(family, folder / "model"),
        data=DataSource(
            source=write_rows(folder / "rows.jsonl"), prompt_column="prompt", response_column="response", **how
        ),
        seq_len=seq_len,
        n_devices=3,
        partition=Partition(),
        run_seed=7,
        objective=objective or Seq2Seq(),
    )


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return prepared("t5", tmp_path_factory.mktemp("t5"))[0]


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
    usual = {"n_steps": 4, "batch_size": 4, "learning_rate": 2e-3, "ranks": FORM.ranks, "depth": N_LAYERS}
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
    """Training rows as transformers takes them: with labels of -100 for padding."""
    data = content.train
    assert data.responses is not None
    ids = torch.from_numpy(data.input_ids[rows].astype(np.int64))
    mask = torch.from_numpy(np.arange(ids.shape[1]) < data.lengths[rows][:, None])
    labels = torch.from_numpy(data.responses.input_ids[rows].astype(np.int64))
    is_said = torch.from_numpy(np.arange(labels.shape[1]) < data.responses.lengths[rows][:, None])
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": labels.masked_fill(~is_said, -100)}


def trained_alone(content: HostContent, job: Job, form: LoraForm = FORM) -> tuple[Arrays, list[float]]:
    """What peft and torch.optim.AdamW make of a device's job in the most obvious way, and the loss of each step."""
    payload = form.project(job.state, job.assignment)
    model = to_peft(content.model, payload, form.scaling).eval()
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


def check_against_peft(content: HostContent, work: Sequence[Job], form: LoraForm = FORM) -> None:
    updates = DeviceHost(content, SETTINGS).train(TASK, form, work)
    for job, update in zip(work, updates, strict=True):
        expected, losses = trained_alone(content, job, form)
        assert set(update.payload) == set(expected)
        assert update.metrics["train_loss"] == pytest.approx(np.mean(losses), abs=1e-5)
        assert max(np.abs(update.payload[name] - array).max() for name, array in expected.items()) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_as_with_peft(family: str, tmp_path: Path) -> None:
    content, _ = prepared(family, tmp_path)
    check_against_peft(content, jobs(server_state(content)))


@pytest.mark.parametrize("family", ["t5", "flan-t5"])
def test_twenty_steps_come_to_the_trajectory_of_peft(family: str, tmp_path: Path) -> None:
    content, _ = prepared(family, tmp_path)
    check_against_peft(content, jobs(server_state(content), n_steps=[20]))


def test_adapters_on_all_matrices_train_as_with_peft(content: HostContent) -> None:
    check_against_peft(content, jobs(server_state(content, EVERYWHERE)), EVERYWHERE)


def test_devices_that_differ_train_as_if_alone(content: HostContent) -> None:
    state = server_state(content)
    check_against_peft(content, jobs(state, depth=[1, 5, 4], batch_size=[5, 2, 1], n_steps=[3, 4, 1]))


def test_adapters_are_where_peft_puts_them_by_default(content: HostContent, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = AutoModelForSeq2SeqLM.from_pretrained(content.model.path)
    usual = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", r=4))
    own = to_peft(content.model, server_state(content), FORM.scaling)
    adapters = [{name for name, _ in each.named_parameters() if "lora_" in name} for each in (usual, own)]
    assert adapters[0] == adapters[1]


@pytest.mark.parametrize("depth", range(1, N_LAYERS + 1))
def test_a_depth_trains_the_layers_nearest_to_the_output_the_decoder_s_first(content: HostContent, depth: int) -> None:
    [job] = jobs(server_state(content), depth=[depth], n_steps=[1])
    [update] = DeviceHost(content, SETTINGS).train(TASK, FORM, [job])
    paths = {content.model.sites[int(name.split(".")[1]), name.split(".")[2]] for name in update.payload}
    expected = [("decoder", N_DECODER_LAYERS - 1 - above) for above in range(min(depth, N_DECODER_LAYERS))]
    expected += [("encoder", N_ENCODER_LAYERS - 1 - above) for above in range(depth - N_DECODER_LAYERS)]
    assert {tuple(path.split(".")[::2][:2]) for path in paths} == {(stack, str(layer)) for stack, layer in expected}


def labelled_loss(content: HostContent, state: Arrays) -> float:
    """Of the training data, as transformers has it."""
    with torch.no_grad():
        model = to_peft(content.model, state, FORM.scaling).eval()
        return float(model(**labelled(content, np.arange(len(content.train.lengths)))).loss)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exported_adapter_gives_the_runs_own_evaluation(family: str, tmp_path: Path) -> None:
    from peft import AutoPeftModelForSeq2SeqLM

    content, _ = prepared(family, tmp_path)
    state = server_state(content)
    save_peft_adapter(content.model, state, FORM.scaling, tmp_path / "adapter")
    model = AutoPeftModelForSeq2SeqLM.from_pretrained(tmp_path / "adapter").eval()
    with torch.no_grad():
        loss = float(model(**labelled(content, np.arange(36))).loss)
    assert loss == pytest.approx(labelled_loss(content, state), abs=1e-6)
    whole = replace(content, test=content.train)
    host = DeviceHost(whole, replace(SETTINGS, eval_batch_size=7))
    evaluation = Seq2Seq().evaluation([host.evaluate(FORM, state, rows) for rows in (range(20), range(20, 36))])
    assert evaluation.loss == pytest.approx(loss, abs=1e-5)
    assert not (tmp_path / "adapter" / "labels.json").exists()


def test_an_exact_match_is_what_greedy_generation_gives(content: HostContent) -> None:
    state = server_state(content)
    long = jobs(state, n_steps=[60], learning_rate=[2e-2], batch_size=[12])
    [update] = DeviceHost(content, SETTINGS).train(TASK, FORM, long)
    whole = replace(content, test=content.train)
    shard = DeviceHost(whole, SETTINGS).evaluate(FORM, update.payload, range(36))
    model = to_peft(content.model, update.payload, FORM.scaling).eval()
    n_exact, responses = 0, content.train.responses
    assert responses is not None
    for row, length in enumerate(responses.lengths):
        given = torch.from_numpy(content.train.input_ids[row : row + 1, : content.train.lengths[row]].astype(np.int64))
        said = model.generate(input_ids=given, max_new_tokens=int(length), do_sample=False, use_cache=False)[0, 1:]
        n_exact += said.tolist() == responses.input_ids[row, :length].tolist()
    assert 0 < shard.n_exact < 36
    assert shard.n_exact == n_exact


def test_a_head_of_its_own_is_kept_apart_from_the_embeddings(tmp_path: Path) -> None:
    for family in FAMILIES:
        content, described = prepared(family, tmp_path / family)
        has_own = "lm_head.weight" in content.model.arrays
        assert has_own == (family != "t5")
        assert isinstance(described.model, EncoderDecoderSpec)
        assert described.model.n_parameters == sum(array.size for array in content.model.arrays.values())
        base = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / family / "model").eval()
        with torch.no_grad():
            logits = [each(**labelled(content, np.arange(4))).logits for each in (base, content.model.build())]
        assert torch.equal(*logits)


def test_responses_are_priced_by_their_mean_length(content: HostContent, tmp_path: Path) -> None:
    _, described = prepared("t5", tmp_path)
    assert content.train.responses is not None
    assert isinstance(described.model, EncoderDecoderSpec)
    assert abs(described.model.response_len - content.train.responses.lengths.mean()) <= 0.5
    assert described.model.seq_len == 32


def test_prompts_and_responses_are_cut_by_themselves(tmp_path: Path) -> None:
    content, described = prepared("t5", tmp_path, Seq2Seq(response_seq_len=6), seq_len=8)
    assert content.train.responses is not None
    assert content.train.lengths.max() == 8
    assert content.train.responses.lengths.max() == 6
    assert any("cut at data.seq_len=8 or data.response_seq_len=6" in remark for remark in described.remarks)
    assert content.train.input_ids[0, 7] == 2  # the tokenizer ends a prompt that is cut, too


def test_dropout_and_accumulation_and_checkpointing_work_as_for_other_models(content: HostContent) -> None:
    state = server_state(content)
    plain, parts, again = (
        DeviceHost(content, replace(SETTINGS, **changed)).train(TASK, FORM, jobs(state))
        for changed in ({}, {"accumulation_steps": 2}, {"checkpointing": True})
    )
    for one, two, three in zip(plain, parts, again, strict=True):
        assert max(np.abs(one.payload[name] - two.payload[name]).max() for name in one.payload) < 1e-5
        assert max(np.abs(one.payload[name] - three.payload[name]).max() for name in one.payload) < 1e-6
    dropped = DeviceHost(content, replace(SETTINGS, dropout=True)).train(TASK, FORM, jobs(state))
    assert dropped[0].metrics["train_loss"] != plain[0].metrics["train_loss"]


def test_clusters_go_by_what_the_encoder_makes_of_prompts(tmp_path: Path) -> None:
    content, described = prepare(
        train_model=save_tiny_encoder_decoder("t5", tmp_path / "model"),
        data=DataSource(source=write_rows(tmp_path / "rows.jsonl"), prompt_column="prompt", response_column="response"),
        seq_len=32,
        n_devices=3,
        partition=Partition(scheme="clusters", n_clusters=2, alpha=0.1),
        run_seed=7,
        objective=Seq2Seq(),
    )
    assert described.n_examples.sum() == 36
    assert content.offsets[-1] == 36


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "data.prompt_column and data.response_column are not given"),
        ({"prompt_column": "prompt"}, "data.prompt_column is given and data.response_column is not"),
        ({"messages_column": "prompt"}, "data.messages_column: for task.kind = 'seq2seq' rows are a prompt"),
    ],
)
def test_what_is_no_prompt_with_a_response_is_refused(columns: dict[str, str], said: str, tmp_path: Path) -> None:
    from emulator.learning.data.passages import load_responses

    with pytest.raises(DataError, match=said):
        load_responses(DataSource(source=write_rows(tmp_path / "rows.jsonl"), **columns), 7)  # type: ignore[arg-type]
