"""Where the files of a model to be trained lie, and that nothing but weights of its own would be loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.errors import ConfigError, DataError
from emulator.shapes.catalog import BUILTIN_MODELS, check_family, check_hub_id
from emulator.shapes.hub import model_files
from emulator.shapes.model_folder import gguf_file, read_config, weight_files
from emulator.shapes.names import BUILTIN_PREFIX, ModelName


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A model's directory that has been looked at.

    Attributes:
        name: what the user gave.
        folder: where its files are.
        base: what others load it by: a hub id, or an absolute path.
        revision: the hub's commit; None for a directory of the user's.
        config: its config.json.
        weights: the files that hold its weights.
        gguf: the name of the GGUF file in the folder that it is loaded from; None for safetensors.
    """

    name: str
    folder: Path
    base: str
    revision: str | None
    config: Mapping[str, Any]
    weights: tuple[Path, ...]
    gguf: str | None = None

    @property
    def weight_bytes(self) -> int:
        """The size of its weights on disk."""
        return sum(file.stat().st_size for file in self.weights)

    @property
    def source(self) -> dict[str, str]:
        """What transformers is told beside the folder."""
        return {} if self.gguf is None else {"gguf_file": self.gguf}


def locate(train: str) -> Place:
    """Finds ``train``: a built-in model, a local directory, or a hub id, whose files are then fetched.

    No weights are read.

    Raises:
        DataError: there is no such model, its config.json cannot be read, its family is not known, or its weights are
            no safetensors of its own and no GGUF file.
    """
    try:
        folder, base, revision = _found(train)
        config = read_config(folder, train)
        check_family(config, train)
        file = gguf_file(train)
    except ConfigError as error:
        raise DataError(f"model.train: {error}") from None
    weights = weight_files(folder, train, config)
    return Place(
        name=train,
        folder=folder,
        base=base,
        revision=revision,
        config=config,
        weights=weights,
        gguf=file.name if file else None,
    )


def _found(train: str) -> tuple[Path, str, str | None]:
    """The directory, what others load the model by, and the hub's revision."""
    if ModelName(train).is_builtin:
        folder = _builtin(train)
        return folder, str(folder), None
    if local := ModelName(train).folder:
        return local.absolute(), str(local.absolute()), None
    check_hub_id(train)
    check_family(read_config(model_files(train, only_config=True), train), train)
    folder = model_files(train)
    return folder, train, folder.name


def _builtin(train: str) -> Path:
    name = ModelName(train).without_prefix
    models = sorted(config.parent.name for config in BUILTIN_MODELS.glob("*/config.json"))
    if name not in models:
        raise DataError(
            f"model.train: there is no built-in model {train!r}; there are: "
            f"{', '.join(BUILTIN_PREFIX + model for model in models)}"
        )
    return BUILTIN_MODELS / name
