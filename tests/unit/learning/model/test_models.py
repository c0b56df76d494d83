"""Loading: what is drawn from the seed, which modules are found, and what the messages say."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, GPTNeoXConfig

from emulator.errors import DataError
from emulator.learning.model.loading import load_model
from emulator.learning.model.places import locate
from emulator.learning.model.tokenizer import load_tokenizer
from tests.unit.learning.tiny_models import CONFIGS, N_LABELS, save_tiny_model, tiny_content

HEADS = {
    "bert": (["classifier"], ["classifier"]),
    "roberta": (["classifier.out_proj"], ["classifier.dense", "classifier.out_proj"]),
    "camembert": (["classifier.out_proj"], ["classifier.dense", "classifier.out_proj"]),
    "roberta-prelayernorm": (["classifier.out_proj"], ["classifier.dense", "classifier.out_proj"]),
    "distilbert": (["classifier"], ["pre_classifier", "classifier"]),
    "llama": (["score"], ["score"]),
    "mpnet": (["classifier.out_proj"], ["classifier.dense", "classifier.out_proj"]),
    "deberta-v3": (["classifier"], ["pooler.dense", "classifier"]),
    "deberta-v2": (["classifier"], ["pooler.dense", "classifier"]),
    "gpt2": (["score"], ["score"]),
    "phi3": (["score"], ["score"]),
    "modernbert": (["classifier"], ["head.dense", "classifier"]),
    "albert": (["classifier"], ["classifier"]),
}
USUAL = {"query", "key", "value", "attention_output", "mlp_up", "mlp_down"}
TARGETS = {
    "llama": USUAL | {"mlp_gate"},
    "gpt2": {"query_key_value", "attention_output", "mlp_up", "mlp_down"},
    "phi3": {"query_key_value", "attention_output", "mlp_gate_up", "mlp_down"},
    "modernbert": {"query_key_value", "attention_output", "mlp_gate_up", "mlp_down"},
}


@pytest.mark.parametrize("family", CONFIGS)
def test_sites_and_heads_of_every_family(family: str, tmp_path: Path) -> None:
    folder = save_tiny_model(family, tmp_path)
    output, full = (load_model(folder, N_LABELS, seed=0, head=head) for head in ("output", "full"))  # type: ignore[arg-type]
    assert set(output.sites) == {(layer, target) for layer in range(3) for target in TARGETS.get(family, USUAL)}
    assert (list(output.head), list(full.head)) == HEADS[family]
    assert all(name.startswith("head.") for name in full.head_arrays())


def test_a_new_head_is_drawn_from_the_seed(tmp_path: Path) -> None:
    folder = save_tiny_model("bert", tmp_path)
    first, again, other = (load_model(folder, N_LABELS, seed=seed).head_arrays() for seed in (0, 0, 1))
    assert first["head.classifier.weight"].shape == (N_LABELS, 16)
    assert np.array_equal(first["head.classifier.weight"], again["head.classifier.weight"])
    assert not np.array_equal(first["head.classifier.weight"], other["head.classifier.weight"])


def test_loading_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    folder = save_tiny_model("bert", tmp_path)
    before = torch.random.get_rng_state()
    load_model(folder, N_LABELS, seed=0).build()
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_head_for_other_classes_is_replaced(tmp_path: Path) -> None:
    AutoModelForSequenceClassification.from_config(CONFIGS["bert"]).save_pretrained(tmp_path)  # has 2 classes
    model = load_model(str(tmp_path), 5, seed=0)
    assert model.arrays["classifier.weight"].shape == (5, 16)
    assert "classifier.weight" in model.initialised


def test_a_rebuilt_model_has_the_logits_of_the_loaded_one(tmp_path: Path) -> None:
    content = tiny_content("roberta", tmp_path)
    ids = torch.tensor([[5, 6, 7, 8]])
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=N_LABELS).eval()
    ours = content.model.build()
    with torch.no_grad():
        assert torch.equal(base.roberta(ids).last_hidden_state, ours.roberta(ids).last_hidden_state)


def refusal(train: str) -> str:
    with pytest.raises(DataError) as caught:
        load_model(train, N_LABELS, seed=0)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    assert "there is no directory" in refusal(str(tmp_path / "nowhere"))


def test_an_unknown_builtin_is_refused_with_what_there_is() -> None:
    assert "no built-in model 'builtin:tiny-99'; there are: " in refusal("builtin:tiny-99")


def test_a_directory_without_config_is_refused(tmp_path: Path) -> None:
    assert "has no config.json" in refusal(str(tmp_path))


def test_a_broken_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{]")
    assert "cannot read the configuration" in refusal(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    save_tiny_model("bert", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    assert "it needs a model.safetensors" in refusal(str(tmp_path))


def test_a_broken_weight_file_is_refused(tmp_path: Path) -> None:
    save_tiny_model("bert", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    assert "cannot load the weights" in refusal(str(tmp_path))


def test_weights_of_other_shapes_are_refused(tmp_path: Path) -> None:
    save_tiny_model("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    assert "do not have the shapes" in refusal(str(tmp_path))


def test_a_model_that_cannot_classify_is_refused(tmp_path: Path) -> None:
    shutil.copy(__file__, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    assert "models of the family 'vit' cannot be used; those of these families can: bert, " in refusal(str(tmp_path))


def test_a_model_without_separate_query_and_value_is_refused(tmp_path: Path) -> None:
    config = GPTNeoXConfig(
        vocab_size=20, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    assert "models of the family 'gpt_neox' cannot be used" in refusal(str(tmp_path))


def changed_checkpoint(
    folder: Path, config: dict[str, Any] | None = None, family: str = "bert", **weights: torch.Tensor | None
) -> str:
    """A tiny model with other values in its config.json, or other weights; None removes those with the name's start."""
    save_tiny_model(family, folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | (config or {})))
    arrays = load_file(folder / "model.safetensors")
    for start, value in weights.items():
        if value is None:
            arrays = {name: array for name, array in arrays.items() if not name.startswith(start)}
        else:
            arrays[start] = value
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


@pytest.mark.parametrize(
    ("config", "weights", "said"),
    [
        (
            {"num_hidden_layers": 5},
            {},
            "lack bert.encoder.layer.3.attention.output.LayerNorm.bias, "
            "bert.encoder.layer.3.attention.output.LayerNorm.weight, "
            "bert.encoder.layer.3.attention.output.dense.bias and 29 more,",
        ),
        ({}, {"": None}, "lack bert.embeddings.LayerNorm.bias, "),
        ({}, {"embeddings.word_embeddings": None}, "lack bert.embeddings.word_embeddings.weight, which"),
    ],
)
def test_a_checkpoint_that_lacks_layers_or_embeddings_is_refused(
    config: dict[str, Any], weights: dict[str, None], said: str, tmp_path: Path
) -> None:
    message = refusal(changed_checkpoint(tmp_path, config, **weights))
    assert said in message
    assert "model.safetensors" not in message


def test_the_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    other = Path(save_tiny_model("llama", tmp_path / "other"))
    save_tiny_model("bert", tmp_path / "model")
    shutil.copy(other / "model.safetensors", tmp_path / "model" / "model.safetensors")
    assert "lack bert.embeddings.LayerNorm.bias, " in refusal(str(tmp_path / "model"))


@pytest.mark.parametrize("family", ["llama", "roberta-prelayernorm"])
def test_a_missing_last_norm_is_refused(family: str, tmp_path: Path) -> None:
    start = {"llama": "norm", "roberta-prelayernorm": "LayerNorm"}[family]
    assert " lack " in refusal(changed_checkpoint(tmp_path, family=family, **{start: None}))


def test_a_missing_pooler_is_drawn_from_the_seed(tmp_path: Path) -> None:
    model = load_model(changed_checkpoint(tmp_path, pooler=None), N_LABELS, seed=0)
    assert "bert.pooler.dense.weight" in model.initialised


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    broken = {"embeddings.word_embeddings.weight": torch.full((50, 16), value)}
    message = refusal(changed_checkpoint(tmp_path, **broken))
    assert "hold numbers that are not finite: bert.embeddings.word_embeddings.weight;" in message


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"hidden_size": "x"}, "field 'hidden_size': TypeError: Field 'hidden_size' expected int, got str"),
        ({"vocab_size": None}, "field 'vocab_size': TypeError: Field 'vocab_size' expected int, got NoneType"),
        ({"num_attention_heads": 0}, "ZeroDivisionError: "),
        ({"num_attention_heads": 3}, "is not a multiple of the number of attention heads"),
        ({"pad_token_id": 999}, "Padding_idx must be within"),
        ({"model_type": []}, "config.json needs model_type, a text"),
        ({"id2label": 3}, "cannot read the configuration"),
    ],
)
def test_impossible_values_of_a_config_are_refused(config: dict[str, Any], said: str, tmp_path: Path) -> None:
    message = refusal(changed_checkpoint(tmp_path, config))
    assert said in message
    assert "correct its config.json" in message or "config.json needs" in message
    assert "model.safetensors" not in message


@pytest.mark.skipif(find_spec("optimum") is not None, reason="needs a machine without this library")
def test_a_quantized_checkpoint_is_refused(tmp_path: Path) -> None:
    message = refusal(changed_checkpoint(tmp_path, {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    assert "quantized weights need libraries that jetbed does not use" in message


def test_a_broken_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_model("bert", tmp_path)
    (tmp_path / "tokenizer.json").write_text("{]")
    with pytest.raises(DataError, match="no tokenizer that transformers can load"):
        load_tokenizer(locate(folder))
