"""Nothing but safetensors of a model's own directory is read, and this is told before anything is loaded."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from emulator.errors import DataError
from emulator.learning.model.places import locate
from tests.unit.learning.tiny_models import save_tiny_model


def sharded(folder: Path, name: str) -> str:
    """A tiny model whose weights are one shard called ``name``, which an index names."""
    save_tiny_model("bert", folder)
    weights = load_file(folder / "model.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    if name.endswith(".bin"):
        torch.save(weights, folder / name)
    return str(folder)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "../model.safetensors", "/model.safetensors", "sub/x.safetensors"]
)
def test_an_index_names_safetensors_of_its_own_directory_alone(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"only \*\.safetensors in the model's own directory are read"):
        locate(sharded(tmp_path / "model", name))


def test_an_index_of_a_shard_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which is not there"):
        locate(sharded(tmp_path / "model", "model-1.safetensors"))


@pytest.mark.parametrize("content", ["{]", "[]", '{"weight_map": {}}', '{"weight_map": {"a": 1}}'])
def test_an_index_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    sharded(tmp_path, "model-1.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(DataError, match=r"model.train: model.safetensors.index.json"):
        locate(str(tmp_path))


def test_an_adapter_beside_the_weights_is_refused(tmp_path: Path) -> None:
    save_tiny_model("bert", tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(DataError, match="holds an adapter, too"):
        locate(str(tmp_path))


def test_weights_that_the_configuration_names_are_refused(tmp_path: Path) -> None:
    save_tiny_model("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"transformers_weights": "adapter_model.bin"}))
    with pytest.raises(DataError, match=r"names other weights than model.safetensors, 'adapter_model.bin'"):
        locate(str(tmp_path))


@pytest.mark.parametrize("family", ["bart", "mixtral", "unheard-of"])
def test_a_family_that_cannot_be_used_is_refused_before_its_weights_are_looked_for(family: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    with pytest.raises(DataError, match=f"family '{family}' cannot be used; those of these families can: bert, "):
        locate(str(tmp_path))


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("deberta", "since they store query, key and value as one matrix"),
        ("gpt_neox", "since they store query, key and value as one matrix"),
        ("gemma3", "since they take images, too"),
    ],
)
def test_a_well_known_family_that_does_not_fit_is_refused_with_the_reason(
    family: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    with pytest.raises(DataError, match=f"family '{family}' cannot be used, {reason}.*; those of these families can"):
        locate(str(tmp_path))


def test_a_directory_is_found_from_anywhere_by_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny_model("bert", tmp_path / "models" / "mine")
    monkeypatch.chdir(tmp_path)
    place = locate("models/mine")
    assert (place.base, place.revision) == (str(tmp_path / "models" / "mine"), None)
    assert place.weight_bytes == (tmp_path / "models" / "mine" / "model.safetensors").stat().st_size


def test_a_path_that_is_mistyped_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny_model("bert", tmp_path / "models" / "mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="there is no directory 'models/mien'"):
        locate("models/mien")
    shutil.rmtree(tmp_path / "models")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"there is no folder 'models/mine', and the hub was not asked \(offline\)"):
        locate("models/mine")
