"""Draws what a local step takes on each board: time and memory against depth, and the published steps of a TX2."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from device_profiles.catalog import load_profile
from emulator.forms.lora import low_rank_adapters
from emulator.records import NO_ADAPTERS, Work, WorkKind
from emulator.shapes.catalog import model_spec
from emulator.shapes.spec import ModelSpec
from emulator.world.price.memory import peak_memory
from emulator.world.price.price_bands import price_step

BOARDS = (
    "raspberry_pi_5",
    "jetson_nano",
    "jetson_tx2",
    "jetson_xavier_nx",
    "jetson_agx_xavier",
    "jetson_orin_nano_8gb",
    "jetson_orin_nx_16gb",
    "jetson_agx_orin_64gb",
)
TX2_STEPS = Path(__file__).parents[2] / "device_profiles" / "tx2_adapter_steps.csv"


def lora(model: ModelSpec, depth: int, batch_size: int) -> Work:
    """One step of LoRA of rank 8 on query and value of the top ``depth`` layers."""
    return Work(
        n_steps=1,
        batch_size=batch_size,
        seq_len=model.seq_len,
        forward_layers=model.n_layers,
        backward_layers=depth,
        adapters=low_rank_adapters(model, ("query", "value"), (0,) * (model.n_layers - depth) + (8,) * depth),
    )


def draw_step_time(axes: Any) -> None:
    """Seconds of a step against depth in each board's fastest mode, with the band of its uncertainties."""
    model = model_spec("roberta-base", n_labels=2, seq_len=128, head="output")
    depths = range(model.n_layers + 1)
    for board in BOARDS:
        profile = load_profile(board)
        mode = max(profile.power_modes, key=lambda each: each.effective_flop_per_s["fp32"])
        bands = [price_step(profile, mode, model, lora(model, depth, 8), "fp32").step_s for depth in depths]
        (line,) = axes.plot(depths, [band.value for band in bands], marker=".", label=f"{board} [{mode.name}]")
        lows, highs = [band.low for band in bands], [band.high for band in bands]
        axes.fill_between(depths, lows, highs, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set(yscale="log", xlabel="LoRA depth (layers from the output)", ylabel="one local step (s)")
    axes.set_title("RoBERTa-base, batch 8 x length 128, fp32, LoRA rank 8 on query and value")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))


def draw_step_memory(axes: Any) -> None:
    """Peak memory of a step against depth, without and with all tuned layers quantized, beside what boards have."""
    model = model_spec("roberta-base", n_labels=2, seq_len=256, head="output")
    depths = range(model.n_layers + 1)
    for batch_size, style in ((8, "-"), (16, "--")):
        for name, is_quantized in (("float32 activations", False), ("8-bit activations", True)):
            works = [lora(model, depth, batch_size) for depth in depths]
            works = [replace(work, quantized_layers=work.backward_layers * is_quantized) for work in works]
            gigabytes = [peak_memory(model, work, "fp32").total_bytes / 1e9 for work in works]
            label = f"{name}, batch {batch_size}"
            axes.plot(depths, gigabytes, style, color="C1" if is_quantized else "C0", marker=".", label=label)
    for board in ("jetson_nano", "jetson_xavier_nx"):
        usable_gb = load_profile(board).usable_memory_bytes / 1e9
        axes.axhline(usable_gb, color="grey", linewidth=0.8, linestyle=":")
        axes.annotate(f"usable on {board}", (0, usable_gb), fontsize=7, va="bottom")
    axes.set(xlabel="LoRA depth (layers from the output)", ylabel="peak memory (GB)", ylim=(0, None))
    axes.set_title("RoBERTa-base, length 256, fp32, LoRA rank 8 on query and value")
    axes.legend(fontsize=7)


def draw_tx2_published(axes: Any) -> None:
    """Published seconds of a step of BERT-base on a TX2, beside what the cost model says."""
    model = model_spec("bert-base", n_labels=2, seq_len=256, head="output")
    tx2 = load_profile("jetson_tx2")
    for column, kind, color in (
        ("adapter_s", WorkKind.ADAPTERS, "C0"),
        ("full_finetune_s", WorkKind.WEIGHTS, "C1"),
    ):
        rows = [row for row in tx2_steps() if row[column]]
        depths = [int(row["depth"]) for row in rows]
        works = [lora(model, depth, 4) for depth in depths]
        if kind is WorkKind.WEIGHTS:
            works = [replace(work, kind=kind, adapters=NO_ADAPTERS) for work in works]
        prices = [price_step(tx2, tx2.mode("MAXN"), model, work, "fp32").step_s.value for work in works]
        axes.plot(depths, [float(row[column]) for row in rows], "o", color=color, label=f"{kind.value}, published")
        axes.plot(depths, prices, "-", color=color, label=f"{kind.value}, priced")
    axes.set(xlabel="tuned layers from the output", ylabel="one local step (s)", ylim=(0, None))
    axes.set_title("BERT-base on a Jetson TX2, batch 4 x length 256, fp32")
    axes.legend(fontsize=8)


def tx2_steps() -> Sequence[Mapping[str, str]]:
    """The rows of the published table."""
    with TX2_STEPS.open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))
