"""Templates that put a prompt into words, by name or as they are."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from emulator.errors import DataError, did_you_mean
from emulator.learning.data.tables import shown

PROMPT = "prompt"
TEMPLATES: Mapping[str, str] = {
    "plain": "{prompt}\n",
    # Taori et al. 2023, Stanford Alpaca, the prompt without input of its README
    "alpaca": "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n{prompt}\n\n### Response:\n",
    # its prompt with input, which stands in the column of that name
    "alpaca-input": "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n### Instruction:\n{prompt}\n\n### Input:\n"
    "{input}\n\n### Response:\n",
    # Chiang et al. 2023, Vicuna v1.1, one turn without its system message
    "vicuna": "USER: {prompt} ASSISTANT: ",
}
"""Slots in braces are the prompt, or the column of that name."""
_SLOT = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """What stands before a response. ``columns`` are those that it names beside the prompt."""

    text: str

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(slot for slot in _SLOT.findall(self.text) if slot != PROMPT))

    def filled(self, prompt: str, cells: Mapping[str, str]) -> str:
        """The template with ``prompt`` and the ``cells`` of its columns in their slots."""
        values = {**cells, PROMPT: prompt}
        return _SLOT.sub(lambda slot: values[slot[1]], self.text)


def template_of(given: str | None) -> Template:
    """The template that ``given`` names, or is; ``plain`` without one.

    Raises:
        DataError: it has no slot for the prompt, or is no name of one.
    """
    text = TEMPLATES.get(given, given) if given is not None else TEMPLATES["plain"]
    if f"{{{PROMPT}}}" in text:
        return Template(text)
    names = ", ".join(TEMPLATES)
    if not re.fullmatch(r"[\w-]+", text):
        raise DataError(f"data.template has no slot {{{PROMPT}}} for the prompt, got {shown(text)!r}")
    raise DataError(
        f"data.template: there is no template {shown(text)!r}{did_you_mean(text, TEMPLATES)}; give one of {names}, or "
        f"a text with the slot {{{PROMPT}}}"
    )
