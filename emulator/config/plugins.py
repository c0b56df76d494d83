"""``[policy]`` and ``observers``: what is found by its import path, with parameters of its own."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class PolicyConfig(BaseModel):
    """The policy; every key beside ``path`` is one of its parameters."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, use_attribute_docstrings=True)

    path: str = "legend"
    """A name that jetbed policies lists, or package.module:Class."""

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class ObserverConfig(BaseModel):
    """An observer; every key beside ``path`` is one of its parameters."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, use_attribute_docstrings=True)

    path: str
    """package.module:Class."""

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})
