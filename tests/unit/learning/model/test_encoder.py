"""The layers' own way of computing gives what transformers gives, forward and backward."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emulator.learning.data.batches import make_batch
from emulator.learning.model import attention, encoder
from emulator.learning.model.encoder import speed_up
from emulator.learning.model.linear import low_rank_map
from tests.unit.learning.tiny_models import CONFIGS, tiny_content


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("full", [True, False], ids=["no padding", "padding"])
@pytest.mark.parametrize("joined", [True, False], ids=["joined", "separate"])
@pytest.mark.parametrize("family", CONFIGS)
def test_logits_are_those_of_transformers(
    family: str, joined: bool, full: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not joined:
        monkeypatch.setattr(encoder, "MOST_JOINED_BYTES", 0)
    content = tiny_content(family, tmp_path, full=full)
    fast: Any = content.model.build()
    plain: Any = content.model.build()
    speed_up(fast, content.model)
    batch = make_batch(np.arange(9), content.test, "cpu")
    assert (batch.attention_mask is None) == full
    with torch.no_grad():
        ours, theirs = (
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits for model in (fast, plain)
        )
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("longest", [attention.LONGEST, 0], ids=["batched products", "tiled kernel"])
def test_attention_is_torchs_forward_and_backward(masked: bool, longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "LONGEST", longest)
    n, length, n_heads, size = 3, 5, 2, 4
    qkv = random(n, length, 3 * n_heads * size).requires_grad_()
    mask = torch.arange(length) < torch.tensor([5, 2, 3])[:, None, None, None] if masked else None
    ours = attention.self_attention(qkv, n_heads, mask)
    query, key, value = qkv.view(n, length, 3, n_heads, size).permute(2, 0, 3, 1, 4)
    theirs = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).reshape(n, length, -1)
    weights = random(n, length, n_heads * size)
    gradients = [torch.autograd.grad((y * weights).sum(), qkv)[0] for y in (ours, theirs)]
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5)


@pytest.mark.parametrize("masked", [True, False])
def test_the_first_token_attends_as_among_all(masked: bool) -> None:
    qkv = random(3, 5, 24)
    mask = torch.arange(5) < torch.tensor([5, 2, 3])[:, None, None, None] if masked else None
    alone = attention.first_token_attention(qkv[:, :1, :8], qkv[:, :, 8:], 2, mask)
    assert torch.allclose(alone, attention.self_attention(qkv, 2, mask)[:, :1], atol=1e-6)


@pytest.mark.parametrize("adapted", [(), (0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("joined", [True, False])
def test_projections_have_the_gradients_of_their_definition(adapted: tuple[int, ...], joined: bool) -> None:
    n, rows, width, scaling = 3, 4, 6, 1.5
    x = random(n * rows, 2, width).requires_grad_()
    weight, bias = random(3 * width, width), random(3 * width)
    maps = [(weight, bias)] if joined else list(zip(weight.split(width), bias.split(width), strict=True))
    pairs = {part: (random(n, 2, width + part)[..., :width].requires_grad_(), random(n, width, 2)) for part in adapted}
    for _, lora_b in pairs.values():
        lora_b.requires_grad_()
    ours = low_rank_map(x, maps, [pairs.get(part) for part in range(3)], scaling)
    expected = F.linear(x, weight, bias).view(n, -1, 3, width).unbind(2)
    by_device = x.view(n, -1, width)
    theirs = torch.stack(
        [
            y + scaling * by_device @ pairs[part][0].mT @ pairs[part][1].mT if part in pairs else y
            for part, y in enumerate(expected)
        ],
        dim=2,
    ).view(ours.shape)
    leaves = [x, *(leaf for pair in pairs.values() for leaf in pair)]
    weights = random(*ours.shape)
    assert torch.allclose(ours, theirs, atol=1e-5)
    for one, other in zip(*(torch.autograd.grad((y * weights).sum(), leaves) for y in (ours, theirs)), strict=True):
        assert torch.allclose(one, other, atol=1e-4)
