"""Holds the priced memory of a process against what processes on this machine held at their peak.

    python -m benchmarks.memory_truth [--seen | --settings N] [--csv FILE]

runs each of 20 settings, encoders and decoders with random weights, in a process of its own on one thread: LoRA, full
fine-tuning and inference, by random batch sizes, lengths, depths and widths. Beside the peak of its resident set
stands its price: the runtime's memory, measured once in another process, and the step replayed on glibc's rules.
``--seen`` runs the dozen settings that the replay was written by instead, ``--settings`` so many of those of ``jetbed
validate``. Load on the machine makes no difference to bytes.
"""

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from emulator.calibration import step_settings
from emulator.calibration.process_peak import ProcessPeak, ProcessSetting, process_peak
from emulator.calibration.step_settings import decoder_config, encoder_config
from emulator.world.price.memory import peak_memory

_MIB = 2**20
_SEED = 20


def seen() -> list[ProcessSetting]:
    """A dozen settings: the replay was written by these."""
    rest = [
        (encoder_config(384, 6), 6, 8, 128), (encoder_config(256, 4), 4, 16, 128), (encoder_config(512, 4), 2, 4, 64),
        (encoder_config(768, 2), 2, 8, 256), (encoder_config(128, 6), 6, 32, 64), (encoder_config(256, 4), 0, 8, 64),
        (encoder_config(512, 8), 4, 8, 64), (encoder_config(256, 2), 2, 4, 256), (decoder_config(256, 4), 4, 8, 128),
        (decoder_config(512, 4), 2, 4, 64), (decoder_config(256, 6), 3, 16, 64), (decoder_config(512, 2), 2, 2, 256),
    ]  # fmt: skip
    return [
        ProcessSetting(config=config, depth=depth, rank=8, targets="qv", batch_size=batch_size, seq_len=seq_len)
        for config, depth, batch_size, seq_len in rest
    ]


def unseen() -> list[ProcessSetting]:
    """Twenty settings by chance, of 256 to 4096 tokens; every fourth is a decoder, and some train no adapters."""
    rng = np.random.default_rng(_SEED)
    found: list[ProcessSetting] = []
    while len(found) < 20:
        is_decoder = len(found) % 4 == 3
        hidden_size = int(rng.choice([256, 384, 512, 640] if is_decoder else [192, 320, 448, 640, 768]))
        n_layers = int(rng.integers(2, 9))
        batch_size, seq_len = int(rng.integers(2, 33)), int(rng.choice([32, 48, 96, 160, 192, 256]))
        if not 256 <= batch_size * seq_len <= 4096 or (is_decoder and hidden_size % 128):
            continue
        kind = {6: "weights", 9: "inference", 14: "weights"}.get(len(found), "adapters")
        found.append(
            ProcessSetting(
                config=(decoder_config if is_decoder else encoder_config)(hidden_size, n_layers),
                depth=int(rng.integers(1, n_layers + 1)),
                rank=int(rng.choice([4, 8, 16])),
                targets="qv" if is_decoder else str(rng.choice(["qv", "all"])),
                batch_size=batch_size,
                seq_len=seq_len,
                kind=kind,
            )
        )
    return found


def row_of(setting: ProcessSetting, runtime_bytes: int, measured: ProcessPeak) -> Mapping[str, str]:
    """Measured and priced MiB of a setting, and the errors of the priced ones."""
    model, work = setting.model, setting.work
    memory = peak_memory(model, work, "fp32", allocator="glibc")
    priced_bytes = runtime_bytes + memory.total_bytes
    error = priced_bytes / measured.peak_bytes - 1
    error_by_tensors = (priced_bytes - memory.allocator_bytes) / measured.peak_bytes - 1
    return {
        "model": f"{setting.config['model_type']} {setting.config['num_hidden_layers']} x {model.hidden_size}",
        "trained": setting.kind if setting.kind != "adapters" else f"{setting.depth}, {setting.rank} {setting.targets}",
        "batch": f"{setting.batch_size} x {setting.seq_len}",
        "runtime": f"{runtime_bytes / _MIB:.0f}",
        "weights": f"{memory.weights_bytes / _MIB:.0f}",
        "tensors": f"{(memory.total_bytes - memory.allocator_bytes) / _MIB:.0f}",
        "fragments": f"{memory.allocator_bytes / _MIB:.0f}",
        "priced": f"{priced_bytes / _MIB:.0f}",
        "measured": f"{measured.peak_bytes / _MIB:.0f}",
        "error": f"{error:+.1%}",
        "error_by_tensors": f"{error_by_tensors:+.1%}",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seen", action="store_true")
    parser.add_argument("--settings", type=int)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args(arguments)
    runtime = process_peak()
    print(
        f"imported {runtime.imported_bytes / _MIB:.0f} MiB, behind a first step {runtime.runtime_bytes / _MIB:.0f} MiB"
    )
    rows = []
    settings = seen() if options.seen else unseen()
    if options.settings is not None:
        settings = [ProcessSetting.of(each) for each in step_settings.unseen(options.settings)]
    for setting in settings:
        rows.append(row_of(setting, runtime.runtime_bytes, process_peak(setting)))
        if len(rows) == 1:
            print(" | ".join(rows[0]))
        print(" | ".join(rows[-1].values()), flush=True)
    for family in ("", "roberta", "llama"):
        for name in ("error", "error_by_tensors"):
            errors = [abs(float(row[name].rstrip("%"))) for row in rows if family in row["model"]]
            mean, worst = sum(errors) / len(errors), max(errors)
            print(f"{name} of {len(errors)} {family}: {mean:.1f} % in the mean, {worst:.1f} % at worst")
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
