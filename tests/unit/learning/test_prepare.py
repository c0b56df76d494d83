"""Model and data come together: contents for the hosts and facts for the coordinator."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from emulator.errors import DataError
from emulator.learning.data.spread import Partition, Scheme
from emulator.learning.host import HostContent
from emulator.learning.model.base_weights import in_precision
from emulator.learning.prepare import DataSource, prepare
from emulator.records import Prepared
from tests.unit.learning.tiny_models import save_tiny_model

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] red green blue one two three".split()


def word_tokenizer(words: list[str] = WORDS) -> PreTrainedTokenizerFast:
    """One token per word, between [CLS] and [SEP]."""
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared")
    save_tiny_model("bert", path / "model")
    word_tokenizer().save_pretrained(path / "model")
    texts = [f"{colour} {number} {colour}" for colour in WORDS[5:8] for number in WORDS[8:]] * 10
    pd.DataFrame({"text": texts, "label": [text.split()[0] for text in texts]}).to_csv(path / "data.csv", index=False)
    return path


def prepared(folder: Path, **changed: Any) -> tuple[HostContent, Prepared]:
    settings: dict[str, Any] = {
        "train_model": str(folder / "model"),
        "data": DataSource(source=str(folder / "data.csv"), test_fraction=0.1),
        "seq_len": 8,
        "n_devices": 5,
        "partition": Partition(scheme="dirichlet", alpha=0.5),
        "run_seed": 0,
    }
    return prepare(**(settings | changed))


def test_every_device_holds_its_part_in_one_run_of_rows(folder: Path) -> None:
    content, ready = prepared(folder)
    assert content.train.input_ids.shape == (81, 8)
    assert content.test.input_ids.shape == (9, 8) == (ready.n_test_examples, 8)
    assert np.concatenate([content.local_rows(device) for device in range(5)]).tolist() == list(range(81))
    for device in range(5):
        own = content.train.labels[content.local_rows(device)]
        assert np.bincount(own, minlength=3).tolist() == ready.label_histograms[device].tolist()
        assert len(own) == ready.n_examples[device]


def test_hosts_are_given_weights_as_devices_restore_them_and_so_is_a_form_that_starts_from_them(folder: Path) -> None:
    whole, _ = prepared(folder)
    low, _ = prepared(folder, base_precision="nf4")
    expected = in_precision(whole.model, "nf4")
    for name, array in expected.arrays.items():
        assert np.array_equal(low.model.arrays[name], array)
    site = (0, "query")
    [weight] = low.model.weights([site]).values()
    assert np.array_equal(weight, expected.weights([site])[site])
    assert not np.array_equal(weight, whole.model.weights([site])[site])


def test_texts_and_labels_stay_together(folder: Path) -> None:
    content, ready = prepared(folder)
    assert ready.label_names == ("blue", "green", "red")
    first_words = content.train.input_ids[:, 1]  # after [CLS]
    assert [WORDS[word] for word in first_words] == [ready.label_names[label] for label in content.train.labels]


def test_the_head_has_the_shapes_of_the_model_spec(folder: Path) -> None:
    _, ready = prepared(folder)
    assert set(ready.model.head) == {"classifier"}
    shape = ready.model.head["classifier"]
    assert ready.head["head.classifier.weight"].shape == (shape.out_features, shape.in_features) == (3, 16)


@pytest.mark.parametrize("scheme", ["iid", "dirichlet"])
def test_the_seed_decides(folder: Path, scheme: Scheme) -> None:
    first, again, other = (
        prepared(folder, partition=Partition(scheme=scheme), run_seed=seed)[0].train for seed in (0, 0, 1)
    )
    assert np.array_equal(first.input_ids, again.input_ids)
    assert not np.array_equal(first.input_ids, other.input_ids)


def test_more_devices_than_samples_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="81 training samples cannot be shared out among 82 devices"):
        prepared(folder, n_devices=82)


def test_a_model_without_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no tokenizer"):
        prepared(folder, train_model=save_tiny_model("bert", tmp_path))


def test_a_tokenizer_with_more_words_than_the_model_is_refused(folder: Path, tmp_path: Path) -> None:
    save_tiny_model("bert", tmp_path)
    word_tokenizer([*WORDS, *(f"word{i}" for i in range(50))]).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="has 61 words, the model knows 50"):
        prepared(folder, train_model=str(tmp_path))


def test_each_device_holds_out_rows_of_its_own_behind_those_of_the_server(folder: Path) -> None:
    whole, before = prepared(folder)
    content, ready = prepared(folder, device_fraction=0.25)

    offsets = ready.own_test_offsets
    assert offsets[0] == ready.n_test_examples == 9
    assert len(content.test.lengths) == offsets[-1]
    assert np.array_equal(content.test.input_ids[:9], whole.test.input_ids)
    for device in range(5):
        own = slice(offsets[device], offsets[device + 1])
        kept = content.local_rows(device)
        n_before = before.n_examples[device]
        expected = min(max(round(0.25 * n_before), 1), n_before - 1)
        assert (own.stop - own.start, len(kept)) == (expected, n_before - expected)
        assert ready.n_examples[device] == len(kept)
        # Together they are the rows that the device has without, and each row is in one of them.
        rows = [*content.train.input_ids[kept].tolist(), *content.test.input_ids[own].tolist()]
        assert sorted(rows) == sorted(whole.train.input_ids[whole.local_rows(device)].tolist())
        assert np.bincount(content.train.labels[kept], minlength=3).tolist() == ready.label_histograms[device].tolist()
    assert before.own_test_offsets.tolist() == [9] * 6
