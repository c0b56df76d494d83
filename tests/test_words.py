"""No public name has a word that docs/words.md has struck out."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from emulator.cli.settings_page import setting_keys
from emulator.results.schemas import SCHEMAS
from tests.architecture_rules import PACKAGES

ROOT = Path(__file__).parents[1]
Struck = Mapping[str, frozenset[str]]
"""The names that are free, by the struck word."""


def struck_words() -> Struck:
    """The last table of docs/words.md."""
    section = (ROOT / "docs" / "words.md").read_text(encoding="utf-8").partition("## Struck words")[2]
    rows = re.findall(r"^\| (\w+) \| .+? \|(.*)\|$", section, flags=re.MULTILINE)
    return {word: frozenset(free.replace(",", " ").split()) for word, free in rows if word != "struck"}


@cache
def words_of(name: str) -> list[str]:
    """``n_hostActors`` has the words n, host and actors; a plural counts as its singular as well."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    return words + [word[:-1] for word in words if word.endswith("s")]


def public_names(text: str) -> Iterator[str]:
    """Classes, functions, their parameters, and what is assigned in a module or class, with no underscore in front."""
    yield from (name for name in _names(ast.parse(text)) if not name.startswith("_"))


def _names(scope: ast.Module | ast.ClassDef) -> Iterator[str]:
    for statement in scope.body:
        match statement:
            case ast.ClassDef(name=name) if not name.startswith("_"):
                yield name
                yield from _names(statement)
            case ast.FunctionDef(name=name, args=args) if not name.startswith("_") or name == "__init__":
                yield name
                yield from (arg.arg for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs])
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))


def wrong(name: str, struck: Struck) -> list[str]:
    return [word for word in words_of(name) if word in struck and name not in struck[word]]


@cache
def names_by_place() -> tuple[tuple[str, str], ...]:
    """Every public name with the file, setting or column that it is of."""
    return tuple(_names_by_place())


def _names_by_place() -> Iterator[tuple[str, str]]:
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        place = path.relative_to(ROOT).as_posix()
        yield from ((place, part) for part in path.relative_to(ROOT).with_suffix("").parts)
        yield from ((place, name) for name in public_names(path.read_text(encoding="utf-8")))
    yield from (("a setting", part) for key in setting_keys() for part in key.split("."))
    yield from (("a column", name) for schema in SCHEMAS.values() for name in schema.names)


def test_no_public_name_has_a_struck_word() -> None:
    struck = struck_words()
    assert len(struck) > 10
    found = {f"{place}: {name} ({word})" for place, name in names_by_place() for word in wrong(name, struck)}
    assert sorted(found) == []


def test_every_exception_is_still_there() -> None:
    names = {name for _, name in names_by_place()}
    assert [name for free in struck_words().values() for name in free if name not in names] == []


@pytest.mark.parametrize(
    "text",
    [
        "class SplitRounds: pass",
        "def n_clients(): pass",
        "def f(*, network_name): pass",
        "class A:\n    num_rounds: int = 1",
        "LAYERED_SPEC = 1",
        "class A:\n    def __init__(self, clients): pass",
    ],
)
def test_a_struck_word_is_found(text: str) -> None:
    assert any(wrong(name, struck_words()) for name in public_names(text))


@pytest.mark.parametrize(
    "text", ["class SplitFed: pass", "def _split(): pass", "x = 'a network'.split()", "n_jobs = 1"]
)
def test_other_names_are_free(text: str) -> None:
    assert not any(wrong(name, struck_words()) for name in public_names(text))


def classes() -> Iterator[tuple[str, str]]:
    """Each public class of a module, with the module's path."""
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.ClassDef) and not statement.name.startswith("_"):
                yield statement.name, path.relative_to(ROOT).as_posix()


def test_no_two_classes_have_the_same_name() -> None:
    places: dict[str, list[str]] = {}
    for name, path in classes():
        places.setdefault(name, []).append(path)
    assert len(places) > 150
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}
