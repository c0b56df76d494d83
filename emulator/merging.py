"""A run's adapter merged into its base model: a model of transformers that needs neither PEFT nor jetbed."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open

from emulator.errors import ConfigError, DataError, UserError
from emulator.learning.model.base_weights import in_precision
from emulator.learning.model.loading import load_model, reason, silenced_libraries
from emulator.learning.model.places import Place, locate
from emulator.learning.model.role import (
    CLASSIFIER,
    LANGUAGE_MODEL,
    MULTI_LABEL_CLASSIFIER,
    REGRESSOR,
    SEQ2SEQ_MODEL,
    Role,
)
from emulator.learning.model.weights_digest import weights_digest
from emulator.results.info import read_info
from emulator.shapes.gguf_file import ENDING as GGUF

ADAPTER, ADAPTER_CONFIG, KEPT_UNITS = "adapter", "adapter_config.json", "kept_units.json"
MODEL_CONFIG = "config.json"
VIRTUAL_TOKENS = ("PROMPT_TUNING", "PREFIX_TUNING")
"""What PEFT calls forms that add to what a model reads, and to none of its weights."""
ADAPTER_WEIGHTS, BASE = "adapter_model.safetensors", "base_model_name_or_path"
ROLES = {
    "classification": CLASSIFIER,
    "multi_label": MULTI_LABEL_CLASSIFIER,
    "regression": REGRESSOR,
    "causal": LANGUAGE_MODEL,
    "seq2seq": SEQ2SEQ_MODEL,
}
"""By the setting ``task.kind``."""
_REMEDY = "copy the run again, whole"


def write_merged(run: Path, out: Path, base: str | None = None) -> str:
    """Writes the merged model and its tokenizer into the folder ``out``; returns where the base model was found.

    Its configuration has the names of the labels and the kind of problem. Where the run stored its frozen weights in
    fewer bits, the merged model has them as they were computed with. ``base`` is a directory, a GGUF file or a hub id.
    Without it the base model is where it was, or else, as when everything has moved, where the run's configuration says
    from here, from the run's folder, or from one of those around it. It must have the weights that the run recorded.

    Raises:
        UserError: there is no run, adapter or base model, or the adapter cannot be merged.
    """
    info = read_info(run)
    _check_out(out)
    if (run / ADAPTER / MODEL_CONFIG).is_file():
        raise UserError(
            f"{str(run / ADAPTER)!r} is a whole model already, since the run trained the weights themselves: there is "
            "nothing to merge, and from_pretrained of transformers loads the folder"
        )
    stated = _adapter_config(run)
    found = _base(run, info, stated, base)
    merged, tokenizer = _merged(run / ADAPTER, found, info)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".jetbed-", dir=out.absolute().parent) as scratch, silenced_libraries():
        folder = Path(scratch) / "merged"
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        os.replace(folder, out.resolve())  # a link to an empty folder stays one
    return str(found.folder / (found.gguf or ""))


def _check_out(out: Path) -> None:
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out must be a new or empty folder, got {str(out)!r}")
    around = next(folder for folder in out.absolute().parents if os.path.lexists(folder))
    if not around.is_dir():
        raise ConfigError(f"--out: {str(around)!r} is no folder, so that none can be made in it; got {str(out)!r}")


def _adapter_config(run: Path) -> dict[str, Any]:
    folder = run / ADAPTER
    if not folder.is_dir():
        raise UserError(
            f"there is no adapter in {str(run)!r}; a run leaves one when it has finished and something was trained"
        )
    file = folder / ADAPTER_CONFIG
    try:
        stated: Any = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise UserError(f"{file}: is not valid JSON: {error}; {_REMEDY}") from None
    if not isinstance(stated, dict) or "peft_type" not in stated:
        raise UserError(
            f"the adapter in {str(folder)!r} is of a form that PEFT does not know, so that it cannot be merged; use it "
            "as docs/model-and-data.md says"
        )
    if stated["peft_type"] in VIRTUAL_TOKENS:
        raise UserError(
            f"the adapter in {str(folder)!r} adds virtual tokens, which are no part of any weight, so that it cannot "
            "be merged; load it beside its base model with PEFT"
        )
    if (folder / KEPT_UNITS).is_file():
        raise UserError(
            f"the adapter in {str(folder)!r} belongs to a pruned model, whose layers differ in size, which "
            "transformers cannot save; emulator.learning.model.compact.load_pruned makes it"
        )
    if not isinstance(stated.get(BASE), str):
        raise UserError(f"{file}: {BASE} must be a text, got {stated.get(BASE)!r}; {_REMEDY}")
    try:
        with safe_open(folder / ADAPTER_WEIGHTS, framework="numpy"):
            pass
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder / ADAPTER_WEIGHTS}: cannot be read: {reason(error)}; {_REMEDY}") from None
    return stated


def _base(run: Path, info: dict[str, Any], stated: dict[str, Any], given: str | None) -> Place:
    """The base model: what is ``given``, or the first that there is of where it may be."""
    recorded = (info.get("base_model") or {}).get("weights_sha256")
    if given is not None:
        try:
            found = locate(given)
        except DataError as error:
            raise ConfigError(f"--base: {str(error).removeprefix('model.train: ')}") from None
        if (digest := weights_digest(found.weights)) != (recorded or digest):
            raise ConfigError(
                f"--base: the weights of {given!r} are others than the run trained on, those of {stated[BASE]!r}; give "
                f"that model: their digest is {digest[:16]}, that in run.json {str(recorded)[:16]}"
            )
        return found
    others = []
    for name in _where_it_may_be(run, info, stated):
        try:
            found = locate(name)
        except DataError:
            continue
        if recorded is None or weights_digest(found.weights) == recorded:
            return found
        others.append(name)
    changed = f" (in {others[0]!r} there is one with other weights)" if others else ""
    raise UserError(
        f"the base model of {str(run)!r} is not where it was, {stated[BASE]!r}{changed}; say with --base where it is "
        "now"
    )


def _where_it_may_be(run: Path, info: dict[str, Any], stated: dict[str, Any]) -> Iterator[str]:
    trained = str(((info.get("config") or {}).get("model") or {}).get("train") or info.get("trained_model"))
    # A folder may hold several GGUF files, or one beside the model that it was made of.
    file = Path(trained).name if trained.endswith(GGUF) else ""
    if Path(stated[BASE]).is_absolute() and Path(stated[BASE]).is_dir():
        yield str(Path(stated[BASE]) / file)
    if trained.startswith("builtin:"):
        yield trained
    elif not Path(trained).is_absolute():
        yield from (str(folder / trained) for folder in (Path.cwd(), run.absolute(), *run.absolute().parents))
    if not Path(stated[BASE]).is_absolute():
        yield stated[BASE]
    elif (info.get("base_model") or {}).get("weights_sha256"):
        # Moved together with the run: some end of the path lies in a folder around it. The weights tell whether it is.
        parts = Path(stated[BASE]).parts[1:]
        for folder in run.absolute().parents:
            yield from (str(folder.joinpath(*parts[start:], file)) for start in range(len(parts)))


def _merged(adapter: Path, base: Place, info: dict[str, Any]) -> tuple[Any, Any]:
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
    folder, source = str(base.folder), base.source
    # Of a GGUF file transformers draws a progress bar that no setting turns off.
    bar = redirect_stderr(StringIO()) if base.gguf else nullcontext()
    try:
        with silenced_libraries(), bar:
            model = auto.from_pretrained(
                folder, trust_remote_code=False, use_safetensors=True, dtype="float32", **source, **settings
            )
            _restore(model, base, role, info)
            merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **source)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(
            f"the adapter in {str(adapter)!r} does not fit the base model {base.base!r}: {reason(error)}; say with "
            "--base which one it was trained on"
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    merged.config.pad_token_id = tokenizer.pad_token_id  # by which decoders find the last token of a text
    return merged, tokenizer


def _restore(model: Any, base: Place, role: Role, info: dict[str, Any]) -> None:
    """Gives the model the frozen weights that the run computed with, which it may have stored in fewer bits."""
    if base.gguf:
        # Its weights are numbers of four bytes by now, yet transformers would refuse to save it.
        model.hf_quantizer = None
        del model.config.quantization_config
    precision = ((info.get("config") or {}).get("model") or {}).get("base_precision", "float32")
    if precision != "float32":
        frozen = in_precision(load_model(base, model.config.num_labels, seed=0, role=role), precision)
        model.load_state_dict({name: torch.tensor(each) for name, each in frozen.arrays.items()}, strict=False)
