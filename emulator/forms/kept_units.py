"""Structured pruning: which attention heads and feed-forward channels are left, and which go next. Numpy only.

A unit is an attention head, with its rows of query, key and value and its columns of the output map (where heads share
keys and values: all heads that share), or a feed-forward channel, with its row of the up (and gate) map and its column
of the down map. Heads and channels are ranked apart, each over all layers; a layer always keeps one of both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emulator.records import Arrays
from emulator.shapes.spec import ModelSpec

UnitKind = Literal["head", "channel"]
KINDS: tuple[UnitKind, UnitKind] = ("head", "channel")
MATRICES_OF: Mapping[UnitKind, tuple[str, ...]] = {
    "head": ("query", "key", "value", "attention_output"),
    "channel": ("mlp_gate", "mlp_up", "mlp_down"),
}
"""The matrices that lose rows or columns with a unit. What makes a unit's output loses rows, what reads it columns."""
MAGNITUDE_OF: Mapping[UnitKind, tuple[str, ...]] = {
    "head": ("query", "key", "value", "attention_output"),
    "channel": ("mlp_up", "mlp_down"),
}
"""Those of them that every model has, by whose pre-trained weights units can be ranked."""
READERS = ("attention_output", "mlp_down")
"""The matrices that read the output of units: their input is pruned, that of all others their output."""

UnitMask = NDArray[np.bool_]
Scores = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptUnits:
    """What pruning has left of a model. ``heads[l]`` has a byte for each head of layer ``l``, 1 where it is kept."""

    heads: tuple[bytes, ...]
    channels: tuple[bytes, ...]

    @classmethod
    def all_of(cls, n_layers: int, n_heads: int, n_channels: int) -> "KeptUnits":
        """Nothing is pruned yet."""
        return cls(heads=(b"\1" * n_heads,) * n_layers, channels=(b"\1" * n_channels,) * n_layers)

    @classmethod
    def whole(cls, state: Arrays, model: ModelSpec) -> "KeptUnits":
        """Nothing is pruned of the trained model, whose masks are in ``state``, or without training of ``model``."""
        if (trained := cls.in_state(state)) is None:
            return cls.all_of(model.n_layers, model.n_kv_heads, model.intermediate_size)
        return cls.all_of(model.n_layers, len(trained.heads[0]), len(trained.channels[0]))

    @classmethod
    def in_state(cls, state: Arrays) -> "KeptUnits | None":
        """What the masks of a server state say, or None if it has none."""
        n_layers = sum(name.endswith(".head_mask") for name in state)
        if not n_layers:
            return None
        heads, channels = (
            tuple((state[mask_name(layer, kind)] > 0.5).tobytes() for layer in range(n_layers)) for kind in KINDS
        )
        return cls(heads=heads, channels=channels)

    def masks(self, kind: UnitKind) -> list[UnitMask]:
        """One read-only mask per layer, True where a unit is kept."""
        return [np.frombuffer(one, dtype=bool) for one in self._units(kind)]

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The masks as arrays of a server state, 1 where a unit is kept."""
        return {
            mask_name(layer, kind): mask.astype(np.float32)
            for kind in KINDS
            for layer, mask in enumerate(self.masks(kind))
        }

    def n_left(self, kind: UnitKind) -> list[int]:
        """How many heads or channels each layer keeps."""
        return [one.count(1) for one in self._units(kind)]

    def n_units(self, kind: UnitKind) -> int:
        """How many heads or channels there were, over all layers."""
        return sum(map(len, self._units(kind)))

    def n_pruned(self, kind: UnitKind) -> int:
        """How many heads or channels are gone, over all layers."""
        return self.n_units(kind) - sum(self.n_left(kind))

    def equal_scores(self) -> Arrays:
        """The same importance for every unit, for want of a measured one."""
        return {
            score_name(layer, kind): np.zeros(len(mask), np.float32)
            for kind in KINDS
            for layer, mask in enumerate(self.masks(kind))
        }

    @property
    def kept_fraction(self) -> float:
        """The mean of the share of heads and the share of channels that are left."""
        return sum(sum(self.n_left(kind)) / self.n_units(kind) for kind in KINDS) / len(KINDS)

    def _units(self, kind: UnitKind) -> tuple[bytes, ...]:
        return self.heads if kind == "head" else self.channels


def mask_name(layer: int, kind: UnitKind) -> str:
    """The name of a mask in a server state, such as ``layers.3.head_mask``."""
    return f"layers.{layer}.{kind}_mask"


def score_name(layer: int, kind: UnitKind) -> str:
    """The name of the importance of a layer's units among what a device reports, such as ``layers.3.head_score``."""
    return f"layers.{layer}.{kind}_score"


def scores_in_state(state: Arrays) -> Arrays | None:
    """The importance of all units that a server state holds, or None if it has none."""
    return {name: array for name, array in state.items() if name.endswith("_score")} or None


def kind_of(target: str) -> UnitKind:
    """What a matrix is pruned by."""
    return "head" if target in MATRICES_OF["head"] else "channel"


def unit_sums(sizes: NDArray[np.float32], target: str, n_units: int) -> Scores:
    """``(out, in) -> (n_units,)``: what the entries of a matrix add up to over the rows or columns of each unit."""
    along = sizes.sum(axis=0 if target in READERS else 1, dtype=np.float64)
    sums: Scores = along.reshape(n_units, -1).sum(axis=1).astype(np.float32)
    return sums


def pruned_to(kept: KeptUnits, scores: Arrays, n_pruned: Mapping[UnitKind, int]) -> KeptUnits:
    """``kept`` without its least important units, until so many heads and channels are gone.

    Nothing that is pruned ever comes back, and no layer loses its last head or channel, even if less is pruned then.
    Of units with equal scores, the one nearest to the input goes first.

    Args:
        kept: what is left so far.
        scores: importance under :func:`score_name`, ``(n_units,)`` for each layer and kind.
        n_pruned: how many are to be gone afterwards, those gone before included.
    """
    if all(n_pruned[kind] <= kept.n_pruned(kind) for kind in KINDS):
        return kept
    heads, channels = (
        tuple(
            mask.tobytes()
            for mask in _without_least(
                kept.masks(kind), [scores[score_name(layer, kind)] for layer in range(len(kept.heads))], n_pruned[kind]
            )
        )
        for kind in KINDS
    )
    return KeptUnits(heads=heads, channels=channels)


def pruned_to_sparsity(kept: KeptUnits, scores: Arrays, sparsity: float) -> KeptUnits:
    """As :func:`pruned_to`, until this share of all heads and of all channels is gone (rounded)."""
    wanted = {kind: round(sparsity * kept.n_units(kind)) for kind in KINDS}
    return pruned_to(kept, scores, wanted)


def common_units(before: KeptUnits, kept: Sequence[KeptUnits], weights: Sequence[float]) -> KeptUnits:
    """One pruned model for all: as sparse as the devices' on average, without the units that most of them pruned.

    Args:
        before: what the common model had left so far; nothing comes back.
        kept: what each device has left.
        weights: of the devices.
    """
    shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    votes = {
        score_name(layer, kind): np.tensordot(shares, [one.masks(kind)[layer] for one in kept], axes=1)
        for kind in KINDS
        for layer in range(len(before.heads))
    }
    wanted = {kind: round(float(np.dot(shares, [one.n_pruned(kind) for one in kept]))) for kind in KINDS}
    return pruned_to(before, votes, wanted)


def cubic_sparsity(round_index: int, first_round: int, n_rounds: int, target: float) -> float:
    """``p(t) = p_f - p_f (1 - (t - t_i) / n)^3``: nothing up to round ``t_i``, the target from ``t_i + n`` on.

    Zhu and Gupta 2017, arXiv 1710.01878, equation 1, with initial sparsity 0.
    """
    progress = min(1.0, max(0.0, (round_index - first_round) / n_rounds))
    return target * (1.0 - (1.0 - progress) ** 3)


def stage_of(round_index: int, first_round: int, interval: int) -> int:
    """How often it was time to prune so far, in ``first_round`` for the first time, then every ``interval`` rounds."""
    return 0 if round_index < first_round else 1 + (round_index - first_round) // interval


def staged_sparsity(round_index: int, first_round: int, interval: int, n_rounds: int, target: float) -> float:
    """:func:`cubic_sparsity` in stages of ``interval`` rounds: as much as there is to be in a stage's last round."""
    stage = stage_of(round_index, first_round, interval)
    return cubic_sparsity(first_round + stage * interval - 1, first_round, n_rounds, target) if stage else 0.0


def rounds_of_steps(n_steps: int, steps_per_round: int) -> int:
    """The least number of rounds in which a device takes ``n_steps`` local steps."""
    return -(-n_steps // steps_per_round)


def n_units_elsewhere(n_left: int, n_whole: int, n_units: int) -> int:
    """How many of ``n_units`` another layer keeps of which the same share is left, ``n_left`` of ``n_whole``; not 0."""
    return max(1, (2 * n_left * n_units + n_whole) // (2 * n_whole))


def _without_least(masks: Sequence[UnitMask], scores: Sequence[NDArray[np.floating]], n_pruned: int) -> list[UnitMask]:
    sizes = [len(mask) for mask in masks]
    layers, left = np.repeat(np.arange(len(masks)), sizes), np.concatenate(list(masks))
    best_first = np.flatnonzero(left)[np.argsort(np.concatenate(list(scores))[left], kind="stable")][::-1]
    _, best_of_layer = np.unique(layers[best_first], return_index=True)
    may_go = np.delete(best_first, best_of_layer)[::-1]
    left[may_go[: max(0, n_pruned - int((~left).sum()))]] = False
    return np.split(left, np.cumsum(sizes)[:-1])
