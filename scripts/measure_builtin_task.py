"""Measure how hard "builtin:intents" is for "builtin:tiny-12" and print the tables of its README.

Run it as `python scripts/measure_builtin_task.py`; it needs scikit-learn besides torch and transformers. All devices of
a federated round train in one stacked forward pass: the encoder is shared and frozen, and each device has its own slice
of every adapter. Central training is the same with a single device and a single round.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from emulator.learning.builtin import intents

FOLDER = Path(intents.__file__).parent / "tiny-12"
RANK = 8
SCALING = 2.0
TRAIN_SEED, TEST_SEED = 1, 2
N_TRAIN, N_TEST = 8_000, 1_000
N_EACH = 100  # Examples of one device.
REPORTED_ROUNDS = (5, 10, 20, 40, 60)


class Examples(NamedTuple):
    """Tokens `(..., seq)` int64, padded with `pad_id`, and labels `(...)` int64."""

    tokens: Tensor
    labels: Tensor
    pad_id: int


class StackedLora(nn.Module):
    """A frozen linear layer with one LoRA adapter for each device; inputs are `(n_devices * batch, seq, in)`."""

    def __init__(self, base: nn.Linear, n_devices: int, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        # PEFT's start: A uniform within 1 / sqrt(in), B zero. All devices start alike.
        bound = base.in_features**-0.5
        a = torch.empty(1, RANK, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(a.repeat(n_devices, 1, 1))  # (n_devices, r, in)
        self.lora_b = nn.Parameter(torch.zeros(n_devices, base.out_features, RANK))  # (n_devices, out, r)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return `(n_devices * batch, seq, out)`."""
        by_device = inputs.reshape(len(self.lora_a), -1, inputs.shape[-1])
        change = by_device @ self.lora_a.mT @ self.lora_b.mT
        outputs: Tensor = self.base(inputs) + SCALING * change.view(*inputs.shape[:-1], -1)
        return outputs


class StackedClassifier(nn.Module):
    """The encoder with LoRA on query and value of its top `depth` layers and one output projection for each device."""

    def __init__(self, folder: Path, n_devices: int, depth: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        n_labels = len(intents.LABELS)
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=n_labels, dtype=torch.float32)
        model.requires_grad_(False)
        self.encoder = model.roberta_prelayernorm
        self.dense = model.classifier.dense
        layers = self.encoder.encoder.layer
        for layer in layers[len(layers) - depth :]:
            attention = layer.attention.self
            attention.query = StackedLora(attention.query, n_devices, generator)
            attention.value = StackedLora(attention.value, n_devices, generator)
        weight = torch.empty(1, n_labels, self.dense.out_features).normal_(std=0.02, generator=generator)
        self.out_weight = nn.Parameter(weight.repeat(n_devices, 1, 1))  # (n_devices, labels, hidden)
        self.out_bias = nn.Parameter(torch.zeros(n_devices, 1, n_labels))

    def forward(self, tokens: Tensor, pad_id: int) -> Tensor:
        """Return logits `(n_devices, batch, labels)` for tokens `(n_devices, batch, seq)`."""
        flat = tokens.flatten(0, 1)
        flat = flat[:, : int((flat != pad_id).sum(dim=1).max())]
        states = self.encoder(input_ids=flat, attention_mask=(flat != pad_id).long()).last_hidden_state[:, 0]
        features = torch.tanh(self.dense(states)).view(*tokens.shape[:2], -1)
        return features @ self.out_weight.mT + self.out_bias

    def trained(self) -> list[nn.Parameter]:
        """Return the parameters that are trained and exchanged, each with devices as its first axis."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def encode(tokenizer: PreTrainedTokenizerBase, n_examples: int, seed: int) -> Examples:
    """Return tokens `(n_examples, seq)` and labels `(n_examples,)` of the task."""
    texts, labels = intents.generate(n_examples, seed)
    tokens = tokenizer(texts, padding="max_length", return_tensors="pt")["input_ids"]
    return Examples(tokens, torch.tensor(labels), int(tokenizer.convert_tokens_to_ids("<pad>")))


def partition(labels: NDArray[np.int64], n_devices: int, alpha: float | None, seed: int) -> NDArray[np.int64]:
    """Return `(n_devices, N_EACH)` indices: a shuffle dealt out, or draws by Dirichlet label mixes."""
    rng = np.random.default_rng(seed)
    if alpha is None:
        return rng.permutation(len(labels))[: n_devices * N_EACH].reshape(n_devices, N_EACH)
    mixes = rng.dirichlet(np.full(len(intents.LABELS), alpha), size=n_devices)
    frequencies = np.bincount(labels) / len(labels)
    chances = mixes[:, labels] / frequencies[labels]
    return np.stack([rng.choice(len(labels), N_EACH, replace=False, p=row / row.sum()) for row in chances])


def shuffled(n_devices: int, n_examples: int, n_draws: int, generator: torch.Generator) -> Tensor:
    """Return `(n_devices, n_draws)` int64: for each device its examples in a new random order, pass after pass."""
    n_passes = -(-n_draws // n_examples)
    return torch.rand(n_devices, n_passes, n_examples, generator=generator).argsort(-1).flatten(1)[:, :n_draws]


def federated(
    folder: Path,
    devices: Examples,
    test: Examples,
    *,
    depth: int,
    n_rounds: int,
    n_steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> Iterator[tuple[int, float]]:
    """Yield (round, test accuracy) of federated averaging over `devices`, whose examples have devices as first axis."""
    n_devices, n_examples = devices.labels.shape
    server = StackedClassifier(folder, 1, depth, seed)
    cohort = StackedClassifier(folder, n_devices, depth, seed)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(n_devices)[:, None]
    for round_index in range(1, n_rounds + 1):
        # Optimizer state is not exchanged: every round starts a fresh one.
        optimizer = torch.optim.AdamW(cohort.trained(), lr=learning_rate, weight_decay=0.0)
        order = shuffled(n_devices, n_examples, n_steps * batch_size, generator)
        for step in range(n_steps):
            chosen = order[:, step * batch_size : (step + 1) * batch_size]
            logits = cohort(devices.tokens[rows, chosen], devices.pad_id)
            # Summed over devices, so that each device's gradient is that of its own mean loss.
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), devices.labels[rows, chosen].flatten())
            optimizer.zero_grad()
            (loss * n_devices).backward()
            optimizer.step()
        with torch.no_grad():
            for mean, local in zip(server.trained(), cohort.trained(), strict=True):
                mean.copy_(local.mean(dim=0, keepdim=True))
                local.copy_(mean.expand_as(local))
            if round_index in REPORTED_ROUNDS or round_index == n_rounds:
                predicted = server(test.tokens[None], test.pad_id).argmax(dim=-1)
                yield round_index, float((predicted[0] == test.labels).float().mean())


def bag_of_words(seed: int) -> float:
    """Return the test accuracy of logistic regression on word counts."""
    texts, labels = intents.generate(N_TRAIN, TRAIN_SEED)
    test_texts, test_labels = intents.generate(N_TEST, TEST_SEED)
    counts = CountVectorizer(token_pattern=r"\S+").fit(texts)
    regression = LogisticRegression(max_iter=2_000, random_state=seed).fit(counts.transform(texts), labels)
    return float(regression.score(counts.transform(test_texts), test_labels))


def main() -> None:
    """Read the arguments and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the encoder to measure")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--depths", type=int, nargs="*", default=[12, 6, 3, 1], help="LoRA depths to measure")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--central-steps", type=int, default=500, help="of 16 examples; 0 leaves these rows out")
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=40, help="0 leaves the federated table out")
    parser.add_argument("--local-steps", type=int, default=4, help="of 8 examples")
    parser.add_argument(
        "--alphas", type=float, nargs="*", default=[1.0], help="Dirichlet partitions, besides the even one"
    )
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder)
    train = encode(tokenizer, N_TRAIN, TRAIN_SEED)
    test = encode(tokenizer, N_TEST, TEST_SEED)
    shared = {"learning_rate": arguments.learning_rate, "seed": arguments.seed}

    print("| central training | test accuracy |\n|---|---|")
    print(f"| largest class | {test.labels.bincount().max().item() / N_TEST:.3f} |")
    print(f"| logistic regression on bags of words | {bag_of_words(arguments.seed):.3f} |")
    if arguments.central_steps:
        one_device = Examples(train.tokens[None], train.labels[None], train.pad_id)
        for depth in arguments.depths:
            curve = federated(
                arguments.folder, one_device, test, depth=depth, n_rounds=1, n_steps=arguments.central_steps,
                batch_size=16, **shared,
            )  # fmt: skip
            print(f"| LoRA, depth {depth} | {next(curve)[1]:.3f} |", flush=True)

    if arguments.rounds:
        reported = [r for r in REPORTED_ROUNDS if r <= arguments.rounds]
        print("\n| federated |" + "".join(f" round {r} |" for r in reported) + "\n|---|" + "---|" * len(reported))
        for alpha in [None, *arguments.alphas]:
            chosen = torch.from_numpy(partition(train.labels.numpy(), arguments.devices, alpha, arguments.seed))
            devices = Examples(train.tokens[chosen], train.labels[chosen], train.pad_id)
            name = "even" if alpha is None else f"Dirichlet {alpha}"
            for depth in arguments.depths:
                curve = federated(
                    arguments.folder, devices, test, depth=depth, n_rounds=arguments.rounds,
                    n_steps=arguments.local_steps, batch_size=8, **shared,
                )  # fmt: skip
                print(f"| {name}, depth {depth} |" + "".join(f" {accuracy:.3f} |" for _, accuracy in curve), flush=True)


if __name__ == "__main__":
    main()
