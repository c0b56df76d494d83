"""Which layers of a pre-trained model matter to a task: accuracy by depth and by rank law, and gradients by layer.

    python -m benchmarks.layer_profile measure OUT.json [--model builtin:mini-12] [--data builtin:intents] [--steps 120]
    python -m benchmarks.layer_profile table ONE.json ANOTHER.json
    python -m benchmarks.layer_profile page ONE.json ANOTHER.json

``measure`` trains LoRA adapters on query and value centrally, with the emulator's own arithmetic and a single device
that holds all examples, and writes a profile; ``table`` prints profiles side by side, and ``page`` makes a page of
them, ``layer_profile.md``. Models of any depth can be compared: what is varied is the share of the layers that are
adapted, counted from the output, and how ranks of the same sum are spread over them.
"""

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emulator.forms.lora import LoraAssignment, LoraForm
from emulator.learning.data.source import DataSource
from emulator.learning.data.spread import Partition
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.local_training import LocalTraining
from emulator.learning.prepare import prepare
from emulator.learning.settings import NumericSettings, Precision
from emulator.records import Job, Prepared, Update
from emulator.seeds import Seeds

MEAN_RANK = 8
LOWEST_RANK, HIGHEST_RANK = 2, 14
"""Of the rising and falling laws: their mean is :data:`MEAN_RANK`, and they begin as LEGEND's does."""
N_GRADIENT_BATCHES = 8
PAGE = Path(__file__).with_name("layer_profile.md")
HEAD = """# Which layers of a model matter to a task

LoRA on query and value and the head's output are trained centrally, by AdamW without weight decay. What varies is which
layers have adapters, counted from the output, and how ranks of the same sum are spread over them. Accuracies are means
over seeds; the list says by what one of 0.5 is uncertain, from the number of held-out examples alone. Gradient norms
are those of the first batches, while adapters still leave the model as it was, as shares of the largest.

Made by `python -m benchmarks.layer_profile page` from profiles that its `measure` wrote."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a profile is measured: what it is of, and how long and on how much is trained."""

    model: str
    data: str
    test_data: str | None
    text_column: str | int
    label_column: str | int
    seq_len: int
    n_train: int | None
    n_test: int | None
    steps: int
    batch_size: int
    learning_rate: float
    seeds: tuple[int, ...]
    threads: int
    precision: Precision = "float32"


class GradientNorms(LocalTraining):
    """Training that adds up, over its steps, each layer's norm of the loss's gradient, ``(n_layers,)``."""

    def run(self) -> list[Update]:
        self.norms = np.zeros(self.host.content.model.n_layers)
        return super().run()

    def after_backward(self, step: int, n_active: int) -> None:
        squares = np.zeros_like(self.norms)
        for name, layer in self.adapters.array_layers.items():
            squares[layer] += float(self.adapters.stack.gradient(name).square().sum())
        self.norms += np.sqrt(squares)


def rank_laws(n_layers: int) -> dict[str, tuple[int, ...]]:
    """Ranks of each layer, from the input to the output, by the name of their row in the table."""
    rising = tuple(round(rank) for rank in np.linspace(LOWEST_RANK, HIGHEST_RANK, n_layers).tolist())
    shares = {"upper half": n_layers // 2, "upper quarter": round(n_layers / 4), "last layer": 1}
    return {
        "head alone": (0,) * n_layers,
        "all layers, rank 8": (MEAN_RANK,) * n_layers,
        **{
            f"{name}, rank 8": (0,) * (n_layers - depth) + (MEAN_RANK,) * depth
            for name, depth in shares.items()
        },
        "lower half, rank 8": (MEAN_RANK,) * (n_layers // 2) + (0,) * (n_layers - n_layers // 2),
        "ranks 2 to 14, rising": rising,
        "ranks 14 to 2, falling": rising[::-1],
    }  # fmt: skip


def job(form: LoraForm, prepared: Prepared, protocol: Protocol, seed: int, n_steps: int) -> Job:
    """All layers that have adapters are trained, from the state in which a run would start."""
    lowest = next((layer for layer, rank in enumerate(form.ranks) if rank), len(form.ranks))
    assignment = LoraAssignment(
        device_id=0,
        n_steps=n_steps,
        batch_size=protocol.batch_size,
        learning_rate=protocol.learning_rate,
        ranks=form.ranks,
        depth=len(form.ranks) - lowest,
    )
    state = {**form.initial(prepared.model, Seeds(seed)), **prepared.head}
    return Job(device_id=0, round_index=0, inner_round=0, assignment=assignment, state=state)


def accuracy(host: DeviceHost, form: LoraForm, trained: Job) -> float:
    """On the held-out data, after training."""
    update = LocalTraining(host, form, [trained]).run()[0]
    score = host.evaluate(form, {**trained.state, **update.payload}, range(len(host.content.test.labels)))
    return score.n_correct / score.n


def gradient_norms(host: DeviceHost, prepared: Prepared, protocol: Protocol, seed: int) -> list[float]:
    """Mean norm over the first batches of each layer's gradient, while the adapters still leave the model as it was."""
    n_layers = host.content.model.n_layers
    form = LoraForm(ranks=(MEAN_RANK,) * n_layers)
    still = Protocol(**{**asdict(protocol), "learning_rate": 1e-12})
    training = GradientNorms(host, form, [job(form, prepared, still, seed, N_GRADIENT_BATCHES)])
    training.run()
    return [float(norm) / N_GRADIENT_BATCHES for norm in training.norms]


def opened(protocol: Protocol, seed: int) -> tuple[HostContent, Prepared]:
    source = DataSource(
        source=protocol.data,
        test_source=protocol.test_data,
        text_column=protocol.text_column,
        label_column=protocol.label_column,
        n_train=protocol.n_train,
        n_test=protocol.n_test,
    )
    return prepare(
        train_model=protocol.model,
        data=source,
        seq_len=protocol.seq_len,
        n_devices=1,
        partition=Partition(scheme="iid"),
        run_seed=seed,
    )


def measure(protocol: Protocol, only: Sequence[str]) -> dict[str, Any]:
    """The profile: accuracies by row and gradients by layer, a value for each seed."""
    accuracies: dict[str, list[float]] = {}
    norms: list[list[float]] = []
    n_test = 0
    for seed in protocol.seeds:
        content, prepared = opened(protocol, seed)
        n_test = len(content.test.labels)
        host = content.start(
            NumericSettings(run_seed=seed, weight_decay=0.0, threads=protocol.threads, precision=protocol.precision)
        )
        norms.append(gradient_norms(host, prepared, protocol, seed))
        print(f"seed {seed}: gradients " + " ".join(f"{norm:.3g}" for norm in norms[-1]), flush=True)
        for name, ranks in rank_laws(content.model.n_layers).items():
            if only and not any(part in name for part in only):
                continue
            form = LoraForm(ranks=ranks)
            found = accuracy(host, form, job(form, prepared, protocol, seed, protocol.steps))
            accuracies.setdefault(name, []).append(found)
            print(f"seed {seed}: {name}: {found:.3f}", flush=True)
    return {
        "protocol": asdict(protocol),
        "n_test_examples": n_test,
        "accuracies": accuracies,
        "gradient_norms": norms,
    }


def table(profiles: Sequence[Mapping[str, Any]]) -> str:
    """Profiles side by side, as Markdown: means over seeds."""
    titles = [title(one["protocol"]) for one in profiles]
    lines = ["| | " + " | ".join(titles) + " |", "|---|" + "---|" * len(profiles)]
    for name in profiles[0]["accuracies"]:
        cells = [_mean(one["accuracies"].get(name)) for one in profiles]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append(
        "| share of the gain over the head that the upper half keeps | " + " | ".join(map(_kept, profiles)) + " |"
    )
    lines.append("| gradient norms, input to output | " + " | ".join(map(_norms, profiles)) + " |")
    return "\n".join(lines)


def page(profiles: Sequence[Mapping[str, Any]]) -> str:
    """The page of profiles, as Markdown: how each was measured, then the table."""
    return "\n\n".join([HEAD, "\n".join(map(about, profiles)), table(profiles)]) + "\n"


def title(protocol: Mapping[str, Any]) -> str:
    """Of a profile's column."""
    return f"{_short(protocol['model'])} on {_short(protocol['data'])}, {protocol['steps']} steps"


def about(profile: Mapping[str, Any]) -> str:
    """How a profile was measured, as an item of a list."""
    protocol, n_test = profile["protocol"], profile["n_test_examples"]
    uncertainty = 0.5 / math.sqrt(n_test * len(protocol["seeds"]))
    return (
        f"- {title(protocol)} of {protocol['batch_size']} at {protocol['learning_rate']:g}, in "
        f"{protocol['precision']}: {protocol['n_train'] or 'all'} examples to train on, {n_test} held out, at most "
        f"{protocol['seq_len']} tokens; seeds {', '.join(map(str, protocol['seeds']))}; uncertain by {uncertainty:.3f}"
    )


def _short(place: str) -> str:
    return place if place.startswith("builtin:") else "/".join(Path(place).parts[-2:])


def _mean(values: Sequence[float] | None) -> str:
    return f"{statistics.fmean(values):.3f}" if values else "–"


def _kept(profile: Mapping[str, Any]) -> str:
    means = {name: statistics.fmean(values) for name, values in profile["accuracies"].items()}
    head, every, half = (means[name] for name in ("head alone", "all layers, rank 8", "upper half, rank 8"))
    return f"{(half - head) / (every - head):.0%}"


def _norms(profile: Mapping[str, Any]) -> str:
    """As shares of the largest."""
    norms = np.mean(profile["gradient_norms"], axis=0)
    return " ".join(f"{norm:.2f}" for norm in norms / norms.max())


def _column(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="write the profile of a model and a task")
    measuring.add_argument("out", type=Path)
    measuring.add_argument("--model", default="builtin:mini-12", help="as in model.train")
    measuring.add_argument("--data", default="builtin:intents", help="as in data.source")
    measuring.add_argument("--test-data", help="as in data.test_source")
    measuring.add_argument("--text-column", type=_column, default="text")
    measuring.add_argument("--label-column", type=_column, default="label")
    measuring.add_argument("--seq-len", type=int, default=32)
    measuring.add_argument("--n-train", type=int)
    measuring.add_argument("--n-test", type=int)
    measuring.add_argument("--steps", type=int, default=120)
    measuring.add_argument("--batch-size", type=int, default=16)
    measuring.add_argument("--learning-rate", type=float, default=1e-3)
    measuring.add_argument("--seeds", type=int, nargs="+", default=[10, 11])
    measuring.add_argument("--threads", type=int, default=1)
    measuring.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    measuring.add_argument("--only", nargs="*", default=[], help="rows whose name contains one of these")
    printing = commands.add_parser("table", help="print profiles side by side")
    printing.add_argument("profiles", type=Path, nargs="+")
    making = commands.add_parser("page", help="write the page of profiles")
    making.add_argument("profiles", type=Path, nargs="+")
    making.add_argument("--page", type=Path, default=PAGE, help="the page to write")
    given = vars(parser.parse_args())
    command = given.pop("command")
    if command != "measure":
        profiles = [json.loads(path.read_text(encoding="utf-8")) for path in given["profiles"]]
        if command == "table":
            print(table(profiles))
        else:
            given["page"].write_text(page(profiles), encoding="utf-8")
        return
    out, only = given.pop("out"), given.pop("only")
    given["seeds"] = tuple(given["seeds"])
    profile = measure(Protocol(**given), only)
    out.write_text(json.dumps(profile, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
