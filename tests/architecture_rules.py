"""Reads a source file's syntax tree and finds what breaks the borders of the architecture."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath

from tests.floors import FLOORS, Room

PACKAGES = ("device_profiles", "emulator", "policies")

CLOCKS_AND_CHANCE = ("time", "datetime", "random", "secrets", "uuid")
"""Modules by which emulated time or a decision would come to depend on more than the seed."""

EVERYWHERE = ("numpy",)
"""The one library that every room may import."""

VAGUE_NAMES = {"util", "utils", "common", "helper", "helpers", "misc"}


@dataclass(frozen=True)
class Source:
    """A file by its path from the repository's root, such as ``emulator/clock.py``."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def lies_in(self, folders: Iterable[str]) -> bool:
        path = PurePosixPath(self.path)
        return any(path == PurePosixPath(folder) or PurePosixPath(folder) in path.parents for folder in folders)


def imports(source: Source) -> Iterator[str]:
    """Every module that is imported anywhere in the file; ``from a import b`` counts as ``a.b``."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = PurePosixPath(source.path).parts[: -node.level] if node.level else ()
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


@cache
def room_of(path: str) -> Room | None:
    """The room that a file lies in: of those that contain it the most specific one."""
    return max((room for room in FLOORS if room.contains(path)), key=lambda room: len(room.path), default=None)


def wrong_imports(source: Source) -> list[str]:
    """Imports that the floors do not allow: a room that is higher or not named, or a library that is not."""
    room = room_of(source.path)
    if room is None:
        return [f"{source.path} lies in no room"]
    found = []
    for module in imports(source):
        top = module.split(".")[0]
        if top in PACKAGES:
            target = room_of(module.replace(".", "/") + ".py")
            allowed = target is not None and (target is room or target.path in room.imports)
        else:
            allowed = top in sys.stdlib_module_names or top in EVERYWHERE or top in room.libraries
        if not allowed:
            found.append(f"{source.path} imports {module}")
    return sorted(set(found))


def import_circles(sources: Sequence[Source]) -> list[list[str]]:
    """Files that import one another, each circle in alphabetical order; imports for type checking count."""
    paths = {source.path for source in sources}
    graph = {source.path: {t for m in imports(source) if (t := _file_of(m, paths))} for source in sources}
    sorter = TopologicalSorter({path: targets - {path} for path, targets in graph.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        return [sorted(set(error.args[1]))]
    return []


def _file_of(module: str, paths: set[str]) -> str | None:
    """The file among ``paths`` that ``module`` names, or a name within it."""
    parts = module.split(".")
    for n_parts in range(len(parts), 0, -1):
        stem = "/".join(parts[:n_parts])
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            if path in paths:
                return path
    return None


def names_of_policies(source: Source, policy_words: set[str], form_words: set[str]) -> list[str]:
    """Names of policies, as identifiers or within strings, and of adapter forms' classes, as identifiers.

    Documentation is free to give examples: the strings that are statements of their own are left out.
    """
    nodes = list(ast.walk(source.tree))
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr) and _is_text(node.value)}
    found = []
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = set() if id(node) in documentation else set(re.findall(r"\w+", node.value)) & policy_words
        else:
            words = _identifiers(node) & (policy_words | form_words)
        found += [f"{source.path} names {word}" for word in sorted(words)]
    return found


def clocks_and_chance(source: Source) -> list[str]:
    """Wall clocks and random state that no seed of the run governs."""
    room = room_of(source.path)
    if room is None or room.reads_clock:
        return []
    found = [
        f"{source.path} imports {module}"
        for module in imports(source)
        if any(_is_within(module, name) for name in CLOCKS_AND_CHANCE)
        or (_is_within(module, "numpy.random") and module != "numpy.random.Generator")
    ]
    for node in ast.walk(source.tree):
        dotted = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if re.fullmatch(r"(np|numpy)\.random\.(?!Generator$)\w+", dotted):
            found.append(f"{source.path}:{node.lineno} uses {dotted}")  # type: ignore[attr-defined]
    return found


def vague_names(path: str) -> list[str]:
    """Parts of a path that do not say what is in there."""
    return [part for part in PurePosixPath(path).parts if part.removesuffix(".py").strip("_") in VAGUE_NAMES]


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _identifiers(node: ast.AST) -> set[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
            return {name}
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return {name}
        case ast.alias(name=name, asname=other):
            return {*name.split("."), *([other] if other else [])}
        case ast.keyword(arg=str(name)):
            return {name}
    return set()
