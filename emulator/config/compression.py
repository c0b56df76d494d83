"""``[compression]``: how payloads are encoded on their way."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from emulator.config.section import Count, Section


class CompressionConfig(Section):
    """How payloads are encoded on their way, which changes both what the network carries and what is aggregated."""

    upload: Literal["none", "fp16", "bf16", "int8", "topk"] = "none"
    """What devices send of the change of what they train: none, their arrays in float32, as they are; fp16, bf16; int8,
    a code of 8 bits for each number and a step for each bucket (QSGD: Alistarh et al. 2017); topk, the largest by
    magnitude with their indices (Aji and Heafield 2017; Stich et al. 2018)."""
    download: Literal["none", "fp16", "bf16", "int8"] = "none"
    """What the server sends of its arrays, in the same words."""
    error_feedback: bool = False
    """Whether a device keeps what its uploads lose and adds it to the next one (Karimireddy et al. 2019). What it keeps
    is in checkpoints."""
    topk_fraction: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """For topk: which share of the numbers of a payload travels; where it is not given, 0.01, as in Aji and Heafield
    2017. Above a half, indices would take more than what is left out."""
    bucket_size: Count | None = None
    """For int8: neighbouring numbers of a payload that share a step; where it is not given, 512, as in QSGD."""
    rounding: Literal["stochastic", "nearest"] | None = None
    """For int8: stochastic, which it is where it is not given, is right in the mean; nearest errs less."""

    @model_validator(mode="after")
    def _belong_together(self) -> "CompressionConfig":
        if self.error_feedback and self.upload == "none":
            raise ValueError(
                "compression.error_feedback is for uploads that lose something: set compression.upload to fp16, bf16, "
                "int8 or topk, or leave it out, got true"
            )
        if self.topk_fraction is not None and self.upload != "topk":
            raise ValueError(
                f"compression.topk_fraction is for compression.upload = 'topk'; it is {self.upload!r}: leave one out, "
                f"got {self.topk_fraction!r}"
            )
        if "int8" not in (self.upload, self.download):
            for key, value in (("bucket_size", self.bucket_size), ("rounding", self.rounding)):
                if value is not None:
                    raise ValueError(
                        f"compression.{key} is for int8; compression.upload is {self.upload!r} and "
                        f"compression.download is {self.download!r}: leave it out, got {value!r}"
                    )
        return self
