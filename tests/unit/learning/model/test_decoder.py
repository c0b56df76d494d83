"""The decoder layers' own way of computing gives what transformers gives, forward and backward, without padding."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from emulator.learning.data.batches import ResidentTokens
from emulator.learning.data.tokens import TokenData
from emulator.learning.data.unpadded import unpadded
from emulator.learning.model import causal_attention as attention
from emulator.learning.model.causal_attention import Heads, TokenRows
from emulator.learning.model.decoder import (
    LAYOUTS,
    is_fast_decoder,
    speed_up_decoder,
    with_padding,
    without_padding,
)
from emulator.learning.model.gates_and_norms import RmsNorm, gated
from emulator.learning.model.loading import load_model
from emulator.learning.model.prefix import SkippableLayers
from emulator.learning.model.role import LANGUAGE_MODEL
from tests.unit.learning.tiny_decoders import FAMILIES, OTHERS, save_tiny_decoder

LENGTHS = np.array([23, 5, 40, 1, 17, 40], dtype=np.int32)
LONG = 40


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def tokens() -> TokenData:
    """Rows of unlike length, of which every second token is learnt."""
    ids = np.random.default_rng(2).integers(3, 300, (len(LENGTHS), LONG)).astype(np.int32)
    is_token = np.arange(LONG) < LENGTHS[:, None]
    scored = is_token & (np.arange(LONG) % 2 == 1)
    return TokenData(
        input_ids=np.where(is_token, ids, 0), lengths=LENGTHS, labels=np.zeros(len(LENGTHS), np.int64), scored=scored
    )


@pytest.mark.parametrize("longest", [attention.LONGEST, 0], ids=["batched products", "tiled kernel"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in OTHERS])
def test_hidden_states_are_those_of_transformers(
    family: str, longest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "LONGEST", longest)
    frozen = load_model(save_tiny_decoder(family, tmp_path), 0, seed=1, role=LANGUAGE_MODEL)
    model: Any = frozen.build()
    decoder = speed_up_decoder(model, frozen)
    assert decoder is not None
    batch = ResidentTokens(tokens(), "cpu").stacked_batch([np.arange(2), np.arange(2, 4), np.arange(4, 6)])
    assert batch.unpadded is not None
    fast = SkippableLayers(model, frozen, decoder).run(batch, 0, None).logits
    plain = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = plain(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    assert batch.attention_mask is not None
    ours = with_padding(fast, batch.unpadded, *batch.input_ids.shape)[batch.attention_mask]
    assert torch.allclose(ours, expected[batch.attention_mask], atol=1e-5)


def test_layers_are_transformers_own_outside_of_a_pass(tmp_path: Path) -> None:
    frozen = load_model(save_tiny_decoder("llama", tmp_path), 0, seed=1, role=LANGUAGE_MODEL)
    fast: Any = frozen.build()
    plain: Any = frozen.build()
    assert speed_up_decoder(fast, frozen) is not None
    ids = torch.arange(3, 13).view(2, 5)
    assert torch.equal(fast(input_ids=ids).logits, plain(input_ids=ids).logits)


@pytest.mark.parametrize(
    "own",
    [
        {"model_type": "phi3"},
        {"use_bidirectional_attention": True},
        {"partial_rotary_factor": 0.5},
        {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25}},
        {"rope_parameters": {"full_attention": {"partial_rotary_factor": 0.25}}},
    ],
)
def test_what_is_computed_otherwise_is_left_to_transformers(own: dict[str, Any], tmp_path: Path) -> None:
    frozen = load_model(save_tiny_decoder("llama", tmp_path), 0, seed=1, role=LANGUAGE_MODEL)
    other = replace(frozen, config={**frozen.config, **own})
    assert is_fast_decoder(frozen)
    assert not is_fast_decoder(other)
    assert speed_up_decoder(frozen.build(), other) is None


def test_classifiers_are_left_to_transformers(tmp_path: Path) -> None:
    frozen = load_model(save_tiny_decoder("llama", tmp_path), 2, seed=1)
    assert not is_fast_decoder(frozen)


def test_every_family_has_a_test() -> None:
    named = {"gemma3_text" if family == "gemma3" else family.partition("-")[0] for family in FAMILIES}
    assert named == {*LAYOUTS, *OTHERS}


@pytest.mark.parametrize("family", OTHERS)
def test_families_that_store_matrices_as_one_are_left_to_transformers(family: str, tmp_path: Path) -> None:
    assert not is_fast_decoder(load_model(save_tiny_decoder(family, tmp_path), 0, seed=1, role=LANGUAGE_MODEL))


def test_a_batch_without_padding_is_the_tokens_of_each_device_one_row_after_the_other() -> None:
    # Two devices of two rows with 3 + 1 and 2 + 4 tokens: the first keeps two of its places of padding.
    kept = unpadded(np.array([3, 1, 2, 4], np.int32), 4, np.array([0, 4, 8, 14]), 2, "cpu")
    assert kept is not None
    assert kept.places.tolist() == [0, 1, 2, 3, 4, 5, 8, 9, 12, 13, 14, 15]
    assert kept.before_scored.tolist() == [0, 4, 6, 10]
    x = random(4, 4, 3)
    there = without_padding(x, kept)
    assert there.shape == (2, 6, 3)
    back = with_padding(there, kept, 4, 4)
    is_token = torch.arange(4) < torch.tensor([3, 1, 2, 4])[:, None]
    assert torch.equal(back[is_token], x[is_token])


def test_full_rows_have_nothing_to_leave_out() -> None:
    assert unpadded(np.array([4, 4], np.int32), 4, np.array([0]), 2, "cpu") is None
    assert unpadded(np.array([2, 4], np.int32), 4, np.array([0]), 2, "cpu") is None  # one device needs all of them


def plain_attention(qkv: torch.Tensor, heads: Heads, is_seen: torch.Tensor) -> torch.Tensor:
    """By the definition, with every head of queries given keys and values of its own."""
    by_head = qkv.view(*qkv.shape[:2], -1, heads.size).transpose(1, 2)
    query, key, value = by_head.split([heads.n_queries, heads.n_keys, heads.n_keys], dim=1)
    key, value = (x.repeat_interleave(heads.n_queries // heads.n_keys, dim=1) for x in (key, value))
    scores = query @ key.transpose(2, 3) * heads.scaling
    if heads.cap is not None:
        scores = heads.cap * torch.tanh(scores / heads.cap)
    shares = scores.masked_fill(~is_seen, -torch.inf).softmax(dim=-1)
    return (shares @ value).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("shared", [False, True], ids=["a text a row", "texts that share rows"])
@pytest.mark.parametrize("longest", [attention.LONGEST, 0], ids=["batched products", "tiled kernel"])
def test_attention_is_its_definition_forward_and_backward(
    cap: float | None, window: int | None, shared: bool, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "LONGEST", longest)
    heads = Heads(n_queries=4, n_keys=2, size=6, scaling=0.7, cap=cap, window=window)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3], [0, 1, 2, 3, 4, 0, 0]]) if shared else None
    texts = (positions == 0).cumsum(1) if positions is not None else torch.zeros(2, 7)
    distance = torch.arange(7)[:, None] - torch.arange(7)
    is_seen = (distance >= 0) & (distance < (window or 7)) & (texts[:, :, None] == texts[:, None])
    qkv = random(2, 7, 8 * 6).requires_grad_()
    ours = attention.causal_attention(qkv, heads, TokenRows(2, 7, None, positions), None)
    theirs = plain_attention(qkv, heads, is_seen[:, None])
    weights = random(2, 7, 24)
    gradients = [torch.autograd.grad((y * weights).sum(), qkv)[0] for y in (ours, theirs)]
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5)


def test_norms_have_the_gradients_of_their_definition() -> None:
    norm = torch.nn.RMSNorm(6, eps=1e-3)
    norm.weight.data = random(6)
    norm.requires_grad_(False)
    x, weights = random(2, 3, 6).requires_grad_(), random(2, 3, 6)
    ours, theirs = RmsNorm(norm, keeps_difference=False)(x), norm(x)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, theirs)]
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5)


@pytest.mark.parametrize("activation", [F.silu, F.gelu])
def test_gates_have_the_gradients_of_their_definition(activation: Any) -> None:
    x, weights = random(2, 3, 8).requires_grad_(), random(2, 3, 4)
    ours, theirs = gated(x, activation), activation(x[..., :4]) * x[..., 4:]
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, theirs)]
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
