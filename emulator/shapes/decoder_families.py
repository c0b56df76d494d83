"""The shapes of decoders, from the config.json of each family.

The parameter counts are those of the family's sequence classifier in transformers.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from emulator.shapes.config_reader import ConfigReader, Shapes
from emulator.shapes.design import DECODER, LayerDesign
from emulator.shapes.spec import LinearShape


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


DECODER_FAMILIES: Mapping[str, Callable[[ConfigReader, int], Shapes]] = {
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
"""Their readers, which take the number of labels, by ``model_type``."""
