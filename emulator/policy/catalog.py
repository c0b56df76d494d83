"""Finds policies by name or import path and builds them from their parameters. No registry: a name is a file."""

import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
import sysconfig
import traceback
import typing
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ConfigDict, PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter, ValidationError

from emulator.errors import ConfigError, UserError, did_you_mean
from emulator.policy.base import Policy


def policy_names() -> list[str]:
    """The names of the policies that ship with jetbed: the modules of the package ``policies``."""
    package = importlib.import_module("policies")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def policy_class(path: str) -> type[Policy]:
    """The class behind a name of :func:`policy_names` or an import path ``package.module:Class``.

    Raises:
        ConfigError: there is no such policy, its module cannot be imported, or it is no :class:`Policy`.
    """
    if ":" not in path:
        names = policy_names()
        if path not in names:
            hint = did_you_mean(path, names) or ";"
            raise ConfigError(
                f"there is no policy {path!r}{hint} the policies are: {', '.join(names)}, or give package.module:Class"
            )
        module = _imported(f"policies.{path}", path)
        for _, own in inspect.getmembers(module, inspect.isclass):
            if issubclass(own, Policy) and own.__module__ == module.__name__:
                return own
        raise ConfigError(
            f"the policy's module {module.__name__!r} defines no subclass of emulator.policy.Policy, got {path!r}"
        )
    module_name, _, class_name = path.partition(":")
    if module_name.startswith("."):
        raise ConfigError(f"a policy's module must be given by its full name, package.module:Class, got {path!r}")
    found: Any = getattr(_imported(module_name, path), class_name, None) if module_name else None
    if found is None:
        raise ConfigError(f"the module {module_name!r} has no class {class_name!r}, got policy {path!r}")
    if not (inspect.isclass(found) and issubclass(found, Policy)):
        raise ConfigError(f"a policy must be a subclass of emulator.policy.Policy, got {path!r}")
    return found


def _imported(module_name: str, path: str) -> ModuleType:
    """The module of the policy ``path``, whatever its file does."""
    try:
        return importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the module is the user's: it may even call sys.exit
        raise ConfigError(f"the policy's module cannot be imported ({_described(error)}), got {path!r}") from error


def _described(error: BaseException) -> str:
    """What ``error`` says and where it came from, on one line.

    The place is the last line outside of the libraries; there is none where no file of the user was run.
    """
    if isinstance(error, SyntaxError):
        place = f", {error.filename} line {error.lineno or 1}" if error.filename else ""
        return f"{type(error).__name__}: {error.msg}{place}"
    text = " ".join(str(error).split())
    said = text if isinstance(error, ImportError) else f"{type(error).__name__}: {text}".removesuffix(": ")
    libraries = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not (frame.filename.startswith("<") or frame.filename == __file__)
        and libraries.isdisjoint(Path(frame.filename).parents)
    ]
    return f"{said}, {frames[-1].filename} line {frames[-1].lineno}" if frames else said


def import_path(policy: type[Policy]) -> str:
    """``package.module:Class`` of a policy class."""
    return f"{policy.__module__}:{policy.__qualname__}"


def parameters(policy: type[Policy]) -> dict[str, inspect.Parameter]:
    """The parameters that a policy takes, by name."""
    return {
        name: parameter
        for name, parameter in inspect.signature(policy).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def resolved_parameters(path: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of the policy at ``path``: as ``given``, else their defaults.

    Raises:
        ConfigError: there is no such policy.
    """
    defaults = {name: parameter.default for name, parameter in parameters(policy_class(path)).items()}
    return {name: value for name, value in defaults.items() if value is not inspect.Parameter.empty} | dict(given)


def parameter_help(policy: type[Policy]) -> dict[str, str]:
    """What each parameter means, from the ``Args:`` of the class's docstring."""
    _, _, described = (inspect.getdoc(policy) or "").partition("\nArgs:\n")
    section = inspect.cleandoc(described.split("\n\n")[0])
    entries = re.findall(r"^(\w+): (.+(?:\n +.+)*)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def build_policy(path: str, given: Mapping[str, Any]) -> Policy:
    """The policy at ``path`` with the parameters ``given``, each checked against its annotation.

    Raises:
        ConfigError: there is no such policy or parameter, a value is of the wrong type, or the policy cannot be built.
    """
    policy = policy_class(path)
    if inspect.isabstract(policy):
        raise ConfigError(
            f"policy {import_path(policy)} is abstract: it must define {', '.join(sorted(policy.__abstractmethods__))}"
        )
    taken = parameters(policy)
    annotations = _annotations(policy)
    values = {}
    for name, value in given.items():
        if name not in taken:
            hint = did_you_mean(name, taken) or ";"
            raise ConfigError(
                f"policy.{name} is not a parameter of {import_path(policy)}{hint} "
                f"it takes: {', '.join(taken) or 'no parameters'}"
            )
        values[name] = _checked(name, value, annotations.get(name, Any), policy)
    missing = [name for name, parameter in taken.items() if parameter.default is parameter.empty and name not in values]
    if missing:
        raise ConfigError(f"{import_path(policy)} needs a value for policy.{missing[0]}")
    try:
        return policy(**values)
    except UserError:
        raise
    except ValueError as error:  # the policy's own sentence about a value
        raise ConfigError(f"policy {import_path(policy)}: {error}") from None
    except Exception as error:
        raise ConfigError(f"policy {import_path(policy)} cannot be built ({_described(error)})") from error


def _annotations(policy: type[Policy]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(
            policy if dataclasses.is_dataclass(policy) else policy.__init__, include_extras=True
        )
    except Exception as error:  # an annotation in quotes may be any expression
        raise ConfigError(
            f"the annotations of policy {import_path(policy)} cannot be resolved ({' '.join(str(error).split())}); "
            "its module must define or import every name in them, and not for type checking only"
        ) from error


def _checked(name: str, value: Any, annotation: Any, policy: type[Policy]) -> Any:
    try:
        text = json.dumps(value, default=str, allow_nan=False)
    except ValueError:
        raise ConfigError(f"policy.{name} of {import_path(policy)}: a number must be finite, got {value!r}") from None
    try:
        # TOML has lists where a policy wants tuples; JSON's rules take them, and are strict about all else.
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))
        return adapter.validate_json(text, strict=True)
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise ConfigError(
            f"policy.{name} of {import_path(policy)} cannot be set: no value can be checked against its annotation "
            f"{annotation!r}"
        ) from error
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        raise ConfigError(
            f"policy.{name} of {import_path(policy)}: {message[:1].lower() + message[1:]}, got {value!r}"
        ) from None
