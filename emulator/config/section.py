"""What the sections of a configuration have in common: types of settings, and the table that takes only its keys."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from device_profiles.text_files import user_path

LARGEST = 2**31 - 1  # of what is stored in 32 bits; nothing that is counted here comes near it
Positive = Annotated[int, Field(gt=0, le=LARGEST)]
NotNegative = Annotated[int, Field(ge=0, le=LARGEST)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


def _expanded(text: str) -> str:
    """``~`` and ``file://`` mean the same in every path; what is no path stays as it is."""
    return str(user_path(text)) if text.startswith(("~", "file:")) else text


NameOrPath = Annotated[str, AfterValidator(_expanded)]


class Section(BaseModel):
    """A table of the configuration; it takes exactly the keys it names, each in its own type."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
