"""A model's directory before anything of it is loaded: its family, and that its weights are safetensors of its own."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device_profiles.text_files import FileError, read_text, user_path
from emulator.errors import ConfigError, DataError
from emulator.shapes.gguf_file import ENDING as GGUF
from emulator.shapes.gguf_file import gguf_config

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
MOST_CONFIG_BYTES = 2**26
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json")
"""One of them, or pieces that transformers converts."""


def local_folder(name: str) -> Path | None:
    """The directory that ``name`` means, if there is one; of a GGUF file, that in which it lies."""
    path = user_path(name)
    try:
        if path.suffix == GGUF and path.is_file():
            return path.parent
        return path if path.is_dir() else None
    except (OSError, ValueError):  # too long a name, or one with a null byte
        return None


def gguf_file(name: str) -> Path | None:
    """The GGUF file that ``name`` means: itself, or the only one of a directory that has no config.json.

    Raises:
        ConfigError: the directory holds several.
    """
    folder, path = local_folder(name), user_path(name)
    if folder is None or folder != path:
        return path if folder else None
    files = [] if (folder / "config.json").is_file() else sorted(folder.glob(f"*{GGUF}"))
    if len(files) > 1:
        raise ConfigError(
            f"model {name}: the directory holds {len(files)} GGUF files; give one of them: "
            f"{', '.join(file.name for file in files)}"
        )
    return files[0] if files else None


def read_config(folder: Path, name: str) -> Mapping[str, Any]:
    """What the config.json of a model's directory says, or what a GGUF file says in its place.

    Raises:
        ConfigError: there is none, it is no JSON object, or the GGUF file cannot be read.
    """
    if file := gguf_file(name):
        return gguf_config(file, name)
    path = folder / "config.json"
    if not path.is_file():
        remedy = "save the model there with save_pretrained"
        if (folder / "adapter_config.json").is_file():
            remedy = "it holds an adapter, which must be merged into its base model and saved first"
        raise ConfigError(f"model {name}: the directory has no config.json; {remedy}: {str(folder)!r}")
    try:
        config = json.loads(read_text(path, MOST_CONFIG_BYTES))
    except FileError as error:
        raise ConfigError(f"model {name}: cannot read the configuration: {str(path)!r} {error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"model {name}: cannot read the configuration: {str(path)!r} is not JSON: {error}; correct its config.json"
        ) from None
    if not isinstance(config, dict):
        raise ConfigError(f"model {name}: cannot read the configuration: {str(path)!r} must hold one JSON object")
    return config


def weight_files(folder: Path, name: str, config: Mapping[str, Any]) -> tuple[Path, ...]:
    """The files that hold a model's weights: safetensors in its own directory, or a GGUF file, and nothing else.

    Raises:
        DataError: there are none, an index names others, or the directory would have something else loaded.
    """
    if file := gguf_file(name):
        return (file,)
    if (folder / "adapter_config.json").exists():
        raise DataError(
            f"model.train: the directory of {name!r} holds an adapter, too, which would be loaded with it; merge it "
            "into the model, or move adapter_config.json and its weights away"
        )
    if config.get("transformers_weights") not in (None, WEIGHTS, WEIGHTS_INDEX):
        raise DataError(
            f"model.train: config.json of {name!r} names other weights than {WEIGHTS}, "
            f"{config['transformers_weights']!r}; name the file so, and take transformers_weights out"
        )
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    if not (folder / WEIGHTS_INDEX).is_file():
        raise DataError(
            f"model.train: cannot load the weights of {name!r}: it needs a {WEIGHTS} (pickled weights such as "
            "pytorch_model.bin are never opened); save it with save_pretrained"
        )
    try:
        index = json.loads(read_text(folder / WEIGHTS_INDEX, MOST_CONFIG_BYTES))
        named = set(index["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(
            f"model.train: {WEIGHTS_INDEX} of {name!r} is no index of weights; save the model again with "
            "save_pretrained"
        ) from None
    for file in sorted(named, key=str):
        if not (isinstance(file, str) and re.fullmatch(r"[^/\\\0]+\.safetensors", file)):
            raise DataError(
                f"model.train: {WEIGHTS_INDEX} of {name!r} names {file!r}; only *.safetensors in the model's own "
                "directory are read (pickled weights are never opened); save the model again with save_pretrained"
            )
        if not (folder / file).is_file():
            raise DataError(
                f"model.train: {WEIGHTS_INDEX} of {name!r} names {file!r}, which is not there; copy the whole directory"
            )
    if not named:
        raise DataError(f"model.train: {WEIGHTS_INDEX} of {name!r} names no weights; save it with save_pretrained")
    return tuple(folder / file for file in sorted(named))


def checkpoint_bytes(name: str) -> int:
    """The size of a model's files in a local directory, which are mapped while it is loaded; else 0."""
    if file := gguf_file(name):
        return file.stat().st_size
    folder = local_folder(name)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors") if file.is_file()) if folder else 0


def check_tokenizer_files(folder: Path, name: str) -> None:
    """Check that a tokenizer lies beside the weights in a form that can be read without further libraries.

    Raises:
        DataError: there is none.
    """
    if file := gguf_file(name):
        if gguf_config(file, name)["has_tokenizer"]:
            return
        raise DataError(f"model.train: the GGUF file of {name!r} has no tokenizer in it; give one that has")
    if (folder / "tokenizer.json").is_file() or any((folder / file).is_file() for file in ("vocab.txt", "vocab.json")):
        return
    pieces = [file.name for file in sorted(folder.glob("*.model"))]
    if pieces:
        raise DataError(
            f"model.train: {name!r} has a tokenizer in {pieces[0]} alone, and jetbed needs tokenizer.json; convert it "
            "with AutoTokenizer.from_pretrained(...).save_pretrained(...) where sentencepiece is installed"
        )
    raise DataError(
        f"model.train: {name!r} has no tokenizer (tokenizer.json); save one beside the weights with "
        "tokenizer.save_pretrained"
    )
