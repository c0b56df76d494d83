"""What a payload is encoded as on its way between server and devices."""

from dataclasses import dataclass
from typing import Literal

EncodingKind = Literal["none", "fp16", "bf16", "int8", "topk"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """How the numbers of a payload, one behind another, become bytes; see :mod:`emulator.compression.encodings`.

    Attributes:
        kind: ``none``, float32 as it is; ``fp16`` and ``bf16``; ``int8``, with a step for each bucket; ``topk``, the
            largest by magnitude and their indices.
        topk_fraction: for ``topk``, which share of the numbers travels.
        bucket_size: for ``int8``, neighbouring numbers that share a step.
        rounding: for ``int8``; ``stochastic`` is right in the mean.
    """

    kind: EncodingKind = "none"
    topk_fraction: float = 0.01
    bucket_size: int = 512
    rounding: Literal["stochastic", "nearest"] = "stochastic"


PLAIN_ENCODING = Encoding()


@dataclass(frozen=True, kw_only=True, slots=True)
class Compression:
    """How payloads are encoded, both ways.

    Attributes:
        upload: of what devices send: the change of what they train since they received it.
        download: of what the server sends.
        error_feedback: whether devices keep what the encoding of an upload has lost, and add it to their next one.
    """

    upload: Encoding = PLAIN_ENCODING
    download: Encoding = PLAIN_ENCODING
    error_feedback: bool = False


NO_COMPRESSION = Compression()
