"""A model's parameters as the arrays of a form that trains them: matrices one by one, all else layer by layer."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from emulator.forms.full import EMBEDDINGS, HEAD_OTHERS, OTHERS
from emulator.learning.model.loading import FrozenModel
from emulator.records import Arrays

Parts = Mapping[str, tuple[str, ...]]


def parts_of(frozen: FrozenModel) -> Parts:
    """Name of each array -> names of the parameters in it, in the order in which the model has them.

    An array of a matrix holds its weight alone, any other one all its parameters one after another. The trained maps of
    the head are no part of it, since every form has them.
    """
    places = {f"{path}.weight": f"layers.{layer}.{target}.weight" for (layer, target), path in frozen.sites.items()}
    layers = {f"{path}.": f"layers.{layer}.{OTHERS}" for layer, path in enumerate(frozen.layer_paths())}
    of_head = {f"{path}.{kind}" for path in frozen.head.values() for kind in ("weight", "bias")}
    base = next(iter(layers)).partition(".")[0]
    parts: dict[str, list[str]] = {}
    for name, _ in frozen.build().named_parameters():
        if name in of_head:
            continue
        place = places.get(name) or next((part for path, part in layers.items() if name.startswith(path)), None)
        parts.setdefault(place or (HEAD_OTHERS if _is_of_head(name, base) else EMBEDDINGS), []).append(name)
    return {place: tuple(names) for place, names in parts.items()}


def own_arrays(frozen: FrozenModel, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """The pre-trained weights as these arrays.

    Raises:
        KeyError: the model has no such part.
    """
    parts = parts_of(frozen)
    return {name: _joined(frozen, name, parts[name]) for name in names}


def parameters_of(frozen: FrozenModel, state: Arrays) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The parameters that the arrays of ``state`` hold, by the model's names and in its shapes; the head's, too."""
    parts = parts_of(frozen)
    for name, array in state.items():
        if name.startswith("head."):
            place, _, kind = name.removeprefix("head.").rpartition(".")
            yield f"{frozen.head[place]}.{kind}", array
        elif _is_matrix(name):
            yield parts[name][0], array.T if frozen.is_transposed else array
        else:
            start = 0
            for parameter in parts[name]:
                shape = frozen.arrays[parameter].shape
                size = int(np.prod(shape))
                yield parameter, array[start : start + size].reshape(shape)
                start += size


def _is_of_head(name: str, base: str) -> bool:
    """Whether a parameter is of the head: behind the base model, or its pooler; norms there count as embeddings do."""
    parents = name.split(".")[:-1]
    is_behind = parents[0] != base or "pooler" in parents
    return is_behind and "norm" not in parents[-1].lower()


def _joined(frozen: FrozenModel, name: str, parameters: Sequence[str]) -> NDArray[np.float32]:
    if _is_matrix(name):
        weight = frozen.arrays[parameters[0]]
        return np.array(weight.T if frozen.is_transposed else weight, np.float32, order="C")
    return np.concatenate([np.asarray(frozen.arrays[each], np.float32).ravel() for each in parameters])


def _is_matrix(name: str) -> bool:
    return name.startswith("layers.") and name.endswith(".weight")
