"""``[model]``: the model that is trained, and the one whose shapes are paid for."""

from typing import Literal

from emulator.config.section import Count, NameOrPath, Section


class ModelConfig(Section):
    """Which model is trained, and whose shapes the devices pay for."""

    train: NameOrPath = "builtin:mini-12"
    """What is really trained: builtin:mini-12, builtin:tiny-12, builtin:tiny-llama-12 (which it is for task.kind causal
    on built-in data), a local directory, a GGUF file, or a hub id; or builtin:cnn, on images."""
    price: NameOrPath = "auto"
    """Whose shapes the devices pay for: a name such as roberta-base or llama-3.2-1b (docs/model-and-data.md lists
    them), a local directory, a hub id, trained (the trained model's own shapes), or auto (roberta-base for
    builtin:mini-12 and builtin:tiny-12, llama-160m for builtin:tiny-llama-12, otherwise trained). For a convnet:
    alexnet (auto), vgg16-bn or trained."""
    depth_map: Literal["proportional"] | None = None
    """How depth maps where the priced model has more layers than the trained one. proportional: d of L trained layers
    pay for round(d * P / L) of P. Where it is not given, both must have as many layers."""
    price_seq_len: Count | None = None
    """Tokens per example that the devices pay for. Where it is not given, data.seq_len, or 128 where the price is not
    the trained model's own."""
    head: Literal["output", "full"] = "output"
    """How much of the classification head is trained and shipped: its last linear map, or all of it."""
    base_precision: Literal["float32", "bfloat16", "int8", "nf4"] = "float32"
    """What frozen weights are stored in: on the devices, which pay for it, and of the model that is trained. int8 and
    nf4 are for the matrices of the layers (nf4 as in QLoRA: 64 weights share a scale, which has 8 bits itself); what
    else is frozen is bfloat16 then. They are computed with in testbed.precision, and here in training.precision."""
