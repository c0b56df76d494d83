"""A run's adapter merged into its base model: a model of transformers that needs neither PEFT nor jetbed."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers

from emulator.errors import ConfigError, DataError, UserError
from emulator.learning.model.loading import reason, silenced_libraries
from emulator.learning.model.places import locate
from emulator.learning.model.role import CLASSIFIER, LANGUAGE_MODEL, MULTI_LABEL_CLASSIFIER, REGRESSOR
from emulator.results.info import read_info

ADAPTER, ADAPTER_CONFIG, KEPT_UNITS = "adapter", "adapter_config.json", "kept_units.json"
ROLES = {
    "classification": CLASSIFIER,
    "multi_label": MULTI_LABEL_CLASSIFIER,
    "regression": REGRESSOR,
    "causal": LANGUAGE_MODEL,
}
"""By the setting ``task.kind``."""


def write_merged(run: Path, out: Path, base: str | None = None) -> str:
    """Writes the merged model and its tokenizer into the folder ``out``; returns where the base model was found.

    Its configuration has the names of the labels and the kind of problem. ``base`` is a directory or a hub id. Without
    it the base model is where it was, or else, as when everything has moved, where the run's configuration says from
    here, from the run's folder, or from one of those around it.

    Raises:
        UserError: there is no run, adapter or base model, or the adapter cannot be merged.
    """
    info = read_info(run)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out must be a new or empty folder, got {str(out)!r}")
    stated = _adapter_config(run)
    found = _base(run, info, stated, base)
    merged, tokenizer = _merged(run / ADAPTER, found, info)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".jetbed-", dir=out.absolute().parent) as scratch, silenced_libraries():
        folder = Path(scratch) / "merged"
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        os.replace(folder, out)
    return found


def _adapter_config(run: Path) -> dict[str, Any]:
    folder = run / ADAPTER
    if not folder.is_dir():
        raise UserError(
            f"there is no adapter in {str(run)!r}; a run leaves one when it has finished and something was trained"
        )
    file = folder / ADAPTER_CONFIG
    stated: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if "peft_type" not in stated:
        raise UserError(
            f"the adapter in {str(folder)!r} is of a form that PEFT does not know, so that it cannot be merged; use it "
            "as docs/model-and-data.md says"
        )
    if (folder / KEPT_UNITS).is_file():
        raise UserError(
            f"the adapter in {str(folder)!r} belongs to a pruned model, whose layers differ in size, which "
            "transformers cannot save; emulator.learning.model.compact.load_pruned makes it"
        )
    return stated


def _base(run: Path, info: dict[str, Any], stated: dict[str, Any], given: str | None) -> str:
    """The base model: what is ``given``, or the first that there is of where it may be."""
    if given is not None:
        try:
            return str(locate(given).folder)
        except DataError as error:
            raise ConfigError(f"--base: {str(error).removeprefix('model.train: ')}") from None
    for name in _where_it_may_be(run, info, stated):
        try:
            return str(locate(name).folder)
        except DataError:
            continue
    raise UserError(
        f"the base model of {str(run)!r} is not where it was, {stated['base_model_name_or_path']!r}; say with --base "
        "where it is now"
    )


def _where_it_may_be(run: Path, info: dict[str, Any], stated: dict[str, Any]) -> Iterator[str]:
    trained = str(((info.get("config") or {}).get("model") or {}).get("train") or info.get("trained_model"))
    if Path(stated["base_model_name_or_path"]).is_absolute() and Path(stated["base_model_name_or_path"]).is_dir():
        yield stated["base_model_name_or_path"]
    if trained.startswith("builtin:"):
        yield trained
    elif not Path(trained).is_absolute():
        yield from (str(folder / trained) for folder in (Path.cwd(), run.absolute(), *run.absolute().parents))
    if not Path(stated["base_model_name_or_path"]).is_absolute():
        yield stated["base_model_name_or_path"]


def _merged(adapter: Path, base: str, info: dict[str, Any]) -> tuple[Any, Any]:
    """The merged model, and its tokenizer."""
    from peft import PeftModel  # slow to import

    role = ROLES[((info.get("config") or {}).get("task") or {}).get("kind", "classification")]
    names = info.get("label_names") or []
    settings: dict[str, Any] = dict(role.settings)
    if role.has_new_head:
        settings["num_labels"] = len(names) or 1
    if names:
        settings |= {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    auto: Any = getattr(transformers, role.auto_class)
    try:
        with silenced_libraries():
            model = auto.from_pretrained(
                base, trust_remote_code=False, use_safetensors=True, dtype="float32", **settings
            )
            merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
            tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(
            f"the adapter in {str(adapter)!r} does not fit the base model {base!r}: {reason(error)}; say with --base "
            "which one it was trained on"
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    merged.config.pad_token_id = tokenizer.pad_token_id  # by which decoders find the last token of a text
    return merged, tokenizer
