"""What travels of a vector of numbers, to the byte, and what the receiver makes of it."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from emulator.compression.encodings import decoded, encoded, encoded_bytes, n_kept
from emulator.records import Encoding, EncodingKind

FP16, BF16 = Encoding(kind="fp16"), Encoding(kind="bf16")
KINDS: tuple[EncodingKind, ...] = ("none", "fp16", "bf16", "int8", "topk")


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def read(encoding: Encoding, values: list[float] | NDArray[np.float32]) -> NDArray[np.float32]:
    """What arrives of ``values``."""
    vector = np.asarray(values, np.float32)
    return decoded(encoding, encoded(encoding, vector, rng()), len(vector))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_numbers", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize("fraction", [0.001, 0.013, 0.5])
def test_the_bytes_are_as_many_as_are_told_beforehand(kind: EncodingKind, n_numbers: int, fraction: float) -> None:
    encoding = Encoding(kind=kind, bucket_size=64, topk_fraction=fraction)
    values = np.random.default_rng(n_numbers).normal(size=n_numbers).astype(np.float32)
    told = {
        "none": 4 * n_numbers,
        "fp16": 2 * n_numbers,
        "bf16": 2 * n_numbers,
        "int8": n_numbers + 4 * math.ceil(n_numbers / 64),
        "topk": 8 * math.ceil(fraction * n_numbers),
    }[kind]
    assert len(encoded(encoding, values, rng())) == encoded_bytes(encoding, n_numbers) == told
    assert read(encoding, values).shape == (n_numbers,)


@given(values=arrays.arrays(np.float32, st.integers(0, 50), elements=st.floats(width=32, allow_nan=False)))
def test_halves_are_the_nearest_ones(values: NDArray[np.float32]) -> None:
    with np.errstate(over="ignore"):
        assert np.array_equal(read(FP16, values), values.astype(np.float16).astype(np.float32))
    for value, got in zip(values.tolist(), read(BF16, values).tolist(), strict=True):
        if not math.isfinite(value):
            assert got == value
            continue
        # The two neighbours that have the upper half of the bits of a float32 alone.
        (bits,) = struct.unpack("<I", struct.pack("<f", value))
        below, above = (struct.unpack("<f", struct.pack("<I", (bits & 0xFFFF0000) + step))[0] for step in (0, 0x10000))
        assert got in (below, above)
        # What lies above the largest number stands for 2^128, as in IEEE 754.
        distances = {end: abs(value - max(-(2.0**128), min(2.0**128, end))) for end in (below, above)}
        assert distances[got] == min(distances.values())


def test_of_two_halves_that_are_equally_near_the_even_one_is_taken() -> None:
    # bfloat16 has 7 bits behind the point: its numbers from 1 on are 1/128 apart.
    assert read(BF16, [1 + 1 / 256, 1 + 3 / 256]).tolist() == [1.0, 1 + 4 / 256]
    # float16 has 10: 1 + 1/2048 between 1 and 1 + 2/2048.
    assert read(FP16, [1 + 1 / 2048, 1 + 3 / 2048]).tolist() == [1.0, 1 + 4 / 2048]


def test_codes_are_whole_steps_of_each_bucket() -> None:
    nearest = Encoding(kind="int8", bucket_size=3, rounding="nearest")
    # Steps of 1 and of 2: the largest magnitude of a bucket is 127 of them.
    assert read(nearest, [127, -3.4, 0.4, -254, 2.9, 3.1]).tolist() == [127, -3, 0, -254, 2, 4]
    assert read(nearest, [0, 0, 0, 1.27]).tolist() == pytest.approx([0, 0, 0, 1.27])


@given(values=arrays.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e3, 1e3, width=32)))
def test_a_code_errs_by_a_step_at_most_and_by_half_of_one_where_it_is_the_nearest(values: NDArray[np.float32]) -> None:
    for rounding, most in (("stochastic", 1.0), ("nearest", 0.5)):
        encoding = Encoding(kind="int8", bucket_size=16, rounding=rounding)  # type: ignore[arg-type]
        error = np.abs(read(encoding, values).astype(np.float64) - values)
        for start in range(0, len(values), 16):
            step = np.abs(values[start : start + 16]).max() / 127
            assert error[start : start + 16].max() <= step * most * (1 + 1e-5) + 1e-38


def test_rounding_by_chance_is_right_in_the_mean_and_its_variance_is_known() -> None:
    """A number at a share p of the way to the next step is rounded up with probability p; the variance is p (1 - p)."""
    n, share = 200_000, 0.3
    values = np.full(n, 5 + share, np.float32)
    values[::64] = 127  # of each bucket, so that its step is 1
    got = read(Encoding(kind="int8", bucket_size=64), values)[np.arange(n) % 64 != 0]
    variance = share * (1 - share)
    assert set(np.unique(got)) == {5.0, 6.0}
    # Within five standard errors of the mean.
    assert got.mean() == pytest.approx(5 + share, abs=5 * math.sqrt(variance / len(got)))
    assert got.var() == pytest.approx(variance, rel=0.02)


def test_the_largest_magnitudes_travel_and_of_equal_ones_the_first() -> None:
    half = Encoding(kind="topk", topk_fraction=0.5)
    assert read(half, [1, -3, 2, 0, -2, 3]).tolist() == [0, -3, 2, 0, 0, 3]
    assert read(half, [1, 1, -1, 1]).tolist() == [1, 1, 0, 0]
    assert n_kept(Encoding(kind="topk", topk_fraction=0.001), 5) == 1


@given(values=arrays.arrays(np.float32, st.integers(1, 100), elements=st.floats(-10, 10, width=32)))
def test_what_is_left_out_is_smaller_than_what_travels(values: NDArray[np.float32]) -> None:
    """Stich et al. 2018, definition 2.1: ``|x - top_k(x)|^2 <= (1 - k / d) |x|^2``."""
    encoding = Encoding(kind="topk", topk_fraction=0.1)
    got, k = read(encoding, values).astype(np.float64), n_kept(encoding, len(values))
    whole = float(np.square(values.astype(np.float64)).sum())
    assert np.square(values - got).sum() <= (1 - k / len(values)) * whole * (1 + 1e-9)
    assert np.all((got == 0) | (got == values))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_arrives_as_a_number(kind: EncodingKind, bad: float) -> None:
    got = read(Encoding(kind=kind, topk_fraction=0.25, bucket_size=2), [5.0, bad, 7.0, 3.0])
    assert not np.isfinite(got[1])
