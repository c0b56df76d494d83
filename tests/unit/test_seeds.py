"""Random streams: named by purpose and indices, and independent of one another and of the order of use."""

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emulator.seeds import Seeds

NAMES = st.tuples(st.sampled_from(["a", "b", "link_rate"]), st.lists(st.integers(0, 99), max_size=3))


def test_a_stream_does_not_depend_on_what_was_drawn_before() -> None:
    early = Seeds(3).rng("jitter", 5).random(4)
    seeds = Seeds(3)
    seeds.rng("jitter", 4).random(100)
    seeds.rng("other").random(1)

    assert np.array_equal(seeds.rng("jitter", 5).random(4), early)


def test_two_generators_of_one_stream_do_not_share_state() -> None:
    first, second = Seeds(0).rng("x"), Seeds(0).rng("x")
    first.random(10)

    assert second.random() == Seeds(0).rng("x").random()


@given(NAMES, NAMES)
def test_different_purposes_or_indices_give_different_streams(
    one: tuple[str, list[int]], other: tuple[str, list[int]]
) -> None:
    seeds = Seeds(1)
    same_integer = seeds.integer(one[0], *one[1]) == seeds.integer(other[0], *other[1])

    assert same_integer == (one == other)


def test_indices_are_not_run_together() -> None:
    # Without a separator, (1, 11) and (11, 1) would name the same stream.
    assert Seeds(0).integer("x", 1, 11) != Seeds(0).integer("x", 11, 1)
    assert Seeds(1).integer("x", 2) != Seeds(12).integer("x")


def test_numpy_integers_name_the_same_stream_as_python_ones() -> None:
    assert Seeds(0).integer("x", int(np.int64(7))) == Seeds(0).integer("x", np.int64(7))  # type: ignore[arg-type]


@given(st.integers(0, 2**64), st.text(max_size=10))
def test_an_integer_seed_fits_into_63_bits(run_seed: int, purpose: str) -> None:
    assert 0 <= Seeds(run_seed).integer(purpose) < 2**63


def test_another_process_gets_the_same_stream() -> None:
    # Python's own hash() of a string would differ from process to process.
    code = "from emulator.seeds import Seeds; print(Seeds(9).integer('purpose', 1, 2))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert int(printed) == Seeds(9).integer("purpose", 1, 2)
