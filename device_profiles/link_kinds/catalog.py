"""The kinds of links that there are. A kind is a file of this folder and a line here."""

from pathlib import Path

from device_profiles.link_kinds.base import LinkSpec
from device_profiles.link_kinds.constant import ConstantLink
from device_profiles.link_kinds.log_normal import LogNormalLink
from device_profiles.link_kinds.roaming import RoamingLink
from device_profiles.link_kinds.trace import TraceLink
from device_profiles.link_kinds.wifi_rings import WifiRings
from device_profiles.tables import Table

LINK_KINDS: dict[str, type[LinkSpec]] = {
    "wifi_rings": WifiRings,
    "constant": ConstantLink,
    "lognormal": LogNormalLink,
    "trace": TraceLink,
    "roaming": RoamingLink,
}
"""By the ``kind`` of a link's file."""


def read_link(root: Table, path: Path, sha256: str) -> LinkSpec:
    """The link of a file; ``root`` is its table and ``sha256`` its digest.

    Raises:
        ProfileError: a key, type, figure, provenance or trace is wrong.
    """
    link = LINK_KINDS[root.text("kind", allowed=LINK_KINDS)].read(root, path, sha256)
    root.close()
    return link
