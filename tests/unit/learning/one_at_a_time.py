"""The reference: peft and torch.optim, one device at a time, in the most obvious way."""

from typing import Any

import numpy as np
import torch

from emulator.forms.lora import LoraForm
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import HostContent
from emulator.learning.model.export import peft_name, to_peft
from emulator.records import ADAMW, Arrays, Job, LocalOptimizer
from emulator.seeds import Seeds


def train(
    content: HostContent,
    form: LoraForm,
    job: Job,
    run_seed: int,
    weight_decay: float,
    optimizer: LocalOptimizer = ADAMW,
) -> tuple[Arrays, float]:
    """What one device trains, by the names of the server state, and its mean training loss."""
    payload = form.project(job.state, job.assignment)
    return train_on(content, form, job, payload, run_seed, weight_decay, optimizer=optimizer)


def train_on(
    content: HostContent,
    form: LoraForm,
    job: Job,
    payload: Arrays,
    run_seed: int,
    weight_decay: float,
    base: Any = None,
    optimizer: LocalOptimizer = ADAMW,
) -> tuple[Arrays, float]:
    """As :func:`train`, from a ``payload`` and on a ``base`` model that are given."""
    model = to_peft(content.model, payload, form.scaling, base)
    model.eval()
    parameters = dict(model.named_parameters())
    trained = [name for name in payload if _is_trained(name, job)]
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    leaves = [parameters[peft_name(content.model, name)].requires_grad_() for name in trained]
    starts = [leaf.detach().clone() for leaf in leaves]
    steps = _of_torch(optimizer, leaves, job.assignment.learning_rate, weight_decay)
    losses = []
    for rows in draw_rows(job, content.local_rows(job.device_id), Seeds(run_seed)):
        batch = make_batch(rows, content.train, "cpu")
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        distance = sum(((leaf - start) ** 2).sum() for leaf, start in zip(leaves, starts, strict=True))
        steps.zero_grad()
        (loss + optimizer.proximal_mu / 2 * distance).backward()
        if optimizer.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(leaves, optimizer.max_gradient_norm)
        steps.step()
        losses.append(float(loss.detach()))
    return {name: leaf.detach().numpy() for name, leaf in zip(trained, leaves, strict=True)}, float(np.mean(losses))


def _of_torch(asked: LocalOptimizer, leaves: list[Any], rate: float, weight_decay: float) -> torch.optim.Optimizer:
    if asked.name == "sgd":
        return torch.optim.SGD(leaves, lr=rate, momentum=asked.momentum, weight_decay=weight_decay)
    return torch.optim.AdamW(leaves, lr=rate, weight_decay=weight_decay)


def _is_trained(name: str, job: Job) -> bool:
    return name.startswith("head.") or int(name.split(".")[1]) in job.assignment.trained_layers  # type: ignore[attr-defined]
