"""Links whose rates are log-normal, between devices and between rounds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.base import LinkSampler, LinkSpec, Streams, read_common, read_rate
from device_profiles.link_kinds.fluctuation import (
    COHERENCE,
    FIGURES,
    Fluctuation,
    fluctuating,
    log_normal,
    read_fluctuation,
)
from device_profiles.tables import Table


@dataclass(frozen=True, kw_only=True, slots=True)
class LogNormalLink(LinkSpec):
    """Links whose rates are log-normal, between devices and between rounds.

    A device's mean rates are the given ones times a log-normal factor of mean 1 and the coefficient of variation
    ``device_variation_fraction``, the same factor down and up, which stays. Its rates fluctuate about that.
    """

    kind: Literal["lognormal"] = "lognormal"
    download_bytes_per_s: float
    upload_bytes_per_s: float
    device_variation_fraction: float
    fluctuation: Fluctuation

    @classmethod
    def read(cls, root: Table, path: Path, sha256: str) -> Self:
        rates = ("download_mbit_per_s", "upload_mbit_per_s")
        common = read_common(root, path, sha256, (*rates, "device_variation_fraction", *FIGURES), may=(COHERENCE,))
        download, upload = (read_rate(root, key) for key in rates)
        return cls(
            download_bytes_per_s=download,
            upload_bytes_per_s=upload,
            device_variation_fraction=root.number("device_variation_fraction"),
            fluctuation=read_fluctuation(root),
            **common,
        )

    def sampler(self, device_ids: NDArray[np.int64], n_devices: int, streams: Streams) -> LinkSampler:
        normal = streams.rng("link_mean_normal").standard_normal(n_devices)[device_ids]
        factors = log_normal(self.device_variation_fraction, normal)
        mean = np.outer([self.download_bytes_per_s, self.upload_bytes_per_s], factors)
        return fluctuating(self.fluctuation, mean, device_ids, n_devices, streams)
