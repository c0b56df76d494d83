"""Wi-Fi at several distances from the access point."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.base import LinkSampler, LinkSpec, Streams, read_common, read_range
from device_profiles.link_kinds.fluctuation import COHERENCE, FIGURES, Fluctuation, fluctuating, read_fluctuation
from device_profiles.tables import Table, require_provenance

_RING_FIGURES = ("distance_m", "min_mbit_per_s", "max_mbit_per_s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ring:
    """Devices at one distance from the access point; each has a mean rate between the two bounds."""

    name: str
    distance_m: float
    min_bytes_per_s: float
    max_bytes_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class WifiRings(LinkSpec):
    """Wi-Fi at several distances from the access point.

    A device's mean rate is uniform in its ring's range and stays; its rate fluctuates about that. Rings take
    turns over device ids, so that a device's ring is independent of its type: device ``i`` is in ring
    ``i % len(rings)``.
    """

    kind: Literal["wifi_rings"] = "wifi_rings"
    rings: tuple[Ring, ...]
    fluctuation: Fluctuation

    @classmethod
    def read(cls, root: Table, path: Path, sha256: str) -> Self:
        common = read_common(root, path, sha256, FIGURES, also=_RING_FIGURES, may=(COHERENCE,))
        rings = []
        for table in root.tables("ring"):
            require_provenance(table, _RING_FIGURES, common["provenance"])
            low, high = read_range(table)
            name, distance_m = table.text("name"), table.number("distance_m")
            rings.append(Ring(name=name, distance_m=distance_m, min_bytes_per_s=low, max_bytes_per_s=high))
            table.close()
        return cls(rings=tuple(rings), fluctuation=read_fluctuation(root), **common)

    def ring_of(self, device_id: int) -> Ring:
        return self.rings[device_id % len(self.rings)]

    def sampler(self, device_ids: NDArray[np.int64], n_devices: int, streams: Streams) -> LinkSampler:
        rings = [self.ring_of(int(device_id)) for device_id in device_ids]
        low = np.array([ring.min_bytes_per_s for ring in rings])
        high = np.array([ring.max_bytes_per_s for ring in rings])
        mean = low + (high - low) * streams.rng("link_mean").random(n_devices)[device_ids]
        return fluctuating(self.fluctuation, np.array([mean, mean]), device_ids, n_devices, streams)
