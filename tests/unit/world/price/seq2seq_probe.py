"""Small encoder-decoders with LoRA on their top layers, and what PyTorch really keeps and computes for one step."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from emulator.learning.data.batches import make_batch
from emulator.learning.data.tokens import ResponseTokens, TokenData
from emulator.learning.model.sites import find_sites
from emulator.learning.objective.seq2seq import Seq2SeqLearning
from emulator.objective.seq2seq import Seq2Seq
from emulator.records import NO_SAVERS, MemorySavers, Work
from emulator.world.price.encoder_decoder import EncoderDecoderStep
from tests.unit.world.price.autograd_probe import Lora, Probe, checkpointed, probed, put


def run_seq2seq_step(
    config: Mapping[str, Any], work: Work, response_len: int, *, savers: MemorySavers = NO_SAVERS, dropout: bool = False
) -> Probe:
    """Train one step in float32 with eager attention: prompts of ``work.seq_len`` tokens, responses of others."""
    torch.manual_seed(0)
    rate = {} if dropout else {"dropout_rate": 0.0}
    torch_config = AutoConfig.for_model(**config, **rate)
    model: Any = AutoModelForSeq2SeqLM.from_config(torch_config, attn_implementation="eager")
    model.requires_grad_(False)
    for stack in (model.encoder, model.decoder):
        stack.config.use_cache = False
    adapted = {(layer, adapter.place): rank for layer, own in enumerate(work.adapters.layers) for adapter, rank in own}
    for site, path in find_sites(model, "tiny").items():
        if site in adapted:
            put(model, path, Lora(model.get_submodule(path), adapted[site]))
    if savers.checkpointing:
        first = work.forward_layers - work.backward_layers
        for layer in [*model.encoder.block, *model.decoder.block][first:]:
            checkpointed(layer)
    learning = Seq2SeqLearning(Seq2Seq())
    learning.fit(model)
    rng, n = np.random.default_rng(0), work.batch_size
    lengths = np.full(n, work.seq_len, dtype=np.int32)
    tokens = TokenData(
        input_ids=rng.integers(3, 100, (n, work.seq_len)).astype(np.int32),
        lengths=lengths,
        labels=np.zeros(n, dtype=np.int64),
        responses=ResponseTokens(
            input_ids=rng.integers(3, 100, (n, response_len)).astype(np.int32),
            lengths=np.full(n, response_len, dtype=np.int32),
        ),
    )
    batch = make_batch(np.arange(n), tokens, "cpu", np.full(n, 1 / n, dtype=np.float32))
    read = model.prepare_decoder_input_ids_from_labels(batch.responses)

    def loss() -> torch.Tensor:
        logits = learning.logits(lambda: model(input_ids=batch.input_ids, decoder_input_ids=read).logits, batch)
        return learning.losses(logits, batch, 1).sum()

    return probed(model, loss)


def n_operations(step: EncoderDecoderStep) -> tuple[int, int]:
    """What is said to be dispatched, forward and backward."""
    demand = step.demand()
    return demand.n_forward_operations, demand.n_backward_operations
