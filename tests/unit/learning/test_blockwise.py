"""Code books are those that are published, and what they leave of a number is within half a gap of it."""

import pytest
import torch

from emulator.learning.blockwise import blocks, dynamic_map, in_units, largest, nearest, normal_float

PUBLISHED_NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
"""Dettmers et al. 2023, arXiv 2305.14314, appendix E."""


def test_nf4_is_the_published_table() -> None:
    assert normal_float().tolist() == pytest.approx(PUBLISHED_NF4, abs=1e-6)


@pytest.mark.parametrize("signed", [True, False])
def test_the_dynamic_map_divides_seven_decades_the_higher_the_finer(signed: bool) -> None:
    book = dynamic_map(signed=signed)
    assert len(book) == len(set(book.tolist())) == 256
    assert book.tolist() == sorted(book.tolist())
    above = book[book > 0]
    counts = [int(((above > 10.0**-exponent / 10) & (above < 10.0**-exponent)).sum()) for exponent in range(7)]
    finest = 64 if signed else 128
    assert counts == [finest // 2**exponent for exponent in range(7)]
    # the midpoint of the lowest part of the highest decade, which is 0.9 / finest wide
    assert float(above[above > 0.1].min()) == pytest.approx(0.1 + 0.45 / finest)
    assert float(book[-1]) == 1.0
    assert 0.0 in book.tolist()


def test_without_signs_nothing_is_below_zero_and_with_them_one_value_alone_has_no_opposite() -> None:
    assert float(dynamic_map(signed=False).min()) == 0.0
    signed = dynamic_map(signed=True).tolist()
    assert [value for value in signed if -value not in signed] == [1.0]


def test_the_nearest_is_at_most_half_a_gap_away() -> None:
    book = normal_float()
    values = torch.linspace(-1, 1, 1001)
    found = book[nearest(values, book).long()]
    distances = (values[:, None] - book).abs().amin(dim=1)
    assert torch.equal((values - found).abs(), distances)


def test_a_block_is_in_units_of_its_largest_and_a_block_of_zeros_stays_one() -> None:
    parts = blocks(torch.tensor([1.0, -4.0, 2.0, 0.0, 0.0]), 3)
    assert parts.tolist() == [[1.0, -4.0, 2.0], [0.0, 0.0, 0.0]]
    assert largest(parts).tolist() == [[4.0], [0.0]]
    assert in_units(parts, largest(parts)).tolist() == [[0.25, -1.0, 0.5], [0.0, 0.0, 0.0]]
