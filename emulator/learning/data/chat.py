"""Chat messages: read from a column, and put into tokens by the model's own chat template."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.errors import DataError
from emulator.learning.data.tables import CellError, shown

USER, ASSISTANT = "user", "assistant"
ROLES = ("system", USER, ASSISTANT)
KEYS = frozenset(("role", "content"))
_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True, slots=True)
class Message:
    """A turn of a chat; those of the role ``assistant`` are learnt."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A chat, from its first turn to its last."""

    messages: tuple[Message, ...]

    def said(self, *, by_assistant: bool) -> str:
        """What the assistant says in it, or the others."""
        return " ".join(each.content for each in self.messages if (each.role == ASSISTANT) == by_assistant)


def conversation_of(cell: Any) -> Conversation:
    """The chat of a cell, a list of messages.

    Raises:
        CellError: it is none, or no assistant answers in it.
    """
    if not isinstance(cell, list | tuple) or not all(
        isinstance(each, Mapping) and each.keys() >= KEYS for each in cell
    ):
        found = f"the text {shown(cell)!r}" if isinstance(cell, str) else f"a {type(cell).__name__}"
        found = f"{found} that is no list of messages" if cell is not None else "no messages"
        raise CellError(found, "messages are a list of {role, content}, in a jsonl, json or parquet file")
    messages = tuple(_message(each) for each in cell)
    if not any(message.role == ASSISTANT for message in messages):
        raise CellError("no turn of an assistant", "nothing of such a row is learnt: remove it")
    if messages[0].role == ASSISTANT:
        raise CellError("a chat that the assistant begins", "put what it answers before it, or remove such rows")
    return Conversation(messages)


def _message(given: Mapping[str, Any]) -> Message:
    role, content = given["role"], given["content"]
    if role not in ROLES:
        raise CellError(f"the unknown role {shown(str(role))!r}", f"a role is one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        kind = "empty" if content is None else type(content).__name__
        raise CellError(f"a message of {role} whose content is {kind}", "contents must be strings")
    if role == ASSISTANT and not content.strip():
        raise CellError("an empty turn of the assistant", "remove such rows")
    return Message(role, content)


def check_chat_template(tokenizer: Any, train: str) -> None:
    """Check that the ``tokenizer`` of the model ``train`` can put messages into words.

    Raises:
        DataError: it has no chat template, or cannot tell from which characters a token is.
    """
    if not tokenizer.chat_template:
        raise DataError(
            f"model.train: the tokenizer of {train!r} has no chat template for data.messages_column; give a model that "
            "was tuned on chats, or data.prompt_column and data.response_column"
        )
    if not tokenizer.is_fast:
        raise DataError(
            f"model.train: the tokenizer of {train!r} has no tokenizer.json, without which it is not known which "
            "tokens an assistant says; save it again with a current version of transformers"
        )


TokensOfChat = tuple[list[int], list[bool]]
"""The tokens of a chat, and whether each is learnt."""


def encoded_chats(chats: Sequence[Conversation], tokenizer: Any) -> Iterator[TokensOfChat]:
    """The tokens of each chat, in which the assistant's turns are learnt.

    Which characters these are is marked in the template, in a block ``{% generation %}``. In others a turn is what it
    adds to the chat before it with the words that call for an answer; blanks behind it are not learnt, since a model
    that has ended its turn is not asked for them. As in transformers, a token is learnt if any of its characters is.

    Raises:
        DataError: the template refuses a chat, or a chat begins otherwise once it has more turns.
    """
    for chat in chats:
        try:
            yield _marked(chat, tokenizer) if _MARKED.search(_template(tokenizer)) else _by_prefix(chat, tokenizer)
        except DataError:
            raise
        except Exception as error:  # whatever a template raises
            raise DataError(
                f"model.train: the model's chat template cannot put {_beginning(chat)} into words "
                f"({shown(str(error), 100) or type(error).__name__}); change the messages, or the template"
            ) from error


def _template(tokenizer: Any) -> str:
    template: str = tokenizer.get_chat_template()
    return template


def _marked(chat: Conversation, tokenizer: Any) -> TokensOfChat:
    encoded = tokenizer.apply_chat_template(
        _as_dicts(chat.messages), return_dict=True, return_assistant_tokens_mask=True
    )
    return list(encoded["input_ids"]), [bool(each) for each in encoded["assistant_masks"]]


def _by_prefix(chat: Conversation, tokenizer: Any) -> TokensOfChat:
    whole = _rendered(chat.messages, tokenizer)
    spans = []
    for turn, message in enumerate(chat.messages):
        if message.role != ASSISTANT:
            continue
        before = _rendered(chat.messages[:turn], tokenizer, add_generation_prompt=True)
        after = _rendered(chat.messages[: turn + 1], tokenizer).rstrip()
        if not (whole.startswith(after) and after.startswith(before) and len(after) > len(before)):
            raise DataError(
                f"model.train: the model's chat template changes what stands before turn {turn + 1} of "
                f"{_beginning(chat)}, so that it is not known what the assistant says; mark that in the template, "
                "between {% generation %} and {% endgeneration %}"
            )
        spans.append((len(before), len(after)))
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    learnt = [any(first < end and last > start for start, end in spans) for first, last in encoded["offset_mapping"]]
    return list(encoded["input_ids"]), learnt


def _rendered(messages: Sequence[Message], tokenizer: Any, *, add_generation_prompt: bool = False) -> str:
    text: str = tokenizer.apply_chat_template(
        _as_dicts(messages), tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return text


def _as_dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _beginning(chat: Conversation) -> str:
    return f"the chat {shown(chat.messages[0].content)!r}"
