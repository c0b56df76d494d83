"""The built-in text task: seeded, balanced, and labelled by the clause that counts."""

import re
import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from emulator.learning.builtin import intents

TINY_12 = Path(intents.__file__).parent / "tiny-12"


@pytest.fixture(scope="module")
def commands() -> list[intents.Command]:
    return intents.generate_commands(2_000, seed=7)


def says(clause: intents.Clause) -> set[int]:
    """The labels that the words of a clause can have, found by matching them with the grammar's patterns."""
    found = set()
    for label, name in enumerate(intents.LABELS):
        category, direction = name.split("_")
        thing = rf"\w+ (\w+ )?({'|'.join(intents.OBJECTS[category])})( \w+ the \w+)?"
        patterns = [*intents.SHARED_PATTERNS[direction], *intents.OWN_PATTERNS[name]]
        if any(re.fullmatch(pattern.format(thing), clause.text) for pattern in patterns):
            found.add(label)
    return found


def test_the_same_seed_gives_the_same_sentences_and_another_seed_gives_others() -> None:
    assert intents.generate(50, seed=3) == intents.generate(50, seed=3)
    assert intents.generate(50, seed=3) != intents.generate(50, seed=4)


def test_fewer_examples_are_the_beginning_of_more() -> None:
    few, few_labels = intents.generate(20, seed=3)
    many, many_labels = intents.generate(90, seed=3)
    assert (many[:20], many_labels[:20]) == (few, few_labels)


def test_the_task_is_made_without_torch() -> None:
    code = "import sys; import emulator.learning.builtin.intents; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_label_is_rare_or_common(commands: list[intents.Command]) -> None:
    # 8 equally likely labels: 250 each of 2,000, with a standard deviation of sqrt(2000 * 1/8 * 7/8) = 14.8.
    counts = Counter(command.label for command in commands)
    assert sorted(counts) == list(range(len(intents.LABELS)))
    assert all(abs(count - 250) < 4 * 14.8 for count in counts.values())


def test_each_clause_says_its_label_and_no_other(commands: list[intents.Command]) -> None:
    for command in commands:
        assert says(command.operative) == {command.operative.label}
        assert says(command.negated) == {command.negated.label}


def test_the_label_is_that_of_the_clause_which_the_frame_does_not_negate(commands: list[intents.Command]) -> None:
    for command in commands:
        template = command.text.replace(command.operative.text, "{do}").replace(command.negated.text, "{skip}")
        frames = [frame for frame in chain.from_iterable(intents.FRAMES) if frame in template]
        assert frames, command.text
        assert command.label == command.operative.label != command.negated.label


def test_the_words_of_a_frame_do_not_depend_on_its_order() -> None:
    for operative_first, negated_first in intents.FRAMES:
        assert Counter(operative_first.split()) == Counter(negated_first.split())
        assert operative_first.index("{do}") < operative_first.index("{skip}")
        assert negated_first.index("{skip}") < negated_first.index("{do}")


def test_consequences_tell_the_label_and_are_absent_from_the_task(commands: list[intents.Command]) -> None:
    tells = {word: label for label, words in intents.CONSEQUENCES.items() for word in words}
    for command in commands:
        assert tells[command.consequence.split()[-1]] == intents.LABELS[command.label]
        assert not intents.consequence_words() & set(command.text.split())


def test_every_word_is_in_the_vocabulary(commands: list[intents.Command]) -> None:
    words = set(chain.from_iterable(f"{command.text} {command.consequence}".split() for command in commands))
    assert words <= set(intents.vocabulary())
    assert list(intents.vocabulary()) == sorted(set(intents.vocabulary()))


def test_the_shipped_tokenizer_knows_exactly_the_vocabulary() -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY_12)
    assert set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens) == set(intents.vocabulary())


def test_an_answer_names_the_thing_that_its_clause_is_about() -> None:
    for command in intents.generate_commands(500, seed=4):
        for clause in (command.operative, command.negated):
            category, direction, thing = clause.answer.split()
            assert f"{category}_{direction}" == intents.LABELS[clause.label]
            assert [word for word in clause.text.split() if word in intents.OBJECTS[category]] == [thing]
        assert command.answer == command.operative.answer
