"""Every public name says what it is for, and the site has a page of each package of public names."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.references import ROOT

WITH_A_LIST = ("emulator", "emulator.policy", "emulator.testing", "emulator.analysis")
"""Packages whose ``__all__`` says what is public."""

OF_MODULES = ("emulator.forms", "emulator.algorithms")
"""Packages in whose modules everything is public that has no underscore in front."""


def public_names() -> Iterator[tuple[str, Any]]:
    """Each public name with what it stands for."""
    for package in map(importlib.import_module, WITH_A_LIST):
        yield from ((f"{package.__name__}.{name}", getattr(package, name)) for name in package.__all__)
    for package in map(importlib.import_module, OF_MODULES):
        for found in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{found.name}")
            yield from (
                (f"{module.__name__}.{name}", own) for name, own in vars(module).items() if _is_own(own, module)
            )


def _is_own(found: Any, module: ModuleType) -> bool:
    is_defined = inspect.isclass(found) or inspect.isfunction(found)
    return is_defined and found.__module__ == module.__name__ and not found.__name__.startswith("_")


def without_docstring(name: str, found: Any) -> list[str]:
    """``name`` if it has no docstring of its own, and its methods and properties that neither have nor inherit one.

    A test of the conformance suite is a sentence by its name.
    """
    if inspect.isfunction(found):
        return [] if inspect.getdoc(found) else [name]
    if not inspect.isclass(found):
        return []
    own = vars(found).get("__doc__") or ""
    bare = [name] if not own or own.startswith(f"{found.__name__}(") else []  # dataclasses write their signature
    for member, value in vars(found).items():
        is_told = inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)
        if is_told and not member.startswith(("_", "test_")) and not inspect.getdoc(getattr(found, member)):
            bare.append(f"{name}.{member}")
    return bare


def test_every_public_name_has_a_docstring() -> None:
    names = list(public_names())
    assert len(names) > 60
    assert [bare for name, found in names for bare in without_docstring(name, found)] == []


class Bare:
    def told(self) -> None:
        """It is."""

    def untold(self) -> None: ...


class Heir(Bare):
    """It has one."""

    def told(self) -> None: ...


def test_a_name_without_one_is_found() -> None:
    assert without_docstring("x", Bare) == ["x", "x.untold"]


def test_a_method_may_inherit_its_docstring() -> None:
    assert without_docstring("x", Heir) == []


@pytest.mark.parametrize("package", [*WITH_A_LIST, *OF_MODULES])
def test_every_package_of_public_names_has_a_page(package: str) -> None:
    page = ROOT / "docs" / "api" / f"{package.rpartition('.')[2]}.md"
    assert f"::: {package}" in page.read_text(encoding="utf-8")
