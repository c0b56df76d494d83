"""Annotations of policies' parameters that say which values are allowed; checked where a policy is built by name.

What depends on another parameter, or on the model, is for ``__post_init__`` and ``form`` to say.
"""

from typing import Annotated, Any

from pydantic import Field

Count = Annotated[int, Field(ge=1)]
"""A whole number of at least 1."""
CountOrZero = Annotated[int, Field(ge=0)]
"""A whole number of at least 0."""
NotNegative = Annotated[float, Field(ge=0)]
"""A number of at least 0."""
Positive = Annotated[float, Field(gt=0)]
"""A number above 0."""
Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""
FractionBelowOne = Annotated[float, Field(ge=0, lt=1)]
"""A number from 0 to 1, but not 1."""
FractionAboveZero = Annotated[float, Field(gt=0, le=1)]
"""A number from 0 to 1, but not 0."""
Nonempty: Any = Field(min_length=1)
"""For ``Annotated[tuple[int, ...], Nonempty]``: at least one."""


def Between(least: float, most: float) -> Any:
    """For ``Annotated[int, Between(1, 1000)]``: bounds that are allowed themselves."""
    return Field(ge=least, le=most)
