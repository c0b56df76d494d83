"""Finds policies by name or import path and builds them from their parameters. No registry: a name is a file.

What else a configuration names by the import path of its class goes through the same checks, see :class:`Kind`.
"""

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
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter, ValidationError

from emulator.errors import ConfigError, UserError, did_you_mean
from emulator.policy.base import Policy

Plug = TypeVar("Plug")


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind(Generic[Plug]):
    """What a configuration can name by the import path of a class.

    Attributes:
        name: what messages call one, ``policy``.
        article: ``a`` or ``an``, as its name wants.
        base: the class that every one inherits from.
        base_path: where that class is imported from.
    """

    name: str
    article: str
    base: type[Plug]
    base_path: str

    @property
    def one(self) -> str:
        """``a policy``."""
        return f"{self.article} {self.name}"


# A policy's base class is abstract, which is no reason not to say what its subclasses are.
POLICY: Kind[Policy] = Kind(name="policy", article="a", base=Policy, base_path="emulator.policy.Policy")  # type: ignore[type-abstract]


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
        module = _imported(POLICY, f"policies.{path}", path)
        for _, own in inspect.getmembers(module, inspect.isclass):
            if issubclass(own, Policy) and own.__module__ == module.__name__:
                return own
        raise ConfigError(
            f"the policy's module {module.__name__!r} defines no subclass of emulator.policy.Policy, got {path!r}"
        )
    return class_at(POLICY, path)


def class_at(kind: Kind[Plug], path: str) -> type[Plug]:
    """The class at the import path ``package.module:Class``.

    Raises:
        ConfigError: there is none, its module cannot be imported, or it does not inherit from the kind's base.
    """
    module_name, colon, class_name = path.partition(":")
    if not colon:
        raise ConfigError(f"{kind.one} is named by its import path, package.module:Class, got {path!r}")
    if module_name.startswith("."):
        raise ConfigError(f"{kind.one}'s module must be given by its full name, package.module:Class, got {path!r}")
    found: Any = getattr(_imported(kind, module_name, path), class_name, None) if module_name else None
    if found is None:
        raise ConfigError(f"the module {module_name!r} has no class {class_name!r}, got {kind.name} {path!r}")
    if not (inspect.isclass(found) and issubclass(found, kind.base)):
        raise ConfigError(f"{kind.one} must be a subclass of {kind.base_path}, got {path!r}")
    return found


def _imported(kind: Kind[Any], module_name: str, path: str) -> ModuleType:
    """The module of the class at ``path``, whatever its file does."""
    try:
        return importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except UserError:  # its own sentence, such as a library that it needs
        raise
    except BaseException as error:  # the module is the user's: it may even call sys.exit
        raise ConfigError(f"the {kind.name}'s module cannot be imported ({described(error)}), got {path!r}") from error


def described(error: BaseException) -> str:
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


def import_path(cls: type[Any]) -> str:
    """``package.module:Class`` of a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def parameters(cls: type[Any]) -> dict[str, inspect.Parameter]:
    """The parameters that a policy takes, or another class, by name."""
    return {
        name: parameter
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def resolved_parameters(path: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of the policy at ``path``: as ``given``, else their defaults.

    Raises:
        ConfigError: there is no such policy.
    """
    taken = parameters(policy_class(path))
    defaults = {name: one.default for name, one in taken.items() if one.default is not inspect.Parameter.empty}
    return defaults | {name: _or_none(value, taken.get(name)) for name, value in given.items()}


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
    return build(POLICY, policy_class(path), given, "policy")


def build(kind: Kind[Plug], cls: type[Plug], given: Mapping[str, Any], key: str) -> Plug:
    """A ``cls`` with the parameters ``given``, each checked against its annotation; ``key`` is where they stand.

    Raises:
        ConfigError: there is no such parameter, a value is of the wrong type, or the class cannot be built.
    """
    own = import_path(cls)
    if inspect.isabstract(cls):
        missing_methods = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise ConfigError(f"{kind.name} {own} is abstract: it must define {missing_methods}")
    taken = parameters(cls)
    annotations = _annotations(kind, cls)
    values = {}
    for name, value in given.items():
        if name not in taken:
            hint = did_you_mean(name, taken) or ";"
            raise ConfigError(
                f"{key}.{name} is not a parameter of {own}{hint} it takes: {', '.join(taken) or 'no parameters'}"
            )
        value = _or_none(value, taken[name])
        values[name] = _checked(f"{key}.{name} of {own}", value, annotations.get(name, Any))
    missing = [name for name, parameter in taken.items() if parameter.default is parameter.empty and name not in values]
    if missing:
        raise ConfigError(f"{own} needs a value for {key}.{missing[0]}")
    try:
        return cls(**values)
    except UserError:
        raise
    except ValueError as error:  # its own sentence about a value
        raise ConfigError(f"{kind.name} {own}: {error}") from None
    except Exception as error:
        raise ConfigError(f"{kind.name} {own} cannot be built ({described(error)})") from error


def _or_none(value: Any, parameter: inspect.Parameter | None) -> Any:
    """``value``; None for "none", as TOML must say it, where the parameter's default is None."""
    return None if value == "none" and parameter is not None and parameter.default is None else value


def _annotations(kind: Kind[Any], cls: type[Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls if dataclasses.is_dataclass(cls) else cls.__init__, include_extras=True)
    except Exception as error:  # an annotation in quotes may be any expression
        raise ConfigError(
            f"the annotations of {kind.name} {import_path(cls)} cannot be resolved ({' '.join(str(error).split())}); "
            "its module must define or import every name in them, and not for type checking only"
        ) from error


def _checked(what: str, value: Any, annotation: Any) -> Any:
    """``value`` as ``annotation`` wants it; messages call it ``what``."""
    try:
        text = json.dumps(value, default=str, allow_nan=False)
    except ValueError:
        raise ConfigError(f"{what}: a number must be finite, got {value!r}") from None
    try:
        # TOML has lists where a policy wants tuples; JSON's rules take them, and are strict about all else.
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))
        return adapter.validate_json(text, strict=True)
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise ConfigError(
            f"{what} cannot be set: no value can be checked against its annotation {annotation!r}"
        ) from error
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        raise ConfigError(f"{what}: {message[:1].lower() + message[1:]}, got {value!r}") from None
