"""The Hugging Face hub: what could be a name there, whether it answers, and what it or its local cache has."""

import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from emulator.errors import ConfigError

REACH_S = 5.0
"""So long the hub may take to answer."""
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
"""Variables by which a user says that there is no network."""
MODEL_FILES = (
    "config.json", "model.safetensors", "model.safetensors.index.json", "model-*.safetensors", "tokenizer*", "vocab*",
    "merges.txt", "special_tokens_map.json", "added_tokens.json", "spiece.model", "sentencepiece*", "bpe.codes",
)  # fmt: skip
"""What is wanted of a model: no pickled weights, and no code."""


def looks_like_path(name: str) -> bool:
    """Whether ``name`` can only be meant as a path: it begins as one, has more than one slash, or lies in a folder."""
    if name.startswith((".", "/", "~", "file:")) or "\\" in name or name.count("/") > 1:
        return True
    folder = name.partition("/")[0]
    return "/" in name and Path(folder).is_dir()


def is_offline() -> bool:
    """Whether the user has said that there is no network."""
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE)


def hub_name() -> str:
    """The host that is asked."""
    return urlsplit(_endpoint()).netloc


def answers(what: str) -> bool:
    """Whether the hub can be asked for ``what``, which is said on standard error while it is tried."""
    if is_offline():
        return False
    print(f"jetbed: asking {hub_name()} for {what}, for at most {REACH_S:g} s", file=sys.stderr, flush=True)
    is_there = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(_endpoint(), method="HEAD"), timeout=REACH_S).close()
        except urllib.error.HTTPError:
            pass  # an answer
        except (OSError, ValueError):
            return
        is_there.set()

    # A thread, since a look-up of a name knows no time-out.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(REACH_S)
    return is_there.is_set()


@contextmanager
def asked(what: str) -> Iterator[str]:
    """Within, the libraries of the hub ask it, or take what is in their cache where it does not answer.

    Yields how the hub was found, for a message: empty where it answers.
    """
    if answers(what):
        yield ""
        return
    reason = "the hub was not asked (offline)" if is_offline() else f"{hub_name()} does not answer in {REACH_S:g} s"
    import huggingface_hub.constants as constants

    libraries: list[Any] = [constants]
    if "datasets" in sys.modules:
        libraries.append(sys.modules["datasets"].config)
    before = [library.HF_HUB_OFFLINE for library in libraries]
    environment = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    for library in libraries:
        library.HF_HUB_OFFLINE = True
    try:
        yield reason
    finally:
        for library, value in zip(libraries, before, strict=True):
            library.HF_HUB_OFFLINE = value
        if environment is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = environment


def model_files(name: str, *, only_config: bool = False) -> Path:
    """The folder with the files of a model on the hub, or of one that is in the local cache.

    Its name is the revision that they are of.

    Raises:
        ConfigError: there is no such model, or it cannot be had.
    """
    with asked(f"the model {name!r}") as unreached:
        import huggingface_hub

        patterns = ["config.json"] if only_config else list(MODEL_FILES)
        try:
            folder = huggingface_hub.snapshot_download(
                name, allow_patterns=patterns, local_files_only=bool(unreached), etag_timeout=REACH_S
            )
        except Exception as error:  # the client has no common base class for "not there" and "not reachable"
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = unreached or f"{hub_name()} does not give such a model ({(lines or [type(error).__name__])[0]})"
            cached = " and it is not in the local cache" if unreached else ""
            raise ConfigError(
                f"there is no folder {name!r}, and {reason}{cached}; give a directory with config.json and "
                "model.safetensors, a hub id written organisation/name, or a built-in model"
            ) from None
    return Path(folder)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
