"""Prefixes in one stack train as peft trains them, one device at a time, and are exported as peft loads them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification, PrefixTuningConfig, get_peft_model

from emulator.errors import ConfigError
from emulator.forms.ia3 import Ia3Form
from emulator.forms.prefix_tuning import EMBEDDING, HIDDEN_BIAS, HIDDEN_WEIGHT, PrefixTuningForm
from emulator.learning.attach.prefix_tuning import StackedPrefix
from emulator.learning.data.batches import draw_rows
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.export import peft_name
from emulator.learning.model.virtual_keys import argument_of
from emulator.learning.settings import NumericSettings
from emulator.objective.causal import Causal
from emulator.records import Arrays, Job
from emulator.seeds import Seeds
from emulator.shapes.catalog import causal_spec_from_config, model_spec_from_config
from emulator.shapes.spec import ModelSpec
from tests.unit.learning.test_causal_training import prepared
from tests.unit.learning.test_prompt_tuning_training import classifier, inputs, jobs
from tests.unit.learning.test_stacked_training import SETTINGS
from tests.unit.learning.tiny_decoders import FAMILIES
from tests.unit.learning.tiny_models import N_LABELS

TASK = "emulator.learning.tasks.local:train_adapter"
PLAIN = PrefixTuningForm(n_virtual_tokens=3)
PROJECTED = PrefixTuningForm(n_virtual_tokens=3, projection_size=5)
ENCODERS = ("bert", "roberta", "roberta-prelayernorm", "camembert")
PROMPT = "prompt_encoder.default"


def language_model(family: str, folder: Path) -> HostContent:
    """Without what its configuration says of grouped keys where the family has none: PEFT believes it."""
    content, _ = prepared(family, folder)
    if family not in ("gpt2", "opt", "opt-narrow"):
        return content
    config = {key: value for key, value in content.model.config.items() if key != "num_key_value_heads"}
    return replace(content, model=replace(content.model, config=config))


def spec_of(content: HostContent) -> ModelSpec:
    config = content.model.config
    if content.train.scored is not None:
        return causal_spec_from_config(config, name="tiny", seq_len=64, response_len=8)
    return model_spec_from_config(config, name="tiny", n_labels=N_LABELS, seq_len=12, head="output")


def server_state(content: HostContent, form: PrefixTuningForm) -> Arrays:
    return {**content.model.head_arrays(), **form.initial(spec_of(content), Seeds(3))}


def reference(content: HostContent, form: PrefixTuningForm, state: Arrays) -> tuple[Any, dict[str, torch.Tensor]]:
    """PEFT's model with what ``state`` holds; and, by our names, the parts of its parameters that are trained."""
    model_spec = spec_of(content)
    config = PrefixTuningConfig(
        task_type=content.model.role.peft_task,
        num_virtual_tokens=form.n_virtual_tokens,
        token_dim=model_spec.matrix("key").out_features,
        num_layers=model_spec.n_layers,
        num_attention_heads=model_spec.n_kv_heads,
        num_transformer_submodules=1,
        prefix_projection=form.projection_size is not None,
        encoder_hidden_size=form.projection_size,  # type: ignore[arg-type]
    )
    model: Any = get_peft_model(content.model.build(), config).eval()
    held = dict(model.named_parameters())
    for parameter in held.values():
        parameter.requires_grad_(False)
    with torch.no_grad():
        for name, part in parts(held, content, form).items():
            part.copy_(torch.tensor(state[name]))
    return model, held


def parts(held: dict[str, torch.Tensor], content: HostContent, form: PrefixTuningForm) -> dict[str, torch.Tensor]:
    """Views of PEFT's parameters by the names of our state: layer by layer, keys before values."""
    n_layers, found = content.model.n_layers, {}
    if form.projection_size is None:
        columns = held[f"{PROMPT}.embedding.weight"].chunk(2 * n_layers, dim=1)
        for number, column in enumerate(columns):
            found[f"layers.{number // 2}.prefix.{('key', 'value')[number % 2]}"] = column
    else:
        found[EMBEDDING] = held[f"{PROMPT}.embedding.weight"]
        found[HIDDEN_WEIGHT] = held[f"{PROMPT}.transform.0.weight"]
        found[HIDDEN_BIAS] = held[f"{PROMPT}.transform.0.bias"]
        for kind in ("weight", "bias"):
            for layer, rows in enumerate(held[f"{PROMPT}.transform.2.{kind}"].chunk(n_layers)):
                found[f"layers.{layer}.prefix.output_{kind}"] = rows
    for name in content.model.head_arrays():
        found[name] = held[peft_name(content.model, name, is_prompt_learning=True)]
    return found


def loss_of(model: Any, content: HostContent, rows: Any) -> torch.Tensor:
    """PEFT's own loss; of a classifier, that of transformers with what PEFT puts in front of its keys and values.

    PEFT 0.21 looks for ``past_key_values`` among what a classifier takes, and transformers calls it otherwise now.
    """
    given = inputs(content, rows)
    if content.train.scored is not None:
        return model(**given).loss  # type: ignore[no-any-return]
    labels, mask = given.pop("labels"), F.pad(given.pop("attention_mask"), (3, 0), value=1)
    base = model.get_base_model()
    if content.model.config["model_type"] not in ("llama", "gpt2", "phi3"):  # an encoder's mask, ready-made
        mask = mask[:, None, None].bool().expand(-1, -1, given["input_ids"].shape[1], -1)
    cache = {str(argument_of(base)): model.get_prompt(len(labels))}
    return F.cross_entropy(base(**given, attention_mask=mask, **cache).logits, labels)


def trained_by_peft(content: HostContent, form: PrefixTuningForm, job: Job) -> tuple[Arrays, float]:
    model, held = reference(content, form, job.state)
    head = {peft_name(content.model, name, is_prompt_learning=True) for name in content.model.head_arrays()}
    trained = [one.requires_grad_() for name, one in held.items() if name in head or name.startswith(PROMPT)]
    optimizer = torch.optim.AdamW(trained, lr=job.assignment.learning_rate, weight_decay=SETTINGS.weight_decay)
    losses = []
    for rows in draw_rows(job, content.local_rows(job.device_id), Seeds(SETTINGS.run_seed)):
        loss = loss_of(model, content, rows)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    after = {name: part.detach().numpy() for name, part in parts(held, content, form).items()}
    return after, float(np.mean(losses))


def check_against_peft(content: HostContent, form: PrefixTuningForm, settings: NumericSettings = SETTINGS) -> None:
    state = server_state(content, form)
    given = jobs(state)
    for job, update in zip(given, DeviceHost(content, settings).train(TASK, form, given), strict=True):
        expected, loss = trained_by_peft(content, form, job)
        assert update.payload.keys() == expected.keys()
        assert update.metrics["train_loss"] == pytest.approx(loss, abs=1e-5)
        assert max(np.abs(update.payload[name] - expected[name]).max() for name in expected) < 1e-5
        assert max(np.abs(update.payload[name] - state[name]).max() for name in expected) > 1e-3


@pytest.mark.parametrize("form", [PLAIN, PROJECTED], ids=["plain", "projected"])
@pytest.mark.parametrize("family", [*ENCODERS, "llama", "gpt2", "phi3"])
def test_classifiers_in_a_stack_train_as_with_peft_one_at_a_time(
    family: str, form: PrefixTuningForm, tmp_path: Path
) -> None:
    check_against_peft(classifier(family, tmp_path), form)


@pytest.mark.parametrize("form", [PLAIN, PROJECTED], ids=["plain", "projected"])
@pytest.mark.parametrize("family", FAMILIES)
def test_language_models_in_a_stack_train_as_peft_does_one_at_a_time(
    family: str, form: PrefixTuningForm, tmp_path: Path
) -> None:
    check_against_peft(language_model(family, tmp_path), form)


def test_layers_that_are_computed_again_see_the_same_prefix(tmp_path: Path) -> None:
    settings = NumericSettings(run_seed=SETTINGS.run_seed, weight_decay=SETTINGS.weight_decay, checkpointing=True)
    check_against_peft(prepared("llama", tmp_path)[0], PLAIN, settings)


@pytest.mark.parametrize("form", [PLAIN, PROJECTED], ids=["plain", "projected"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_exported_adapter_gives_what_the_host_gives(family: str, form: PrefixTuningForm, tmp_path: Path) -> None:
    is_causal = family == "llama"
    content = prepared(family, tmp_path)[0] if is_causal else classifier(family, tmp_path / "base")
    state = server_state(content, form)
    StackedPrefix.export(content.model, form, state, tmp_path / "adapter")
    auto: Any = AutoPeftModelForCausalLM if is_causal else AutoPeftModelForSequenceClassification
    settings = {} if is_causal else {"num_labels": N_LABELS}
    loaded = auto.from_pretrained(tmp_path / "adapter", **settings).eval()
    rows = np.arange(12)
    host = DeviceHost(content, SETTINGS)
    host.attach(form).load([state], assignments=None)
    batch = host.train_tokens.batch(rows)
    with torch.no_grad():
        theirs = float(loss_of(loaded, content, rows))
        losses = host.learning.losses(host.logits(batch, content.train), batch, 1)
    ours = float(losses.sum()) / (1 if is_causal else len(rows))
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_a_form_that_follows_has_no_prefix(tmp_path: Path) -> None:
    content = classifier("bert", tmp_path)
    host = DeviceHost(content, SETTINGS)
    host.attach(PLAIN)
    host.attach(Ia3Form())
    assert host._layers.virtual_keys is None


def test_models_whose_layers_take_no_other_keys_are_refused(tmp_path: Path) -> None:
    content = classifier("distilbert", tmp_path)
    with pytest.raises(ConfigError, match=r"layers of a distilbert model take no keys and values but their own"):
        DeviceHost(content, SETTINGS).attach(PLAIN)


def test_texts_that_share_a_row_are_refused(tmp_path: Path) -> None:
    content, _ = prepared("llama", tmp_path, Causal(packs=True))
    with pytest.raises(ConfigError, match=r"data\.packing: virtual tokens stand in front of one text"):
        DeviceHost(content, SETTINGS).train(TASK, PLAIN, jobs(server_state(content, PLAIN)))
