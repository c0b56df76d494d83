"""A kind of link is one file and one line: a made-up token bucket is read from TOML and carries a transfer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from device_profiles.catalog import load_link
from device_profiles.link_kinds.base import LinkSampler, LinkSpec, Streams, read_common, read_rate
from device_profiles.link_kinds.catalog import LINK_KINDS
from device_profiles.link_kinds.replay import ChangingRate, RateCurve, RateTrace, Replay
from device_profiles.tables import ProfileError, Table
from emulator.seeds import Seeds
from emulator.world.clock import Clock
from emulator.world.network.links import Links
from emulator.world.network.network import Network
from emulator.world.network.transfers import Direction

FILE = """
kind = "token_bucket"
peak_mbit_per_s = 8.0
refill_mbit_per_s = 0.8
burst_mbyte = 2.0
period_s = 60.0
latency_ms = 0.0
[provenance]
peak_mbit_per_s = { kind = "assumed", source = "made up" }
refill_mbit_per_s = { kind = "assumed", source = "made up" }
burst_mbyte = { kind = "assumed", source = "made up" }
period_s = { kind = "assumed", source = "made up" }
latency_ms = { kind = "assumed", source = "made up" }
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenBucket(LinkSpec):
    """The peak rate until the bucket is empty, then the rate at which it fills; it is full again every period."""

    kind: Literal["token_bucket"] = "token_bucket"
    peak_bytes_per_s: float
    refill_bytes_per_s: float
    burst_bytes: float
    period_s: float

    @classmethod
    def read(cls, root: Table, path: Path, sha256: str) -> Self:
        figures = ("peak_mbit_per_s", "refill_mbit_per_s", "burst_mbyte", "period_s")
        return cls(
            peak_bytes_per_s=read_rate(root, "peak_mbit_per_s"),
            refill_bytes_per_s=read_rate(root, "refill_mbit_per_s"),
            burst_bytes=1e6 * root.number("burst_mbyte"),
            period_s=root.number("period_s", positive=True),
            **read_common(root, path, sha256, figures),
        )

    def sampler(self, device_ids: NDArray[np.int64], n_devices: int, streams: Streams) -> LinkSampler:
        steps = RateTrace(
            start_s=np.array([0.0, self.burst_bytes / self.peak_bytes_per_s]),
            bytes_per_s=np.array([self.peak_bytes_per_s, self.refill_bytes_per_s]),
            period_s=self.period_s,
        )
        return _Bucket(RateCurve(steps), len(device_ids))


class _Bucket(LinkSampler):
    def __init__(self, curve: RateCurve, n_devices: int) -> None:
        self._curve = curve
        self._n_devices = n_devices

    def rates(self, round_index: int, now_s: float) -> NDArray[np.float64]:
        return np.tile(self._curve.rates_at(now_s, np.zeros(self._n_devices)), (2, 1))

    def mean_rates(self) -> NDArray[np.float64]:
        return np.full((2, self._n_devices), self._curve.trace.mean_bytes_per_s)

    def replays(self) -> Sequence[tuple[ChangingRate, ChangingRate]]:
        return [(Replay(self._curve, 0), Replay(self._curve, 0))] * self._n_devices


@pytest.fixture
def link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LinkSpec:
    monkeypatch.setitem(LINK_KINDS, "token_bucket", TokenBucket)
    (tmp_path / "bucket.toml").write_text(FILE)
    return load_link(tmp_path / "bucket.toml")


def test_its_figures_are_read_in_si_units(link: LinkSpec) -> None:
    assert isinstance(link, TokenBucket)
    assert (link.name, link.peak_bytes_per_s, link.refill_bytes_per_s, link.burst_bytes) == ("bucket", 1e6, 1e5, 2e6)


def test_a_transfer_takes_the_burst_at_the_peak_and_the_rest_at_the_refill(link: LinkSpec) -> None:
    links, clock = Links([link, link], Seeds(0)), Clock()
    network = Network(clock, links)

    # 2 MB at 1 MB/s, and 1 MB at 0.1 MB/s.
    transfer = network.start(1, Direction.UP, 3_000_000, links.rates(0).up_bytes_per_s[1])

    assert transfer.duration_s == pytest.approx(2.0 + 10.0)
    assert links.rates(1, now_s=5.0).up_bytes_per_s.tolist() == [1e5, 1e5]


def test_its_name_is_among_those_that_a_file_may_give(link: LinkSpec, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(FILE.replace("token_bucket", "leaky_bucket"))

    with pytest.raises(ProfileError, match="token_bucket"):
        load_link(tmp_path / "other.toml")
