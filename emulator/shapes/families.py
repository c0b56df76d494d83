"""Which families of transformers are known, and what the config.json of an encoder-decoder says of its shapes."""

from collections.abc import Callable, Mapping

from emulator.shapes.config_reader import ConfigReader, Shapes
from emulator.shapes.decoder_families import DECODER_FAMILIES
from emulator.shapes.design import LayerDesign
from emulator.shapes.encoder_families import ENCODER_FAMILIES

UNLIMITED = 2**31
"""Tokens that a model takes which has no table of positions: any number."""


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


ENCODER_DECODERS: Mapping[str, Callable[[ConfigReader], Shapes]] = {
    "t5": lambda config: _t5(config, "relu"),
    "mt5": lambda config: _t5(config, "gated-gelu"),
}

FAMILIES: Mapping[str, Callable[[ConfigReader, int], Shapes]] = {
    **ENCODER_FAMILIES,
    **DECODER_FAMILIES,
}

DECODERS = tuple(DECODER_FAMILIES)
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
