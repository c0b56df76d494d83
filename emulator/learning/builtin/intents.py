"""The seeded text task "builtin:intents": which of two household commands is meant, in sentences made by a grammar.

Every sentence holds two clauses, one operative and one negated, in either order: "do not raise the heater in the attic
but dim the lamp". Its label is the intent of the operative clause, category x direction (here "light_down"). Both
clauses draw on the same verbs and the same negating words, so that a bag of words cannot tell which clause counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np

Option = TypeVar("Option")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


CATEGORIES = ("light", "heat", "sound", "air")
DIRECTIONS = ("up", "down")
LABELS: tuple[str, ...] = tuple(f"{category}_{direction}" for category in CATEGORIES for direction in DIRECTIONS)

OBJECTS = {
    "light": _words("lamp lamps light lights lantern bulb bulbs chandelier spotlight sconce candles beacon torch glow"),
    "heat": _words(
        "heater radiator boiler furnace stove thermostat oven fireplace grill kettle blanket sauna burner hob"
    ),
    "sound": _words(
        "radio music speaker speakers stereo television volume song alarm doorbell podcast piano melody news"
    ),
    "air": _words(
        "fan fans ventilator purifier extractor blower breeze vent vents draught airflow hood propeller duct"
    ),
}
# "{}" is the thing acted on. These patterns serve every category.
SHARED_PATTERNS = {
    "up": _phrases(
        "raise {}|boost {}|increase {}|lift {}|strengthen {}|intensify {}|turn {} up|turn up {}|bring {} up|"
        "push {} higher|set {} higher|move {} up|nudge {} up|dial {} higher|put {} up|give {} more power|"
        "make {} stronger|take {} up"
    ),
    "down": _phrases(
        "lower {}|reduce {}|decrease {}|cut {}|weaken {}|diminish {}|turn {} down|turn down {}|bring {} down|"
        "push {} lower|set {} lower|move {} down|nudge {} down|dial {} lower|put {} down|give {} less power|"
        "make {} weaker|take {} down"
    ),
}
OWN_PATTERNS = {
    "light_up": ("brighten {}", "kindle {}"),
    "light_down": ("dim {}", "darken {}"),
    "heat_up": ("stoke {}", "warm {}"),
    "heat_down": ("cool {}", "chill {}"),
    "sound_up": ("amplify {}", "unmute {}"),
    "sound_down": ("hush {}", "muffle {}"),
    "air_up": ("hasten {}", "speed {} up"),
    "air_down": ("calm {}", "slow {} down"),
}
# Each row reads the same words in both orders: the words of a frame do not tell which clause comes first.
FRAMES = (
    ("{do} but do not {skip}", "do not {skip} but {do}"),
    ("just {do} and never {skip}", "never {skip} and just {do}"),
    ("{do} rather than {skip}", "rather than {skip} {do}"),
    ("{do} instead of trying to {skip}", "instead of trying to {skip} {do}"),
    ("do not forget to {do} but do not {skip}", "do not {skip} but do not forget to {do}"),
    ("remember to {do} and not to {skip}", "remember not to {skip} and to {do}"),
    ("you must {do} but you need not {skip}", "you need not {skip} but you must {do}"),
    ("i meant {do} when i said {skip}", "when i said {skip} i meant {do}"),
    ("it is right to {do} and wrong to {skip}", "it is wrong to {skip} and right to {do}"),
    ("never fail to {do} and never {skip}", "never {skip} and never fail to {do}"),
    ("i want you to {do} not to {skip}", "i want you not to {skip} to {do}"),
    ("yes {do} and no do not {skip}", "no do not {skip} and yes {do}"),
)
DETERMINERS = _words("the my our that this her his their")
ADJECTIVES = _words(
    "old new big small red blue green white black wooden metal broken cheap fancy heavy tiny round square noisy spare "
    "favourite second left right"
)
PLACES = _words(
    "attic kitchen hall bedroom bathroom cellar garage garden office nursery pantry porch study lounge library "
    "corridor studio workshop balcony basement parlour gallery shed barn cabin lobby loft den laundry terrace sofa "
    "window door desk"
)
PREPOSITIONS = _words("in near by behind")
DISTRACTORS = _phrases(
    "please|kindly|thanks a lot|hey there|good morning|good evening|when you can|if you like|after dinner|"
    "before lunch|for the guests|for my mother|before we leave|while we eat|as soon as possible|once the film ends|"
    "if it is not late|since nobody is asleep|not that it matters|as i never complain|while the baby sleeps|"
    "because the dog barks|now that winter is coming|on your way out|for an hour or so|until the clock strikes ten|"
    "without any delay|like you did yesterday|as grandma always says|for what it is worth"
)
# Distractors that name a further object, "{}", without asking anything of it.
MENTIONS = _phrases(
    "since the {} came today|although the {} works|as the {} looks odd|while the {} stays|because the {} is fine"
)
CONSEQUENCES = {
    "light_up": _words("brighter lighter sunnier"),
    "light_down": _words("darker dimmer gloomier"),
    "heat_up": _words("warmer hotter cosier"),
    "heat_down": _words("cooler colder icier"),
    "sound_up": _words("louder shriller merrier"),
    "sound_down": _words("quieter softer stiller"),
    "air_up": _words("fresher breezier windier"),
    "air_down": _words("stuffier staler muggier"),
}
CONSEQUENCE_OPENINGS = _phrases("so it gets|then it becomes|so it turns|until it is")

# What may stand beside the objects of the operative and the negated clause; more would make sentences too long.
SHAPES = (
    ("plain", "plain"),
    ("plain", "adjective"),
    ("adjective", "plain"),
    ("plain", "place"),
    ("place", "plain"),
    ("adjective", "place"),
    ("place", "adjective"),
)
CALL = "=>"
"""Stands between a command and its answer."""
DISTRACTOR_FRACTION = 0.6
MENTION_FRACTION = 0.4
N_DRAWS = 32  # Uniform draws set aside for each sentence, more than any sentence uses.


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One command to the house: its label (an index into `LABELS`) and its words."""

    label: int
    text: str

    @property
    def answer(self) -> str:
        """Category, direction and the thing that the clause is about."""
        category, direction = LABELS[self.label].split("_")
        thing = next(word for word in self.text.split() if word in OBJECTS[category])
        return f"{category} {direction} {thing}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One sentence with the two clauses that it was made from; its label is that of the operative clause."""

    operative: Clause
    negated: Clause
    operative_first: bool
    text: str
    consequence: str

    @property
    def label(self) -> int:
        """Index into `LABELS`."""
        return self.operative.label

    @property
    def answer(self) -> str:
        """What is to be done, in three words: "light down lamp"."""
        return self.operative.answer


def generate(n_examples: int, seed: int) -> tuple[list[str], list[int]]:
    """Return `n_examples` sentences and their labels (indices into `LABELS`).

    The same seed gives the same sentences on every machine, and a smaller number gives the beginning of a larger one.
    """
    commands = generate_commands(n_examples, seed)
    return [command.text for command in commands], [command.label for command in commands]


def generate_commands(n_examples: int, seed: int) -> list[Command]:
    """Return `n_examples` commands with the clauses and the consequence that belong to each."""
    draws = np.random.default_rng(seed).random((n_examples, N_DRAWS))
    return [_command(iter(row)) for row in draws.tolist()]


def vocabulary() -> tuple[str, ...]:
    """Return every word of commands and consequences, sorted."""
    phrases = chain(
        chain.from_iterable(OBJECTS.values()),
        chain.from_iterable(SHARED_PATTERNS.values()),
        chain.from_iterable(OWN_PATTERNS.values()),
        (frame.format(do="", skip="") for frame in chain.from_iterable(FRAMES)),
        chain(DETERMINERS, ADJECTIVES, PLACES, PREPOSITIONS, DISTRACTORS, MENTIONS, CONSEQUENCE_OPENINGS),
        chain.from_iterable(CONSEQUENCES.values()),
    )
    return tuple(sorted({word for phrase in phrases for word in phrase.split() if word != "{}"}))


def answer_words() -> frozenset[str]:
    """Return the words of answers; some of them occur in commands, too."""
    return frozenset(chain(CATEGORIES, DIRECTIONS, chain.from_iterable(OBJECTS.values())))


def consequence_words() -> frozenset[str]:
    """Return the words that tell a command's label; they occur in consequences only."""
    return frozenset(chain.from_iterable(CONSEQUENCES.values()))


def _command(draws: Iterator[float]) -> Command:
    label = int(next(draws) * len(LABELS))
    # A shift of 1 to 7 makes the negated intent any but the operative one, all equally likely.
    other = (label + 1 + int(next(draws) * (len(LABELS) - 1))) % len(LABELS)
    shape, other_shape = _pick(SHAPES, draws)
    operative = Clause(label=label, text=_clause(label, shape, draws))
    negated = Clause(label=other, text=_clause(other, other_shape, draws))
    operative_first = next(draws) < 0.5
    frame = _pick(FRAMES, draws)[0 if operative_first else 1]
    text = _with_distractor(frame.format(do=operative.text, skip=negated.text), draws)
    consequence = f"{_pick(CONSEQUENCE_OPENINGS, draws)} {_pick(CONSEQUENCES[LABELS[label]], draws)}"
    return Command(
        operative=operative, negated=negated, operative_first=operative_first, text=text, consequence=consequence
    )


def _clause(label: int, shape: str, draws: Iterator[float]) -> str:
    category, direction = LABELS[label].split("_")
    patterns = [*SHARED_PATTERNS[direction], *OWN_PATTERNS[LABELS[label]]]
    return _pick(patterns, draws).format(_thing(category, shape, draws))


def _thing(category: str, shape: str, draws: Iterator[float]) -> str:
    determiner, noun = _pick(DETERMINERS, draws), _pick(OBJECTS[category], draws)
    if shape == "adjective":
        return f"{determiner} {_pick(ADJECTIVES, draws)} {noun}"
    if shape == "place":
        return f"{determiner} {noun} {_pick(PREPOSITIONS, draws)} the {_pick(PLACES, draws)}"
    return f"{determiner} {noun}"


def _with_distractor(text: str, draws: Iterator[float]) -> str:
    if next(draws) >= DISTRACTOR_FRACTION:
        return text
    if next(draws) < MENTION_FRACTION:
        distractor = _pick(MENTIONS, draws).format(_pick(OBJECTS[_pick(CATEGORIES, draws)], draws))
    else:
        distractor = _pick(DISTRACTORS, draws)
    return f"{distractor} {text}" if next(draws) < 0.5 else f"{text} {distractor}"


def _pick(options: Sequence[Option], draws: Iterator[float]) -> Option:
    return options[int(next(draws) * len(options))]
