"""The yardstick: LoRA by peft and ``torch.optim.AdamW`` in a plain loop over one pile of rows.

It reads model, rows and adapter from files, as anybody would, and knows nothing of jetbed; all that it is told is which
rows make up a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from peft import PeftModel

from benchmarks.tasks.cells import Task
from benchmarks.tasks.rows import Rows, classes

EVALUATED_TOGETHER = 40
"""Rows of a forward pass over the held-out ones."""
PROBLEM = {
    "classification": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
NOT_LEARNT = -100
"""The label that transformers leaves out of a loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Central:
    """What came of it: the loss of each step, and the loss of the held-out rows behind the last."""

    train_losses: tuple[float, ...]
    held_out_loss: float


def train(
    *,
    task: Task,
    model: Path,
    adapter: Path,
    train_rows: Rows,
    test_rows: Rows,
    batches: NDArray[np.int64],
    learning_rate: float,
    seq_len: int,
) -> Central:
    """Fine-tunes ``adapter`` on ``model``.

    Args:
        task: what is learnt.
        model: directory of the base model, or a GGUF file.
        adapter: directory of the adapter before its first step.
        train_rows, test_rows: rows of the task.
        batches: ``(n_steps, batch_size)``, numbers of training rows.
        learning_rate: of AdamW, without weight decay.
        seq_len: tokens at which texts that are classified are cut.
    """
    encoded = _Encoder(task, model, train_rows, seq_len)
    tuned = PeftModel.from_pretrained(_base(task, model, encoded), adapter, is_trainable=True).eval()
    optimizer = torch.optim.AdamW(
        [parameter for parameter in tuned.parameters() if parameter.requires_grad], lr=learning_rate, weight_decay=0.0
    )
    losses = []
    for chosen in batches:
        loss = tuned(**encoded.batch([train_rows[row] for row in chosen])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return Central(train_losses=tuple(losses), held_out_loss=_held_out_loss(tuned, encoded, test_rows))


def _base(task: Task, model: Path, encoded: "_Encoder") -> Any:
    folder, source = _found(model)
    if task.kind == "causal":
        return transformers.AutoModelForCausalLM.from_pretrained(folder, **source, dtype=torch.float32)
    if task.kind == "seq2seq":
        return transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, **source, dtype=torch.float32)
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, **source, num_labels=len(encoded.labels) or 1, problem_type=PROBLEM[task.kind], dtype=torch.float32
    )
    base.config.pad_token_id = encoded.tokenizer.pad_token_id  # by which decoders find the last token of a text
    return base


def _found(model: Path) -> tuple[Path, dict[str, str]]:
    """The directory, and what transformers is told beside it."""
    return (model.parent, {"gguf_file": model.name}) if model.is_file() else (model, {})


@torch.no_grad()
def _held_out_loss(tuned: Any, encoded: "_Encoder", rows: Rows) -> float:
    total, count = 0.0, 0
    for batch in encoded.batches(rows):
        n_scored = len(batch["input_ids"])
        if encoded.task.kind == "causal":
            n_scored = int((batch["labels"][:, 1:] != NOT_LEARNT).sum())
        if encoded.task.kind == "seq2seq":
            n_scored = int((batch["labels"] != NOT_LEARNT).sum())
        total += float(tuned(**batch).loss) * n_scored
        count += n_scored
    return total / count


class _Encoder:
    """Rows as transformers takes them."""

    def __init__(self, task: Task, model: Path, train_rows: Rows, seq_len: int) -> None:
        self.task, self.seq_len = task, seq_len
        folder, source = _found(model)
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, **source)
        self.labels = classes(train_rows) if task.kind in ("classification", "multi_label") else []

    def batches(self, rows: Rows) -> Iterator[dict[str, torch.Tensor]]:
        for start in range(0, len(rows), EVALUATED_TOGETHER):
            yield self.batch(rows[start : start + EVALUATED_TOGETHER])

    def batch(self, rows: Rows) -> dict[str, torch.Tensor]:
        if self.task.kind == "causal":
            return self._passages(rows)
        if self.task.kind == "seq2seq":
            return self._answers(rows)
        texts = [[str(row["text"]) for row in rows]]
        if "data.text_pair_column" in self.task.columns:
            texts.append([str(row["other"]) for row in rows])
        encoded = self.tokenizer(*texts, padding=True, truncation=True, max_length=self.seq_len, return_tensors="pt")
        return {**encoded, "labels": self._labels(rows)}

    def _answers(self, rows: Rows) -> dict[str, torch.Tensor]:
        """Prompts, and what is to be said to them."""
        encoded = self.tokenizer([row["prompt"] for row in rows], padding=True, return_tensors="pt")
        said = self.tokenizer(text_target=[row["response"] for row in rows], padding=True, return_tensors="pt")
        labels = said["input_ids"].masked_fill(said["attention_mask"] == 0, NOT_LEARNT)
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "labels": labels}

    def _labels(self, rows: Rows) -> torch.Tensor:
        given = [row["label"] for row in rows]
        if self.task.kind == "regression":
            return torch.tensor(given, dtype=torch.float32)
        if self.task.kind == "multi_label":
            return torch.tensor([[float(label in own) for label in self.labels] for own in given])
        return torch.tensor([self.labels.index(label) for label in given])

    def _passages(self, rows: Rows) -> dict[str, torch.Tensor]:
        start = self.tokenizer("")["input_ids"][:1]
        ids, labels = [], []
        for row in rows:
            if "data.prompt_column" in self.task.columns:
                given, learnt = f"{row['prompt']}\n", str(row["response"])
            else:
                given, learnt = "", str(row["text"])
            before = start + self._ids(given)
            after = self._ids(learnt) + ([self.tokenizer.eos_token_id] if given else [])
            ids.append(torch.tensor(before + after))
            labels.append(torch.tensor([NOT_LEARNT] * len(before) + after))
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        lengths = torch.tensor([len(own) for own in ids])
        return {
            "input_ids": padded,
            "attention_mask": (torch.arange(padded.shape[1]) < lengths[:, None]).long(),
            "labels": torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=NOT_LEARNT),
        }

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
