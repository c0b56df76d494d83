"""Reads a source file's syntax tree and finds what breaks the borders of the architecture."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

LEARNING_LIBRARIES = ("torch", "transformers", "peft", "datasets")

FORBIDDEN_IMPORTS: Mapping[str, tuple[str, ...]] = {
    "device_profiles": ("emulator", "policies"),
    "emulator": ("policies",),
    "policies": ("device_profiles", "ray", *LEARNING_LIBRARIES),
    "emulator/forms": ("emulator.world", "emulator.learning", "emulator.protocols", "emulator.backends"),
    "emulator/world": ("emulator.learning", "emulator.protocols", "emulator.backends", "emulator.coordinator"),
    "emulator/protocols": ("emulator.learning", "emulator.backends", "emulator.coordinator"),
    "emulator/analysis": (
        "emulator.world",
        "emulator.learning",
        "emulator.protocols",
        "emulator.backends",
        "emulator.cli",
    ),
    "emulator/learning": ("emulator.world", "emulator.protocols", "emulator.backends", "emulator.coordinator"),
}
"""By folder, the packages that nothing in it imports, be it inside a function or for type checking only."""

ONLY_WITHIN: Mapping[str, tuple[str, ...]] = {
    "ray": ("emulator/backends",),
    "plotly": ("emulator/report",),
    "emulator.learning": ("emulator/learning", "emulator/backends", "emulator/calibration"),
    "emulator.calibration": ("emulator/calibration", "emulator/cli"),
    **dict.fromkeys(LEARNING_LIBRARIES, ("emulator/learning",)),
}
"""By package, the folders of the three packages in which alone it is imported."""

EXCEPTIONS = {("emulator/model_catalog.py", "transformers")}
"""Reading the config.json of a hub model needs the hub's client; the import is inside the one function that does."""

CLOCKS_AND_CHANCE = ("time", "datetime", "random", "secrets", "uuid")
"""Modules by which emulated time or a decision would come to depend on more than the seed."""

FROM_THE_SEED_ALONE = (
    "policies",
    "emulator/world",
    "emulator/protocols",
    "emulator/forms",
    "emulator/aggregation.py",
    "emulator/bandits.py",
    "emulator/clock.py",
    "emulator/policy.py",
    "emulator/pruning.py",
    "emulator/validation.py",
)

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


def wrong_imports(source: Source) -> list[str]:
    """Imports against the directions of the architecture."""
    found = []
    for module in imports(source):
        barred = [name for folder, names in FORBIDDEN_IMPORTS.items() if source.lies_in([folder]) for name in names]
        barred += [name for name, folders in ONLY_WITHIN.items() if not source.lies_in(folders)]
        for name in barred:
            if _is_within(module, name) and (source.path, name) not in EXCEPTIONS:
                found.append(f"{source.path} imports {module}")
    return sorted(set(found))


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
    if not source.lies_in(FROM_THE_SEED_ALONE):
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
