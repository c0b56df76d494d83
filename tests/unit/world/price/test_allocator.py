"""Allocators by their published rules: PyTorch's caching allocator on CUDA, and glibc's malloc."""

from collections.abc import Sequence

import pytest

from emulator.world.price.allocator import (
    Allocation,
    Allocator,
    CachingAllocator,
    GlibcAllocator,
    NewerGlibcAllocator,
    Release,
    replay,
)

KIB, MIB = 2**10, 2**20
PAGE = 4096


def held(allocator: Allocator, *sizes: int) -> Sequence[int]:
    """Bytes held after each of these allocations."""
    found = []
    for n_bytes in sizes:
        allocator.allocate(n_bytes)
        found.append(allocator.held_bytes)
    return found


def test_small_tensors_share_a_segment_of_two_mebibytes() -> None:
    # 512 bytes each, however small: 4096 of them fill 2 MiB
    assert held(CachingAllocator(), *[1] * 4096)[-1] == 2 * MIB
    assert held(CachingAllocator(), *[1] * 4097)[-1] == 4 * MIB


def test_large_tensors_share_segments_of_twenty_mebibytes() -> None:
    assert held(CachingAllocator(), *[2 * MIB] * 11) == [20 * MIB] * 10 + [40 * MIB]


def test_tensors_of_ten_mebibytes_and_more_have_a_segment_of_their_own() -> None:
    assert held(CachingAllocator(), 10 * MIB, 11 * MIB) == [10 * MIB, 22 * MIB]


def test_small_and_large_tensors_lie_apart() -> None:
    assert held(CachingAllocator(), MIB, MIB + 1) == [2 * MIB, 22 * MIB]


def test_a_large_hole_is_split_only_if_more_than_a_mebibyte_is_left() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.allocate(12 * MIB))
    assert held(allocator, 11 * MIB, 512 * KIB + MIB) == [12 * MIB, 32 * MIB]  # the mebibyte left is no hole
    allocator = CachingAllocator()
    allocator.free(allocator.allocate(14 * MIB))
    assert held(allocator, 11 * MIB, 3 * MIB) == [14 * MIB, 14 * MIB]


def test_neighbours_join_within_a_segment_and_never_across() -> None:
    allocator = CachingAllocator()
    addresses = [allocator.allocate(2 * MIB) for _ in range(20)]  # two segments
    for address in addresses:
        allocator.free(address)
    assert held(allocator, 20 * MIB, 20 * MIB, 2 * MIB) == [40 * MIB, 40 * MIB, 60 * MIB]
    allocator = CachingAllocator()
    for address in [allocator.allocate(2 * MIB) for _ in range(20)]:
        allocator.free(address)
    assert held(allocator, 22 * MIB) == [62 * MIB]


def test_the_smallest_hole_that_is_large_enough_is_taken() -> None:
    allocator = CachingAllocator()
    large, small = allocator.allocate(30 * MIB), allocator.allocate(12 * MIB)
    allocator.free(large)
    allocator.free(small)
    assert allocator.allocate(12 * MIB) == small


def test_a_replay_frees_what_it_is_told_and_keeps_the_rest() -> None:
    allocator = CachingAllocator()
    replay([Allocation(1, 12 * MIB), Release(1), Allocation(2, 12 * MIB), Allocation(3, 12 * MIB)], allocator)
    assert (allocator.held_bytes, allocator.peak_bytes) == (24 * MIB, 24 * MIB)


def mapped_bytes(n_bytes: int) -> int:
    """Of a tensor that is mapped by itself: with its header, alignment of 64, a least chunk, in whole pages."""
    chunk = -(-(n_bytes + 8) // 16) * 16 + 64 + 32
    return -(-(chunk + 8) // PAGE) * PAGE


def test_what_is_above_the_threshold_is_mapped_and_goes_back() -> None:
    allocator = GlibcAllocator()
    allocator.allocate(64)  # the heap grows for the first: chunks, 128 KiB and a least chunk, in whole pages
    before = allocator.held_bytes
    assert 128 * KIB < before <= 128 * KIB + 2 * PAGE
    address = allocator.allocate(MIB)
    assert allocator.held_bytes == before + mapped_bytes(MIB)
    allocator.free(address)
    assert allocator.held_bytes == before


def test_the_threshold_rises_to_what_was_freed() -> None:
    allocator = GlibcAllocator()
    allocator.free(allocator.allocate(MIB))
    heap = allocator.held_bytes
    allocator.free(allocator.allocate(MIB // 2))  # on the heap from now on, which is less than twice the threshold
    assert allocator.held_bytes > heap + MIB // 2 - 128 * KIB


def test_above_32_mebibytes_the_threshold_stays() -> None:
    allocator = GlibcAllocator()
    heap = 0
    for _ in range(3):
        address = allocator.allocate(40 * MIB)
        allocator.free(address)
        heap = heap or allocator.held_bytes
        assert allocator.held_bytes == heap
    assert allocator.peak_bytes == heap + mapped_bytes(40 * MIB)


def test_the_hole_of_a_tensor_does_not_fit_the_next_of_its_size() -> None:
    allocator = GlibcAllocator()
    allocator.free(allocator.allocate(MIB))  # the threshold rises, so that the heap serves
    first, between = allocator.allocate(MIB // 2), allocator.allocate(MIB // 2)
    allocator.free(first)
    assert allocator.allocate(MIB // 2) > between  # where it would need 96 bytes more
    assert allocator.allocate(MIB // 2 - 160) <= first + 64  # but a smaller one fits


@pytest.mark.parametrize(("make", "fits"), [(GlibcAllocator, False), (NewerGlibcAllocator, True)])
def test_from_2_39_on_what_was_cut_off_for_alignment_is_part_of_the_hole(make: type[Allocator], fits: bool) -> None:
    allocator = make()
    allocator.free(allocator.allocate(MIB))  # the threshold rises, so that the heap serves
    first, between = allocator.allocate(MIB // 2), allocator.allocate(MIB // 2)
    allocator.free(first)
    # 64 bytes less than what was there, with 96 for alignment, need 32 more than its chunk; 48 were cut off before it.
    assert (allocator.allocate(MIB // 2 - 64) < between) is fits


@pytest.mark.parametrize("make", [CachingAllocator, GlibcAllocator, NewerGlibcAllocator])
def test_no_two_tensors_overlap_and_all_memory_is_found_again(make: type[Allocator]) -> None:
    allocator = make()
    sizes = [(7919 * n) % (3 * MIB) + 1 for n in range(60)]
    peaks = []
    for _ in range(3):
        addresses: dict[int, int] = {}
        for n, n_bytes in enumerate(sizes):
            address = allocator.allocate(n_bytes)
            for other, of_other in addresses.items():
                assert address + n_bytes <= other or other + of_other <= address
            addresses[address] = n_bytes
            if n % 3 == 0:
                allocator.free(address)
                del addresses[address]
        for address in addresses:
            allocator.free(address)
        peaks.append(allocator.peak_bytes)
    assert sum(sizes) * 2 / 3 < peaks[0] <= peaks[-1] < 1.6 * sum(sizes)
