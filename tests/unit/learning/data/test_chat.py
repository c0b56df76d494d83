"""Chats: what the assistant says is learnt, in the words of the model's own template, and what is refused of them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emulator.errors import DataError
from emulator.learning.data.chat import Conversation, Message, check_chat_template
from emulator.learning.data.passage_tokens import tokenize_rows
from emulator.learning.data.passages import load_passages
from emulator.learning.data.source import DataSource
from tests.unit.learning.tiny_decoders import CHAT_TEMPLATE, tiny_tokenizer

MARKED = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>"
    "{% endgeneration %}{% else %}{{ m.content }}</s>{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# What an assistant thought is left out once another turn has come, as templates of reasoning models do.
FORGETFUL = (
    "{% for m in messages %}<|{{ m.role }}|>{% if loop.last %}<think></think>{% endif %}{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CHAT = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "what is the colour of the apple"},
    {"role": "assistant", "content": "the apple is red"},
    {"role": "user", "content": "and the stone"},
    {"role": "assistant", "content": "grey"},
]


def conversation(*turns: dict[str, str]) -> Conversation:
    return Conversation(tuple(Message(**turn) for turn in turns))


def written(folder: Path, *chats: Any) -> DataSource:
    path = folder / "chats.jsonl"
    path.write_text("".join(f"{json.dumps({'messages': chat})}\n" for chat in chats), encoding="utf-8")
    return DataSource(source=str(path), messages_column="messages")


def learnt_texts(template: str, *turns: dict[str, str], seq_len: int = 128) -> list[str]:
    """The stretches of learnt tokens of a chat, as text."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    data, _ = tokenize_rows([conversation(*turns)], tokenizer, seq_len)
    assert data.scored is not None
    stretches: list[list[int]] = []
    for place, is_learnt in enumerate(data.scored[0]):
        if is_learnt and not data.scored[0, place - 1]:
            stretches.append([])
        if is_learnt:
            stretches[-1].append(int(data.input_ids[0, place]))
    return [tokenizer.decode(stretch) for stretch in stretches]


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, MARKED])
def test_what_the_assistant_says_is_learnt_up_to_the_token_that_ends_it(template: str) -> None:
    assert learnt_texts(template, *CHAT) == ["the apple is red</s>", "grey</s>"]


def test_prefixes_of_a_chat_learn_what_marks_in_its_template_do() -> None:
    tokenizer = tiny_tokenizer()
    of = {}
    for template in (CHAT_TEMPLATE, MARKED):
        tokenizer.chat_template = template
        of[template], _ = tokenize_rows([conversation(*CHAT)], tokenizer, 128)
    tokenizer.chat_template = MARKED
    own = tokenizer.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    for data in of.values():
        assert data.scored is not None
        length = data.lengths[0]
        assert data.input_ids[0, :length].tolist() == own["input_ids"]
        assert data.scored[0, :length].tolist() == [bool(each) for each in own["assistant_masks"]]


def test_a_long_chat_keeps_the_token_that_begins_it() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ bos_token }}" + CHAT_TEMPLATE
    whole, _ = tokenize_rows([conversation(*CHAT)], tokenizer, 256)
    data, cut = tokenize_rows([conversation(*CHAT)], tokenizer, 32)
    assert data.input_ids[0, 0] == whole.input_ids[0, 0] == tokenizer.bos_token_id
    assert (data.lengths[0], cut.n_texts_cut) == (32, 1)
    assert cut.n_tokens == whole.lengths[0] - 1


def test_chats_are_read_from_lines_and_from_parquet(tmp_path: Path) -> None:
    source = written(tmp_path, *[CHAT] * 10)
    pq.write_table(pa.table({"messages": [CHAT] * 10}), tmp_path / "chats.parquet")
    lines, parquet = (
        load_passages(DataSource(source=each, messages_column="messages"), seed=0)
        for each in (source.source, str(tmp_path / "chats.parquet"))
    )
    assert tuple(lines.train) == tuple(parquet.train) == (conversation(*CHAT),) * 9
    assert lines.understood("x")["example"]["learnt"] == "the apple is red grey"


USER, SAID = CHAT[1], CHAT[2]
BAD: list[tuple[Any, str]] = [
    (None, "has no messages in line 3 of 'messages'"),
    ("hello", "has the text 'hello' that is no list of messages in line 3"),
    ({"role": "user", "content": "a"}, "has a dict that is no list of messages"),
    ([{"from": "human", "value": "a"}], "messages are a list of {role, content}"),
    ([], "has no turn of an assistant in line 3"),
    ([USER], "has no turn of an assistant in line 3 of 'messages'; .* remove it"),
    ([USER, {"role": "gpt", "content": "a"}], "the unknown role 'gpt' in line 3 .* one of system, user, assistant"),
    ([SAID], "a chat that the assistant begins in line 3"),
    ([USER, {"role": "assistant", "content": " "}], "an empty turn of the assistant in line 3"),
    ([USER, {"role": "assistant", "content": None}], "a message of assistant whose content is empty"),
    ([{"role": "user", "content": ["a"]}, SAID], "a message of user whose content is list"),
]


@pytest.mark.parametrize(("chat", "said"), BAD)
def test_what_is_no_chat_is_refused_in_one_sentence(chat: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as caught:
        load_passages(written(tmp_path, CHAT, CHAT, chat), seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prompt_column": "ask"}, "data.messages_column and data.prompt_column exclude one another"),
        ({"template": "alpaca"}, "the model's own chat template puts messages into words"),
        ({"messages_column": "chat"}, "has no column 'chat'.* columns are set by data.messages_column"),
    ],
)
def test_settings_that_do_not_go_with_chats_are_refused(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    source = written(tmp_path, CHAT, CHAT).source
    with pytest.raises(DataError, match=said):
        load_passages(DataSource(source=source, **{"messages_column": "messages", **settings}), seed=0)


def test_a_model_without_a_chat_template_is_refused() -> None:
    with pytest.raises(DataError, match=r"the tokenizer of 'mine' has no chat template for data.messages_column"):
        check_chat_template(tiny_tokenizer(), "mine")


def test_a_template_that_changes_what_was_said_before_is_refused() -> None:
    with pytest.raises(DataError, match=r"changes what stands before turn 3 .* mark that in the template"):
        learnt_texts(FORGETFUL, *CHAT)


def test_what_a_template_refuses_is_said_with_its_reason() -> None:
    with pytest.raises(DataError, match=r"cannot put the chat 'be brief' into words \(no system, please\)"):
        learnt_texts("{{ raise_exception('no system, please') }}", *CHAT)
