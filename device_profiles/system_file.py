"""What the software of a federation adds to each round: how often its processes look for news, and what they do beside.

A file of a system is TOML with all figures of :class:`SystemSpec`, each with its provenance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from device_profiles.provenance import Provenance
from device_profiles.tables import Table, provenance_table, read_provenance, require_provenance

FIGURES = (
    "device_poll_s",
    "server_poll_s",
    "launch_s",
    "reply_s",
    "download_message_bytes",
    "upload_message_bytes",
    "bytes_per_payload_byte",
)

_MOST_S = 86_400.0
_MOST_BYTES_PER_BYTE = 100.0
"""Numbers written as text in every encoding stay below: more is a slip, and would make times that mean nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemSpec:
    """A system for federated learning, as its users wait for it.

    Attributes:
        name: of the file.
        device_poll_s: a device without work asks the server for some every so many seconds; 0 where it is told.
        server_poll_s: a server that waits looks for answers every so many seconds; 0 where it is told.
        launch_s: from when a device has all of a message until it begins to train: a process to start, what to import.
        reply_s: from when it has trained until its answer begins to travel.
        download_message_bytes: what travels to a device beside the payload.
        upload_message_bytes: what travels from it beside its payload, its asking for news included.
        bytes_per_payload_byte: what a byte of the payload becomes on its way.
        provenance: by the file's key.
        sha256: the digest of the file.
    """

    name: str
    device_poll_s: float
    server_poll_s: float
    launch_s: float
    reply_s: float
    download_message_bytes: int
    upload_message_bytes: int
    bytes_per_payload_byte: float
    provenance: Mapping[str, Provenance] = field(hash=False, repr=False, default_factory=dict)
    sha256: str = field(repr=False, default="")

    def download_bytes(self, n_bytes: int) -> int:
        """What travels to a device for a payload of ``n_bytes``."""
        return round(n_bytes * self.bytes_per_payload_byte) + self.download_message_bytes

    def upload_bytes(self, n_bytes: int) -> int:
        """What travels from a device for a payload of ``n_bytes``."""
        return round(n_bytes * self.bytes_per_payload_byte) + self.upload_message_bytes


def read_system(root: Table, path: Path, sha256: str) -> SystemSpec:
    """The system of the file at ``path``; ``root`` is its table and ``sha256`` its digest.

    Raises:
        ProfileError: a key, type, figure or provenance is wrong.
    """
    root.text("kind", allowed=["system"])
    provenance = read_provenance(provenance_table(root), FIGURES)
    require_provenance(root, FIGURES, provenance)
    spec = SystemSpec(
        name=path.stem,
        device_poll_s=root.number("device_poll_s", most=_MOST_S),
        server_poll_s=root.number("server_poll_s", most=_MOST_S),
        launch_s=root.number("launch_s", most=_MOST_S),
        reply_s=root.number("reply_s", most=_MOST_S),
        download_message_bytes=root.integer("download_message_bytes"),
        upload_message_bytes=root.integer("upload_message_bytes"),
        bytes_per_payload_byte=root.number("bytes_per_payload_byte", positive=True, most=_MOST_BYTES_PER_BYTE),
        provenance=provenance,
        sha256=sha256,
    )
    root.close()
    return spec
