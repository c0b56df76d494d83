"""The shapes of encoders, from the config.json of each family.

The parameter counts are those of the family's sequence classifier in transformers.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from emulator.shapes.config_reader import ConfigReader, Shapes
from emulator.shapes.design import ENCODER, LayerDesign
from emulator.shapes.spec import LinearShape


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


ENCODER_FAMILIES: Mapping[str, Callable[[ConfigReader, int], Shapes]] = {
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
}
"""Their readers, which take the number of labels, by ``model_type``."""
