"""Multiple choice: options and answers as data sets have them, and what is refused of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from emulator.errors import DataError
from emulator.learning.data.options import Choice, answer_of, options_of
from emulator.learning.data.passage_tokens import tokenize_options, tokenize_rows
from emulator.learning.data.passages import load_passages
from emulator.learning.data.source import DataSource
from tests.unit.learning.data.word_tokenizer import word_tokenizer

ROW = {"ask": "a", "choices": ["b", "c d"], "right": 1, "first": "b", "second": "c d"}


def read(folder: Path, *rows: dict[str, Any], **settings: Any) -> Any:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    columns = {"prompt_column": "ask", "options_column": "choices", "answer_column": "right"} | settings
    return load_passages(DataSource(source=str(path), **columns), seed=0)


@pytest.mark.parametrize("options", ["choices", ("first", "second")])
def test_options_are_a_list_or_a_column_each(options: Any, tmp_path: Path) -> None:
    data = read(tmp_path, *[ROW] * 10, options_column=options, template="Q {prompt} A")
    assert tuple(data.train) == (Choice("Q a A", ("b", "c d"), 1),) * 9
    assert data.understood("x")["example"] == {"given": "Q a A", "learnt": "c d"}


@pytest.mark.parametrize(
    ("cell", "answer", "expected"),
    [
        (["no", "yes"], 1, 1),  # PIQA: the number
        (["no", "yes"], "yes", 1),
        (["no", "yes"], True, 1),  # BoolQ
        (["no", "yes"], "0", 0),
        (["red", "green", "blue"], "B", 1),
        ({"text": ["red", "green"], "label": ["A", "B"]}, "B", 1),  # ARC: the label
        ({"text": ["red", "green"], "label": ["1", "2"]}, "1", 0),
        (["2", "1", "0"], "0", 2),  # an option's own text comes before its number
        ([3, 4], 4, 1),
    ],
)
def test_an_answer_is_a_label_a_text_a_number_or_a_letter(cell: Any, answer: Any, expected: int) -> None:
    options, labels = options_of(cell)
    assert answer_of(answer, options, labels) == expected


BAD: list[tuple[dict[str, Any], str]] = [
    ({"choices": ["b"]}, "an option list with one option in line 3 of 'choices' and 'right'; a choice needs two"),
    ({"choices": []}, "an option list with no options in line 3"),
    ({"choices": None}, "no options in line 3 .* give a list of texts"),
    ({"choices": "b|c"}, "a str that is no list of options in line 3"),
    ({"choices": ["b", " "]}, "an option that is empty or no text in line 3"),
    ({"choices": ["b", ["c"]]}, "an option that is empty or no text in line 3"),
    ({"choices": {"text": ["b", "c"], "label": ["A"]}}, "2 options with 1 labels in line 3"),
    ({"right": 2}, "the answer '2', which is none of its 2 options in line 3 .* give one of b, c d, its number from 0"),
    ({"right": "e f"}, "the answer 'e f', which is none of its 2 options"),
    ({"right": "Z"}, "the answer 'Z', which is none of its 2 options"),
    ({"right": -1}, "the answer '-1', which is none"),
    ({"right": None}, "the answer '', which is none"),
    ({"choices": {"text": ["b", "c"], "label": ["A", "B"]}, "right": "1"}, "the answer '1', .* give one of A, B"),
    ({"ask": ""}, "an empty prompt in line 3 of 'ask'"),
]


@pytest.mark.parametrize(("changed", "said"), BAD)
def test_what_is_no_choice_is_refused_in_one_sentence(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path, ROW, ROW, {**ROW, **changed})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prompt_column": None}, "data.prompt_column is not given; multiple choice takes"),
        ({"options_column": None}, "data.options_column is not given; multiple choice takes"),
        ({"answer_column": None}, "data.answer_column is not given; multiple choice takes"),
        ({"response_column": "first"}, "data.response_column and data.options_column exclude one another"),
        ({"answer_column": "choices"}, "must be different columns"),
        ({"options_column": "opts"}, "has no column 'opts'.* data.options_column and data.answer_column"),
    ],
)
def test_settings_that_do_not_go_with_options_are_refused(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read(tmp_path, ROW, ROW, **settings)


def test_the_answer_alone_is_learnt_and_every_option_is_a_held_out_row() -> None:
    tokenizer = word_tokenizer()
    choices = [Choice("a b", ("c", "d e"), 1), Choice("a", ("f", "c"), 0)]
    train, _ = tokenize_rows(choices, tokenizer, 6)
    # [CLS] a b d e; nothing ends it
    assert train.input_ids[0].tolist() == [2, 4, 5, 7, 8, 0]
    assert train.scored is not None
    assert train.scored[0].tolist() == [False, False, False, True, True, False]

    test, _ = tokenize_options(choices, tokenizer, 6)
    assert test.input_ids.tolist() == [
        [2, 4, 5, 6, 0, 0],
        [2, 4, 5, 7, 8, 0],
        [2, 4, 9, 0, 0, 0],
        [2, 4, 6, 0, 0, 0],
    ]
    assert test.options is not None
    assert test.options.choice.tolist() == [0, 0, 1, 1]
    assert test.options.is_answer.tolist() == [False, True, True, False]
    assert test.options.n_characters.tolist() == [1, 3, 1, 1]
