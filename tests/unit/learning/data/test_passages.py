"""Passages: prompts that are given and responses that are learnt, and what is refused of them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulator.errors import DataError
from emulator.learning.data.passage_tokens import tokenize_rows
from emulator.learning.data.passages import load_passages
from emulator.learning.data.segments import Segment
from emulator.learning.data.source import DataSource
from emulator.learning.data.template import TEMPLATES, template_of
from emulator.learning.data.texts import load_data
from tests.unit.learning.data.word_tokenizer import word_tokenizer


def source(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> DataSource:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return DataSource(source=str(path), **({"prompt_column": "ask", "response_column": "say"} | settings))


ROWS = [{"ask": f"a {row}", "say": "b", "input": "c"} for row in range(20)]


def test_a_prompt_is_given_and_its_response_is_learnt(tmp_path: Path) -> None:
    data = load_passages(source(tmp_path, ROWS), seed=0)
    assert (len(data.train), len(data.test)) == (18, 2)
    given, learnt = next(passage for passage in data.train if passage[0].text == "a 3\n")
    assert (given, learnt) == (Segment("a 3\n", False), Segment("b", True, ends=True))


def test_a_slot_of_a_template_is_a_column(tmp_path: Path) -> None:
    data = load_passages(source(tmp_path, ROWS, template="Q {prompt} ({input}) A "), seed=0)
    assert {passage[0].text for passage in data.train} <= {f"Q a {row} (c) A" for row in range(20)}


def test_a_blank_before_a_response_belongs_to_it(tmp_path: Path) -> None:
    data = load_passages(source(tmp_path, ROWS, template="{prompt}: "), seed=0)
    assert Segment(" b", True, ends=True) in data.train[0]


def test_alpaca_has_other_words_for_rows_without_input(tmp_path: Path) -> None:
    rows = [{"ask": f"a {row}", "say": "b", "input": "c" if row % 2 else None} for row in range(20)]
    data = load_passages(source(tmp_path, rows, template="alpaca-input"), seed=0)
    for given, _ in data.train:
        row = int(given.text.partition("a ")[2].partition("### Instruction:\na ")[2].split()[0])
        assert ("### Input:\nc\n" in given.text) == (row % 2 == 1)
        assert ("paired with an input" in given.text) == (row % 2 == 1)
        assert given.text.endswith("### Response:")


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_named_template_has_a_place_for_the_prompt(name: str) -> None:
    template = template_of(name)
    filled = template.filled("P {input}", dict.fromkeys(template.columns, "I"))
    assert "P {input}" in filled  # braces in a prompt are no slots
    assert "{prompt}" not in filled


def test_plain_texts_are_learnt_whole(tmp_path: Path) -> None:
    plain = DataSource(source=source(tmp_path, ROWS).source, text_column="ask")
    assert all(passage[0].is_learnt and len(passage) == 1 for passage in load_passages(plain, seed=0).train)


def test_what_is_learnt_of_a_passage_is_marked_token_by_token() -> None:
    tokenizer = word_tokenizer()
    tokenizer.eos_token = "[SEP]"
    passage = (Segment("a b", False), Segment("c", True, ends=True))
    data, _ = tokenize_rows([passage], tokenizer, 6)
    # [CLS] a b c [SEP], and the padding
    assert data.input_ids[0].tolist() == [2, 4, 5, 6, 3, 0]
    assert data.scored is not None
    assert data.scored[0].tolist() == [False, False, False, True, True, False]
    assert data.lengths.tolist() == [5]


def test_a_long_prompt_loses_its_beginning_and_leaves_half_to_a_long_response() -> None:
    passage = (Segment("a b c d e f", False), Segment("f e d c b a", True))
    data, cut = tokenize_rows([passage], word_tokenizer(), 7)
    # [CLS] and six more: the last three of the prompt, the first three of the response
    assert data.input_ids[0].tolist() == [2, 7, 8, 9, 9, 8, 7]
    assert (cut.n_texts_cut, cut.n_tokens, cut.n_tokens_cut) == (1, 12, 6)


def test_a_long_prompt_keeps_the_room_that_a_short_response_leaves() -> None:
    passage = (Segment("a b c d e f", False), Segment("a", True))
    data, _ = tokenize_rows([passage], word_tokenizer(), 5)
    assert data.input_ids[0].tolist() == [2, 7, 8, 9, 4]


BAD: list[tuple[dict[str, Any], list[dict[str, Any]], str]] = [
    ({}, [*ROWS, {"ask": "a", "say": None}], "a missing response in line 21 of 'say'"),
    ({}, [*ROWS, {"ask": " ", "say": "b"}], "an empty prompt in line 21 of 'ask'"),
    ({}, [*ROWS, {"ask": ["a"], "say": "b"}], "has a list in line 21 of 'ask'"),
    ({}, ROWS[:1], "data.test_fraction"),
    ({"prompt_column": "question"}, ROWS, "columns are set by data.prompt_column and data.response_column"),
    ({"response_column": None}, ROWS, "data.response_column is not; give both"),
    ({"response_column": "ask"}, ROWS, "must be two different columns"),
    ({"template": "Answer this:\n"}, ROWS, r"data.template has no slot \{prompt\}"),
    ({"template": "{instruction}\n"}, ROWS, r"data.template has no slot \{prompt\}"),
    ({"template": "alpaka"}, ROWS, "there is no template 'alpaka'.*alpaca"),
    ({"template": "{prompt} {context}"}, ROWS, "has no column 'context'"),
    ({"template": "alpaca", "prompt_column": None, "response_column": None}, ROWS, "there is none: give data.prompt"),
]


@pytest.mark.parametrize(("settings", "rows", "said"), BAD)
def test_what_cannot_be_learnt_is_refused_in_one_sentence(
    settings: dict[str, Any], rows: list[dict[str, Any]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        load_passages(source(tmp_path, rows, **settings), seed=0)
    assert "\n" not in str(caught.value)


def test_a_file_without_rows_and_an_unknown_built_in_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no rows"):
        load_passages(source(tmp_path, []), seed=0)
    with pytest.raises(DataError, match="there is: builtin:intents"):
        load_passages(replace(source(tmp_path, ROWS), source="builtin:poems"), seed=0)


def test_the_built_in_commands_have_what_is_to_be_done_as_their_response() -> None:
    data = load_passages(DataSource(source="builtin:intents", n_train=50, n_test=10), seed=3)
    labelled = load_data("builtin:intents", n_train=50, n_test=10, seed=3)
    assert (len(data.train), len(data.test)) == (50, 10)
    for passage, text, label in zip(data.train, labelled.train_texts, labelled.train_labels, strict=True):
        given, learnt = passage
        category, direction = labelled.label_names[label].split("_")
        assert given == Segment(f"{text} =>", False)
        assert learnt.text.split()[:2] == [category, direction]
        assert learnt.text.split()[2] in str(text).split()  # what the clause is about
        assert (learnt.is_learnt, learnt.ends) == (True, True)


def test_a_text_of_a_single_token_has_nothing_to_be_learnt() -> None:
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens = False
    with pytest.raises(DataError, match="no token is left to be learnt of 'a'"):
        tokenize_rows([(Segment("a", True),)], _Bare(tokenizer), 4)


class _Bare:
    """A tokenizer that puts nothing before a text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self.pad_token_id, self.eos_token_id, self.bos_token_id = tokenizer, 0, None, None

    def __call__(self, texts: Any, **options: Any) -> Any:
        return self._tokenizer(texts, **{**options, "add_special_tokens": False})
