"""Frozen weights in few bits are those of QLoRA and LLM.int8(), by hand where a block is small enough."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emulator.learning.blockwise import dynamic_map, normal_float
from emulator.learning.model.base_weights import Nf4Weight, in_precision, stored
from emulator.records import BasePrecision, Work
from emulator.shapes.catalog import model_spec_from_config
from emulator.world.price.base_weights import BaseWeights
from emulator.world.price.layers import Layers
from tests.unit.learning.tiny_models import tiny_content


def weight(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def test_a_block_of_nf4_by_hand() -> None:
    """One scale, which is its own mean: nothing is left of it to be rounded."""
    block = torch.zeros(64)
    block[:5] = torch.tensor([2.0, -2.0, 1.0, -0.1, 0.15])
    kept = stored(block.view(8, 8), "nf4")
    # In units of 2: 1, -1, 0.5 (0.4407 is nearer than 0.5626), -0.05 (to -0.0911) and 0.075 (to 0.0796); zeros stay.
    by_hand = torch.zeros(64)
    by_hand[:5] = 2 * torch.tensor([1.0, -1.0, 0.44070982933, -0.09105003625, 0.07958029956])
    assert kept.restored().flatten().tolist() == pytest.approx(by_hand.tolist(), abs=1e-6)


def test_scales_of_nf4_are_quantized_once_more() -> None:
    """Two blocks with scales 1 and 3: less their mean they are -1 and 1, in units of 1; -1 is not in the map."""
    parts = torch.zeros(2, 64)
    parts[0, 0], parts[1, 0] = 1.0, 3.0
    nearest_to_less_one = float(dynamic_map(signed=True)[0])  # 1 - 0.9 / 128, below zero
    assert nearest_to_less_one == pytest.approx(-(1 - 0.45 / 64))
    restored = stored(parts, "nf4").restored()
    assert float(restored[0, 0]) == pytest.approx(2.0 + nearest_to_less_one)
    assert float(restored[1, 0]) == pytest.approx(3.0)


def test_two_codes_of_nf4_share_a_byte_the_first_one_above() -> None:
    block = torch.zeros(1, 64)
    block[0, 0], block[0, 1] = 1.0, -1.0
    kept = stored(block, "nf4")
    assert isinstance(kept, Nf4Weight)
    assert kept.codes.tolist() == [15 << 4 | 0] + [7 << 4 | 7] * 31  # code 7 is zero


def test_int8_has_a_scale_for_each_row() -> None:
    restored = stored(torch.tensor([[127.0, -50.4, 0.6], [1.27, 0.0, -0.504]]), "int8").restored()
    assert restored.tolist() == [pytest.approx([127, -50, 1]), pytest.approx([1.27, 0, -0.50])]


def test_bfloat16_is_the_nearest() -> None:
    assert torch.equal(stored(weight(5, 7), "bfloat16").restored(), weight(5, 7).to(torch.bfloat16).float())


@pytest.mark.parametrize(("precision", "most"), [("bfloat16", 2**-8), ("int8", 0.5 / 127), ("nf4", 0.16)])
def test_a_weight_is_off_by_half_a_gap_of_its_code_book_at_the_most(precision: BasePrecision, most: float) -> None:
    """In units of the largest of its row or block; the widest gap of NF4 is 0.304, and scales are off by 0.7 %."""
    matrix = weight(96, 128)
    off = (stored(matrix, precision).restored() - matrix).abs().view(-1, 64)
    scales = matrix.abs().amax(dim=1, keepdim=True).repeat_interleave(2, 0)
    if precision == "nf4":
        scales = matrix.view(-1, 64).abs().amax(dim=1, keepdim=True)
        gap = float(normal_float().diff().max())
        assert most > gap / 2
    assert float((off / scales).max()) <= most


@pytest.mark.parametrize("precision", ["bfloat16", "int8", "nf4"])
@pytest.mark.parametrize("shape", [(1, 64), (128, 256), (100, 36)])
def test_what_is_stored_takes_the_bytes_that_are_priced(precision: BasePrecision, shape: tuple[int, int]) -> None:
    n_bytes = stored(weight(*shape), precision).n_bytes
    n = shape[0] * shape[1]
    n_blocks = -(-n // 64)
    expected = {
        "bfloat16": 2 * n,
        "int8": n + 4 * shape[0],
        "nf4": 32 * n_blocks + n_blocks + 4 * -(-n_blocks // 256) + 4,  # codes, scales, theirs, the mean
    }
    assert n_bytes == expected[precision]


def test_a_layer_is_priced_as_its_matrices_are_stored() -> None:
    config = {
        "model_type": "llama", "hidden_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 640, "vocab_size": 100, "max_position_embeddings": 64,
    }  # fmt: skip
    spec = model_spec_from_config(config, name="llama", n_labels=2, seq_len=8, head="output")
    one = Layers(spec, Work(n_steps=1, batch_size=1, seq_len=8, forward_layers=1, backward_layers=1))
    none = replace(one, work=replace(one.work, forward_layers=0, backward_layers=0, skipped_layers=1))
    for precision in ("bfloat16", "int8", "nf4"):
        sizes = [(spec.matrix(name).out_features, spec.matrix(name).in_features) for name in spec.matrices]
        n_bytes = sum(stored(weight(*size), precision).n_bytes for size in sizes) + 2 * 2 * 256  # and two norms
        priced = BaseWeights(one, "fp32", precision).held_bytes - BaseWeights(none, "fp32", precision).held_bytes
        assert priced == pytest.approx(n_bytes, rel=1e-4)  # parts of a block of scales, and means


def test_matrices_of_layers_are_stored_in_few_bits_the_rest_in_bfloat16_and_what_is_trained_as_it_is(
    tmp_path: Path,
) -> None:
    frozen = tiny_content("bert", tmp_path).model
    kept = in_precision(frozen, "nf4")
    assert in_precision(frozen, "float32") is frozen
    assert kept.arrays.keys() == frozen.arrays.keys()
    matrices = {f"{path}.weight" for path in frozen.sites.values()}
    trained = {name for name in frozen.arrays if name.startswith(f"{frozen.head['classifier']}.")}
    assert matrices
    assert trained
    for name, array in frozen.arrays.items():
        if not np.issubdtype(array.dtype, np.floating):
            assert kept.arrays[name] is array
            continue
        precision: BasePrecision = "nf4" if name in matrices else "bfloat16"
        expected = array if name in trained else stored(torch.tensor(array), precision).restored().numpy()
        assert np.array_equal(kept.arrays[name], expected)
        if name in matrices:
            assert not np.array_equal(kept.arrays[name], array)


def test_where_a_number_is_no_multiple_of_a_block_the_rest_is_a_shorter_one() -> None:
    matrix = weight(3, 30)
    restored = stored(matrix, "nf4").restored()
    assert restored.shape == matrix.shape
    assert float((restored - matrix).abs().max()) < 0.17 * float(matrix.abs().max())
