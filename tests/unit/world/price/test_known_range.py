"""Beyond the range in which a profile is known, a price says which setting is outside; within it, it says nothing."""

from dataclasses import replace

import pytest

from device_profiles.catalog import load_profile, profile_names
from emulator.forms.lora import low_rank_adapters
from emulator.records import Work, WorkKind
from emulator.shapes.catalog import model_spec
from emulator.world.price.known_range import outside_known_range

ROBERTA = model_spec("roberta-base", n_labels=2, seq_len=128, head="output")
TX2 = load_profile("jetson_tx2")
WORK = Work(
    n_steps=4,
    batch_size=8,
    seq_len=128,
    forward_layers=12,
    backward_layers=12,
    adapters=low_rank_adapters(ROBERTA, ("query",), (8,) * 12),
)


@pytest.mark.parametrize("name", profile_names())
def test_the_default_step_is_known_on_every_board(name: str) -> None:
    assert outside_known_range(load_profile(name), ROBERTA, WORK, "fp32") is None


@pytest.mark.parametrize(
    ("changes", "precision", "said"),
    [
        ({"batch_size": 1}, "fp32", "batch 1 x length 128 = 128 tokens a step, known from 256 to 4096"),
        ({"batch_size": 33}, "fp32", "batch 33 x length 128 = 4224 tokens a step, known from 256 to 4096"),
        ({}, "amp", "amp, known for fp32"),
    ],
)
def test_a_setting_that_is_not_known_is_named_with_the_range(
    changes: dict[str, int], precision: str, said: str
) -> None:
    assert outside_known_range(TX2, ROBERTA, replace(WORK, **changes), precision) == said  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [2, 32])
def test_the_bounds_belong_to_the_range(batch_size: int) -> None:
    assert outside_known_range(TX2, ROBERTA, replace(WORK, batch_size=batch_size), "fp32") is None


def test_a_model_that_is_too_large_or_too_small_is_named_with_its_parameters() -> None:
    tiny = model_spec("builtin:tiny-12", n_labels=2, seq_len=32, head="output")
    said = outside_known_range(TX2, tiny, replace(WORK, seq_len=32, batch_size=32), "fp32")
    assert said == f"builtin:tiny-12 with {tiny.n_parameters / 1e6:.0f} M parameters, known from 60 to 360 M"


def test_a_kind_of_work_that_was_not_timed_is_named() -> None:
    assert TX2.known_range is not None
    board = replace(TX2, known_range=replace(TX2.known_range, kinds=("adapters",)))
    whole = replace(WORK, kind=WorkKind.WEIGHTS)
    assert outside_known_range(board, ROBERTA, whole, "fp32") == "weights, known for adapters"


def test_a_profile_that_states_no_range_is_known_nowhere() -> None:
    board = replace(TX2, known_range=None)
    assert outside_known_range(board, ROBERTA, WORK, "fp32") == "the profile states no range in which it is known"
