"""Small transformers with LoRA on their top layers, and what PyTorch really keeps and computes for one step of them."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

from emulator.learning.data.batches import make_batch
from emulator.learning.data.tokens import TokenData
from emulator.learning.model.base_weights import StoredWeight, stored
from emulator.learning.objective.causal import CausalLearning
from emulator.objective.causal import Causal
from emulator.records import NO_SAVERS, Adapter, BasePrecision, MemorySavers, Work, WorkKind
from emulator.shapes.catalog import model_spec_from_config
from emulator.shapes.spec import ModelSpec

N_LABELS = 3
N_LAYERS = 3

_SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "vocab_size": 100,
    "max_position_embeddings": 130,
}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
_RELATIVE = {
    "relative_attention": True,
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
    "pooler_dropout": 0.0,
}
_WORDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "bert": {"model_type": "bert"} | _SIZES | _NO_DROPOUT,
    "roberta": {"model_type": "roberta"} | _SIZES | _NO_DROPOUT,
    "roberta-prelayernorm": {"model_type": "roberta-prelayernorm"} | _SIZES | _NO_DROPOUT,
    "distilbert": {
        "model_type": "distilbert",
        "dim": 64,
        "n_layers": N_LAYERS,
        "n_heads": 4,
        "hidden_dim": 256,
        "vocab_size": 100,
        "max_position_embeddings": 128,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "seq_classif_dropout": 0.0,
    },
    "llama": {"model_type": "llama"} | _SIZES | {"num_key_value_heads": 2, "intermediate_size": 160, "pad_token_id": 0},
    "mpnet": {"model_type": "mpnet"} | _SIZES | _NO_DROPOUT,
    "camembert": {"model_type": "camembert"} | _SIZES | _NO_DROPOUT,
    "deberta-v3": {"model_type": "deberta-v2", "share_att_key": True} | _SIZES | _NO_DROPOUT | _RELATIVE,
    "deberta-v2": {"model_type": "deberta-v2", "share_att_key": False} | _SIZES | _NO_DROPOUT | _RELATIVE,
    "modernbert": {"model_type": "modernbert", "local_attention": 16} | _SIZES | _WORDS | {"intermediate_size": 160},
    "albert": {"model_type": "albert", "embedding_size": 32}
    | _SIZES
    | _NO_DROPOUT
    | {"num_hidden_layers": 2 * N_LAYERS, "num_hidden_groups": N_LAYERS, "classifier_dropout_prob": 0.0},
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": 64,
        "n_layer": N_LAYERS,
        "n_head": 4,
        "vocab_size": 100,
        "n_positions": 128,
        "pad_token_id": 0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "resid_pdrop": 0.0,
    },
    "phi3": {"model_type": "phi3"} | _SIZES | {"num_key_value_heads": 4, "intermediate_size": 160, "pad_token_id": 0},
    "opt": {"model_type": "opt", "ffn_dim": 256, "dropout": 0.0, "pad_token_id": 0} | _SIZES,
    "gemma": {"model_type": "gemma"} | _SIZES | {"num_key_value_heads": 1, "head_dim": 24, "pad_token_id": 0},
}

# Canonical matrix name -> module paths, below a layer, in any of these families.
_MODULES = {
    "query": r"(attention\.self\.query|q_proj|q_lin|self\.query_proj|attention\.query|attn\.q)",
    "key": r"(attention\.self\.key|k_proj|k_lin|self\.key_proj|attention\.key|attn\.k)",
    "value": r"(attention\.self\.value|v_proj|v_lin|self\.value_proj|attention\.value|attn\.v)",
    "attention_output": r"(attention\.(output\.)?dense|o_proj|out_proj|out_lin|attn\.(o|Wo|c_proj))",
    "query_key_value": r"(qkv_proj|Wqkv|c_attn)",
    "mlp_gate": r"gate_proj",
    "mlp_up": r"(intermediate\.dense|(?<!gate_)up_proj|lin1|fc1|c_fc|\.ffn)",
    "mlp_gate_up": r"(gate_up_proj|Wi)",
    "mlp_down": r"(?<!attention\.)(output\.dense|down_proj|lin2|fc2|mlp\.Wo|mlp\.c_proj|ffn_output)",
}


Attach = Callable[[nn.Module, Work], None]


@dataclass(frozen=True)
class Probe:
    """What one step took: bytes kept for the backward pass, FLOP of matrix products, operations that are no views.

    Elements are those that operations other than matrix products read and write.
    """

    kept_bytes: int
    forward_flop: int
    backward_flop: int
    n_forward_operations: int
    n_backward_operations: int
    n_forward_elements: int
    n_backward_elements: int


_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
_VIEWS = set("view _unsafe_view transpose permute expand t unsqueeze slice select detach alias squeeze split".split())


class _OperationCounter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.n_operations = 0
        self.n_elements = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation.overloadpacket.__name__
        result = operation(*args, **(kwargs or {}))
        self.n_operations += name not in _VIEWS
        if name not in _VIEWS | _PRODUCTS:
            leaves = tree_leaves((args, kwargs, result))
            self.n_elements += sum(leaf.numel() for leaf in leaves if isinstance(leaf, torch.Tensor))
        return result


class Lora(nn.Module):
    def __init__(self, base: nn.Linear | Conv1D, rank: int) -> None:
        super().__init__()
        self.base = base
        sizes = (base.nx, base.nf) if isinstance(base, Conv1D) else (base.in_features, base.out_features)
        self.lora_a = nn.Linear(sizes[0], rank, bias=False)
        self.lora_b = nn.Linear(rank, sizes[1], bias=False)

    @property
    def weight(self) -> torch.Tensor:
        """That of the map, whose type some models ask for."""
        weight: torch.Tensor = self.base.weight
        return weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + 2.0 * self.lora_b(self.lora_a(x))


def priced(family: str, head: str) -> ModelSpec:
    """The shapes of one of :data:`CONFIGS`."""
    return model_spec_from_config(CONFIGS[family], name=family, n_labels=N_LABELS, seq_len=32, head=head)


def run_step(
    family: str, work: Work, head: str = "full", attention: str = "eager", attach: Attach | None = None
) -> Probe:
    """Train one step of the model that ``work`` is about, adapters on the differentiated layers only, in float32.

    ``attach`` puts a form's adapters into the model, by default LoRA.
    """
    torch.manual_seed(0)
    torch_config = AutoConfig.for_model(**CONFIGS[family], num_labels=N_LABELS)
    model = AutoModelForSequenceClassification.from_config(torch_config, attn_implementation=attention)
    model.requires_grad_(False)
    if work.kind is WorkKind.ADAPTERS:
        (attach or _attach_lora)(model, work)
    trained_head = {f"{path}.{kind}" for path in priced(family, head).head for kind in ("weight", "bias")}
    for name, parameter in model.named_parameters():
        if name in trained_head or _is_trained_whole(name, work):
            parameter.requires_grad_(True)
    ids = torch.randint(3, 100, (work.batch_size, work.seq_len))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.new_zeros(work.batch_size)}
    return probed(model, lambda: model(**inputs).loss)


def run_causal_step(
    config: Mapping[str, Any],
    work: Work,
    response_len: int,
    attention: str,
    savers: MemorySavers = NO_SAVERS,
    precision: str = "fp32",
    attach: Attach | None = None,
) -> Probe:
    """As :func:`run_step`, of a causal language model that learns the last ``response_len`` tokens of each row.

    With ``amp`` the forward pass is that of autocast to bfloat16, which CPUs have.
    """
    torch.manual_seed(0)
    torch_config = AutoConfig.for_model(**config)
    model: Any = AutoModelForCausalLM.from_config(torch_config, attn_implementation=attention)
    model.requires_grad_(False)
    _store(model, savers, precision)
    if work.kind is WorkKind.ADAPTERS:
        (attach or _attach_lora)(model, work)
    for name, parameter in model.named_parameters():  # a head that is the table of embeddings goes by their name
        if _is_trained_whole(name, work):
            parameter.requires_grad_(True)
    if savers.checkpointing:
        _checkpoint(model)
    learning = CausalLearning(Causal())
    learning.fit(model)
    ids = torch.randint(3, 100, (work.batch_size, work.seq_len))
    scored = (torch.arange(work.seq_len) >= work.seq_len - response_len).expand_as(ids)
    tokens = TokenData(
        input_ids=ids.numpy().astype(np.int32),
        lengths=np.full(work.batch_size, work.seq_len, dtype=np.int64),
        labels=np.zeros(work.batch_size, dtype=np.int64),
        scored=scored.numpy().copy(),
    )
    weights = np.full(work.batch_size, 1 / work.batch_size, dtype=np.float32)
    batch = make_batch(np.arange(work.batch_size), tokens, "cpu", weights)

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "amp"):
            logits = learning.logits(lambda: model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, batch)
        return learning.losses(logits.float(), batch, 1).sum()

    return probed(model, loss)


class _Converted(torch.autograd.Function):
    """``W x`` with a weight that is restored for each product, as QLoRA's kernels do, and never kept."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: StoredWeight) -> torch.Tensor:
        ctx.weight = weight
        return x @ weight.restored().to(x.dtype).T

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0] @ ctx.weight.restored().to(gradients[0].dtype), None


_converted: Any = _Converted.apply


class _ConvertedLinear(nn.Linear):
    """A frozen map whose weight is stored in few bits."""

    def __init__(self, linear: nn.Linear, precision: BasePrecision, is_half: bool) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.stored, self.is_half = stored(linear.weight.detach(), precision), is_half
        del self.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = _converted(x.bfloat16() if self.is_half else x, self.stored)
        return y


class _Float(nn.Module):
    """Gives in float32 what ``module``, stored in bfloat16, gives."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.module(x).float()
        return y


def _store(model: Any, savers: MemorySavers, precision: str) -> None:
    """Stores the weights of a decoder in few bits: matrices of layers so, the rest in bfloat16."""
    stores = savers.base_precision
    if stores == "float32":
        return
    is_half = precision == "amp"
    if stores != "bfloat16" or not is_half:
        head = model.get_output_embeddings()
        for path, module in list(model.named_modules()):
            if isinstance(module, nn.Linear):
                own = "bfloat16" if module is head else stores
                if module is not head or not is_half:
                    put(model, path, _ConvertedLinear(module, own, is_half))
    model.bfloat16()
    if not is_half:
        put(model, "model.embed_tokens", _Float(model.model.embed_tokens))


def _checkpoint(model: Any) -> None:
    model.config.use_cache = False  # a layer that is computed again would add to it once more
    for layer in model.model.layers:
        checkpointed(layer)


def checkpointed(layer: Any) -> None:
    """Lets a layer keep its input alone, and compute the rest once more in the backward pass."""
    layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def probed(model: Any, forward_pass: Callable[[], torch.Tensor]) -> Probe:
    """What a forward pass to the loss, and the backward pass from it, take and keep."""
    model.train()
    owned = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}  # holds the tensors, so that no two share an address

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in owned:
            kept[address] = tensor
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    # The counter is entered last, so that it sees operations before FlopCounterMode takes some of them apart.
    with FlopCounterMode(display=False) as forward, _OperationCounter() as forward_operations, hooks:
        loss = forward_pass()
    with FlopCounterMode(display=False) as backward, _OperationCounter() as backward_operations:
        loss.backward()
    n_bytes = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return Probe(
        n_bytes,
        forward.get_total_flops(),
        backward.get_total_flops(),
        forward_operations.n_operations,
        backward_operations.n_operations,
        forward_operations.n_elements,
        backward_operations.n_elements,
    )


def _is_trained_whole(name: str, work: Work) -> bool:
    """Whether full fine-tuning trains a parameter: of a differentiated layer, of the head or, at full depth, any."""
    if work.kind not in (WorkKind.WEIGHTS, WorkKind.LAYERS):
        return False
    layer = re.search(r"\.(\d+)\.", name)
    if layer is not None:
        return int(layer[1]) >= N_LAYERS - work.backward_layers
    is_all = work.kind is WorkKind.WEIGHTS and work.backward_layers == N_LAYERS
    return is_all or not re.search(r"embed|\bnorm\.", name)


def adapted_maps(model: nn.Module, work: Work) -> Iterator[tuple[str, Any, Adapter, int]]:
    """The linear maps of differentiated layers that ``work`` adapts: path, map, adapter and its number."""
    for path, module in list(model.named_modules()):
        layer = re.search(r"\.(\d+)\.(.+)$", path)
        if (
            layer is None
            or not isinstance(module, nn.Linear | Conv1D)
            or int(layer[1]) < N_LAYERS - work.backward_layers
        ):
            continue
        for adapter, number in work.adapters.at(int(layer[1])):
            matrix = "mlp_down" if adapter.place == "mlp_product" else adapter.place
            if re.search(rf"{_MODULES[matrix]}$", layer[2]):
                yield path, module, adapter, number


def put(model: nn.Module, path: str, module: nn.Module) -> None:
    """Puts ``module`` in the place of the one at ``path``."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _attach_lora(model: nn.Module, work: Work) -> None:
    for path, linear, _, rank in adapted_maps(model, work):
        put(model, path, Lora(linear, rank))
