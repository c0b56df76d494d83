"""A process holds its runtime and the tensors of a step, as the allocator of its board places them."""

from dataclasses import replace
from itertools import pairwise

import pytest

from device_profiles.catalog import load_profile
from device_profiles.records import DeviceProfile
from emulator.forms.lora import low_rank_adapters
from emulator.records import ADAMW, NO_SAVERS, MemorySavers, Work, WorkKind
from emulator.shapes.catalog import model_spec_from_config
from emulator.shapes.spec import ModelSpec
from emulator.world.price.allocator import Allocation, Event, Release
from emulator.world.price.layers import Layers
from emulator.world.price.price_bands import StepPrice, price_step
from emulator.world.price.process_memory import held_bytes_of, is_replayed, replayed_bytes
from emulator.world.price.step import Attention
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_trace import step_events

SIZES = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 1000,
    "max_position_embeddings": 514,
}
ENCODER = model_spec_from_config(
    {"model_type": "bert", "intermediate_size": 1024, "type_vocab_size": 2, **SIZES},
    name="encoder",
    n_labels=2,
    seq_len=128,
    head="output",
)
DECODER = model_spec_from_config(
    {"model_type": "llama", "intermediate_size": 700, "num_key_value_heads": 2, **SIZES},
    name="decoder",
    n_labels=2,
    seq_len=128,
    head="output",
)
QV = ("query", "value")


def work(model: ModelSpec, depth: int = 3, kind: WorkKind = WorkKind.ADAPTERS, **sizes: int) -> Work:
    rank = 0 if kind is WorkKind.WEIGHTS else 8
    return Work(
        n_steps=1,
        batch_size=sizes.get("batch_size", 8),
        seq_len=sizes.get("seq_len", 128),
        forward_layers=4,
        backward_layers=0 if kind is WorkKind.INFERENCE else depth,
        adapters=low_rank_adapters(model, QV, (0,) * (4 - depth) + (rank,) * depth),
        kind=kind,
    )


def most_alive_bytes(events: list[Event]) -> int:
    alive: dict[int, int] = {}
    most = 0
    for event in events:
        if isinstance(event, Allocation):
            alive[event.key] = event.n_bytes
            most = max(most, sum(alive.values()))
        else:
            del alive[event.key]
    return most


ALL_KINDS = [
    (model, kind, depth, attention)
    for model in (ENCODER, DECODER)
    for kind in WorkKind
    for depth in (1, 4)
    for attention in ("eager", "sdpa")
]


@pytest.mark.parametrize(("model", "kind", "depth", "attention"), ALL_KINDS)
def test_the_tensors_of_a_step_are_those_that_are_priced(
    model: ModelSpec, kind: WorkKind, depth: int, attention: Attention
) -> None:
    one = work(model, depth, kind)
    step = step_of(model, one)
    priced = step.memory(attention=attention)
    alive = most_alive_bytes(step_events(Layers(model, one), "fp32", attention))
    # at least what is kept when the backward pass begins, without gradients; at most all parts at their most
    at_end = priced.weights_bytes + priced.activations_bytes + 8 * step.n_trained_parameters
    residual_bytes = 4 * 8 * 128 * 256  # what goes around a decoder's layer lies beside its working set
    assert 0.99 * at_end <= alive <= 1.01 * (priced.total_bytes - priced.allocator_bytes) + residual_bytes


@pytest.mark.parametrize(("model", "kind", "depth", "attention"), ALL_KINDS)
def test_a_step_frees_all_but_weights_and_moments(
    model: ModelSpec, kind: WorkKind, depth: int, attention: Attention
) -> None:
    one = work(model, depth, kind)
    events = step_events(Layers(model, one), "fp32", attention)
    made = [event.key for event in events if isinstance(event, Allocation)]
    freed = [event.key for event in events if isinstance(event, Release)]
    assert len(set(made)) == len(made)
    assert len(set(freed)) == len(freed)
    n_trained = step_of(model, one).n_trained_parameters
    weights = step_of(model, one).memory().weights_bytes
    left = sum(e.n_bytes for e in events if isinstance(e, Allocation) and e.key not in set(freed))
    assert left == pytest.approx(weights + 8 * n_trained, rel=0.02)


@pytest.mark.parametrize("allocator", ["glibc", "pytorch_cuda"])
def test_allocators_hold_more_than_tensors_and_more_for_larger_batches(allocator: str) -> None:
    works = [work(ENCODER, batch_size=batch_size) for batch_size in (2, 8, 32)]
    held = [replayed_bytes(ENCODER, each, "fp32", allocator) for each in works]
    assert all(less < more for less, more in pairwise(held))
    for each, n_bytes in zip(works, held, strict=True):
        assert n_bytes > most_alive_bytes(step_events(Layers(ENCODER, each)))


def test_a_process_is_its_runtime_and_what_its_allocator_holds() -> None:
    board = load_profile("jetson_tx2")
    one = work(ENCODER)

    def priced(profile: DeviceProfile) -> StepPrice:
        return price_step(profile, profile.mode(profile.default_mode), ENCODER, one, "fp32")

    assert (priced(board).held_bytes, priced(board).process_bytes) == (None, None)
    known = replace(board, runtime_memory_bytes=10**9)
    assert priced(known).process_bytes == 10**9 + step_of(ENCODER, one).memory().total_bytes
    replayed = replayed_bytes(ENCODER, one, "fp32", "pytorch_cuda")
    found = priced(replace(known, allocator="pytorch_cuda"))
    assert (found.held_bytes, found.process_bytes) == (replayed, 10**9 + replayed)
    assert held_bytes_of(replace(known, allocator="pytorch_cuda"), ENCODER, one, dropout=True) is None


def test_steps_that_save_memory_are_not_replayed() -> None:
    assert is_replayed(ENCODER, work(ENCODER), ADAMW, NO_SAVERS)
    assert not is_replayed(ENCODER, work(ENCODER), ADAMW, MemorySavers(checkpointing=True))
    assert not is_replayed(ENCODER, replace(work(ENCODER), quantized_layers=1), ADAMW, NO_SAVERS)
