"""What full fine-tuning ships and costs: closed forms."""

import numpy as np
import pytest

from emulator.forms.full import FullForm
from emulator.forms.layerwise import LayerwiseAssignment
from emulator.forms.lora import LoraAssignment
from emulator.records import WorkKind
from emulator.seeds import Seeds
from emulator.shapes.catalog import causal_spec, model_spec
from emulator.testing import tiny_model
from emulator.world.price.memory import peak_memory
from emulator.world.price.step_kinds import step_of

ROBERTA = model_spec("roberta-base", n_labels=2, seq_len=128, head="output")
QWEN = causal_spec("qwen2.5-0.5b", seq_len=128, response_len=16)
EVERYTHING = FullForm(trains_embeddings=True)
H, M = 768, 3072
N_LAYER = 4 * (H * H + H) + 2 * H * M + M + H + 4 * H  # four maps, the feed-forward part, two norms
N_HEAD = H * H + H + 2 * H + 2


def training(depth: int) -> LayerwiseAssignment:
    return LayerwiseAssignment(device_id=0, n_steps=2, batch_size=4, learning_rate=0.1, depth=depth)


def test_a_layer_is_its_matrices_and_an_array_of_all_else() -> None:
    arrays = FullForm(depth=1).initial(tiny_model(4), Seeds(0))
    assert {name: array.shape for name, array in arrays.items()} == {
        **{f"layers.3.{name}.weight": (16, 16) for name in ("query", "key", "value", "attention_output")},
        "layers.3.mlp_up.weight": (32, 16),
        "layers.3.mlp_down.weight": (16, 32),
        "layers.3.others": (5 * 16 + 32 + 4 * 16,),  # six biases, two norms of two arrays each
    }


@pytest.mark.parametrize("depth", [1, 12])
def test_bytes_are_those_of_the_layers_and_the_whole_head(depth: int) -> None:
    form = FullForm(depth=depth)
    assert form.download_bytes(training(depth), ROBERTA) == 4 * (depth * N_LAYER + N_HEAD)
    assert form.upload_bytes(training(depth), ROBERTA) == form.download_bytes(training(depth), ROBERTA)


@pytest.mark.parametrize("model", [ROBERTA, QWEN], ids=["roberta", "qwen"])
def test_with_embeddings_every_parameter_travels_and_has_a_gradient_and_two_moments(model: object) -> None:
    spec = ROBERTA if model is ROBERTA else QWEN
    everything = training(spec.n_layers)
    assert EVERYTHING.upload_bytes(everything, spec) == 4 * spec.n_parameters
    assert sum(array.size for array in EVERYTHING.initial(spec, Seeds(0)).values()) == (
        spec.n_parameters - spec.n_head_parameters
    )
    use = peak_memory(spec, EVERYTHING.work(everything, spec), "fp32")
    assert (use.weights_bytes, use.optimizer_bytes) == (4 * spec.n_parameters, 12 * spec.n_parameters)


def test_biases_of_qwens_attention_count_as_their_layers() -> None:
    # 24 layers of width 896 with 14 heads and 2 key-value heads of 64: biases of query, key and value
    assert QWEN.n_layer_extras == 14 * 64 + 2 * 2 * 64
    form, one = FullForm(depth=1), training(1)
    assert step_of(QWEN, form.work(one, QWEN)).n_trained_parameters == QWEN.n_layer_parameters + QWEN.n_layer_extras
    assert form.upload_bytes(one, QWEN) == 4 * (QWEN.n_layer_parameters + QWEN.n_layer_extras)


def test_without_embeddings_they_cost_no_optimizer_at_any_depth() -> None:
    form, all_layers = FullForm(), training(12)
    work = form.work(all_layers, ROBERTA)
    assert work.kind is WorkKind.LAYERS
    assert peak_memory(ROBERTA, work, "fp32").optimizer_bytes == 12 * (12 * N_LAYER + N_HEAD)


def test_what_is_projected_is_the_state_and_comes_back_whole() -> None:
    form = FullForm(depth=2)
    state = {name: array + 1 for name, array in form.initial(tiny_model(4), Seeds(0)).items()}
    payload = form.project(state, training(2))
    assert payload.keys() == state.keys()
    assert all(np.array_equal(payload[name], state[name]) for name in state)


def test_embeddings_are_trained_only_where_all_layers_are() -> None:
    with pytest.raises(ValueError, match=r"only where all layers are.*a depth of 2 of 4 layers"):
        FullForm(depth=2, trains_embeddings=True).check_model(tiny_model(4))
    with pytest.raises(ValueError, match=r"between 1 and the model.s 4 layers, got 5"):
        FullForm(depth=5).check_model(tiny_model(4))
    FullForm(depth=4, trains_embeddings=True).check_model(tiny_model(4))


def test_all_devices_train_the_same_layers() -> None:
    with pytest.raises(ValueError, match="the form's 2 layers, which all devices train, got 1"):
        FullForm(depth=2).check(training(1), tiny_model(4))
    lora = LoraAssignment(device_id=0, n_steps=1, batch_size=1, learning_rate=0.1, ranks=(1,) * 4, depth=2)
    with pytest.raises(ValueError, match="takes a LayerwiseAssignment, not a LoraAssignment"):
        FullForm(depth=2).check(lora, tiny_model(4))
