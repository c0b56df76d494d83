"""Values as JSON and arrays, and back: plain types, numpy, enums, and dataclasses of modules that are known.

Nothing is executed but the imports of modules that the reader names, so that a checkpoint is data and no program. What
comes back is equal to what went in, to the last bit, and what was one object in two places is one again.
"""

import dataclasses
import importlib
import math
from base64 import b64decode, b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import UserError

PLAIN = (bool, int, str)
OWN_MODULES = frozenset({"emulator", "policies", "device_profiles"})
"""Packages whose dataclasses and enums are always known."""
_UNSET = object()


class CheckpointError(UserError):
    """Something cannot be kept in a checkpoint, or one cannot be read."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """``document`` is for ``json``; it refers to ``arrays`` by their names, and to ``classes`` by their paths."""

    document: Any
    arrays: Mapping[str, NDArray[Any]]
    classes: frozenset[str] = frozenset()


def encoded(value: object, where: str) -> Encoded:
    """``value`` as plain data.

    Raises:
        CheckpointError: something in it is neither plain, numpy, an enum nor a dataclass; ``where`` says what it is in.
    """
    encoder = _Encoder()
    document = encoder.encode(value, where)
    return Encoded(document, encoder.arrays, frozenset(encoder.classes))


def check_readable(given: Encoded, modules: Collection[str] = ()) -> None:
    """Check that :func:`decoded` will know all classes in what was encoded.

    Raises:
        CheckpointError: it will not.
    """
    decoder = _Decoder({}, OWN_MODULES | set(modules))
    for path in sorted(given.classes):
        try:
            decoder.class_of(path)
        except (AttributeError, ImportError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read back from a checkpoint ({error})") from error


def decoded(given: Encoded, modules: Collection[str] = ()) -> Any:
    """What was encoded. ``modules`` are packages beside :data:`OWN_MODULES` whose classes may be in it.

    Raises:
        CheckpointError: the document names a class that is not known, or is damaged.
    """
    try:
        return _Decoder(given.arrays, OWN_MODULES | set(modules)).decode(given.document)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, ImportError) as error:
        raise CheckpointError(f"a checkpoint is damaged ({type(error).__name__}: {error})") from error


@dataclass
class _Encoder:
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)
    _array_names: dict[int, str] = field(default_factory=dict)
    _places: dict[int, int] = field(default_factory=dict)
    """By identity, the numbers of objects that can be changed, in the order in which they were met."""
    _kept: list[object] = field(default_factory=list)
    """So that no identity is given to a second object meanwhile."""

    def encode(self, value: object, where: str) -> Any:
        if _stays(value):
            return value
        if isinstance(value, Enum):
            return {"enum": self._path_of(type(value)), "name": value.name}
        if isinstance(value, float) and type(value) is float:
            return {"float": repr(value)}
        if type(value) is bytes:
            return {"bytes": b64encode(value).decode()}
        if isinstance(value, np.generic):
            return {"scalar": self._array_name(np.asarray(value))}
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject or value.dtype.kind not in "biuf":
                raise _cannot_keep(f"an array of {value.dtype}", where)
            return {"array": self._array_name(value)}
        if isinstance(value, tuple) and type(value) is tuple:
            return {"tuple": self._all(value, where)}
        if isinstance(value, frozenset):
            return {"frozenset": self._all(value, where)}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._once(value, where, self._record) if _can_change(value) else self._record(value, where)
        if isinstance(value, list | set | Mapping):
            return self._once(value, where, self._container)
        raise _cannot_keep(f"a {type(value).__module__}.{type(value).__qualname__}", where)

    def _once(self, value: object, where: str, encode: Any) -> Any:
        """An object that can be changed is written where it is met first, and referred to after that."""
        if (place := self._places.get(id(value))) is not None:
            return {"same": place}
        self._places[id(value)] = len(self._places)
        self._kept.append(value)
        return encode(value, where)

    def _container(self, value: object, where: str) -> Any:
        if isinstance(value, list):
            return {"list": self._all(value, where)}
        if isinstance(value, set):
            return {"set": self._all(value, where)}
        assert isinstance(value, Mapping)
        if (table := self._table(value, where)) is not None:
            return table
        pairs = [[self.encode(key, where), self.encode(each, f"{where}[{key!r}]")] for key, each in value.items()]
        return {"dict": pairs}

    def _table(self, records: Mapping[Any, object], where: str) -> Any:
        """A dict of frozen records of one class, such as a round's assignments, names their fields once."""
        kinds: set[Any] = {type(record) for record in records.values()}
        if len(records) < 2 or len(kinds) > 1 or not all(map(_stays, records)):
            return None
        (kind,) = kinds
        if not (names := _fixed_fields(kind)):
            return None
        try:
            held = {key: [getattr(record, name) for name in names] for key, record in records.items()}
        except AttributeError:  # a field that was never set
            return None
        rows: list[list[Any]] = []
        for key, values in held.items():
            for index, value in enumerate(values):
                if not _stays(value):
                    values[index] = self.encode(value, f"{where}[{key!r}].{names[index]}")
            rows.append([key, *values])
        return {"table": self._path_of(kind), "fields": list(names), "rows": rows}

    def _all(self, values: Collection[object], where: str) -> list[Any]:
        # Long runs keep a million of such numbers, and places are named for messages alone.
        if all(map(_stays, values)):
            return list(values)
        return [self.encode(each, f"{where}[{index}]") for index, each in enumerate(values)]

    def _record(self, value: object, where: str) -> Any:
        held = _attributes(value)
        for name, each in held.items():
            if not _stays(each):
                held[name] = self.encode(each, f"{where}.{name}")
        return {"record": self._path_of(type(value)), "fields": held, "can_change": _can_change(value)}

    def _path_of(self, kind: type) -> str:
        path = _path_of(kind)
        self.classes.add(path)
        return path

    def _array_name(self, array: NDArray[Any]) -> str:
        if (known := self._array_names.get(id(array))) is not None:
            return known
        name = self._array_names[id(array)] = f"a{len(self.arrays)}"
        self._kept.append(array)
        self.arrays[name] = np.ascontiguousarray(array).reshape(array.shape)
        return name


@dataclass
class _Decoder:
    arrays: Mapping[str, NDArray[Any]]
    modules: Collection[str]
    _objects: list[Any] = field(default_factory=list)

    def decode(self, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        kind = next(iter(document))
        given = document[kind]
        match kind:
            case "float":
                return float(given)
            case "bytes":
                return b64decode(given)
            case "enum":
                return self.class_of(given)[document["name"]]
            case "array":
                return self.arrays[given]
            case "scalar":
                return self.arrays[given][()]
            case "tuple":
                return tuple(self.decode(each) for each in given)
            case "frozenset":
                return frozenset(self.decode(each) for each in given)
            case "same":
                return self._objects[given]
            case "record":
                return self._record(document)
            case "table":
                return self._table(document)
            case "list" | "set" | "dict":
                return self._container(kind, given)
        raise ValueError(f"there is no kind of value {kind!r}")

    def _container(self, kind: str, given: Any) -> Any:
        made: Any = {"list": list, "set": set, "dict": dict}[kind]()
        self._objects.append(made)
        for each in given:
            if kind == "dict":
                key, value = each
                made[self.decode(key)] = self.decode(value)
            elif kind == "list":
                made.append(self.decode(each))
            else:
                made.add(self.decode(each))
        return made

    def _record(self, document: Any) -> Any:
        kind = self.class_of(document["record"])
        is_record = dataclasses.is_dataclass(kind)
        if not is_record:
            raise ValueError(f"{document['record']} is no dataclass")
        made: Any = object.__new__(kind)
        if document["can_change"]:
            self._objects.append(made)
        for name, value in document["fields"].items():
            # Not by its constructor, whose checks and derived values it has been through already.
            object.__setattr__(made, name, self.decode(value))
        return made

    def _table(self, document: Any) -> dict[Any, Any]:
        names, made = document["fields"], dict[Any, Any]()
        self._objects.append(made)
        for key, *values in document["rows"]:
            fields = dict(zip(names, values, strict=True))
            made[key] = self._record({"record": document["table"], "fields": fields, "can_change": False})
        return made

    def class_of(self, path: str) -> Any:
        """The class at ``path``, which must be one of the known modules."""
        module, _, name = path.partition(":")
        if module.partition(".")[0] not in self.modules:
            raise ValueError(f"{module} is none of {', '.join(sorted(self.modules))}")
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        if not isinstance(found, type):
            raise ValueError(f"{path} is no class")
        return found


def _stays(value: object) -> bool:
    """Whether JSON has ``value`` as it is."""
    return value is None or type(value) in PLAIN or (type(value) is float and math.isfinite(value))


def _attributes(value: Any) -> dict[str, object]:
    """All attributes of a dataclass's instance that are set, its fields first."""
    held = {name: getattr(value, name, _UNSET) for name in _field_names(value.__class__)}
    if any(each is _UNSET for each in held.values()):
        held = {name: each for name, each in held.items() if each is not _UNSET}
    return {**held, **getattr(value, "__dict__", {})}


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(each.name for each in dataclasses.fields(kind))


def _can_change(value: Any) -> bool:
    return not type(value).__dataclass_params__.frozen


@cache
def _fixed_fields(kind: Any) -> tuple[str, ...]:
    """The fields of a frozen dataclass whose instances have no other attributes; none of any other class."""
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen or kind.__dictoffset__:
        return ()
    return _field_names(kind)


@cache
def _path_of(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _cannot_keep(what: str, where: str) -> CheckpointError:
    return CheckpointError(
        f"{where} is {what}, which a checkpoint cannot keep; it keeps numbers, texts, bytes, arrays of numbers, enums, "
        "dataclasses, and tuples, lists, sets and dicts of these"
    )
