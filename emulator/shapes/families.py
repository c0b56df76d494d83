"""What the config.json of each family of transformers says of its shapes.

The parameter counts are those of the family's sequence classifier in transformers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from emulator.errors import ConfigError
from emulator.shapes.design import DECODER, ENCODER, LayerDesign
from emulator.shapes.spec import LinearShape


@dataclass(frozen=True, kw_only=True, slots=True)
class Shapes:
    """What a family's config says.

    ``head`` holds the head's maps under their module paths in transformers, the output map last;
    ``n_other_parameters`` counts all but the head, a pooler, and the linear maps and norms of the layers; of it,
    ``n_layer_extras`` lie in each layer. ``n_encoder_layers`` and ``n_other_encoder_parameters`` are those of an
    encoder-decoder's encoder.
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
    gated_mlp: bool = False
    n_pooler_parameters: int = 0
    design: LayerDesign | None = None
    n_layer_extras: int = 0
    n_encoder_layers: int = 0
    n_other_encoder_parameters: int = 0


class ConfigReader:
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

    def text(self, key: str, default: str | None = None) -> str:
        value = self._config.get(key)
        value = default if value is None else value
        if not isinstance(value, str):
            raise ConfigError(f"model {self._name}: config.json needs {key}, a text, got {value!r}")
        return value

    def positive(self, key: str) -> int:
        """A number of things; 0 where it is negative or not given, so that there are none."""
        value = self._config.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ConfigError(f"model {self._name}: config.json needs {key}, a whole number, got {value!r}")
        return max(value or 0, 0)

    def texts(self, key: str) -> list[str]:
        """A list of words, or a text of them with bars between."""
        value = self._config.get(key) or []
        return [str(each).strip().lower() for each in (value.split("|") if isinstance(value, str) else value)]

    def error(self, needs: str) -> ConfigError:
        """To be raised where the config.json does not have what its family needs."""
        return ConfigError(f"model {self._name}: config.json needs {needs}")

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._config.get(key)
        return default if value is None else bool(value)


def _bert_like(
    config: ConfigReader,
    head: Mapping[str, LinearShape],
    n_reserved_positions: int = 0,
    n_extra: int = 0,
    embedding_size: int | None = None,
) -> Shapes:
    """Word, position and token type embeddings with a norm, then layers with two norms each.

    ``n_reserved_positions`` are rows of the position table that no token uses; ``n_extra`` counts parameters that BERT
    lacks; ``embedding_size`` is the family's own where the config states none.
    """
    hidden_size, n_heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    embedding_size = config.integer("embedding_size", embedding_size or hidden_size)
    n_positions = config.integer("max_position_embeddings")
    n_rows = config.integer("vocab_size") + n_positions + config.integer("type_vocab_size", 2)
    return Shapes(
        n_layers=config.integer("num_hidden_layers"),
        hidden_size=hidden_size,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_size=hidden_size // n_heads,
        intermediate_size=config.integer("intermediate_size"),
        n_other_parameters=(n_rows + 2) * embedding_size + n_extra,
        head=head,
        max_seq_len=n_positions - n_reserved_positions,
        design=_unless_bert(replace(ENCODER, activation=config.text("hidden_act", "gelu"))),
    )


def _unless_bert(design: LayerDesign) -> LayerDesign | None:
    return None if design == ENCODER else design


def _square(size: int) -> LinearShape:
    return LinearShape(in_features=size, out_features=size)


def _bert(config: ConfigReader, n_labels: int) -> Shapes:
    hidden_size = config.integer("hidden_size")
    output = LinearShape(in_features=hidden_size, out_features=n_labels)
    # The pooler is computed like a head, but belongs to the base model: it comes with the weights and stays frozen.
    return replace(_bert_like(config, {"classifier": output}), n_pooler_parameters=_square(hidden_size).n_parameters)


def _roberta(config: ConfigReader, n_labels: int, n_extra: int = 0) -> Shapes:
    hidden_size = config.integer("hidden_size")
    output = LinearShape(in_features=hidden_size, out_features=n_labels)
    head = {"classifier.dense": _square(hidden_size), "classifier.out_proj": output}
    n_reserved = config.integer("pad_token_id", 1) + 1  # positions are counted from the padding's number on
    return _bert_like(config, head, n_reserved, n_extra)


def _roberta_prelayernorm(config: ConfigReader, n_labels: int) -> Shapes:
    return _roberta(config, n_labels, n_extra=2 * config.integer("hidden_size"))  # the norm behind the last layer


def _electra(config: ConfigReader, n_labels: int) -> Shapes:
    hidden_size = config.integer("hidden_size")
    embedding_size = config.integer("embedding_size", 128)
    output = LinearShape(in_features=hidden_size, out_features=n_labels)
    head = {"classifier.dense": _square(hidden_size), "classifier.out_proj": output}
    if embedding_size == hidden_size:
        return _bert_like(config, head)
    shapes = _bert_like(config, head, n_extra=(embedding_size + 1) * hidden_size)
    return replace(shapes, design=replace(shapes.design or ENCODER, n_projection_weights=embedding_size * hidden_size))


def _distilbert(config: ConfigReader, n_labels: int) -> Shapes:
    hidden_size, n_heads = config.integer("dim"), config.integer("n_heads")
    n_positions = config.integer("max_position_embeddings")
    output = LinearShape(in_features=hidden_size, out_features=n_labels)
    return Shapes(
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


def _deberta_v2(config: ConfigReader, n_labels: int) -> Shapes:
    """He et al. 2021, arXiv 2006.03654 and 2111.09543: relative positions, which all layers share, in place of others.

    Their embeddings go through the maps of query and key where these are shared, otherwise through two of their own in
    each layer.
    """
    hidden_size, n_heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    n_layers, n_positions = config.integer("num_hidden_layers"), config.integer("max_position_embeddings")
    embedding_size = config.integer("embedding_size", hidden_size)
    n_absolute = n_positions if config.flag("position_biased_input", True) else 0
    n_rows = config.integer("vocab_size") + n_absolute + config.integer("type_vocab_size", 0)
    n_other = n_rows * embedding_size + 2 * hidden_size
    n_projection = embedding_size * hidden_size if embedding_size != hidden_size else 0
    n_other += n_projection
    products: tuple[str, ...] = ()
    n_relative = n_layer_extras = 0
    if config.flag("relative_attention"):
        # -1, the default of either, means that there are none, and as many as positions.
        n_relative = 2 * (
            config.positive("position_buckets") or config.positive("max_relative_positions") or n_positions
        )
        n_other += n_relative * hidden_size
        products = tuple(name for name in ("c2p", "p2c") if name in config.texts("pos_att_type"))
        n_own_maps = 0 if config.flag("share_att_key") else len(products)
        n_layer_extras = n_own_maps * _square(hidden_size).n_parameters
        n_other += n_layers * n_layer_extras
        n_other += 2 * hidden_size if "layer_norm" in config.texts("norm_rel_ebd") else 0
    if kernel_size := config.positive("conv_kernel_size"):
        n_other += hidden_size * (hidden_size // config.integer("conv_groups", 1) * kernel_size + 3)
    return Shapes(
        n_layers=n_layers,
        hidden_size=hidden_size,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_size=hidden_size // n_heads,
        intermediate_size=config.integer("intermediate_size"),
        n_other_parameters=n_other,
        head={
            "pooler.dense": _square(config.integer("pooler_hidden_size", hidden_size)),
            "classifier": LinearShape(in_features=hidden_size, out_features=n_labels),
        },
        max_seq_len=n_positions,
        design=LayerDesign(
            activation=config.text("hidden_act", "gelu"),
            position_products=products,
            n_positions=n_relative,
            shares_position_maps=config.flag("share_att_key"),
            n_projection_weights=n_projection,
            n_kept_of_head=2,
            has_free_heads=False,
            fuses_attention=False,
        ),
        n_layer_extras=n_layer_extras,
    )


def _mpnet(config: ConfigReader, n_labels: int) -> Shapes:
    """Song et al. 2020, arXiv 2004.09297: as RoBERTa without token types, and with biases for relative positions."""
    hidden_size = config.integer("hidden_size")
    output = LinearShape(in_features=hidden_size, out_features=n_labels)
    n_biases = config.integer("relative_attention_num_buckets", 32) * config.integer("num_attention_heads")
    head = {"classifier.dense": _square(hidden_size), "classifier.out_proj": output}
    # Positions are counted from 2 on, whatever the padding is.
    shapes = _bert_like(config, head, 2, n_biases - config.integer("type_vocab_size", 2) * hidden_size)
    return replace(shapes, design=replace(shapes.design or ENCODER, has_free_heads=False, fuses_attention=False))


def _decoder(
    config: ConfigReader,
    n_labels: int,
    head_size: int | None = None,
    n_attention_biases: Callable[[int, int, int], int] | None = None,
    n_head_norms: int = 0,
) -> Shapes:
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
    return Shapes(
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
        gated_mlp=True,
        n_layer_extras=n_extra,
    )


def _mistral(config: ConfigReader, n_labels: int) -> Shapes:
    return _decoder(config, n_labels, n_attention_biases=lambda query, key_value, output: 0)


def _qwen2(config: ConfigReader, n_labels: int) -> Shapes:
    return _decoder(config, n_labels, n_attention_biases=lambda query, key_value, output: query + 2 * key_value)


def _qwen3(config: ConfigReader, n_labels: int) -> Shapes:
    return _decoder(config, n_labels, head_size=128, n_head_norms=2)


def _gemma(config: ConfigReader, n_labels: int) -> Shapes:
    return _decoder(config, n_labels, head_size=256)


def _gemma2(config: ConfigReader, n_labels: int) -> Shapes:
    """Gemma Team 2024, arXiv 2408.00118: each layer has norms behind attention and MLP, too."""
    return _with_norms_behind(_decoder(config, n_labels, head_size=256))


def _gemma3(config: ConfigReader, n_labels: int) -> Shapes:
    """Gemma Team 2025, arXiv 2503.19786: as Gemma 2, with norms on the heads of query and key."""
    return _with_norms_behind(_decoder(config, n_labels, head_size=256, n_head_norms=2))


def _with_norms_behind(shapes: Shapes) -> Shapes:
    """With two more norms in each layer."""
    n_norms = 2 * shapes.hidden_size
    return replace(
        shapes,
        n_other_parameters=shapes.n_other_parameters + shapes.n_layers * n_norms,
        n_layer_extras=shapes.n_layer_extras + n_norms,
    )


def _phi3(config: ConfigReader, n_labels: int) -> Shapes:
    """Abdin et al. 2024, arXiv 2404.14219: a Llama whose maps that read the same are stored as one."""
    shapes = _decoder(config, n_labels, n_attention_biases=lambda query, key_value, output: 0)
    return replace(
        shapes,
        design=replace(DECODER, fused=("query_key_value", "mlp_gate_up"), has_free_heads=False, reads_parts=False),
    )


def _opt(config: ConfigReader, n_labels: int) -> Shapes:
    """Zhang et al. 2022, arXiv 2205.01068: biases, norms with biases, learnt positions and a plain MLP."""
    hidden_size, n_heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    n_layers, intermediate_size = config.integer("num_hidden_layers"), config.integer("ffn_dim")
    n_positions = config.integer("max_position_embeddings")
    embedding_size = config.integer("word_embed_proj_dim", hidden_size)
    has_last_norm = config.flag("do_layer_norm_before", True) and not config.flag("_remove_final_layer_norm")
    n_other = config.integer("vocab_size") * embedding_size + (n_positions + 2) * hidden_size
    n_projection = 2 * embedding_size * hidden_size if embedding_size != hidden_size else 0
    n_other += n_projection
    n_norm_arrays = 2 if config.flag("layer_norm_elementwise_affine", True) else 0
    n_other += n_norm_arrays * hidden_size * has_last_norm
    return Shapes(
        n_layers=n_layers,
        hidden_size=hidden_size,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_size=hidden_size // n_heads,
        intermediate_size=intermediate_size,
        n_other_parameters=n_other,
        head={"score": LinearShape(in_features=embedding_size, out_features=n_labels, has_bias=False)},
        max_seq_len=n_positions,
        is_decoder=True,
        design=LayerDesign(
            activation=config.text("activation_function", "relu"),
            has_biases=config.flag("enable_bias", True),
            n_norm_arrays=n_norm_arrays,
            norms_first=config.flag("do_layer_norm_before", True),
            n_projection_weights=n_projection,
        ),
    )


def _gpt2(config: ConfigReader, n_labels: int) -> Shapes:
    """Radford et al. 2019: learnt positions, norms with biases, and query, key and value as one map."""
    hidden_size, n_heads = config.integer("n_embd"), config.integer("n_head")
    n_positions = config.integer("n_positions")
    return Shapes(
        n_layers=config.integer("n_layer"),
        hidden_size=hidden_size,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_size=hidden_size // n_heads,
        intermediate_size=config.integer("n_inner", 4 * hidden_size),
        n_other_parameters=(config.integer("vocab_size") + n_positions + 2) * hidden_size,
        head={"score": LinearShape(in_features=hidden_size, out_features=n_labels, has_bias=False)},
        max_seq_len=n_positions,
        is_decoder=True,
        design=LayerDesign(
            activation=config.text("activation_function", "gelu_new"),
            norms_first=True,
            fused=("query_key_value",),
            has_free_heads=False,
        ),
    )


def _modernbert(config: ConfigReader, n_labels: int) -> Shapes:
    """Warner et al. 2024, arXiv 2412.13663: an encoder with rotary positions, norms first and a gated MLP.

    Biases, which it has none of by default, are counted with the embeddings, and so are the norm of its head and what
    its first layer lacks: the norm behind the embeddings is that in front of its attention, too.
    """
    hidden_size, n_heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    n_layers, intermediate_size = config.integer("num_hidden_layers"), config.integer("intermediate_size")
    n_norm_arrays, every = 1 + config.flag("norm_bias"), config.integer("global_attn_every_n_layers", 3)
    layer_types = config.texts("layer_types") or [
        "sliding_attention" if layer % max(every, 1) else "full_attention" for layer in range(n_layers)
    ]
    n_biases = 4 * hidden_size * config.flag("attention_bias")
    n_biases += (2 * intermediate_size + hidden_size) * config.flag("mlp_bias")
    dense = LinearShape(in_features=hidden_size, out_features=hidden_size, has_bias=config.flag("classifier_bias"))
    return Shapes(
        n_layers=n_layers,
        hidden_size=hidden_size,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_size=hidden_size // n_heads,
        intermediate_size=intermediate_size,
        n_other_parameters=(config.integer("vocab_size") + 2 * n_norm_arrays) * hidden_size + n_layers * n_biases,
        head={"head.dense": dense, "classifier": LinearShape(in_features=hidden_size, out_features=n_labels)},
        max_seq_len=config.integer("max_position_embeddings"),
        gated_mlp=True,
        design=LayerDesign(
            activation=config.text("hidden_activation", "gelu"),
            has_biases=False,
            n_norm_arrays=n_norm_arrays,
            norms_first=True,
            rotates=True,
            fused=("query_key_value", "mlp_gate_up"),
            has_free_heads=False,
            n_kept_of_head=3,
            windows=tuple(kind == "sliding_attention" for kind in layer_types),
        ),
        n_layer_extras=n_biases,
    )


def _albert(config: ConfigReader, n_labels: int) -> Shapes:
    """Lan et al. 2020, arXiv 1909.11942: BERT with narrow embeddings, whose layers share one set of weights.

    What has weights of its own counts as a layer, and is computed several times in turn.
    """
    hidden_size, n_groups = config.integer("hidden_size"), config.integer("num_hidden_groups", 1)
    n_computed, embedding_size = config.integer("num_hidden_layers"), config.integer("embedding_size", 128)
    if config.integer("inner_group_num", 1) != 1:
        raise config.error(f"inner_group_num 1, got {config.integer('inner_group_num')!r}: a group of one layer")
    if not n_groups or n_computed % n_groups:
        raise config.error(
            f"num_hidden_layers a multiple of num_hidden_groups, got {n_computed!r} layers in {n_groups!r} groups"
        )
    output = LinearShape(in_features=hidden_size, out_features=n_labels)
    return replace(
        _bert_like(
            config,
            {"classifier": output},
            n_extra=(embedding_size + 1) * hidden_size,
            embedding_size=embedding_size,
        ),
        n_layers=n_groups,
        n_pooler_parameters=_square(hidden_size).n_parameters,
        design=replace(
            ENCODER,
            activation=config.text("hidden_act", "gelu_new"),
            n_passes=n_computed // n_groups,
            n_projection_weights=embedding_size * hidden_size,
        ),
    )


def _t5(config: ConfigReader, feed_forward: str) -> Shapes:
    """Raffel et al. 2020, arXiv 1910.10683: RMS norms first, no biases, and relative positions as biases of scores.

    Either stack has a table of these, which all of its layers share, and a norm behind its last layer; both share the
    words. From version 1.1 on (Shazeer 2020, arXiv 2002.05202) the MLP is gated; ``feed_forward`` is the family's own.
    """
    hidden_size, n_heads = config.integer("d_model"), config.integer("num_heads")
    n_encoder_layers = config.integer("num_layers")
    feed_forward = config.text("feed_forward_proj", feed_forward)
    gated, _, activation = feed_forward.rpartition("-")
    if gated not in ("", "gated"):
        raise config.error(f"feed_forward_proj, such as 'relu' or 'gated-gelu', got {feed_forward!r}")
    n_other = config.integer("relative_attention_num_buckets", 32) * n_heads + hidden_size
    return Shapes(
        n_layers=n_encoder_layers + config.integer("num_decoder_layers", n_encoder_layers),
        hidden_size=hidden_size,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_size=config.integer("d_kv"),
        intermediate_size=config.integer("d_ff"),
        n_other_parameters=config.integer("vocab_size") * hidden_size + 2 * n_other,
        head={},
        max_seq_len=UNLIMITED,
        gated_mlp=bool(gated),
        design=LayerDesign(
            # Its "gated-gelu" is the approximation by tanh.
            activation="gelu_new" if feed_forward == "gated-gelu" else activation,
            has_biases=False,
            norm="rms",
            n_norm_arrays=1,
            norms_first=True,
            has_free_heads=False,
            fuses_attention=False,
            has_position_bias=True,
            drops_channels=True,
        ),
        n_encoder_layers=n_encoder_layers,
        n_other_encoder_parameters=n_other,
    )


UNLIMITED = 2**31
"""Tokens that a model takes which has no table of positions: any number."""

ENCODER_DECODERS: Mapping[str, Callable[[ConfigReader], Shapes]] = {
    "t5": lambda config: _t5(config, "relu"),
    "mt5": lambda config: _t5(config, "gated-gelu"),
}

FAMILIES: Mapping[str, Callable[[ConfigReader, int], Shapes]] = {
    "bert": _bert,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "camembert": _roberta,
    "roberta-prelayernorm": _roberta_prelayernorm,
    "distilbert": _distilbert,
    "electra": _electra,
    "deberta-v2": _deberta_v2,
    "mpnet": _mpnet,
    "modernbert": _modernbert,
    "albert": _albert,
    "llama": _decoder,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "phi3": _phi3,
    "gpt2": _gpt2,
    "opt": _opt,
}

DECODERS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "gpt2", "opt")
"""Those of the families that can also be causal language models."""
TIED = ("gemma", "gemma2", "gemma3_text", "gpt2", "opt")
"""Families whose head is the table of word embeddings unless a config.json says otherwise."""

_SEQ2SEQ = "they are encoder-decoders, which learn with task.kind = 'seq2seq' alone"
_ONE_MAP = "they store query, key and value as one matrix in an order of their own"
UNFIT: Mapping[str, str] = {
    **dict.fromkeys(ENCODER_DECODERS, _SEQ2SEQ),
    "deberta": _ONE_MAP,
    "gpt_neox": _ONE_MAP,
    "gemma3": "they take images, too; give the one that reads text alone (gemma3_text)",
}
"""Why well-known families cannot be trained."""
