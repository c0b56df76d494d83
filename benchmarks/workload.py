"""The common work of the speed comparisons, as files: a BERT of given shape with random weights, and random texts.

Every side trains the same: each device takes a few AdamW steps at learning rate 1e-3 on LoRA adapters (rank 8, alpha
16, query and value) of the layers nearest to the output and on the classifier; the server averages; nothing is
evaluated.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

VOCABULARY = 2048
N_LABELS = 4
N_HEADS = 4
RANK = 8
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One comparison. ``depth`` is the number of layers with adapters, counted from the output."""

    n_devices: int
    n_steps: int
    batch_size: int
    seq_len: int
    n_layers: int
    hidden_size: int
    depth: int
    n_heads: int = N_HEADS


FULL_DEPTH = Workload(n_devices=80, n_steps=2, batch_size=8, seq_len=32, n_layers=12, hidden_size=64, depth=12)
TOP3 = Workload(n_devices=80, n_steps=2, batch_size=8, seq_len=32, n_layers=12, hidden_size=64, depth=3)
MID_MODEL = Workload(n_devices=20, n_steps=4, batch_size=16, seq_len=64, n_layers=4, hidden_size=256, depth=4)
WIDE_MODEL = Workload(n_devices=20, n_steps=2, batch_size=16, seq_len=64, n_layers=6, hidden_size=384, depth=6)


def examples(workload: Workload, device_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids ``(n_steps * batch_size, seq_len)`` and labels of one device; ids 0 and 1 are left to the tokenizer."""
    rng = np.random.default_rng(device_id)
    n_rows = workload.n_steps * workload.batch_size
    return rng.integers(2, VOCABULARY, (n_rows, workload.seq_len)), rng.integers(0, N_LABELS, n_rows)


def model_config(workload: Workload) -> dict[str, object]:
    """The settings of the transformers BertConfig that all sides train."""
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": workload.hidden_size,
        "num_hidden_layers": workload.n_layers,
        "num_attention_heads": workload.n_heads,
        "intermediate_size": 4 * workload.hidden_size,
        "max_position_embeddings": workload.seq_len,
        "num_labels": N_LABELS,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def write_files(workload: Workload, folder: Path) -> None:
    """Write ``model/`` (with a tokenizer of one word per id), ``train.jsonl`` and ``test.jsonl``."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig(**model_config(workload))).save_pretrained(folder / "model")
    words = {"[PAD]": 0, "[UNK]": 1} | {f"w{number}": number for number in range(2, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder / "model"
    )
    for name, devices in (("train", range(workload.n_devices)), ("test", [workload.n_devices])):
        with (folder / f"{name}.jsonl").open("w") as file:
            for device_id in devices:
                for ids, label in zip(*examples(workload, device_id), strict=True):
                    row = {"text": " ".join(f"w{number}" for number in ids), "label": int(label)}
                    file.write(json.dumps(row) + "\n")
