"""Swap adds memory that is as slow as a drive."""

from dataclasses import replace
from pathlib import Path

import pytest

from device_profiles.catalog import ProfileError, load_profile, load_swap, swap_names
from device_profiles.swap_file import SwapSpec

SWAP = """
kind = "swap"
size_gib = 2
read_mb_per_s = 200
write_mb_per_s = 100
held_fraction = 0.5

[provenance.all]
covers = ["size_gib", "read_mb_per_s", "write_mb_per_s", "held_fraction"]
kind = "assumed"
source = "none"
"""
GIB = 2**30


def swap_of(folder: Path, text: str = SWAP) -> SwapSpec:
    path = folder / "mine.toml"
    path.write_text(text)
    return load_swap(path)


def test_missing_bytes_are_written_and_read_with_what_their_compressed_copies_take(tmp_path: Path) -> None:
    swap = swap_of(tmp_path)
    # Half of each byte stays, so that two go for one that is missing; 2 GiB of them make room for one.
    assert (swap.size_bytes, swap.gained_bytes, swap.swapped_bytes(100e6)) == (2 * GIB, GIB, 200e6)
    assert (swap.write_s(100e6), swap.read_s(100e6), swap.step_s(100e6)) == (2.0, 1.0, 3.0)


def test_a_board_with_swap_holds_more() -> None:
    board, nvme = load_profile("jetson_tx2"), load_swap("nvme")
    assert board.memory_limit_bytes == board.usable_memory_bytes
    swapping = replace(board, swap=nvme)
    assert swapping.memory_limit_bytes == board.usable_memory_bytes + 16 * GIB
    assert swapping.missing_bytes(board.usable_memory_bytes + 7) == 7
    assert swapping.missing_bytes(board.usable_memory_bytes) == 0


@pytest.mark.parametrize("name", swap_names())
def test_every_figure_of_a_built_in_swap_has_an_origin(name: str) -> None:
    swap = load_swap(name)
    assert set(swap.provenance) == {"size_gib", "read_mb_per_s", "write_mb_per_s", "held_fraction"}
    assert swap.gained_bytes > 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("size_gib = 2", "size_gib = 0", r"size_gib must be a number above 0 and at most 1000000.0, got 0"),
        ("held_fraction = 0.5", "held_fraction = 1", r"held_fraction must be a number of at least 0 .* got 1"),
        ("read_mb_per_s = 200\n", "", r"read_mb_per_s is missing"),
        ('kind = "swap"', 'kind = "system"', r"kind must be one of swap, got 'system'"),
        ('"size_gib", ', "", r"size_gib has no provenance"),
    ],
)
def test_a_mistake_names_the_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        swap_of(tmp_path, SWAP.replace(old, new, 1))


def test_a_desktop_takes_of_the_usable_memory_or_is_refused() -> None:
    board = load_profile("jetson_tx2")
    assert board.with_desktop().usable_memory_bytes == board.usable_memory_bytes - 760 * 2**20
    with pytest.raises(ValueError, match="what a desktop takes on jetson_tx2 is not known"):
        replace(board, desktop_memory_bytes=None).with_desktop()
    with pytest.raises(ValueError, match="a desktop takes 9 bytes on jetson_tx2, all of the 8 that training could use"):
        replace(board, desktop_memory_bytes=9, usable_memory_bytes=8).with_desktop()
