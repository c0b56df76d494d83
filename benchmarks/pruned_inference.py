"""Measures what a pruned encoder takes to classify, next to the whole one, and what the emulated boards are charged.

    python -m benchmarks.pruned_inference [--sparsity 0.5] [--model roberta-base] [--repeats 7]

builds an encoder of the named shapes with random weights, cuts the given share of its heads and channels out of every
layer, and times forward passes of both in turns, in one process with one thread. The ratios of the medians are printed,
with their range over the repeats, and beside them the ratio by which each board's price falls.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification as AutoClassifier
from transformers import BertConfig, RobertaConfig

from device_profiles.catalog import load_profile
from emulator.forms.kept_units import KeptUnits, pruned_to_sparsity
from emulator.forms.pruned_lora import width_fraction
from emulator.learning.model.compact import shrink
from emulator.learning.model.sites import find_sites
from emulator.records import Work, WorkKind
from emulator.shapes.catalog import model_spec
from emulator.shapes.spec import ModelSpec
from emulator.world.price.price_bands import price_step

BOARDS = ("jetson_tx2", "jetson_xavier_nx", "jetson_agx_xavier")
FAMILIES = {"roberta": RobertaConfig, "bert": BertConfig}


def build(spec: ModelSpec) -> Any:
    """A classifier of these shapes with random weights, as transformers runs it."""
    config = FAMILIES[spec.name.split("-")[0]](
        hidden_size=spec.hidden_size,
        num_hidden_layers=spec.n_layers,
        num_attention_heads=spec.n_heads,
        intermediate_size=spec.intermediate_size,
    )
    return AutoClassifier.from_config(config).eval()  # type: ignore[no-untyped-call]


def kept_units(spec: ModelSpec, sparsity: float) -> KeptUnits:
    """What is left if the units to go are drawn at random, so that layers differ."""
    whole, rng = KeptUnits.all_of(spec.n_layers, spec.n_kv_heads, spec.intermediate_size), np.random.default_rng(0)
    scores = {name: rng.random(array.shape).astype(np.float32) for name, array in whole.equal_scores().items()}
    return pruned_to_sparsity(whole, scores, sparsity)


def seconds(run: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    run()
    return time.perf_counter() - start_s


def measured_ratios(spec: ModelSpec, kept: KeptUnits, batch_size: int, repeats: int) -> tuple[list[float], float]:
    """Time of the smaller over the whole model, for each repeat; and the ratio of their parameters."""
    whole = build(spec)
    smaller = copy.deepcopy(whole)
    shrink(smaller, find_sites(smaller, spec.name), kept)
    tokens = torch.randint(10, 1000, (batch_size, spec.seq_len), generator=torch.Generator().manual_seed(0))
    ratios = []
    with torch.inference_mode():
        for repeat in range(repeats + 1):
            times = [seconds(lambda model=model: model(input_ids=tokens)) for model in (whole, smaller)]
            if repeat:  # the first pass warms up
                ratios.append(times[1] / times[0])
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in (whole, smaller)]
    return ratios, sizes[1] / sizes[0]


def priced_ratio(spec: ModelSpec, kept: KeptUnits, batch_size: int, board: str) -> float:
    """Emulated time of a forward pass of the smaller over that of the whole model, in the board's fastest mode."""
    profile = load_profile(board)
    mode = max(profile.power_modes, key=lambda each: each.effective_flop_per_s["fp32"])
    times = []
    for width in (1.0, width_fraction(kept, spec)):
        work = Work(
            n_steps=1,
            batch_size=batch_size,
            seq_len=spec.seq_len,
            forward_layers=spec.n_layers,
            backward_layers=0,
            width_fraction=width,
            kind=WorkKind.INFERENCE,
        )
        times.append(price_step(profile, mode, spec, work, "fp32").time.step_s)
    return times[1] / times[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="roberta-base", help="shapes, such as roberta-base or bert-base")
    parser.add_argument("--sparsity", type=float, default=0.5, help="share of heads and of channels that are gone")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=128, help="tokens")
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    spec = model_spec(given.model, n_labels=2, seq_len=given.seq_len, head="output")
    kept = kept_units(spec, given.sparsity)
    ratios, parameters = measured_ratios(spec, kept, given.batch_size, given.repeats)
    print(f"{given.model}, sparsity {given.sparsity:g}, batch {given.batch_size} x {given.seq_len} tokens")
    print(f"parameters      {parameters:.3f} of the whole model, embeddings included")
    print(f"measured time   {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) of it, 1 thread")
    for board in BOARDS:
        print(f"priced time     {priced_ratio(spec, kept, given.batch_size, board):.3f} on {board}")


if __name__ == "__main__":
    main()
