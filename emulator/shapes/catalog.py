"""Shapes of named models: the built-in ones, a local directory's config.json, or a model of the Hugging Face hub.

No weights are read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from emulator.errors import ConfigError, did_you_mean
from emulator.shapes.causal import CausalSpec
from emulator.shapes.config_reader import ConfigReader, Shapes
from emulator.shapes.convnet_catalog import convnet_names, convnet_spec
from emulator.shapes.encoder_decoder import EncoderDecoderSpec
from emulator.shapes.families import DECODERS, ENCODER_DECODERS, FAMILIES, TIED, UNFIT
from emulator.shapes.gguf_file import ENDING as GGUF
from emulator.shapes.hub import looks_like_path, model_files
from emulator.shapes.model_folder import read_config
from emulator.shapes.names import ModelName
from emulator.shapes.spec import ModelSpec
from emulator.shapes.transformer_catalog import TRANSFORMERS

Head = Literal["output", "full"]

BUILTIN_MODELS = Path(__file__).parents[1] / "learning" / "builtin"
"""Where the models that come with the package lie, a folder each."""


def price_names() -> tuple[str, ...]:
    """The built-in models whose shapes can be priced, in alphabetical order."""
    return tuple(sorted({*TRANSFORMERS, *convnet_names()}))


def family_names() -> tuple[str, ...]:
    """The model families (``model_type`` of a config.json) whose shapes are known."""
    return (*FAMILIES, *ENCODER_DECODERS)


def check_family(config: Mapping[str, Any], name: str) -> str:
    """The family of a model to be trained, whose config.json is ``config``.

    Raises:
        ConfigError: its shapes are not known, or adapters cannot be attached to it.
    """
    return _family_among(family_names(), config, name)


def _family_among(known: Sequence[str], config: Mapping[str, Any], name: str) -> str:
    family = ConfigReader(config, name).text("model_type")
    if family not in known:
        why = f", since {UNFIT[family]}" if family in UNFIT else ""
        raise ConfigError(
            f"model {name}: models of the family {family!r} cannot be used{why}; those of these families can: "
            f"{', '.join(known)}"
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


def check_hub_id(name: str, key: str | None = None) -> None:
    """Check that ``name``, which is no directory, can be a hub id; messages begin with the setting ``key``.

    Raises:
        ConfigError: it cannot.
    """
    where = f"{key}: " if key else ""
    if name.endswith(GGUF):
        raise ConfigError(f"{where}there is no GGUF file {name!r}; give the path of one that is there")
    if looks_like_path(name):
        raise ConfigError(
            f"{where}there is no directory {name!r}; give a directory with config.json and model.safetensors, a hub id "
            "written organisation/name, or 'builtin:mini-12'"
        )
    if name.count("/") != 1:
        raise ConfigError(
            f"{where}there is no model {name!r}{did_you_mean(name, TRANSFORMERS)}; give one of "
            f"{', '.join(price_names())}, a directory with a config.json, or a hub id written organisation/name"
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
    if _family_among(tuple(FAMILIES), config, name) not in DECODERS:
        raise ConfigError(
            f"model {name} is a {config['model_type']} model, which gives no next word; for task.kind = 'causal' give "
            f"a decoder of one of these families: {', '.join(DECODERS)}"
        )
    shapes, reader = _shapes_of(config, name, 1, seq_len, seq_len_key), ConfigReader(config, name)
    vocabulary_size = reader.integer("vocab_size")
    is_tied = reader.flag("tie_word_embeddings", config["model_type"] in TIED)
    return CausalSpec(
        name=name,
        **_layer_sizes(shapes),
        seq_len=seq_len,
        head={},
        n_frozen_head_parameters=0 if is_tied else vocabulary_size * shapes.hidden_size,
        vocabulary_size=vocabulary_size,
        response_len=response_len,
    )


def is_encoder_decoder(name_or_path: str) -> bool:
    """Whether a model, named as for :func:`model_spec`, reads with one stack of layers and answers with another.

    Raises:
        ConfigError: there is no such model.
    """
    if ModelName(name_or_path).is_convnet:
        return False
    return model_config(name_or_path).get("model_type") in ENCODER_DECODERS


def encoder_decoder_spec(name_or_path: str, *, seq_len: int, response_len: int) -> EncoderDecoderSpec:
    """The shapes of a model that reads a text and answers with another.

    Args:
        name_or_path: as for :func:`model_spec`, but of an encoder-decoder.
        seq_len: tokens that its encoder reads of an example.
        response_len: tokens that its decoder reads, which are those that it gives.

    Raises:
        ConfigError: there is no such model, or it is no encoder-decoder of a known family.
    """
    if ModelName(name_or_path).is_convnet:
        raise ConfigError(f"model {name_or_path} is a convnet, which gives no words; give an encoder-decoder")
    config = model_config(name_or_path)
    return encoder_decoder_spec_from_config(config, name=name_or_path, seq_len=seq_len, response_len=response_len)


def encoder_decoder_spec_from_config(
    config: Mapping[str, Any], *, name: str, seq_len: int, response_len: int
) -> EncoderDecoderSpec:
    """The shapes that a config.json describes; arguments and errors as for :func:`encoder_decoder_spec`."""
    family = _family_among(family_names(), config, name)
    if family not in ENCODER_DECODERS:
        raise ConfigError(
            f"model {name} is a {family} model, which is no encoder-decoder; for task.kind = 'seq2seq' give a model of "
            f"one of these families: {', '.join(ENCODER_DECODERS)}"
        )
    reader = ConfigReader(config, name)
    shapes = ENCODER_DECODERS[family](reader)
    vocabulary_size, is_tied = reader.integer("vocab_size"), reader.flag("tie_word_embeddings", True)
    return EncoderDecoderSpec(
        name=name,
        **_layer_sizes(shapes),
        seq_len=seq_len,
        head={},
        n_frozen_head_parameters=0 if is_tied else vocabulary_size * shapes.hidden_size,
        vocabulary_size=vocabulary_size,
        response_len=response_len,
        n_encoder_layers=shapes.n_encoder_layers,
        n_other_encoder_parameters=shapes.n_other_encoder_parameters,
    )


def _shapes_of(config: Mapping[str, Any], name: str, n_labels: int, seq_len: int, seq_len_key: str) -> Shapes:
    family = _family_among(tuple(FAMILIES), config, name)
    shapes = FAMILIES[family](ConfigReader(config, name), n_labels)
    if seq_len > shapes.max_seq_len:
        raise ConfigError(
            f"{seq_len_key}: model {name} takes at most {shapes.max_seq_len} tokens, got a sequence length of "
            f"{seq_len!r}"
        )
    return shapes


def _layer_sizes(shapes: Shapes) -> dict[str, Any]:
    """What a :class:`ModelSpec` says of layers and embeddings, whatever stands behind them."""
    return {
        "n_layers": shapes.n_layers,
        "hidden_size": shapes.hidden_size,
        "n_heads": shapes.n_heads,
        "n_kv_heads": shapes.n_kv_heads,
        "head_size": shapes.head_size,
        "intermediate_size": shapes.intermediate_size,
        "gated_mlp": shapes.gated_mlp,
        "n_embedding_parameters": shapes.n_other_parameters,
        "is_decoder": shapes.is_decoder,
        "design": shapes.design,
        "max_seq_len": shapes.max_seq_len,
        "n_layer_extras": shapes.n_layer_extras,
    }
