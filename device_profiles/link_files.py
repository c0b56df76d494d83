"""Reading a link's TOML file: what each kind of link needs, in SI units."""

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path

from device_profiles.records import (
    ConstantLink,
    LinkSpec,
    LogNormalLink,
    Provenance,
    RateTrace,
    Ring,
    TraceLink,
    WifiRings,
)
from device_profiles.tables import Table, provenance_table, read_provenance, require_provenance
from device_profiles.traces import file_sha256, read_mahimahi, read_parquet, read_time_rate

BYTES_PER_S_PER_MBIT_PER_S = 1e6 / 8

_RING_FIGURES = ("distance_m", "min_mbit_per_s", "max_mbit_per_s")
_PATH_FIGURES = ("latency_ms", "loss_fraction")


def read_link(root: Table, path: Path, sha256: str) -> LinkSpec:
    """The link of a file; ``root`` is its table and ``sha256`` its digest.

    Raises:
        ProfileError: a key, type, figure, provenance or trace is wrong.
    """
    readers: dict[str, Callable[[Table, Path, str], LinkSpec]] = {
        "wifi_rings": _wifi_rings,
        "constant": _constant_link,
        "lognormal": _log_normal_link,
        "trace": _trace_link,
    }
    link = readers[root.text("kind", allowed=readers)](root, path, sha256)
    root.close()
    return link


def _wifi_rings(root: Table, path: Path, sha256: str) -> WifiRings:
    figures = (
        "download_variation_fraction",
        "upload_variation_fraction",
        "round_correlation",
        "min_mbit_per_s",
        "max_mbit_per_s",
    )
    provenance = _provenance(root, figures, also=_RING_FIGURES)
    rings = []
    for table in root.tables("ring"):
        require_provenance(table, _RING_FIGURES, provenance)
        low, high = _range(table)
        rings.append(
            Ring(
                name=table.text("name"),
                distance_m=table.number("distance_m"),
                min_bytes_per_s=low,
                max_bytes_per_s=high,
            )
        )
        table.close()
    low, high = _range(root)
    return WifiRings(
        name=path.stem,
        rings=tuple(rings),
        download_variation_fraction=root.number("download_variation_fraction"),
        upload_variation_fraction=root.number("upload_variation_fraction"),
        round_correlation=root.number("round_correlation", most=1),
        min_bytes_per_s=low,
        max_bytes_per_s=high,
        latency_s=_latency_s(root),
        loss_fraction=_loss_fraction(root),
        provenance=provenance,
        sha256=sha256,
    )


def _constant_link(root: Table, path: Path, sha256: str) -> ConstantLink:
    provenance = _provenance(root, ("download_mbit_per_s", "upload_mbit_per_s"))
    return ConstantLink(
        name=path.stem,
        download_bytes_per_s=_rate(root, "download_mbit_per_s"),
        upload_bytes_per_s=_rate(root, "upload_mbit_per_s"),
        latency_s=_latency_s(root),
        loss_fraction=_loss_fraction(root),
        provenance=provenance,
        sha256=sha256,
    )


def _log_normal_link(root: Table, path: Path, sha256: str) -> LogNormalLink:
    figures = (
        "download_mbit_per_s",
        "upload_mbit_per_s",
        "device_variation_fraction",
        "download_variation_fraction",
        "upload_variation_fraction",
        "round_correlation",
        "min_mbit_per_s",
        "max_mbit_per_s",
    )
    provenance = _provenance(root, figures)
    low, high = _range(root)
    return LogNormalLink(
        name=path.stem,
        download_bytes_per_s=_rate(root, "download_mbit_per_s"),
        upload_bytes_per_s=_rate(root, "upload_mbit_per_s"),
        device_variation_fraction=root.number("device_variation_fraction"),
        download_variation_fraction=root.number("download_variation_fraction"),
        upload_variation_fraction=root.number("upload_variation_fraction"),
        round_correlation=root.number("round_correlation", most=1),
        min_bytes_per_s=low,
        max_bytes_per_s=high,
        latency_s=_latency_s(root),
        loss_fraction=_loss_fraction(root),
        provenance=provenance,
        sha256=sha256,
    )


def _trace_link(root: Table, path: Path, sha256: str) -> TraceLink:
    """Trace files are named relative to the link's own; their digests become part of the link's."""
    kind = root.text("format", allowed=("mahimahi", "time_rate", "parquet"))
    keys = ("trace",) if kind == "parquet" else ("download", "upload")
    files = [path.parent / root.text(key) for key in keys]
    provenance = _provenance(root, ("bin_ms",) if kind == "mahimahi" else (), also=keys)
    require_provenance(root, keys, provenance)
    download: RateTrace
    upload: RateTrace
    if kind == "parquet":
        download, upload = read_parquet(files[0])
    elif kind == "time_rate":
        download, upload = map(read_time_rate, files)
    else:
        bin_s = 1e-3 * root.number("bin_ms", positive=True)
        download, upload = (read_mahimahi(file, bin_s) for file in files)
    return TraceLink(
        name=path.stem,
        download=download,
        upload=upload,
        latency_s=_latency_s(root),
        loss_fraction=_loss_fraction(root),
        provenance=provenance,
        sha256=hashlib.sha256("".join([sha256, *map(file_sha256, files)]).encode()).hexdigest(),
    )


def _provenance(root: Table, figures: Collection[str], also: Collection[str] = ()) -> dict[str, Provenance]:
    """The provenance of ``figures``, latency and, where it is given, loss, all of which need one; ``also`` may have."""
    allowed = (*figures, *also, *_PATH_FIGURES)
    provenance = read_provenance(provenance_table(root), tuple(dict.fromkeys(allowed)))
    needed = [*figures, "latency_ms", *(["loss_fraction"] if "loss_fraction" in root else [])]
    require_provenance(root, needed, provenance)
    return provenance


def _rate(table: Table, key: str) -> float:
    return BYTES_PER_S_PER_MBIT_PER_S * table.number(key, positive=True)


def _latency_s(root: Table) -> float:
    return 1e-3 * root.number("latency_ms")


def _loss_fraction(root: Table) -> float:
    root.allow("loss_fraction")
    fraction = root.optional_number("loss_fraction")
    if fraction is not None and fraction >= 1:
        raise root.error("loss_fraction", f"must be below 1, got {fraction!r}")
    return fraction or 0.0


def _range(table: Table) -> tuple[float, float]:
    low, high = _rate(table, "min_mbit_per_s"), _rate(table, "max_mbit_per_s")
    if low > high:
        got = high / BYTES_PER_S_PER_MBIT_PER_S
        raise table.error("max_mbit_per_s", f"must not be below min_mbit_per_s, got {got!r}")
    return low, high
