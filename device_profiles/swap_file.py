"""Swap: memory beyond a board's own, on a drive or compressed, as slow as that is.

A file of it is TOML with all figures of :class:`SwapSpec`, each with its provenance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from device_profiles.provenance import Provenance
from device_profiles.tables import Table, provenance_table, read_provenance, require_provenance

_GIB = 2**30
_BYTES_PER_MB = 1e6
FIGURES = ("size_gib", "read_mb_per_s", "write_mb_per_s", "held_fraction")


@dataclass(frozen=True, kw_only=True, slots=True)
class SwapSpec:
    """Where the bytes go that a step needs beyond a board's memory.

    Each of them is written once and read once in every step, which is the least: a step uses all that it holds, in
    turn, and what was pushed out longest ago is what it needs next.

    Attributes:
        name: of the file.
        size_bytes: so many bytes can be pushed out.
        read_bytes_per_s: as fast they come back.
        write_bytes_per_s: as fast they go.
        held_fraction: so much of a byte stays in the board's memory, compressed; 0 on a drive, less than 1.
        provenance: by the file's key.
        sha256: the digest of the file.
    """

    name: str
    size_bytes: int
    read_bytes_per_s: float
    write_bytes_per_s: float
    held_fraction: float = 0.0
    provenance: Mapping[str, Provenance] = field(hash=False, repr=False, default_factory=dict)
    sha256: str = field(repr=False, default="")

    @property
    def gained_bytes(self) -> int:
        """How much more a process can fill."""
        return int(self.size_bytes * (1 - self.held_fraction))

    def swapped_bytes(self, missing_bytes: float) -> float:
        """What is pushed out where so many bytes of memory are missing."""
        return missing_bytes / (1 - self.held_fraction)

    def step_s(self, missing_bytes: float) -> float:
        """Both, as a step has them."""
        return self.write_s(missing_bytes) + self.read_s(missing_bytes)

    def write_s(self, missing_bytes: float) -> float:
        """How long that takes."""
        return self.swapped_bytes(missing_bytes) / self.write_bytes_per_s

    def read_s(self, missing_bytes: float) -> float:
        """How long it takes to get it back."""
        return self.swapped_bytes(missing_bytes) / self.read_bytes_per_s


def read_swap(root: Table, path: Path, sha256: str) -> SwapSpec:
    """The swap that a file states.

    Raises:
        ProfileError: a key, type, figure or provenance in it is wrong.
    """
    root.text("kind", allowed=("swap",))
    provenance = read_provenance(provenance_table(root), FIGURES)
    require_provenance(root, FIGURES, provenance)
    swap = SwapSpec(
        name=path.stem,
        size_bytes=round(root.number("size_gib", positive=True, most=1e6) * _GIB),
        read_bytes_per_s=root.number("read_mb_per_s", positive=True) * _BYTES_PER_MB,
        write_bytes_per_s=root.number("write_mb_per_s", positive=True) * _BYTES_PER_MB,
        held_fraction=root.number("held_fraction", most=0.99),
        provenance=provenance,
        sha256=sha256,
    )
    root.close()
    return swap
