"""The yardstick: every device trained in turn with peft in one process on all cores, plain averaging, no framework.

Run by ``benchmarks.engine`` in a process of its own; prints the seconds of each round as a line of JSON.
"""

import argparse
import json
import time

import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.workload import LEARNING_RATE, RANK, WEIGHT_DECAY, Workload, examples, model_config


def build(workload: Workload) -> torch.nn.Module:
    torch.manual_seed(0)
    base = BertForSequenceClassification(BertConfig(**model_config(workload)))
    layers = list(range(workload.n_layers - workload.depth, workload.n_layers))
    adapters = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=RANK,
        lora_alpha=2 * RANK,
        lora_dropout=0.0,
        target_modules=["query", "value"],
        layers_to_transform=layers,
    )
    return get_peft_model(base, adapters)


def train(model: torch.nn.Module, ids: torch.Tensor, labels: torch.Tensor, workload: Workload) -> None:
    """One device's local training."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for start in range(0, len(ids), workload.batch_size):
        rows = slice(start, start + workload.batch_size)
        loss = model(input_ids=ids[rows], labels=labels[rows]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def run_round(model: torch.nn.Module, state: list[torch.Tensor], workload: Workload) -> list[torch.Tensor]:
    """One round of federated averaging from ``state``, the trained parameters in order."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = [torch.zeros_like(array) for array in state]
    for device_id in range(workload.n_devices):
        with torch.no_grad():
            for parameter, array in zip(trained, state, strict=True):
                parameter.copy_(array)
        train(model, *map(torch.from_numpy, examples(workload, device_id)), workload)
        with torch.no_grad():
            for sum_, parameter in zip(total, trained, strict=True):
                sum_ += parameter
    return [array / workload.n_devices for array in total]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", type=json.loads)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    workload = Workload(**options.workload)
    model = build(workload).train()
    state = [parameter.detach().clone() for parameter in model.parameters() if parameter.requires_grad]
    for _ in range(options.rounds):
        start_s = time.perf_counter()
        state = run_round(model, state, workload)
        print(json.dumps({"round_s": time.perf_counter() - start_s}), flush=True)


if __name__ == "__main__":
    main()
