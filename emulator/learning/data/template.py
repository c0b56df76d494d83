"""Templates that put a prompt into words, by name or as they are."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from emulator.errors import DataError, did_you_mean
from emulator.learning.data.tables import shown

PROMPT = "prompt"
TEMPLATES: Mapping[str, str] = {
    "plain": "{prompt}\n",
    # Taori et al. 2023, Stanford Alpaca (github.com/tatsu-lab/stanford_alpaca), PROMPT_DICT of its train.py
    "alpaca": "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n{prompt}\n\n### Response:",
    "alpaca-input": "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n### Instruction:\n{prompt}\n\n### Input:\n"
    "{input}\n\n### Response:",
    # Chiang et al. 2023, Vicuna 1.1 (github.com/lm-sys/FastChat), "vicuna_v1.1" of its conversation.py, one turn
    "vicuna": "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions. USER: {prompt} ASSISTANT: ",
}
"""Slots in braces are the prompt, or the column of that name."""
WITHOUT_INPUT: Mapping[str, str] = {"alpaca-input": "alpaca"}  # as train.py chooses for each example
"""The template that takes the place of another in rows whose further columns are empty."""
_SLOT = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """What stands before a response. ``columns`` are those that it names beside the prompt.

    Where a row has nothing in any of these, it is put into the words of ``without``, if there are such.
    """

    text: str
    without: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(slot for slot in _SLOT.findall(self.text) if slot != PROMPT))

    def filled(self, prompt: str, cells: Mapping[str, str]) -> str:
        """The template with ``prompt`` and the ``cells`` of its columns in their slots."""
        values = {**cells, PROMPT: prompt}
        has_more = any(cells[name].strip() for name in self.columns)
        text = self.text if has_more or self.without is None else self.without
        return _SLOT.sub(lambda slot: values[slot[1]], text)


def template_of(given: str | None) -> Template:
    """The template that ``given`` names, or is; ``plain`` without one.

    Raises:
        DataError: it has no slot for the prompt, or is no name of one.
    """
    text = TEMPLATES.get(given, given) if given is not None else TEMPLATES["plain"]
    if f"{{{PROMPT}}}" in text:
        return Template(text, TEMPLATES.get(WITHOUT_INPUT.get(given or "", "")))
    names = ", ".join(TEMPLATES)
    if not re.fullmatch(r"[\w-]+", text):
        raise DataError(f"data.template has no slot {{{PROMPT}}} for the prompt, got {shown(text)!r}")
    raise DataError(
        f"data.template: there is no template {shown(text)!r}{did_you_mean(text, TEMPLATES)}; give one of {names}, or "
        f"a text with the slot {{{PROMPT}}}"
    )
