"""Shapes of named models: the built-in ones, a local directory's config.json, or a model of the Hugging Face hub.

The parameter counts are those of the family's sequence classifier in transformers. No weights are read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from emulator.errors import ConfigError, did_you_mean
from emulator.shapes.causal import CausalSpec
from emulator.shapes.convnet_catalog import convnet_names, convnet_spec
from emulator.shapes.hub import looks_like_path, model_files
from emulator.shapes.model_folder import read_config
from emulator.shapes.names import ModelName
from emulator.shapes.spec import LinearShape, ModelSpec
from emulator.shapes.transformer_catalog import TRANSFORMERS

Head = Literal["output", "full"]

BUILTIN_MODELS = Path(__file__).parents[1] / "learning" / "builtin"
"""Where the models that come with the package lie, a folder each."""


def price_names() -> tuple[str, ...]:
    """The built-in models whose shapes can be priced, in alphabetical order."""
    return tuple(sorted({*TRANSFORMERS, *convnet_names()}))


def family_names() -> tuple[str, ...]:
    """The model families (``model_type`` of a config.json) whose shapes are known."""
    return tuple(_FAMILIES)


def check_family(config: Mapping[str, Any], name: str) -> str:
    """The family of a model whose config.json is ``config``.

    Raises:
        ConfigError: it is none of :func:`family_names`.
    """
    family = _Config(config, name).text("model_type")
    if family not in _FAMILIES:
        raise ConfigError(
            f"model {name}: models of the family {family!r} cannot be used; those of these families can: "
            f"{', '.join(_FAMILIES)}"
        )
    return family


def model_config(name_or_path: str) -> Mapping[str, Any]:
    """The config.json of a model that is no network of convolutions; arguments and errors as for :func:`model_spec`."""
    name = ModelName(name_or_path)
    if name_or_path in TRANSFORMERS:
        return TRANSFORMERS[name_or_path]
    if name.is_builtin:
        return read_config(BUILTIN_MODELS / name.without_prefix, name_or_path)
    folder = name.folder
    if folder is None:
        check_hub_id(name_or_path)
        folder = model_files(name_or_path, only_config=True)
    return read_config(folder, name_or_path)


def check_hub_id(name: str) -> None:
    """Check that ``name``, which is no directory, can be a hub id.

    Raises:
        ConfigError: it cannot.
    """
    if looks_like_path(name):
        raise ConfigError(
            f"there is no directory {name!r}; give a directory with config.json and model.safetensors, a hub id "
            "written organisation/name, or 'builtin:tiny-12'"
        )
    if name.count("/") != 1:
        raise ConfigError(
            f"there is no model {name!r}{did_you_mean(name, TRANSFORMERS)}; give one of {', '.join(price_names())}, a "
            "directory with a config.json, or a hub id written organisation/name"
        )


def model_spec(
    name_or_path: str, *, n_labels: int, seq_len: int, head: Head, seq_len_key: str = "data.seq_len"
) -> ModelSpec:
    """The shapes of a model as a sequence classifier.

    Args:
        name_or_path: one of :func:`price_names`, ``builtin:NAME`` for a model that comes with the package, a directory
            with a config.json, or a hub id such as ``FacebookAI/roberta-base``. Networks of convolutions are known by
            their names alone.
        n_labels: number of classes.
        seq_len: tokens per example.
        head: ``full`` trains and ships the whole classification head of the family, ``output`` its last map alone.
        seq_len_key: the setting that ``seq_len`` comes from, for messages.

    Raises:
        ConfigError: there is no such model, its family is not known, or it cannot take ``seq_len`` tokens.
    """
    if ModelName(name_or_path).is_convnet:
        return convnet_spec(name_or_path, n_labels)
    config = model_config(name_or_path)
    return model_spec_from_config(
        config, name=name_or_path, n_labels=n_labels, seq_len=seq_len, head=head, seq_len_key=seq_len_key
    )


def model_spec_from_config(
    config: Mapping[str, Any],
    *,
    name: str,
    n_labels: int,
    seq_len: int,
    head: Head,
    seq_len_key: str = "data.seq_len",
) -> ModelSpec:
    """The shapes that a config.json describes; arguments and errors as for :func:`model_spec`."""
    shapes = _shapes_of(config, name, n_labels, seq_len, seq_len_key)
    trained = dict(shapes.head if head == "full" else list(shapes.head.items())[-1:])
    n_head = shapes.n_pooler_parameters + sum(shape.n_parameters for shape in shapes.head.values())
    return ModelSpec(
        name=name,
        **_layer_sizes(shapes),
        seq_len=seq_len,
        head=trained,
        n_frozen_head_parameters=n_head - sum(shape.n_parameters for shape in trained.values()),
    )


def causal_spec(name_or_path: str, *, seq_len: int, response_len: int, seq_len_key: str = "data.seq_len") -> CausalSpec:
    """The shapes of a model as a causal language model.

    Args:
        name_or_path: as for :func:`model_spec`, but of a decoder.
        seq_len: tokens per example.
        response_len: of these, the tokens that the loss is about.
        seq_len_key: the setting that ``seq_len`` comes from, for messages.

    Raises:
        ConfigError: there is no such model, it is no decoder of a known family, or it cannot take ``seq_len`` tokens.
    """
    if ModelName(name_or_path).is_convnet:
        raise ConfigError(f"model {name_or_path} is a convnet, which cannot be a causal language model; give a decoder")
    config = model_config(name_or_path)
    return causal_spec_from_config(
        config, name=name_or_path, seq_len=seq_len, response_len=response_len, seq_len_key=seq_len_key
    )


def causal_spec_from_config(
    config: Mapping[str, Any], *, name: str, seq_len: int, response_len: int, seq_len_key: str = "data.seq_len"
) -> CausalSpec:
    """The shapes that a config.json describes; arguments and errors as for :func:`causal_spec`."""
    if check_family(config, name) not in _DECODERS:
        raise ConfigError(
            f"model {name} is a {config['model_type']} model, which gives no next word; for task.kind = 'causal' give "
            f"a decoder of one of these families: {', '.join(_DECODERS)}"
        )
    shapes, reader = _shapes_of(config, name, 1, seq_len, seq_len_key), _Config(config, name)
    vocabulary_size = reader.integer("vocab_size")
    is_tied = reader.flag("tie_word_embeddings", config["model_type"] in _TIED)
    return CausalSpec(
        name=name,
        **_layer_sizes(shapes),
        seq_len=seq_len,
        head={},
        n_frozen_head_parameters=0 if is_tied else vocabulary_size * shapes.hidden_size,
        vocabulary_size=vocabulary_size,
        response_len=response_len,
    )


def _shapes_of(config: Mapping[str, Any], name: str, n_labels: int, seq_len: int, seq_len_key: str) -> "_Shapes":
    family = check_family(config, name)
    shapes = _FAMILIES[family](_Config(config, name), n_labels)
    if seq_len > shapes.max_seq_len:
        raise ConfigError(
            f"{seq_len_key}: model {name} takes at most {shapes.max_seq_len} tokens, got a sequence length of "
            f"{seq_len!r}"
        )
    return shapes


def _layer_sizes(shapes: "_Shapes") -> dict[str, Any]:
    """What a :class:`ModelSpec` says of layers and embeddings, whatever stands behind them."""
    return {
        "n_layers": shapes.n_layers,
        "hidden_size": shapes.hidden_size,
        "n_heads": shapes.n_heads,
        "n_kv_heads": shapes.n_kv_heads,
        "head_size": shapes.head_size,
        "intermediate_size": shapes.intermediate_size,
        "gated_mlp": shapes.is_decoder,
        "n_embedding_parameters": shapes.n_other_parameters,
        "is_decoder": shapes.is_decoder,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shapes:
    """What a family's config says.

    ``head`` holds the head's maps under their module paths in transformers, the output map last;
    ``n_other_parameters`` counts all but the head, a pooler, and the linear maps and norms of the layers.
    """

    n_layers: int
    hidden_size: int
    n_heads: int
    n_kv_heads: int
    head_size: int
    intermediate_size: int
    n_other_parameters: int
    head: Mapping[str, LinearShape]
    max_seq_len: int
    is_decoder: bool = False
    n_pooler_parameters: int = 0


class _Config:
    """A config.json whose keys are taken by type."""

    def __init__(self, config: Mapping[str, Any], name: str) -> None:
        self._config = config
        self._name = name

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._config.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConfigError(f"model {self._name}: config.json needs {key}, a whole number, got {value!r}")
        return value

    def text(self, key: str) -> str:
        value = self._config.get(key)
        if not isinstance(value, str):
            raise ConfigError(f"model {self._name}: config.json needs {key}, a text, got {value!r}")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._config.get(key)
        return default if value is None else bool(value)


def _bert_like(
    config: _Config, head: Mapping[str, LinearShape], n_reserved_positions: int = 0, n_extra: int = 0
) -> _Shapes:
    """Word, position and token type embeddings with a norm, then layers with two norms each.

    ``n_reserved_positions`` are rows of the position table that no token uses; ``n_extra`` counts parameters that BERT
    lacks.
    """
    hidden_size, n_heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    embedding_size = config.integer("embedding_size", hidden_size)
    n_positions = config.integer("max_position_embeddings")
    n_rows = config.integer("vocab_size") + n_positions + config.integer("type_vocab_size", 2)
    return _Shapes(
        n_layers=config.integer("num_hidden_layers"),
        hidden_size=hidden_size,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_size=hidden_size // n_heads,
        intermediate_size=config.integer("intermediate_size"),
        n_other_parameters=(n_rows + 2) * embedding_size + n_extra,
        head=head,
        max_seq_len=n_positions - n_reserved_positions,
    )


def _square(size: int) -> LinearShape:
    return LinearShape(in_features=size, out_features=size)


def _bert(config: _Config, n_labels: int) -> _Shapes:
    hidden_size = config.integer("hidden_size")
    output = LinearShape(in_features=hidden_size, out_features=n_labels)
    # The pooler is computed like a head, but belongs to the base model: it comes with the weights and stays frozen.
    return replace(_bert_like(config, {"classifier": output}), n_pooler_parameters=_square(hidden_size).n_parameters)


def _roberta(config: _Config, n_labels: int, n_extra: int = 0) -> _Shapes:
    hidden_size = config.integer("hidden_size")
    output = LinearShape(in_features=hidden_size, out_features=n_labels)
    head = {"classifier.dense": _square(hidden_size), "classifier.out_proj": output}
    n_reserved = config.integer("pad_token_id", 1) + 1  # positions are counted from the padding's number on
    return _bert_like(config, head, n_reserved, n_extra)


def _roberta_prelayernorm(config: _Config, n_labels: int) -> _Shapes:
    return _roberta(config, n_labels, n_extra=2 * config.integer("hidden_size"))  # the norm behind the last layer


def _electra(config: _Config, n_labels: int) -> _Shapes:
    hidden_size = config.integer("hidden_size")
    embedding_size = config.integer("embedding_size", 128)
    output = LinearShape(in_features=hidden_size, out_features=n_labels)
    head = {"classifier.dense": _square(hidden_size), "classifier.out_proj": output}
    n_projection = (embedding_size + 1) * hidden_size if embedding_size != hidden_size else 0
    return _bert_like(config, head, n_extra=n_projection)


def _distilbert(config: _Config, n_labels: int) -> _Shapes:
    hidden_size, n_heads = config.integer("dim"), config.integer("n_heads")
    n_positions = config.integer("max_position_embeddings")
    output = LinearShape(in_features=hidden_size, out_features=n_labels)
    return _Shapes(
        n_layers=config.integer("n_layers"),
        hidden_size=hidden_size,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_size=hidden_size // n_heads,
        intermediate_size=config.integer("hidden_dim"),
        n_other_parameters=(config.integer("vocab_size") + n_positions + 2) * hidden_size,
        head={"pre_classifier": _square(hidden_size), "classifier": output},
        max_seq_len=n_positions,
    )


def _decoder(
    config: _Config,
    n_labels: int,
    head_size: int | None = None,
    n_attention_biases: Callable[[int, int, int], int] | None = None,
    n_head_norms: int = 0,
) -> _Shapes:
    """Decoders with RMS norms, rotary positions, grouped-query attention and a gated MLP.

    Biases and norms on heads, which a :class:`~emulator.shapes.spec.ModelSpec` has no place for in its layers, are
    counted with the embeddings. ``n_attention_biases`` gives them from the sizes of query, key and value, and output.
    """
    hidden_size, n_heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    n_layers, intermediate_size = config.integer("num_hidden_layers"), config.integer("intermediate_size")
    n_kv_heads = config.integer("num_key_value_heads", n_heads)
    head_size = config.integer("head_dim", head_size or hidden_size // n_heads)
    attention_size, kv_size = n_heads * head_size, n_kv_heads * head_size
    n_extra = n_head_norms * head_size
    if n_attention_biases:
        n_extra += n_attention_biases(attention_size, kv_size, hidden_size)
    elif config.flag("attention_bias"):
        n_extra += attention_size + 2 * kv_size + hidden_size
    if config.flag("mlp_bias"):
        n_extra += 2 * intermediate_size + hidden_size
    n_embeddings = config.integer("vocab_size") * hidden_size
    return _Shapes(
        n_layers=n_layers,
        hidden_size=hidden_size,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_size=head_size,
        intermediate_size=intermediate_size,
        n_other_parameters=n_embeddings + hidden_size + n_layers * n_extra,
        head={"score": LinearShape(in_features=hidden_size, out_features=n_labels, has_bias=False)},
        max_seq_len=config.integer("max_position_embeddings"),
        is_decoder=True,
    )


def _mistral(config: _Config, n_labels: int) -> _Shapes:
    return _decoder(config, n_labels, n_attention_biases=lambda query, key_value, output: 0)


def _qwen2(config: _Config, n_labels: int) -> _Shapes:
    return _decoder(config, n_labels, n_attention_biases=lambda query, key_value, output: query + 2 * key_value)


def _qwen3(config: _Config, n_labels: int) -> _Shapes:
    return _decoder(config, n_labels, head_size=128, n_head_norms=2)


def _gemma(config: _Config, n_labels: int) -> _Shapes:
    return _decoder(config, n_labels, head_size=256)


_FAMILIES: Mapping[str, Callable[[_Config, int], _Shapes]] = {
    "bert": _bert,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "camembert": _roberta,
    "roberta-prelayernorm": _roberta_prelayernorm,
    "distilbert": _distilbert,
    "electra": _electra,
    "llama": _decoder,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma": _gemma,
}

_DECODERS = ("llama", "mistral", "qwen2", "qwen3", "gemma")
"""Those of the families that can also be causal language models."""
_TIED = ("gemma",)
"""Families whose head is the table of word embeddings unless a config.json says otherwise."""
