"""What the name of a model means. The only place that tells kinds of models apart by their names."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from emulator.shapes.convnet_catalog import BUILTIN_CONVNET, convnet_names
from emulator.shapes.model_folder import local_folder
from emulator.shapes.transformer_catalog import TRANSFORMERS

BUILTIN_PREFIX = "builtin:"
"""Marks what comes with the package, such as ``builtin:tiny-12``."""


class ModelKind(StrEnum):
    """Where shapes and weights of a model are found. The priced ones have shapes alone, all others weights as well."""

    BUILTIN_TRANSFORMER = "built-in transformer"
    BUILTIN_CONVNET = "built-in convnet"
    PRICED_TRANSFORMER = "priced transformer"
    PRICED_CONVNET = "priced convnet"
    DIRECTORY = "directory"
    HUB = "hub id"


@dataclass(frozen=True, slots=True)
class ModelName:
    """The name of a model as a user gives it.

    ``builtin:NAME``, a name of the catalogs, a directory, or else a hub id. Whether there is such a model is not asked.
    """

    text: str

    @property
    def kind(self) -> ModelKind:
        """The first kind that the name fits; what is no name and no directory is taken for a hub id."""
        if self.text == BUILTIN_CONVNET:
            return ModelKind.BUILTIN_CONVNET
        if self.is_builtin:
            return ModelKind.BUILTIN_TRANSFORMER
        if self.text in convnet_names():
            return ModelKind.PRICED_CONVNET
        if self.text in TRANSFORMERS:
            return ModelKind.PRICED_TRANSFORMER
        return ModelKind.DIRECTORY if self.folder else ModelKind.HUB

    @property
    def is_builtin(self) -> bool:
        """Whether it comes with the package."""
        return self.text.startswith(BUILTIN_PREFIX)

    @property
    def is_convnet(self) -> bool:
        """Whether it is a convnet rather than a transformer."""
        return self.text == BUILTIN_CONVNET or self.text in convnet_names()

    @property
    def family(self) -> Literal["convnet", "transformer"]:
        """The family, as policies and shapes state it."""
        return "convnet" if self.is_convnet else "transformer"

    @property
    def without_prefix(self) -> str:
        """``NAME`` of ``builtin:NAME``; any other name as it is."""
        return self.text.removeprefix(BUILTIN_PREFIX)

    @property
    def folder(self) -> Path | None:
        """The directory of the user's that the name means, if there is one."""
        return None if self.is_builtin else local_folder(self.text)
