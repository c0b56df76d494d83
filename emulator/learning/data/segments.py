"""Passages: texts that are foretold token by token, in parts that are given and parts that are learnt."""

from dataclasses import dataclass

from emulator.learning.data.chat import Conversation
from emulator.learning.data.options import Choice


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a passage; ``is_learnt`` says whether its tokens are to be foretold.

    With ``ends``, the token that ends a text belongs to it, so that a model learns where a response is over.
    """

    text: str
    is_learnt: bool
    ends: bool = False


Passage = tuple[Segment, ...]
"""A text that is read from left to right; what it begins with may be given rather than learnt."""

Row = Passage | Conversation | Choice
"""What a row of a data set for language models is; all rows of a set are alike."""


def response_to(given: str, response: str, *, ends: bool) -> Passage:
    """A response that is learnt after what is given; blanks between them belong to the response.

    Tokenizers join a blank to the word behind it, so that a model that is asked to go on begins with both. Biderman et
    al. 2024, arXiv 2405.14782, and the ``lm-evaluation-harness`` cut the two in the same place.
    """
    stem = given.rstrip(" ")
    return (Segment(stem, False), Segment(given[len(stem) :] + response, True, ends))


def shown_parts(row: Row) -> tuple[str, str]:
    """What of a row is given, and what of it is learnt, in words."""
    if isinstance(row, Conversation):
        return row.said(by_assistant=False), row.said(by_assistant=True)
    if isinstance(row, Choice):
        return row.given, row.options[row.answer]
    given, learnt = ("".join(each.text for each in row if each.is_learnt == kind) for kind in (False, True))
    return given, learnt
