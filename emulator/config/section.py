"""What the sections of a configuration have in common: types of settings, and the table that takes only its keys."""

from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from device_profiles.text_files import user_path

LARGEST = 2**31 - 1  # of what is stored in 32 bits; nothing that is counted here comes near it

# The words are those of emulator.policy.parameters; what is counted here has a largest number.
Count = Annotated[int, Field(gt=0, le=LARGEST)]
"""A whole number of at least 1."""
CountOrZero = Annotated[int, Field(ge=0, le=LARGEST)]
"""A whole number of at least 0."""
Positive = Annotated[float, Field(gt=0)]
"""A number above 0."""
ProperFraction = Annotated[float, Field(gt=0, lt=1)]
"""A number from 0 to 1, but neither of them."""


def _expanded(text: str) -> str:
    """``~`` and ``file://`` mean the same in every path; what is no path stays as it is."""
    return str(user_path(text)) if text.startswith(("~", "file:")) else text


NameOrPath = Annotated[str, AfterValidator(_expanded)]


NONE = "none"
"""What stands for None, for which TOML has no word: a setting that is not given, though its key is."""


def _may_be_zero(annotation: Any) -> bool:
    """Whether 0 means something: of columns, which are names or numbers, the first; elsewhere where it is allowed."""
    kinds = get_args(annotation)
    limits = [limit for kind in kinds for given in get_args(kind)[1:] for limit in getattr(given, "metadata", ())]
    return str in kinds or any(getattr(limit, "ge", None) == 0 for limit in limits)


class Section(BaseModel):
    """A table of the configuration; it takes exactly the keys it names, each in its own type.

    A setting whose default is None may be left out, or be "none".
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _given(cls, value: Any, info: ValidationInfo) -> Any:
        """None for "none" where a setting need not be given; an empty value is then a mistake."""
        if info.field_name is None or cls.model_fields[info.field_name].default is not None:
            return value
        is_zero = value == 0 and not isinstance(value, bool)
        is_empty = value == "" or (is_zero and not _may_be_zero(cls.model_fields[info.field_name].annotation))
        if isinstance(value, str | int | float) and is_empty:
            raise PydanticCustomError("not_given", "leave the key out, or give 'none', where nothing is meant")
        return None if value == NONE else value
