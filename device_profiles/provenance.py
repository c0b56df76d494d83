"""Where a figure comes from."""

from dataclasses import dataclass
from typing import Literal, get_args

ProvenanceKind = Literal["measured", "published", "derived", "assumed"]
PROVENANCE_KINDS: tuple[str, ...] = get_args(ProvenanceKind)


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where a figure comes from.

    ``kind`` is *measured* (an instrument or a timed run on that board, by ``source``), *published* (stated by a
    manufacturer or a paper that shows no measurement), *derived* (computed as ``note`` says) or *assumed* (a judgement,
    or taken from memory). ``date`` is when the source published the figure or, where that is not known, when it was
    taken down. ``uncertainty`` is such as ``±15 %`` or ``×/÷ 1.8``; empty where the source gives none and none was
    estimated.
    """

    kind: ProvenanceKind
    source: str
    date: str = ""
    note: str = ""
    uncertainty: str = ""
