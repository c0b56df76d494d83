"""What every kind of link is: a record that reads itself from TOML and draws the rates of its devices."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.replay import ChangingRate
from device_profiles.provenance import Provenance
from device_profiles.tables import Table, provenance_table, read_provenance, require_provenance

BYTES_PER_S_PER_MBIT_PER_S = 1e6 / 8

_PATH_FIGURES = ("latency_ms", "loss_fraction")


class Streams(Protocol):
    """Random streams of a run, by purpose; the same purpose and indices give the same stream."""

    def rng(self, purpose: str, *indices: int) -> np.random.Generator: ...


class Walk(ABC):
    """Where one device is that goes from one access point to the next."""

    n_points: int
    """How many points its link has."""

    @abstractmethod
    def point_at(self, now_s: float) -> int:
        """The number of its access point now, from 0 on; it changes only where a step of the device's rate ends."""


class LinkSampler(ABC):
    """The rates of the devices that share a link's description. They depend on the streams and the arguments alone."""

    @abstractmethod
    def rates(self, round_index: int, now_s: float) -> NDArray[np.float64]:
        """Rates at the beginning of a round, at ``now_s``, in bytes/s; shape ``(2, n)``: download and upload."""

    @abstractmethod
    def mean_rates(self) -> NDArray[np.float64]:
        """Each device's own mean over time, before any clipping, in bytes/s; shape ``(2, n)``: download and upload."""

    def replays(self) -> Sequence[tuple[ChangingRate, ChangingRate]]:
        """For each device its download and upload, where rates change within a round; empty where they do not."""
        return ()

    def walks(self) -> Sequence[Walk]:
        """For each device where it is, on links that bring access points; empty where the cluster's rule."""
        return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkSpec(ABC):
    """A link, as its file describes it.

    Attributes:
        kind: as files say it.
        name: of the file.
        latency_s: of each transfer, once.
        loss_fraction: the share of what is sent that is lost.
        provenance: by the file's key.
        sha256: the digest of the file, and of those that it reads.
    """

    kind: str
    name: str
    latency_s: float
    loss_fraction: float = 0.0
    provenance: Mapping[str, Provenance] = field(hash=False, repr=False)
    sha256: str = field(repr=False)

    @classmethod
    @abstractmethod
    def read(cls, root: Table, path: Path, sha256: str) -> Self:
        """The link of the file at ``path``; ``root`` is its table and ``sha256`` its digest.

        Raises:
            ProfileError: a key, type, figure or provenance is wrong.
        """

    def recorded(self) -> str:
        """What was understood of the recordings that it replays, in words; nothing where it has none."""
        return ""

    def points_bytes_per_s(self) -> tuple[float, ...]:
        """What each access point that the link brings carries for all of its devices; empty where it brings none."""
        return ()

    @abstractmethod
    def sampler(self, device_ids: NDArray[np.int64], n_devices: int, streams: Streams) -> LinkSampler:
        """The rates of these devices, of the ``n_devices`` of a testbed.

        A device's rates must not depend on which others there are: draw for all ``n_devices``, and take those of
        ``device_ids``.
        """


def read_common(
    root: Table,
    path: Path,
    sha256: str,
    figures: Collection[str],
    also: Collection[str] = (),
    may: Collection[str] = (),
) -> dict[str, Any]:
    """What every kind has, as arguments of its record.

    ``figures`` and latency need provenance, loss and ``may`` where they are given; ``also`` may have it.
    """
    allowed = (*figures, *also, *may, *_PATH_FIGURES)
    provenance = read_provenance(provenance_table(root), tuple(dict.fromkeys(allowed)))
    needed = [*figures, "latency_ms", *(key for key in ("loss_fraction", *may) if key in root)]
    require_provenance(root, needed, provenance)
    return {
        "name": path.stem,
        "latency_s": 1e-3 * root.number("latency_ms"),
        "loss_fraction": _loss_fraction(root),
        "provenance": provenance,
        "sha256": sha256,
    }


def read_rate(table: Table, key: str) -> float:
    """The rate under ``key``, a figure in Mb/s, in bytes/s."""
    return BYTES_PER_S_PER_MBIT_PER_S * table.number(key, positive=True)


def read_range(table: Table) -> tuple[float, float]:
    """``min_mbit_per_s`` and ``max_mbit_per_s`` in bytes/s."""
    low, high = read_rate(table, "min_mbit_per_s"), read_rate(table, "max_mbit_per_s")
    if low > high:
        got = high / BYTES_PER_S_PER_MBIT_PER_S
        raise table.error("max_mbit_per_s", f"must not be below min_mbit_per_s, got {got!r}")
    return low, high


def _loss_fraction(root: Table) -> float:
    root.allow("loss_fraction")
    fraction = root.optional_number("loss_fraction")
    if fraction is not None and fraction >= 1:
        raise root.error("loss_fraction", f"must be below 1, got {fraction!r}")
    return fraction or 0.0
