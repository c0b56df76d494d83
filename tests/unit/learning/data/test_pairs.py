"""Pairs of texts: read, tokenised together, and classified as transformers does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from emulator.errors import DataError
from emulator.forms.lora import LoraForm
from emulator.learning.data.batches import make_batch
from emulator.learning.data.source import DataSource
from emulator.learning.data.spread import Partition
from emulator.learning.host import DeviceHost
from emulator.learning.prepare import prepare
from emulator.learning.settings import NumericSettings
from emulator.shapes.catalog import BUILTIN_MODELS

ROWS = [(f"the sky is {one}", f"it is {other}", one == other) for one in ("red", "blue") for other in ("red", "blue")]


def write_pairs(folder: Path, n: int = 10) -> DataSource:
    lines = [f"{first}\t{second}\t{label}" for first, second, label in ROWS * n]
    (folder / "pairs.tsv").write_text("\n".join(["one\ttwo\tlabel", *lines]) + "\n", encoding="utf-8")
    return DataSource(source=str(folder / "pairs.tsv"), text_column="one", text_pair_column="two")


def test_both_texts_of_a_pair_are_read(tmp_path: Path) -> None:
    texts = write_pairs(tmp_path).load(seed=0)
    assert ("the sky is red", "it is blue") in texts.train_texts
    assert texts.label_names == ("False", "True")


def test_a_pair_is_given_to_the_model_as_transformers_gives_it(tmp_path: Path) -> None:
    content, _ = prepare(
        train_model="builtin:tiny-12",
        data=write_pairs(tmp_path),
        seq_len=24,
        n_devices=2,
        partition=Partition(),
        run_seed=3,
    )
    host = DeviceHost(content, NumericSettings(run_seed=3, weight_decay=0.0))
    form = LoraForm(ranks=(2,) * content.model.n_layers)
    host.attach(form).load([content.model.head_arrays()], assignments=None)
    batch = make_batch(np.arange(4), content.test, "cpu")
    with torch.no_grad():
        ours = host.logits(batch, content.test)

    folder = BUILTIN_MODELS / "tiny-12"
    tokenizer = AutoTokenizer.from_pretrained(folder)  # type: ignore[no-untyped-call]
    texts = write_pairs(tmp_path).load(seed=3).test_texts[:4]
    encoded = tokenizer([pair[0] for pair in texts], [pair[1] for pair in texts], padding=True, return_tensors="pt")
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, array in content.model.head_arrays().items():
            model.get_parameter(name.removeprefix("head.")).copy_(torch.tensor(array))
        theirs = model(**encoded).logits
    assert ours.numpy() == pytest.approx(theirs.numpy(), abs=1e-5)


def test_a_model_that_tells_texts_apart_is_told_which_is_which(tmp_path: Path) -> None:
    from emulator.learning.data.tokens import tokenize
    from tests.unit.learning.data.word_tokenizer import word_tokenizer

    data, cut = tokenize([("a b", "c"), ("a b c d e f", "c d")], np.zeros(2, np.int64), word_tokenizer(), 8)

    # [CLS] and [SEP] around the first text, [SEP] behind the second
    assert data.token_types is not None
    assert data.token_types[0].tolist() == [0, 0, 0, 0, 1, 1, 0, 0]
    # 8 tokens and 3 special ones do not fit into 8 by 3, which the longer text loses
    assert (cut.n_texts_cut, cut.n_tokens_cut, cut.n_tokens) == (1, 3, 11)
    assert data.token_types[1].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_a_pair_of_one_column_is_refused(tmp_path: Path) -> None:
    source = write_pairs(tmp_path)
    with pytest.raises(DataError, match="text_pair_column must be another column"):
        DataSource(source=source.source, text_column="one", text_pair_column="one").load(0)


def test_an_empty_second_text_is_refused_with_its_place(tmp_path: Path) -> None:
    source = write_pairs(tmp_path)
    path = Path(source.source)
    path.write_text(path.read_text().replace("it is red", " ", 1))
    with pytest.raises(DataError, match="an empty text in line 2 of 'two'"):
        source.load(0)
