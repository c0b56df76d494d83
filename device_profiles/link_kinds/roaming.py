"""Devices that roam between access points, whose rates and shared capacities differ."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.base import LinkSampler, LinkSpec, Streams, Walk, read_common, read_range, read_rate
from device_profiles.link_kinds.replay import ChangingRate
from device_profiles.link_kinds.trace_files import file_sha256
from device_profiles.link_kinds.walks import (
    Point,
    RecordedWalk,
    RoamingRate,
    Visits,
    random_route,
    read_walks,
)
from device_profiles.tables import Table, require_provenance
from device_profiles.text_files import user_path

LEAST_DWELL_S = 1.0
_POINT_FIGURES = ("min_mbit_per_s", "max_mbit_per_s", "shared_mbit_per_s")
_GAP = ("min_gap_ms", "max_gap_ms")


@dataclass(frozen=True, kw_only=True, slots=True)
class RoamingLink(LinkSpec):
    """Devices that roam between access points.

    How long a device dwells is drawn, exponential with the mean ``mean_dwell_s``, and so is where it goes then; or it
    follows one of ``walks``, device ``i`` walk ``i % len(walks)``. At each visit it has another rate, between the
    bounds of the point. At each hand-over nothing passes for a time that is uniform in ``gap_s``.
    """

    kind: Literal["roaming"] = "roaming"
    access_points: tuple[Point, ...]
    gap_s: tuple[float, float]
    mean_dwell_s: float | None = None
    walks: tuple[RecordedWalk, ...] = ()

    @classmethod
    def read(cls, root: Table, path: Path, sha256: str) -> Self:
        """The file of walks is named relative to the link's own; its digest becomes part of the link's."""
        walks = "trace" in root
        figures = ("trace",) if walks else ("mean_dwell_s",)
        may = ("trace_period_s",) if walks else ()
        common = read_common(root, path, sha256, (*figures, *_GAP), also=_POINT_FIGURES, may=may)
        points = _points(root, common["provenance"])
        gap_s = (1e-3 * root.number("min_gap_ms"), 1e-3 * root.number("max_gap_ms"))
        if gap_s[0] > gap_s[1]:
            raise root.error("max_gap_ms", f"must not be below min_gap_ms, got {root.number('max_gap_ms')!r}")
        if not walks:
            mean_dwell_s = root.number("mean_dwell_s")
            if mean_dwell_s < LEAST_DWELL_S:
                raise root.error("mean_dwell_s", f"must be at least {LEAST_DWELL_S:g} s, got {mean_dwell_s!r}")
            return cls(access_points=points, gap_s=gap_s, mean_dwell_s=mean_dwell_s, **common)
        file = user_path(root.text("trace"), path.parent)
        root.allow("trace_period_s")
        period_s = root.number("trace_period_s", positive=True) if "trace_period_s" in root else None
        recorded = read_walks(file, [point.name for point in points], period_s)
        common["sha256"] = hashlib.sha256((sha256 + file_sha256(file)).encode()).hexdigest()
        return cls(access_points=points, gap_s=gap_s, walks=recorded, **common)

    def points_bytes_per_s(self) -> tuple[float, ...]:
        return tuple(point.shared_bytes_per_s for point in self.access_points)

    def recorded(self) -> str:
        if not self.walks:
            return ""
        n_visits = sum(len(walk.start_s) for walk in self.walks)
        return f"{len(self.walks):,} walks with {n_visits:,} visits to {len(self.access_points)} access points"

    def sampler(self, device_ids: NDArray[np.int64], n_devices: int, streams: Streams) -> LinkSampler:
        return _Roaming(self, device_ids.tolist(), streams)


class _Roaming(LinkSampler):
    def __init__(self, link: RoamingLink, device_ids: Sequence[int], streams: Streams) -> None:
        self._link = link
        self._device_ids = device_ids
        self._visits = [self._visits_of(device_id, streams) for device_id in device_ids]

    def rates(self, round_index: int, now_s: float) -> NDArray[np.float64]:
        rates = [visits.rate_at(now_s) for visits in self._visits]
        return np.array([rates, rates])

    def mean_rates(self) -> NDArray[np.float64]:
        means = [self._mean_rate(device_id) for device_id in self._device_ids]
        return np.array([means, means])

    def replays(self) -> Sequence[tuple[ChangingRate, ChangingRate]]:
        rates = [RoamingRate(visits) for visits in self._visits]
        return [(rate, rate) for rate in rates]

    def walks(self) -> Sequence[Walk]:
        return self._visits

    def _visits_of(self, device_id: int, streams: Streams) -> Visits:
        # One stream for each device: visits are drawn as far as they are asked for, which differs between devices.
        link, rng = self._link, streams.rng("roaming", device_id)
        if link.mean_dwell_s is None:
            route = link.walks[device_id % len(link.walks)].route()
        else:
            route = random_route(len(link.access_points), link.mean_dwell_s, streams.rng("roaming_route", device_id))
        return Visits(link.access_points, route, link.gap_s, rng)

    def _mean_rate(self, device_id: int) -> float:
        """Over all time; for a walk that is not repeated, at the point where it ends."""
        link = self._link
        middles = [(point.min_bytes_per_s + point.max_bytes_per_s) / 2 for point in link.access_points]
        low_s, high_s = link.gap_s
        if link.mean_dwell_s is not None:
            # Of a visit of exponential length, exp(-gap / mean) is left on average behind a gap; of all gaps that are
            # as likely, the mean of that.
            spread = (high_s - low_s) / link.mean_dwell_s
            linked_fraction = math.exp(-low_s / link.mean_dwell_s)
            linked_fraction *= -math.expm1(-spread) / spread if spread else 1.0
            return linked_fraction * sum(middles) / len(middles)
        walk = link.walks[device_id % len(link.walks)]
        if math.isinf(walk.period_s):
            return middles[walk.points[-1]]
        lengths_s = np.diff([*walk.start_s, walk.period_s])
        return float(lengths_s @ [middles[point] for point in walk.points]) / walk.period_s


def _points(root: Table, provenance: Any) -> tuple[Point, ...]:
    points: list[Point] = []
    for table in root.tables("point"):
        require_provenance(table, _POINT_FIGURES, provenance)
        low, high = read_range(table)
        name, shared = table.text("name"), read_rate(table, "shared_mbit_per_s")
        if name in [point.name for point in points]:
            raise table.error("name", f"must differ from point to point, got {name!r} twice")
        points.append(Point(name=name, min_bytes_per_s=low, max_bytes_per_s=high, shared_bytes_per_s=shared))
        table.close()
    if len(points) < 2:
        raise root.error("point", f"must be at least two access points to roam between, got {len(points)}")
    return tuple(points)
