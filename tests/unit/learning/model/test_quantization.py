"""Quantized activations: right on average, small while they are held, and the same whoever shares the pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from transformers import BertConfig

from emulator.backends.stacks import stacks
from emulator.forms.lora import LoraAssignment, LoraForm
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.local_training import LocalTraining
from emulator.learning.model.quantization import ActivationQuantizer, Quantized, dequantize, quantize, rounding_noise
from emulator.learning.settings import NumericSettings
from emulator.learning.tasks.local import train_adapter
from emulator.records import Arrays, Job
from emulator.shapes.catalog import model_spec_from_config
from emulator.shapes.design import as_stored
from emulator.world.price.memory import peak_memory
from tests.unit.learning.tiny_models import CONFIGS, tiny_content

SETTINGS = NumericSettings(run_seed=7, weight_decay=0.01)
N_DRAWS = 64


def keys(n: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(-(2**31), 2**31, n, dtype=np.int32))


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", [(6, 5, 64), (2, 128), (4, 3, 17), (4, 100), (3, 3, 3)])
def test_what_is_restored_is_off_by_less_than_a_step(bits: int, shape: tuple[int, ...]) -> None:
    x = normal(*shape) * 10 + 3
    kept = quantize(x, bits, rounding_noise(keys(shape[0]), 0, shape))
    restored = dequantize(kept)
    assert (restored.shape, restored.dtype) == (x.shape, x.dtype)
    steps = kept.step.float().repeat_interleave(min(shape[-1], 64), dim=-1)[..., : shape[-1]]
    assert ((restored - x).abs() < steps * (1 + 1e-5)).all()


@pytest.mark.parametrize(("bits", "n_bytes"), [(8, 6 * 130 + 6 * 3 * 4), (4, 6 * 65 + 6 * 3 * 4)])
def test_bytes_are_codes_and_four_for_each_group_of_sixty_four(bits: int, n_bytes: int) -> None:
    # 130 elements are two groups of 64 and one of 2.
    kept = quantize(normal(6, 130), bits, torch.zeros(6, 130))
    assert kept.n_bytes == n_bytes


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_is_right_on_average_and_rounding_down_is_not(bits: int) -> None:
    x = normal(1, 40).repeat(4096, 1)
    kept = quantize(x, bits, rounding_noise(keys(4096), 0, x.shape))
    step = float(kept.step[0, 0])
    # The mean of 4096 draws is within 5 standard errors, each at most half a step / 64.
    assert (dequantize(kept).mean(dim=0) - x[0]).abs().max() < 5 * step / 128
    down = dequantize(quantize(x, bits, torch.full(x.shape, -0.5))).mean(dim=0) - x[0]
    assert down.mean() < -0.3 * step


def test_zeros_that_pad_change_nothing_and_stay_zero() -> None:
    shares = torch.softmax(normal(8, 20), dim=-1)
    padded = torch.nn.functional.pad(shares, (0, 13))
    alone = dequantize(quantize(shares, 4, rounding_noise(keys(8), 5, shares.shape)))
    together = dequantize(quantize(padded, 4, rounding_noise(keys(8), 5, padded.shape)))
    assert torch.equal(together[:, :20], alone)
    assert (together[:, 20:] == 0).all()


def test_layout_and_precision_come_back() -> None:
    x = normal(4, 6, 8).bfloat16().transpose(1, 2)
    restored = dequantize(quantize(x, 8, torch.zeros(x.shape)))
    assert (restored.stride(), restored.dtype) == (x.stride(), torch.bfloat16)


def test_noise_is_uniform_and_neighbours_differ() -> None:
    noise = rounding_noise(keys(64), 3, (128, 20, 40))
    n = noise.numel()
    assert float(noise.abs().max()) <= 0.5
    assert float(noise.mean()) == pytest.approx(0, abs=5 * (1 / 12 / n) ** 0.5)
    assert float(noise.var()) == pytest.approx(1 / 12, rel=0.02)
    for axis, size in enumerate(noise.shape):
        products = noise.narrow(axis, 0, size - 1) * noise.narrow(axis, 1, size - 1)
        assert float(products.mean() * 12) == pytest.approx(0, abs=5 / n**0.5)


def test_noise_of_an_element_depends_on_its_row_s_key_and_place_alone() -> None:
    few = rounding_noise(keys(3), 2, (6, 4, 5))
    many = rounding_noise(torch.cat((keys(3), keys(2, seed=1))), 2, (10, 9, 7))
    assert torch.equal(many[:6, :4, :5], few)
    assert not torch.equal(rounding_noise(keys(3), 3, (6, 4, 5)), few)
    assert not torch.equal(rounding_noise(keys(3, seed=1), 2, (6, 4, 5)), few)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return tiny_content("bert", tmp_path_factory.mktemp("bert"))


def server_state(content: HostContent, form: LoraForm) -> Arrays:
    rng = np.random.default_rng(5)
    state = dict(content.model.head_arrays())
    targets = as_stored(form.targets, {target for _, target in content.model.sites})
    for (layer, target), weight in content.model.weights(list(content.model.sites)).items():
        if target in targets:
            out_features, in_features = weight.shape
            for name, shape in (
                ("lora_A", (form.ranks[layer], in_features)),
                ("lora_B", (out_features, form.ranks[layer])),
            ):
                state[f"layers.{layer}.{target}.{name}"] = rng.normal(0, 0.2, shape).astype(np.float32)
    return state


def job(state: Arrays, device_id: int, round_index: int = 0, **changes: Any) -> Job:
    n_layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("layers."))
    usual = {"n_steps": 3, "batch_size": 4, "learning_rate": 2e-3, "ranks": (4,) * n_layers, "depth": n_layers}
    return Job(
        device_id=device_id,
        round_index=round_index,
        inner_round=0,
        assignment=LoraAssignment(device_id=device_id, **(usual | changes)),
        state=state,
    )


FORM = LoraForm(ranks=(4, 4, 4))


def gradients(content: HostContent, jobs: Sequence[Job]) -> Tensor:
    """Those of one local step, a row for each job."""
    found = []

    class Recording(LocalTraining):
        def after_step(self, step: int, n_active: int) -> None:
            found.append(self.adapters.stack.gradients.clone())

    Recording(DeviceHost(content, SETTINGS), FORM, jobs).run()
    return found[0]


def mean_square_z(content: HostContent, bits: int) -> float:
    """Of the mean over draws against the exact gradient, over all coordinates: 1 where the mean is unbiased."""
    state = server_state(content, FORM)
    everything = {"n_steps": 1, "batch_size": 20}  # all rows of the device, in whatever order
    exact = gradients(content, [job(state, 0, **everything)])[0]
    quantized = everything | {"quantized_layers": 3, "activation_bits": bits}
    drawn = gradients(content, [job(state, 0, number, **quantized) for number in range(N_DRAWS)])
    varies = drawn.std(dim=0) > 1e-6 * exact.abs().max()
    assert varies.float().mean() > 0.5  # all of the adapters; the head above them is exact
    z = (drawn.mean(dim=0) - exact) / (drawn.std(dim=0) / N_DRAWS**0.5)
    return float((z[varies] ** 2).mean())


@pytest.mark.parametrize("bits", [4, 8])
def test_gradients_are_right_on_average(content: HostContent, bits: int) -> None:
    assert mean_square_z(content, bits) < 1.5


@pytest.mark.parametrize("bits", [4, 8])
def test_gradients_would_be_biased_if_activations_were_rounded_down(
    content: HostContent, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mostly_down(row_keys: Tensor, number: int, shape: Sequence[int]) -> Tensor:
        return rounding_noise(row_keys, number, shape) / 2 - 0.25

    monkeypatch.setattr("emulator.learning.model.quantization.rounding_noise", mostly_down)
    assert mean_square_z(content, bits) > 3


def test_without_quantized_layers_the_bytes_are_those_of_exact_training(content: HostContent) -> None:
    state = server_state(content, FORM)
    host = DeviceHost(content, SETTINGS)
    plain, off, on = (
        host.train(train_adapter, FORM, [job(state, device, **changes) for device in range(3)])
        for changes in ({}, {"activation_bits": 4}, {"activation_bits": 4, "quantized_layers": 1})
    )
    for before, after, quantized in zip(plain, off, on, strict=True):
        assert all(np.array_equal(before.payload[name], after.payload[name]) for name in before.payload)
        assert any(not np.array_equal(before.payload[name], quantized.payload[name]) for name in before.payload)


SETTINGS_BY_DEVICE = [
    {"depth": 3, "quantized_layers": 3, "activation_bits": 8},
    {"depth": 3, "quantized_layers": 3, "activation_bits": 8, "batch_size": 7, "n_steps": 2},
    {"depth": 2, "quantized_layers": 1, "activation_bits": 4},
    {"depth": 3, "quantized_layers": 3, "activation_bits": 8, "batch_size": 1, "ranks": (1, 2, 4)},
    {"depth": 3, "quantized_layers": 3, "activation_bits": 8, "ranks": (0, 2, 4)},
]


WRITTEN_OUT = ("mpnet", "deberta-v2", "deberta-v3")
"""Families whose attention keeps keys with tokens last, so that groups would reach into other rows."""


@pytest.mark.parametrize("family", WRITTEN_OUT)
def test_activations_of_attention_that_is_written_out_are_not_quantized(family: str, tmp_path: Path) -> None:
    config = tiny_content(family, tmp_path).model.config
    model = model_spec_from_config(config, n_labels=3, seq_len=8, name=family, head="output")
    plain = LoraAssignment(device_id=0, n_steps=1, batch_size=1, learning_rate=1e-3, ranks=(4, 4, 4), depth=3)
    FORM.check(plain, model)
    with pytest.raises(ValueError, match=f"quantized_layers must be 0 for {family}: its attention is written out"):
        FORM.check(replace(plain, quantized_layers=1), model)


@pytest.mark.parametrize("family", [family for family in CONFIGS if family not in WRITTEN_OUT])
def test_devices_that_differ_train_as_if_alone(family: str, tmp_path: Path) -> None:
    # torch computes a decoder's attention in another way where nothing is padded, and then keeps other tensors.
    content = tiny_content(family, tmp_path, n_devices=5, full=family in ("llama", "gpt2", "phi3"))
    state = server_state(content, FORM)
    jobs = [job(state, device, **changes) for device, changes in enumerate(SETTINGS_BY_DEVICE)]
    host = DeviceHost(content, SETTINGS)
    parts = stacks(jobs, devices_stacked=4)
    assert sorted(len(part) for part in parts) == [1, 1, 3]
    together = {update.device_id: update.payload for part in parts for update in host.train(train_adapter, FORM, part)}
    # A layer that is computed again and again rounds its own rounding.
    most = 1e-5 if family == "albert" else 1e-6
    for one in jobs:
        [alone] = host.train(train_adapter, FORM, [one])
        assert set(alone.payload) == set(together[one.device_id])
        for name, array in alone.payload.items():
            np.testing.assert_allclose(together[one.device_id][name], array, rtol=0, atol=most)


def wide_content(folder: Path) -> tuple[HostContent, dict[str, Any]]:
    """Twelve layers with heads of 64 and sentences of 64 tokens without padding, so that every group is full."""
    config = BertConfig(
        vocab_size=50, hidden_size=128, intermediate_size=512, num_hidden_layers=12, num_attention_heads=2,
        max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    CONFIGS["wide"] = config
    try:
        return tiny_content("wide", folder, full=True, seq_len=64), config.to_dict()
    finally:
        del CONFIGS["wide"]


@dataclass
class Held:
    """What a step holds for its backward pass."""

    tensors: dict[int, Tensor] = field(default_factory=dict)  # by the address of their storage
    quantized: dict[int, Quantized] = field(default_factory=dict)
    originals: list[Any] = field(default_factory=list)
    n_alive: int = 0

    @property
    def n_bytes(self) -> int:
        exact = sum(tensor.untyped_storage().nbytes() for tensor in self.tensors.values())
        return exact + sum(kept.n_bytes for kept in self.quantized.values())


def held_for_backward(content: HostContent, form: LoraForm, one: Job, monkeypatch: pytest.MonkeyPatch) -> Held:
    host, held = DeviceHost(content, SETTINGS), Held()
    owned = {parameter.untyped_storage().data_ptr() for parameter in host.model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in owned:
            held.tensors[address] = tensor
        return tensor

    def spied(quantizer: ActivationQuantizer, *arguments: Any) -> Any:
        inner = original(quantizer, *arguments)

        def pack(tensor: Tensor) -> Tensor | Quantized:
            kept = inner(tensor)
            if isinstance(kept, Quantized):
                held.quantized[id(kept)] = kept
                held.originals.append(StorageWeakRef(tensor.untyped_storage()))  # type: ignore[no-untyped-call]
                return kept
            return keep(kept)

        return pack

    class Measured(LocalTraining):
        def penalty(self, n_active: int) -> None:
            owned.add(self.adapters.stack.values.untyped_storage().data_ptr())
            held.n_alive = sum(not reference.expired() for reference in held.originals)

    original = ActivationQuantizer._pack
    monkeypatch.setattr(ActivationQuantizer, "_pack", spied)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        Measured(host, form, [one]).run()
    monkeypatch.undo()
    return held


@pytest.mark.parametrize("bits", [4, 8])
def test_memory_held_for_backward_falls_as_it_is_priced(
    tmp_path: Path, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, config = wide_content(tmp_path)
    form = LoraForm(ranks=(4,) * 12)
    model = model_spec_from_config(config, name="wide", n_labels=3, seq_len=64, head="output")
    held, priced = {}, {}
    for n_quantized in (0, 6, 11, 12):
        one = job(
            server_state(content, form), 0, n_steps=1, batch_size=8, quantized_layers=n_quantized, activation_bits=bits
        )
        held[n_quantized] = held_for_backward(content, form, one, monkeypatch)
        priced[n_quantized] = peak_memory(model, form.work(one.assignment, model), "fp32").activations_bytes
        assert held[n_quantized].n_alive == 0  # nothing of what was quantized is still there beside its codes
    for few, many in ((0, 6), (6, 11)):
        saved = held[few].n_bytes - held[many].n_bytes
        assert saved == pytest.approx(priced[few] - priced[many], rel=0.03)
    # Of the last layer only the first token is computed here, while a price is that of the whole layer.
    assert held[12].n_bytes < held[11].n_bytes
    assert held[12].n_bytes / held[0].n_bytes == pytest.approx(priced[12] / priced[0], abs=0.02)
