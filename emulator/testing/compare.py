"""Whether two records, plans or states are the same to the last bit, whatever they are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def same(left: Any, right: Any) -> bool:
    """Equal in type, structure and content; arrays by shape, type and bytes. Mappings may differ in order."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())
    if is_dataclass(left):
        return all(same(getattr(left, field.name), getattr(right, field.name)) for field in fields(left))
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, Sequence) and not isinstance(left, str | bytes):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def mutable_parts(value: Any) -> list[str]:
    """Where in a record something can still be changed, such as ``ranks: a list``; empty for a frozen record."""
    found = []
    if isinstance(value, np.ndarray) and value.flags.writeable:
        found.append("a writeable array")
    elif isinstance(value, list | dict | set | bytearray):
        found.append(f"a {type(value).__name__}")
    elif isinstance(value, tuple):
        found += [part for inner in value for part in mutable_parts(inner)]
    elif is_dataclass(value) and not isinstance(value, type):
        # A plain subclass inherits the fields of a frozen dataclass, but what it adds is neither compared nor frozen.
        parameters = vars(type(value)).get("__dataclass_params__")
        if parameters is None or not parameters.frozen:
            found.append(f"{type(value).__name__} is not a frozen dataclass")
        for field in fields(value):
            found += [f"{field.name}: {part}" for part in mutable_parts(getattr(value, field.name))]
    return found
