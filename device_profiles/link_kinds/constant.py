"""Links that have the same rate at all times."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.base import LinkSampler, LinkSpec, Streams, read_common, read_rate
from device_profiles.tables import Table


@dataclass(frozen=True, kw_only=True, slots=True)
class ConstantLink(LinkSpec):
    """The same rate at all times, for every device."""

    kind: Literal["constant"] = "constant"
    download_bytes_per_s: float
    upload_bytes_per_s: float

    @classmethod
    def read(cls, root: Table, path: Path, sha256: str) -> Self:
        figures = ("download_mbit_per_s", "upload_mbit_per_s")
        common = read_common(root, path, sha256, figures)
        download, upload = (read_rate(root, key) for key in figures)
        return cls(download_bytes_per_s=download, upload_bytes_per_s=upload, **common)

    def sampler(self, device_ids: NDArray[np.int64], n_devices: int, streams: Streams) -> LinkSampler:
        means = np.array([self.download_bytes_per_s, self.upload_bytes_per_s])
        return _Constant(np.repeat(means[:, None], len(device_ids), axis=1))


class _Constant(LinkSampler):
    def __init__(self, bytes_per_s: NDArray[np.float64]) -> None:
        self._bytes_per_s = bytes_per_s

    def rates(self, round_index: int, now_s: float) -> NDArray[np.float64]:
        return self._bytes_per_s

    def mean_rates(self) -> NDArray[np.float64]:
        return self._bytes_per_s
