"""Which training steps are timed to fit a profile, and which others to see how far it can be believed.

All have random weights: encoders in the shape of RoBERTa, and among the unseen ones decoders in that of Llama. The grid
covers depth, rank, batch and sequence length in four widths, so that arithmetic (grows with width and tokens), memory
(with tokens), weights (with width alone) and dispatch (with layers, however small) can be told apart. The unseen
settings lie between, in widths, ranks, batch sizes and lengths of their own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from emulator.errors import ConfigError
from emulator.forms.lora import low_rank_adapters
from emulator.records import Work, WorkKind
from emulator.shapes.catalog import model_spec_from_config
from emulator.shapes.spec import ModelSpec

TARGETS: Mapping[str, tuple[str, ...]] = {
    "qv": ("query", "value"),
    "all": ("query", "key", "value", "attention_output", "mlp_up", "mlp_down"),
}
_HEAD_SIZE = 64
_VOCABULARY = 50_265


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSetting:
    """One local step: the model's shape, what of it is trained, and on how many tokens."""

    hidden_size: int
    n_layers: int
    depth: int
    rank: int
    targets: str
    batch_size: int
    seq_len: int
    kind: WorkKind = WorkKind.ADAPTERS
    is_decoder: bool = False

    @property
    def config(self) -> Mapping[str, Any]:
        """What the model's config.json would say."""
        return (decoder_config if self.is_decoder else encoder_config)(self.hidden_size, self.n_layers)

    @property
    def model(self) -> ModelSpec:
        return _model(self.hidden_size, self.n_layers, self.seq_len, self.is_decoder)

    @property
    def work(self) -> Work:
        n_frozen = self.n_layers - self.depth
        rank = 0 if self.kind is WorkKind.WEIGHTS else self.rank
        ranks = (0,) * n_frozen + (rank,) * self.depth
        return Work(
            n_steps=1,
            batch_size=self.batch_size,
            seq_len=self.seq_len,
            forward_layers=self.n_layers,
            backward_layers=0 if self.kind is WorkKind.INFERENCE else self.depth,
            adapters=low_rank_adapters(self.model, TARGETS[self.targets], ranks),
            kind=self.kind,
        )

    def __str__(self) -> str:
        what = {
            WorkKind.ADAPTERS: f"depth {self.depth}, rank {self.rank} on {self.targets}",
            WorkKind.WEIGHTS: f"{self.depth} layers whole",
            WorkKind.INFERENCE: f"inference, {self.depth} layers with rank {self.rank} on {self.targets}",
        }[self.kind]
        family = "decoder, " if self.is_decoder else ""
        return f"{family}{self.n_layers} layers of {self.hidden_size}, {what}, batch {self.batch_size} x {self.seq_len}"


_Rest = tuple[int, int, str, int, int]  # depth, rank, targets, batch size, sequence length

_QUICK: Sequence[_Rest] = ((4, 8, "qv", 8, 32), (2, 16, "qv", 4, 64), (1, 4, "all", 16, 16), (0, 8, "qv", 8, 64))
_MORE: Sequence[_Rest] = (
    (4, 32, "all", 2, 128),
    (3, 8, "qv", 1, 32),
    (4, 8, "qv", 16, 128),
    (2, 4, "all", 1, 256),
    (1, 16, "qv", 4, 16),
    (3, 2, "all", 32, 16),
)
_WIDE: Sequence[_Rest] = (
    (2, 8, "qv", 4, 128),
    (1, 8, "qv", 2, 64),
    (2, 16, "all", 1, 32),
    (0, 8, "qv", 8, 32),
    (1, 32, "all", 4, 64),
    (2, 4, "qv", 1, 16),
)
_DEEP: Sequence[_Rest] = ((12, 8, "qv", 2, 16), (6, 4, "all", 4, 32), (0, 8, "qv", 1, 32), (3, 16, "qv", 2, 64))
_BASE: Sequence[_Rest] = ((12, 8, "qv", 2, 32), (6, 8, "qv", 1, 64), (3, 16, "all", 1, 128))

_UNSEEN_SHAPES = ((128, 6), (192, 4), (320, 3), (384, 6), (640, 2), (768, 3))
_UNSEEN: Sequence[Sequence[_Rest]] = (
    ((6, 6, "qv", 6, 48), (2, 12, "all", 12, 24), (4, 24, "qv", 3, 96)),
    ((4, 6, "all", 3, 48), (1, 24, "qv", 12, 96), (3, 12, "qv", 2, 24), (0, 6, "qv", 6, 96)),
    ((3, 12, "qv", 6, 96), (1, 3, "all", 2, 192), (2, 6, "qv", 12, 24)),
    ((6, 6, "qv", 3, 48), (3, 12, "all", 6, 48), (4, 24, "qv", 2, 192), (1, 6, "qv", 12, 48)),
    ((2, 6, "qv", 6, 48), (1, 12, "all", 3, 96), (2, 24, "qv", 2, 24)),
    ((3, 12, "qv", 2, 96), (1, 6, "qv", 6, 48), (2, 3, "all", 3, 24)),
)

_UNSEEN_DECODER_SHAPES = ((256, 4), (384, 3), (512, 2), (640, 2))
_UNSEEN_DECODERS: Sequence[Sequence[_Rest]] = (
    ((4, 6, "qv", 6, 48), (2, 12, "all", 12, 24), (3, 24, "qv", 3, 96), (1, 6, "qv", 6, 192)),
    ((3, 6, "all", 3, 48), (1, 24, "qv", 12, 96), (2, 12, "qv", 2, 24), (3, 3, "qv", 12, 48)),
    ((2, 12, "qv", 6, 96), (1, 3, "all", 2, 192), (2, 6, "qv", 12, 24), (0, 6, "qv", 6, 96)),
    ((2, 6, "qv", 3, 48), (1, 12, "all", 6, 48), (2, 24, "qv", 2, 96)),
)
_DECODERS_OF = 2 / 5

N_UNSEEN = 25
"""Settings that a profile is held against, unless another number is given."""


def grid(*, quick: bool) -> tuple[StepSetting, ...]:
    """The settings that a profile is fitted to."""
    if quick:
        return (*_shaped(128, 4, _QUICK), *_shaped(128, 12, _DEEP[:2]), *_shaped(512, 4, _QUICK))
    settings = [setting for hidden_size in (128, 256, 512) for setting in _shaped(hidden_size, 4, (*_QUICK, *_MORE))]
    settings += [
        _other(512, 4, 4, 8, 64, WorkKind.INFERENCE),
        _other(256, 4, 4, 2, 64, WorkKind.INFERENCE),
        _other(512, 4, 4, 4, 64, WorkKind.WEIGHTS),
        _other(256, 4, 2, 8, 64, WorkKind.WEIGHTS),
    ]
    settings += [*_shaped(128, 12, _DEEP), *_shaped(768, 2, _WIDE), *_shaped(768, 12, _BASE)]
    return tuple(sorted(settings, key=shape_of))


def unseen(n_settings: int = N_UNSEEN) -> tuple[StepSetting, ...]:
    """The settings that a profile is held against, in the order of their shapes; none is in :func:`grid`.

    Two in five are decoders. The settings of fewer are among those of more.

    Raises:
        ConfigError: there are not so many.
    """
    encoders, decoders = _unseen_encoders(), _unseen_decoders()
    most = len(encoders) + len(decoders)
    if not 2 <= n_settings <= most:
        raise ConfigError(f"--settings must be between 2 and the {most} that are in no grid, got {n_settings!r}")
    n_decoders = min(len(decoders), max(n_settings - len(encoders), round(_DECODERS_OF * n_settings)))
    settings = [*_spread(encoders)[: n_settings - n_decoders], *_spread(decoders)[:n_decoders]]
    return tuple(sorted(settings, key=shape_of))


def quick_unseen() -> tuple[StepSetting, ...]:
    """A few small ones of the encoders among them."""
    return tuple(each for each in _unseen_encoders() if each.batch_size * each.seq_len <= 300)[::2]


def _spread(settings: Sequence[StepSetting]) -> list[StepSetting]:
    """Every fourth first, so that the first ones are of all shapes."""
    return [settings[number] for start in (0, 2, 1, 3) for number in range(start, len(settings), 4)]


def _unseen_decoders() -> tuple[StepSetting, ...]:
    settings: list[StepSetting] = []
    for (hidden_size, n_layers), rest in zip(_UNSEEN_DECODER_SHAPES, _UNSEEN_DECODERS, strict=True):
        settings += _shaped(hidden_size, n_layers, rest)
    settings += [_other(384, 3, 3, 6, 48, WorkKind.INFERENCE), _other(256, 4, 2, 3, 96, WorkKind.WEIGHTS)]
    return tuple(sorted((replace(each, is_decoder=True) for each in settings), key=shape_of))


def _unseen_encoders() -> tuple[StepSetting, ...]:
    settings: list[StepSetting] = []
    for (hidden_size, n_layers), rest in zip(_UNSEEN_SHAPES, _UNSEEN, strict=True):
        settings += _shaped(hidden_size, n_layers, rest)
    settings += [
        _other(384, 6, 6, 6, 96, WorkKind.INFERENCE),
        _other(192, 4, 2, 3, 48, WorkKind.INFERENCE),
        _other(384, 6, 3, 3, 48, WorkKind.WEIGHTS),
        _other(320, 3, 1, 6, 96, WorkKind.WEIGHTS),
        *_shaped(768, 12, [(4, 12, "qv", 3, 24)]),
    ]
    return tuple(sorted(settings, key=shape_of))


def shape_of(setting: StepSetting) -> tuple[bool, int, int]:
    """Family, width and layers: settings of one shape share a model."""
    return setting.is_decoder, setting.hidden_size, setting.n_layers


def _shaped(hidden_size: int, n_layers: int, rest: Iterable[_Rest]) -> Iterator[StepSetting]:
    for depth, rank, targets, batch_size, seq_len in rest:
        yield StepSetting(
            hidden_size=hidden_size,
            n_layers=n_layers,
            depth=depth,
            rank=rank,
            targets=targets,
            batch_size=batch_size,
            seq_len=seq_len,
        )


def _other(hidden_size: int, n_layers: int, depth: int, batch_size: int, seq_len: int, kind: WorkKind) -> StepSetting:
    return StepSetting(
        hidden_size=hidden_size,
        n_layers=n_layers,
        depth=depth,
        rank=8,
        targets="qv",
        batch_size=batch_size,
        seq_len=seq_len,
        kind=kind,
    )


def encoder_config(hidden_size: int, n_layers: int) -> Mapping[str, Any]:
    """In the shape of RoBERTa."""
    return {
        "model_type": "roberta",
        "hidden_size": hidden_size,
        "num_hidden_layers": n_layers,
        "num_attention_heads": hidden_size // _HEAD_SIZE,
        "intermediate_size": 4 * hidden_size,
        "vocab_size": _VOCABULARY,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "num_labels": 2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def decoder_config(hidden_size: int, n_layers: int) -> Mapping[str, Any]:
    """In the shape of Llama, with two heads to each key and value."""
    return {
        "model_type": "llama",
        "hidden_size": hidden_size,
        "num_hidden_layers": n_layers,
        "num_attention_heads": hidden_size // _HEAD_SIZE,
        "num_key_value_heads": hidden_size // (2 * _HEAD_SIZE),
        "intermediate_size": 8 * hidden_size // 3 // _HEAD_SIZE * _HEAD_SIZE,
        "vocab_size": 32_000,
        "max_position_embeddings": 1024,
        "pad_token_id": 0,
        "num_labels": 2,
    }


@lru_cache(maxsize=256)
def _model(hidden_size: int, n_layers: int, seq_len: int, is_decoder: bool) -> ModelSpec:
    name = f"{n_layers} layers of {hidden_size}"
    config = (decoder_config if is_decoder else encoder_config)(hidden_size, n_layers)
    return model_spec_from_config(config, name=name, n_labels=2, seq_len=seq_len, head="output")
