"""What an allocator holds while tensors come and go: its rules, replayed. Fragmentation is counted, not assumed.

A tensor's bytes are rounded up, a hole that a freed one left may not fit the next, and what was obtained from the
system is kept. Replaying the allocations of a step on the allocator's rules tells what a process holds (Shi et al.
2025, "xMem", arXiv 2510.21048, do so for GPUs). Best fit throughout: the smallest hole that is large enough, the
lowest of equal ones.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_KIB, _MIB = 2**10, 2**20


@dataclass(frozen=True, slots=True)
class Allocation:
    """A tensor ``key`` of ``n_bytes`` comes to be, at least one."""

    key: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Release:
    """The tensor ``key`` is freed."""

    key: int


Event = Allocation | Release


class Allocator(ABC):
    """Holds memory of the system for tensors; ``peak_bytes`` is the most that it ever held."""

    def __init__(self) -> None:
        self.held_bytes = 0
        self.peak_bytes = 0

    @abstractmethod
    def allocate(self, n_bytes: int) -> int:
        """Where a tensor of so many bytes lies."""

    @abstractmethod
    def free(self, address: int) -> None:
        """Give back what lies at an address that :meth:`allocate` returned."""

    def _hold(self, n_bytes: int) -> None:
        """Obtain so many bytes of the system, or return them where that is negative."""
        self.held_bytes += n_bytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)


def replay(events: Iterable[Event], allocator: Allocator) -> None:
    """Let ``allocator`` meet the events in their order; tensors that are not released stay."""
    addresses: dict[int, int] = {}
    for event in events:
        if isinstance(event, Allocation):
            addresses[event.key] = allocator.allocate(event.n_bytes)
        else:
            allocator.free(addresses.pop(event.key))


class _Holes:
    """Free ranges by size, that join with their neighbours unless a border lies between."""

    def __init__(self) -> None:
        self._by_size: list[tuple[int, int]] = []
        self._size_at: dict[int, int] = {}
        self._end_at: dict[int, int] = {}

    def add(self, address: int, n_bytes: int, borders: Collection[int] = ()) -> tuple[int, int]:
        """A range becomes free; where the whole hole now begins, and its size."""
        if address in self._end_at and address not in borders:
            start = self._end_at[address]
            n_bytes += self.take(start)
            address = start
        end = address + n_bytes
        if end in self._size_at and end not in borders:
            n_bytes += self.take(end)
        self._size_at[address] = n_bytes
        self._end_at[address + n_bytes] = address
        insort(self._by_size, (n_bytes, address))
        return address, n_bytes

    def best(self, n_bytes: int) -> tuple[int, int] | None:
        """Address and size of the smallest hole of at least so many bytes."""
        index = bisect_left(self._by_size, (n_bytes, -1))
        if index == len(self._by_size):
            return None
        size, address = self._by_size[index]
        return address, size

    def begins(self, address: int) -> bool:
        """Whether there is a hole at an address."""
        return address in self._size_at

    def take(self, address: int) -> int:
        """Remove the hole at an address; its size."""
        n_bytes = self._size_at.pop(address)
        del self._end_at[address + n_bytes]
        del self._by_size[bisect_left(self._by_size, (n_bytes, address))]
        return n_bytes


class CachingAllocator(Allocator):
    """PyTorch's caching allocator on CUDA with its default settings (``c10/cuda/CUDACachingAllocator.cpp``).

    Bytes are rounded up to 512. Up to 1 MiB come from segments of 2 MiB, up to 10 MiB from segments of 20 MiB, more
    from a segment of their own, rounded up to 2 MiB. A hole is split if 512 bytes (small) or more than 1 MiB (large)
    are left of it. Segments stay. ``held_bytes`` is what ``torch.cuda.memory_reserved`` says, without CUDA's context.
    """

    _ROUND, _SMALL, _SMALL_SEGMENT = 512, _MIB, 2 * _MIB
    _LARGE_FROM, _LARGE_SEGMENT, _SEGMENT_ROUND = 10 * _MIB, 20 * _MIB, 2 * _MIB

    def __init__(self) -> None:
        super().__init__()
        self._pools = {True: _Holes(), False: _Holes()}
        self._borders: set[int] = set()
        self._used: dict[int, tuple[int, bool]] = {}
        self._end = 0

    def allocate(self, n_bytes: int) -> int:
        n_bytes = _rounded_up(n_bytes, self._ROUND)
        is_small = n_bytes <= self._SMALL
        pool = self._pools[is_small]
        address, size = pool.best(n_bytes) or self._segment(n_bytes, pool)
        pool.take(address)
        left = size - n_bytes
        if left >= self._ROUND if is_small else left > self._SMALL:
            pool.add(address + n_bytes, left, self._borders)
            size = n_bytes
        self._used[address] = (size, is_small)
        return address

    def free(self, address: int) -> None:
        n_bytes, is_small = self._used.pop(address)
        self._pools[is_small].add(address, n_bytes, self._borders)

    def _segment(self, n_bytes: int, pool: _Holes) -> tuple[int, int]:
        """A new segment that holds ``n_bytes``, as a hole."""
        if n_bytes <= self._SMALL:
            size = self._SMALL_SEGMENT
        elif n_bytes < self._LARGE_FROM:
            size = self._LARGE_SEGMENT
        else:
            size = _rounded_up(n_bytes, self._SEGMENT_ROUND)
        address, self._end = self._end, self._end + size
        self._borders |= {address, self._end}
        self._hold(size)
        return pool.add(address, size, self._borders)


class GlibcAllocator(Allocator):
    """glibc's ``malloc`` on one thread, as PyTorch's CPU allocator calls it: ``posix_memalign`` at 64 bytes.

    Holes and the unused end of the heap serve first. What they cannot serve is mapped by itself from a threshold on,
    or else the heap grows by that and 128 KiB. A mapped range that is freed goes back to the system, and the
    threshold rises to its size, to 32 MiB at most; the end of the heap goes back once it is twice the threshold
    (``malloc/malloc.c`` of glibc 2.36, ``mallopt(3)``; :class:`NewerGlibcAllocator` has what is newer).

    Fragmentation comes of two rules. ``memalign`` looks for a hole that holds what is asked for, the alignment and a
    least chunk, so the hole that a tensor left does not fit the next one of its size. And what it cuts off for
    alignment, a chunk of 48 bytes, goes to lists of small chunks that never join with their neighbours while they are
    in use or in the thread's cache: there the small objects lie that PyTorch makes beside each tensor, and keep holes
    apart. Two are counted for each tensor, one in front of it and one behind, by which a dozen settings were met best
    (2.0 % in the mean; 3.2 % with one).
    """

    _PAGE, _TOP_PAD, _LEAST, _GRAIN, _ALIGNMENT = 4 * _KIB, 128 * _KIB, 32, 16, 64
    _HEADER = 16  # in front of what a chunk holds
    _FIRST_THRESHOLD, _HIGHEST_THRESHOLD = 128 * _KIB, 32 * _MIB
    _CACHED_TO, _N_CACHED, _FAST_TO = 1040, 7, 128  # sizes that go to the thread's cache, so many, and to fast bins
    _JOINED_FROM = 1024  # a request or, in units of 64, a freed chunk that empties the fast bins
    _OBJECT_BYTES = 40
    _MAPPED_FROM = 1 << 60  # addresses of ranges mapped by themselves lie apart from the heap

    def __init__(self) -> None:
        super().__init__()
        self._threshold, self._trim_threshold = self._FIRST_THRESHOLD, self._FIRST_THRESHOLD
        self._holes = _Holes()
        self._used: dict[int, int] = {}
        self._objects: dict[int, tuple[int, int]] = {}
        self._cached: dict[int, list[int]] = {}
        self._fast: dict[int, list[int]] = {}
        self._top = self._heap_end = 0  # from the one to the other, the heap is unused
        self._next_mapped = self._MAPPED_FROM

    def allocate(self, n_bytes: int) -> int:
        before = self._small(self._OBJECT_BYTES)
        size = self._chunk_bytes(n_bytes)
        address, found = self._chunk(size + self._ALIGNMENT + self._LEAST)
        if address < self._MAPPED_FROM:
            aligned = _rounded_up(address + self._HEADER, self._ALIGNMENT) - self._HEADER
            if 0 < aligned - address < self._LEAST:
                aligned += self._ALIGNMENT
            found -= aligned - address
            if aligned > address:
                self._cut_off(address, aligned - address)
            address = aligned
            if self._is_cut_off(address + size, found - size):
                self._cut_off(address + size, found - size)
                found = size
        self._used[address] = found
        self._objects[address] = (before, self._small(self._OBJECT_BYTES))
        return address

    def free(self, address: int) -> None:
        size = self._used.pop(address)
        if address >= self._MAPPED_FROM:
            self._hold(-size)
            if self._threshold < size <= self._HIGHEST_THRESHOLD:
                self._threshold, self._trim_threshold = size, 2 * size
        else:
            self._free_chunk(address, size)
        for each in self._objects.pop(address):
            self._free_chunk(each, self._used.pop(each))

    def _is_cut_off(self, address: int, size: int) -> bool:
        """Whether so many bytes go back, which a chunk has from ``address`` on beyond what was asked for."""
        return size > self._LEAST

    def _cut_off(self, address: int, size: int) -> None:
        """Give back what was obtained for the sake of alignment."""
        self._free_chunk(address, size)

    def _small(self, n_bytes: int) -> int:
        """Where a small object lies."""
        size = self._chunk_bytes(n_bytes)
        cached = self._cached.get(size)
        address, size = (cached.pop(), size) if cached else self._chunk(size)
        self._used[address] = size
        return address

    def _chunk_bytes(self, n_bytes: int) -> int:
        return max(self._LEAST, _rounded_up(n_bytes + 8, self._GRAIN))

    def _chunk(self, size: int) -> tuple[int, int]:
        """Address and size of a chunk of at least ``size``."""
        if fast := self._fast.get(size):
            return fast.pop(), size
        if size >= self._JOINED_FROM:
            self._join_fast()
        hole = self._holes.best(size)
        if hole is None and self._heap_end - self._top < size + self._LEAST and any(self._fast.values()):
            self._join_fast()
            hole = self._holes.best(size)
        if hole is not None:
            address, found = hole
            self._holes.take(address)
            if found - size < self._LEAST:
                return address, found
            self._holes.add(address + size, found - size)
            return address, size
        missing = size + self._LEAST - (self._heap_end - self._top)
        if missing > 0:
            if size >= self._threshold:
                return self._mapped(size)
            self._grow(_rounded_up(missing + self._TOP_PAD, self._PAGE))
        address, self._top = self._top, self._top + size
        return address, size

    def _mapped(self, size: int) -> tuple[int, int]:
        size = _rounded_up(size + 8, self._PAGE)
        address, self._next_mapped = self._next_mapped, self._next_mapped + size
        self._hold(size)
        return address, size

    def _free_chunk(self, address: int, size: int) -> None:
        if size <= self._CACHED_TO and len(self._cached.setdefault(size, [])) < self._N_CACHED:
            self._cached[size].append(address)
        elif size <= self._FAST_TO:
            self._fast.setdefault(size, []).append(address)
        else:
            self._join(address, size)

    def _join(self, address: int, size: int) -> None:
        """Make a chunk part of a hole, past all lists of small ones."""
        if self._add_hole(address, size) >= 64 * self._JOINED_FROM:
            self._join_fast()
            unused = self._heap_end - self._top
            if unused >= self._trim_threshold:
                self._grow(-(max(0, unused - self._TOP_PAD - self._LEAST) // self._PAGE) * self._PAGE)

    def _join_fast(self) -> None:
        for size, addresses in self._fast.items():
            while addresses:
                self._add_hole(addresses.pop(), size)

    def _add_hole(self, address: int, size: int) -> int:
        """Bytes of the hole that a chunk is now part of, the end of the heap included."""
        address, size = self._holes.add(address, size)
        if address + size == self._top:
            self._holes.take(address)
            self._top = address
            return self._heap_end - address
        return size

    def _grow(self, n_bytes: int) -> None:
        self._heap_end += n_bytes
        self._hold(n_bytes)


class NewerGlibcAllocator(GlibcAllocator):
    """The same from glibc 2.39 on, and in 2.38 with its corrections (commit 542b1105852, bug 30723).

    What ``memalign`` cuts off for alignment joins with its neighbours at once, in no list of small chunks, and less
    than a least chunk goes back, too, where what is behind it is free. So the hole that a tensor left is larger by what
    was cut off in front of it, which for the next of its size is not enough. All else that is replayed is as before:
    thresholds, the end of the heap, the lists of small chunks. Held against the sources alone, as no machine with it
    was at hand.
    """

    def _is_cut_off(self, address: int, size: int) -> bool:
        return size >= self._LEAST or (size > 0 and (address + size == self._top or self._holes.begins(address + size)))

    def _cut_off(self, address: int, size: int) -> None:
        self._join(address, size)


def _rounded_up(n_bytes: int, to: int) -> int:
    return -(-n_bytes // to) * to
