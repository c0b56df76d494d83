"""Recorded rates, replayed over and over."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.base import LinkSampler, LinkSpec, Streams, read_common
from device_profiles.link_kinds.replay import ChangingRate, RateCurve, RateTrace, Replay
from device_profiles.link_kinds.trace_files import file_sha256, read_mahimahi, read_parquet, read_time_rate
from device_profiles.tables import Table, require_provenance
from device_profiles.text_files import user_path


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceLink(LinkSpec):
    """Recorded rates, replayed over and over. Each device begins at a step of its own, drawn from the run's seed."""

    kind: Literal["trace"] = "trace"
    download: RateTrace = field(compare=False, repr=False)
    upload: RateTrace = field(compare=False, repr=False)

    @classmethod
    def read(cls, root: Table, path: Path, sha256: str) -> Self:
        """Trace files are named relative to the link's own; their digests become part of the link's."""
        kind = root.text("format", allowed=("mahimahi", "time_rate", "parquet"))
        keys = ("trace",) if kind == "parquet" else ("download", "upload")
        files = [user_path(root.text(key), path.parent) for key in keys]
        origin_s = root.optional_number("origin_s")
        root.allow("origin_s")
        figures = ("bin_ms",) if kind == "mahimahi" else ()
        common = read_common(root, path, sha256, figures, also=(*keys, "origin_s"))
        require_provenance(root, keys, common["provenance"])
        download: RateTrace
        upload: RateTrace
        if kind == "parquet":
            download, upload = read_parquet(files[0], origin_s)
        elif kind == "time_rate":
            download, upload = (read_time_rate(file, origin_s) for file in files)
        else:
            bin_s = 1e-3 * root.number("bin_ms", positive=True)
            download, upload = (read_mahimahi(file, bin_s, origin_s or 0.0) for file in files)
        common["sha256"] = hashlib.sha256("".join([sha256, *map(file_sha256, files)]).encode()).hexdigest()
        return cls(download=download, upload=upload, **common)

    def recorded(self) -> str:
        ways = (("down", self.download), ("up", self.upload))
        return "; ".join(
            f"{way}: {len(trace.start_s):,} rates over {trace.period_s:,.6g} s, "
            f"{8e-6 * trace.mean_bytes_per_s:,.4g} Mb/s in the mean"
            for way, trace in ways
        )

    def sampler(self, device_ids: NDArray[np.int64], n_devices: int, streams: Streams) -> LinkSampler:
        # One share of the steps for both directions: a place has good or bad reception for both.
        shares = streams.rng("trace_offset").random(n_devices)[device_ids]
        return _Replayed((RateCurve(self.download), RateCurve(self.upload)), shares)


class _Replayed(LinkSampler):
    """Devices that have got this share of the steps of both traces, shape ``(n,)``, behind them at time 0."""

    def __init__(self, curves: tuple[RateCurve, RateCurve], shares: NDArray[np.float64]) -> None:
        self._curves = curves
        self._first_steps = [np.floor(shares * len(curve.start_s)).astype(np.int64) for curve in curves]

    def rates(self, round_index: int, now_s: float) -> NDArray[np.float64]:
        pairs = zip(self._curves, self._first_steps, strict=True)
        return np.array([curve.rates_at(now_s, curve.trace.start_s[steps]) for curve, steps in pairs])

    def mean_rates(self) -> NDArray[np.float64]:
        means = np.array([curve.trace.mean_bytes_per_s for curve in self._curves])
        return np.repeat(means[:, None], len(self._first_steps[0]), axis=1)

    def replays(self) -> Sequence[tuple[ChangingRate, ChangingRate]]:
        (down, up), steps = self._curves, zip(*(each.tolist() for each in self._first_steps), strict=True)
        return [(Replay(down, down_step), Replay(up, up_step)) for down_step, up_step in steps]
