"""A GGUF file is a model as good as a directory of safetensors."""

from pathlib import Path

import numpy as np
import pytest

from emulator.errors import DataError
from emulator.learning.model.loading import load_model
from emulator.learning.model.places import locate
from emulator.learning.model.role import LANGUAGE_MODEL
from emulator.learning.model.tokenizer import load_tokenizer
from emulator.shapes import gguf_file
from emulator.shapes.catalog import causal_spec
from tests.command_line import in_process, settings
from tests.unit.learning.tiny_decoders import rows, save_tiny_decoder, write_rows
from tests.unit.learning.tiny_gguf import save_tiny_gguf


@pytest.fixture(scope="module", params=["llama", "llama-tied"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama, and beside it ``tiny.gguf`` with the same in a directory of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    save_tiny_decoder(request.param, folder / "model")
    (folder / "gguf").mkdir()
    save_tiny_gguf(folder / "model", folder / "gguf" / "tiny.gguf")
    return folder


@pytest.mark.parametrize("place", ["gguf/tiny.gguf", "gguf"])
def test_a_file_and_a_directory_of_one_give_the_weights_that_were_written(folder: Path, place: str) -> None:
    models = [load_model(str(folder / each), 0, seed=1, role=LANGUAGE_MODEL) for each in ("model", place)]
    expected, found = models
    assert found.sites == expected.sites
    assert found.arrays.keys() == expected.arrays.keys()
    assert all(np.array_equal(found.arrays[name], array) for name, array in expected.arrays.items())
    assert not found.initialised


def test_texts_have_the_tokens_that_they_had(folder: Path) -> None:
    tokenizers = [load_tokenizer(locate(str(folder / each))) for each in ("model", "gguf/tiny.gguf")]
    texts = [row["response"] for row in rows(20)]
    ids = [tokenizer(texts, add_special_tokens=False)["input_ids"] for tokenizer in tokenizers]
    assert ids[0] == ids[1]
    assert tokenizers[0].pad_token_id == tokenizers[1].pad_token_id == 0


def test_shapes_are_those_of_the_config_json(folder: Path) -> None:
    models = [str(folder / each) for each in ("model", "gguf/tiny.gguf")]
    expected, found = (causal_spec(each, seq_len=32, response_len=8) for each in models)
    assert found.n_parameters == expected.n_parameters
    assert (found.n_layers, found.n_heads, found.n_kv_heads, found.head_size) == (3, 4, 2, 8)


def test_a_run_trains_on_it(folder: Path, tmp_path: Path) -> None:
    chosen = (
        "task.kind=causal", f"model.train={folder / 'gguf' / 'tiny.gguf'}", "model.price=trained", "rounds=1",
        f"data.source={write_rows(tmp_path / 'rows.jsonl')}", "data.prompt_column=prompt",
        "data.response_column=response", "data.seq_len=64", "testbed.n_devices=2", "training.local_steps=1",
    )  # fmt: skip
    finished = in_process("run", "--backend", "inline", "--out", str(tmp_path / "run"), *settings(chosen))
    assert finished.returncode == 0, finished.stderr

    from peft import AutoPeftModelForCausalLM

    # As docs/model-and-data.md has it.
    adapted = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "run" / "adapter", gguf_file="tiny.gguf")
    assert any(parameter.abs().max() > 0 for name, parameter in adapted.named_parameters() if "lora_B" in name)

    # The folder may hold a second file by now.
    (folder / "gguf" / "other.gguf").write_bytes(b"GGUF")
    try:
        merged = in_process("merge", str(tmp_path / "run"), "--out", str(tmp_path / "merged"))
    finally:
        (folder / "gguf" / "other.gguf").unlink()
    assert merged.returncode == 0, merged.stderr
    found = load_model(str(tmp_path / "merged"), 0, seed=1, role=LANGUAGE_MODEL)
    expected = adapted.merge_and_unload().state_dict()
    assert all(np.allclose(found.arrays[name], expected[name], atol=1e-6) for name in found.arrays)


def test_several_files_in_a_directory_are_told_apart_by_name(folder: Path, tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes((folder / "gguf" / "tiny.gguf").read_bytes())
    with pytest.raises(DataError, match=r"holds 2 GGUF files; give one of them: a\.gguf, b\.gguf$"):
        locate(str(tmp_path))


def test_without_the_package_it_is_said_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"'tiny\.gguf' is a GGUF file.*pip install 'jetbed\[gguf\]'$"):
        locate(str(folder / "gguf" / "tiny.gguf"))


def test_what_is_no_gguf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF but not for long")
    with pytest.raises(DataError, match=r"cannot read '.*broken\.gguf' as a GGUF file: .*; copy it again, whole$"):
        locate(str(tmp_path / "broken.gguf"))


def test_other_architectures_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    file = save_tiny_gguf(folder / "model", tmp_path / "other.gguf", architecture="falcon")
    with pytest.raises(DataError, match=r"of the architecture 'falcon'; GGUF files of these can be used: llama, "):
        locate(file)


def test_a_file_that_is_not_there_is_said_to_be_missing() -> None:
    with pytest.raises(DataError, match=r"there is no GGUF file 'models/none\.gguf'"):
        locate("models/none.gguf")
