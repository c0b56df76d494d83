"""Numbers and sets of labels are learnt as transformers, peft and torch.optim.AdamW do, one device at a time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from emulator.learning.attach.lora import StackedLora
from emulator.learning.data.batches import ResidentTokens, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.loading import load_model
from emulator.learning.model.role import MULTI_LABEL_CLASSIFIER, REGRESSOR
from emulator.objective.base import Objective
from emulator.objective.multi_label import MultiLabel
from emulator.objective.regression import Regression
from tests.unit.learning import one_at_a_time
from tests.unit.learning.test_stacked_training import FORM, SETTINGS, TASK, jobs, server_state
from tests.unit.learning.tiny_models import N_LABELS, save_tiny_model, tiny_content

KINDS = {
    "regression": (Regression(), REGRESSOR, 1),
    "multi_label": (MultiLabel(), MULTI_LABEL_CLASSIFIER, N_LABELS),
}


def content_of(kind: str, family: str, folder: Path) -> HostContent:
    """As ``tiny_content``, with numbers or sets of labels in the place of labels."""
    usual = tiny_content(family, folder / "base")
    objective: Objective
    objective, role, n_outputs = KINDS[kind]
    rng = np.random.default_rng(11)

    def labels(n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        if kind == "regression":
            return rng.uniform(0, 5, n).astype(np.float32)
        return (rng.random((n, N_LABELS)) < 0.4).astype(np.float32)

    return replace(
        usual,
        model=load_model(save_tiny_model(family, folder / "base"), n_outputs, seed=3, role=role),
        train=replace(usual.train, labels=labels(len(usual.train.lengths))),
        test=replace(usual.test, labels=labels(len(usual.test.lengths))),
        objective=objective,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_stack_learns_what_each_device_learns_alone(kind: str, family: str, tmp_path: Path) -> None:
    content = content_of(kind, family, tmp_path)
    work = jobs(server_state(content, FORM), batch_size=[4, 2, 3], n_steps=[4, 3, 4])

    updates = DeviceHost(content, SETTINGS).train(TASK, FORM, work)

    for job, update in zip(work, updates, strict=True):
        # Its loss is transformers' own, by the problem_type of the configuration.
        expected, loss = one_at_a_time.train(content, FORM, job, SETTINGS.run_seed, SETTINGS.weight_decay)
        assert set(update.payload) == set(expected)
        assert update.metrics["train_loss"] == pytest.approx(loss, rel=1e-5)
        assert max(np.abs(update.payload[name] - array).max() for name, array in expected.items()) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_transformers(kind: str, tmp_path: Path) -> None:
    content = content_of(kind, "bert", tmp_path)
    host = DeviceHost(content, SETTINGS)
    rows = np.arange(7)
    batch = ResidentTokens(content.train, "cpu").stacked_batch([rows])
    model = content.model.build()

    with torch.no_grad():
        ours = host.learning.losses(host.logits(batch, content.train), batch, 1).sum()
        theirs = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss

    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)
    assert model.config.problem_type in ("regression", "multi_label_classification")


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_adapter_has_the_loss_of_the_evaluation_in_transformers(kind: str, tmp_path: Path) -> None:
    content = content_of(kind, "bert", tmp_path)
    state, (objective, _, n_outputs) = server_state(content, FORM), KINDS[kind]
    n_test = len(content.test.lengths)
    evaluation = objective.evaluation([DeviceHost(content, SETTINGS).evaluate(FORM, state, range(n_test))])
    StackedLora.export(content.model, FORM, state, tmp_path / "adapter")

    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=n_outputs)
    model = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    batch = make_batch(np.arange(n_test), content.test, "cpu")
    with torch.no_grad():
        theirs = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss

    assert evaluation.loss == pytest.approx(float(theirs), rel=1e-5)
    assert (tmp_path / "adapter" / "labels.json").exists() == (kind == "multi_label")


def test_shards_of_sets_of_labels_add_up_to_the_scores_of_all_rows(tmp_path: Path) -> None:
    content = content_of("multi_label", "bert", tmp_path)
    host, state, objective = DeviceHost(content, SETTINGS), server_state(content, FORM), MultiLabel()

    whole = objective.evaluation([host.evaluate(FORM, state, range(50))])
    parts = objective.evaluation([host.evaluate(FORM, state, rows) for rows in (range(20), range(20, 50))])

    assert (parts.micro_f1, parts.macro_f1, parts.exact_match) == (whole.micro_f1, whole.macro_f1, whole.exact_match)
    assert parts.class_f1 == whole.class_f1
    assert parts.loss == pytest.approx(whole.loss)


def test_a_regression_has_one_output_whatever_the_number_of_labels() -> None:
    spec = Regression().spec("roberta-base", n_labels=7, seq_len=32, head="output")

    assert [shape.out_features for shape in spec.head.values()] == [1]
