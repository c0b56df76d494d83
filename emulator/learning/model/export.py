"""Writes a server state as a PEFT adapter, and attaches one to a model: the bridge to software outside jetbed."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from emulator.learning.model.loading import FrozenModel, silenced_libraries
from emulator.records import Arrays

LORA_PARAMETERS = {"lora_A": "lora_A.default.weight", "lora_B": "lora_B.default.weight"}
"""What PEFT calls LoRA's arrays below the module that they adapt."""


LABELS_FILE = "labels.json"
"""Beside an adapter: the names of the classes of its head, in the order of its logits."""


def save_peft_adapter(frozen: FrozenModel, state: Arrays, scaling: float, folder: Path) -> None:
    """Writes a server state of LoRA's arrays as an adapter that ``PeftModel.from_pretrained`` loads.

    Layers without an adapter are left alone.

    Raises:
        ValueError: the state holds no adapter at all.
    """
    save(frozen, to_peft(frozen, state, scaling), folder)


def save(frozen: FrozenModel, model: Any, folder: Path) -> None:
    """Writes the adapter of a ``PeftModel``: ``adapter_config.json``, ``adapter_model.safetensors``, ``labels.json``.

    On top of the same base model it gives the server state's logits; the head, and whatever else the base model's
    checkpoint lacks, is part of the adapter.
    """
    for config in model.peft_config.values():
        for name, value in vars(config).items():
            if isinstance(value, set):  # whose order differs from one process to the next
                setattr(config, name, sorted(value))
    with silenced_libraries():
        # Embeddings are never adapted; to find that out for itself, PEFT would look for the base's config.json.
        model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's model card, in which everything is left to be filled in
    add_labels(frozen, folder)


def add_labels(frozen: FrozenModel, folder: Path, config: str = "adapter_config.json") -> None:
    """Writes ``labels.json`` beside what is exported, where there are classes.

    Whoever may read its configuration may then read the weights, too.
    """
    for file in folder.glob("*.safetensors"):
        shutil.copymode(folder / config, file)  # safetensors makes files for their owner alone
    if not frozen.role.has_classes:
        return
    names = [str(name) for _, name in sorted((int(index), name) for index, name in frozen.config["id2label"].items())]
    (folder / LABELS_FILE).write_text(json.dumps(names) + "\n", encoding="utf-8")


def to_peft(frozen: FrozenModel, state: Arrays, scaling: float, base: Any = None) -> Any:
    """A ``PeftModel`` with LoRA around the frozen model, whose weights it shares, holding ``state``.

    Its adapters and head can be trained.

    Args:
        frozen: the base model.
        state: arrays named ``layers.{l}.{target}.lora_A`` (r, in), ``lora_B`` (out, r), ``head.{module}.weight|bias``.
        scaling: alpha / r, the same for all adapters.
        base: a model with the modules of the frozen one, to be used in its place.
    """
    from peft import LoraConfig  # slow to import, and wanted once per run at most

    ranks = {
        frozen.sites[site]: len(array)
        for name, array in state.items()
        if (site := _site(name)) and name.endswith(".lora_A") and len(array)
    }
    if not ranks:
        raise ValueError("the server state holds no LoRA adapter, so there is none to write")
    usual = Counter(ranks.values()).most_common(1)[0][0]
    unusual = {re.escape(path): rank for path, rank in ranks.items() if rank != usual}
    usual_alpha: Any = _alpha(scaling * usual)  # PEFT takes any number
    config = LoraConfig(
        task_type=frozen.role.peft_task,
        # Readers that know no patterns have the right model where all ranks are equal.
        r=usual,
        lora_alpha=usual_alpha,
        lora_dropout=0.0,
        target_modules=sorted(ranks),
        fan_in_fan_out=frozen.is_transposed,
        rank_pattern=unusual,
        alpha_pattern={path: _alpha(scaling * rank) for path, rank in unusual.items()},
    )
    return with_adapters(frozen, config, LORA_PARAMETERS, state, base)


def with_adapters(
    frozen: FrozenModel, config: Any, parameters: Mapping[str, str], state: Arrays, base: Any = None
) -> Any:
    """A ``PeftModel`` of any of PEFT's forms around the frozen model, whose weights it shares, holding ``state``.

    Args:
        frozen: the base model.
        config: of the form, with the modules that it adapts; which are saved whole is put into it here.
        parameters: what PEFT calls each of the form's arrays below a module, by the last part of the array's name; of
            arrays that belong to no module, by the whole name, and among the parameters of its model.
        state: arrays named ``layers.{l}.{target}.{array}`` and ``head.{module}.weight|bias``, or as ``parameters`` say.
        base: a model with the modules of the frozen one, to be used in its place.
    """
    from peft import get_peft_model

    config.modules_to_save, config.revision = _modules_to_save(frozen) or None, frozen.revision
    base = frozen.build() if base is None else base
    base.name_or_path = base.config._name_or_path = frozen.path
    with silenced_libraries():
        model = get_peft_model(base, config)
    with torch.no_grad():
        held = dict(model.named_parameters())
        for name, array in state.items():
            parameter = held[peft_name(frozen, name, parameters, config.is_prompt_learning)]
            parameter.copy_(torch.tensor(array).view(parameter.shape))
    return model


def peft_name(
    frozen: FrozenModel, name: str, parameters: Mapping[str, str] = LORA_PARAMETERS, is_prompt_learning: bool = False
) -> str:
    """What PEFT calls the array ``name`` of a server state, among the parameters of its model.

    In what it calls prompt learning the base model is not put into another module.
    """
    if name in parameters:
        return parameters[name]
    site = _site(name)
    if site is not None:
        return f"base_model.model.{frozen.sites[site]}.{parameters[name.rpartition('.')[2]]}"
    path = frozen.head[name.removeprefix("head.").rpartition(".")[0]]
    top, _, rest = path.partition(".")
    base = "base_model" if is_prompt_learning else "base_model.model"
    return ".".join(filter(None, [base, top, "modules_to_save.default", rest, name.rpartition(".")[2]]))


def _site(name: str) -> tuple[int, str] | None:
    """Layer and matrix of an adapter's array; None for an array of the head."""
    place, *rest = name.split(".")
    return (int(rest[0]), rest[1]) if place == "layers" else None


def _modules_to_save(frozen: FrozenModel) -> list[str]:
    """The modules that the base checkpoint does not give: the head, as wholes, and any other module drawn at random."""
    top = {path.partition(".")[0] for path in frozen.head.values()}
    drawn = {name.rpartition(".")[0] for name in frozen.initialised}
    return sorted(top | {path for path in drawn if path.partition(".")[0] not in top})


def _alpha(value: float) -> float:
    """As a whole number where it is one: that is how most adapter_config.json state it."""
    return int(value) if float(value).is_integer() else value
