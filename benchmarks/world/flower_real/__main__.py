"""How far an emulated run is from a real federation that nobody here wrote: Flower's processes on links that tc holds.

``python -m benchmarks.world.flower_real --flower-python PATH [--profile FILE] [--rounds N] [--json FILE]``

Flower's SuperLink, and a SuperNode for each device in a network namespace of its own, train LoRA on the rows of a small
model. Their emulation knows three things, none of which comes from the run that it is compared with: the profile of
this machine (``jetbed calibrate``, or ``--profile``), the rates of the links, and what Flower adds to a round, measured
in another federation, of one step a round and with links that nothing holds back (or ``--system``). A device of
slowness k computes for a share 1/k of the time and rests else, so that more devices than cores can be had.

Needs root, namespaces and ``tc`` (iproute2), and a machine that does nothing else. ``--flower-python`` is the python of
an environment with ``flwr``, torch, transformers and peft, beside which Flower's programs lie. The first round is left
out: in it devices fetch the application. Links have rates and no delay, which not every kernel can give them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd
import tomli_w

from benchmarks.engine import config_of_workload
from benchmarks.workload import Workload, write_files
from benchmarks.world.flower_real.federation import POLL_S, Federation, Link, carry_out
from emulator.config import load_config
from emulator.launch.execute import execute
from emulator.results import load_run

WORKLOAD = Workload(n_devices=2, n_steps=8, batch_size=16, seq_len=64, n_layers=4, hidden_size=256, depth=4)
WANTED = 0.05
_SCALED_DOWN = ("fp32_tflop_per_s", "amp_tflop_per_s", "memory_gb_per_s")
_SCALED_UP = ("step_overhead_ms", "dispatch_us")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Flower's federation beside its emulation, without the first round but for bytes.

    Attributes:
        rounds: by round ``round`` (from 1), ``flower_s`` and ``emulated_s``.
        devices: by device ``device_id``, and what it computes in a round, ``flower_s`` and ``emulated_s``.
        bytes: by ``way``, all frames on the wire, ``flower_bytes``, and what is counted, ``emulated_bytes``.
    """

    rounds: tuple[dict[str, Any], ...]
    devices: tuple[dict[str, Any], ...]
    bytes: tuple[dict[str, Any], ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flower-python", type=Path, required=True)
    parser.add_argument("--profile", type=Path, help="of one thread of this machine; calibrated first without")
    parser.add_argument("--system", type=Path, help="what Flower adds; measured first without")
    parser.add_argument("--rounds", type=int, default=5, help="after the first")
    parser.add_argument("--slowness", type=float, nargs="+", default=[2.0, 3.0], help="of each device")
    parser.add_argument("--down-mbit", type=float, default=8.0)
    parser.add_argument("--up-mbit", type=float, default=4.0)
    parser.add_argument("--json", type=Path, help="write all that was found to this file, for the page of plots")
    parser.add_argument("--keep", type=Path, help="a new folder for the profile, the system and the emulated run")
    options = parser.parse_args()
    link = Link(down_mbit_per_s=options.down_mbit, up_mbit_per_s=options.up_mbit)
    workload = replace(WORKLOAD, n_devices=len(options.slowness))
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        folder.mkdir(exist_ok=True)
        profile = options.profile or calibrated(folder / "machine.toml")
        system = options.system or measured_system(options.flower_python, workload, options.slowness, folder)
        real = carry_out(options.flower_python, workload, options.slowness, link, options.rounds + 1, workload.n_steps)
        write_cluster(folder, profile, options.slowness, link)
        emulated = emulate(folder, workload, system, options.rounds + 1)
        found = compared(real, emulated)
        for line in shown(found):
            print(line)
        if options.json:
            settings = {"slowness": options.slowness, "link": asdict(link), "workload": asdict(workload)}
            what = {"what": "benchmarks.world.flower_real", **settings}
            options.json.write_text(json.dumps({**what, **asdict(found)}, indent=1) + "\n")


def calibrated(path: Path) -> Path:
    """A profile of one thread of this machine."""
    command = [
        sys.executable,
        "-m",
        "emulator.cli",
        "calibrate",
        "--threads",
        "1",
        "--device",
        "cpu",
        "--out",
        str(path),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def measured_system(python: Path, workload: Workload, slowness: Sequence[float], folder: Path) -> Path:
    """What Flower adds, as a file, from rounds in which hardly anything is computed and no link is held back."""
    # One step, since arrays that have not changed are not sent back.
    quiet = carry_out(python, workload, slowness, None, 4, 1)
    n_messages = len(slowness) * len(quiet.rounds)
    payload = payload_bytes(workload)
    figures = {
        "device_poll_s": POLL_S,
        "server_poll_s": round(quiet.server_poll_s(), 3),
        "launch_s": round(quiet.launch_s(), 3),
        "reply_s": round(quiet.reply_s(), 3),
        "download_message_bytes": max(0, round(sum(quiet.down_bytes) / n_messages - payload)),
        "upload_message_bytes": max(0, round(sum(quiet.up_bytes) / n_messages - payload)),
        "bytes_per_payload_byte": 1.0,
    }
    source = "a federation of one step a round on this machine, whose links nothing held back"
    origin = {"kind": "measured", "source": source, "date": date.today().isoformat(), "covers": []}
    path = folder / "flower.toml"
    provenance = {"all": {**origin, "covers": list(figures)}}
    path.write_text(tomli_w.dumps({"kind": "system", **figures, "provenance": provenance}))
    return path


def payload_bytes(workload: Workload) -> int:
    """Adapters of rank 8 on query and value, and the classifier, in float32."""
    from benchmarks.bare_loop import build

    return 4 * sum(parameter.numel() for parameter in build(workload).parameters() if parameter.requires_grad)


def write_cluster(folder: Path, profile: Path, slowness: Sequence[float], link: Link) -> None:
    """The emulated testbed: for each device the profile, as much slower as it is, on a link of the same rates."""
    assumed = {"kind": "derived", "source": "the federation that is emulated", "date": ""}
    entries = []
    for node, factor in enumerate(slowness):
        board = tomllib.loads(profile.read_text())
        for mode in board["power_mode"]:
            mode.update({key: mode[key] / factor for key in _SCALED_DOWN if key in mode})
            mode.update({key: mode[key] * factor for key in _SCALED_UP if key in mode})
        (folder / f"device{node}.toml").write_text(tomli_w.dumps(board))
        entries.append({"device": f"./device{node}.toml", "count": 1})
    rates = {"download_mbit_per_s": link.down_mbit_per_s, "upload_mbit_per_s": link.up_mbit_per_s, "latency_ms": 0}
    covers = {"rates": {**assumed, "covers": list(rates)}}
    (folder / "link.toml").write_text(tomli_w.dumps({"kind": "constant", **rates, "provenance": covers}))
    figures = {"power_mode_redraw_rounds": 0, "compute_jitter_fraction": 0.0, "entries": entries}
    cluster = {"title": "The federation", "link": "./link.toml", **figures}
    cluster["provenance"] = {"all": {**assumed, "covers": list(figures)}}
    (folder / "cluster.toml").write_text(tomli_w.dumps(cluster))


def emulate(folder: Path, workload: Workload, system: Path, n_rounds: int) -> pd.DataFrame:
    """The emulated run's rounds and devices, one row for each device and round."""
    write_files(workload, folder)
    (folder / "run.toml").write_text(config_of_workload(workload, folder, n_rounds - 1))
    settings: dict[str, Any] = {
        "testbed.cluster": str(folder / "cluster.toml"),
        "testbed.system": str(system),
        "backend.kind": "inline",
    }
    execute(load_config(folder / "run.toml", list(settings.items())), folder / "run")
    frames = load_run(folder / "run")
    rounds = frames.rounds[["round_index", "start_s", "end_s"]]
    return frames.devices.drop(columns="start_s").merge(rounds, on="round_index")


def compared(real: Federation, emulated: pd.DataFrame) -> Comparison:
    """Round by round, what devices computed, and bytes."""
    later = emulated[emulated.round_index > 0]
    lengths = (later.end_s - later.start_s).groupby(later.round_index).first()
    rounds = [
        {"round": number, "flower_s": each.length_s, "emulated_s": float(length_s)}
        for number, (each, length_s) in enumerate(zip(real.rounds[1:], lengths, strict=True), start=2)
    ]
    devices = []
    for node in sorted(later.device_id.unique()):
        turns = [turn for each in real.rounds[1:] for turn in each.turns if turn.node == node]
        computed_s = mean(turn.end_s - turn.start_s for turn in turns)
        priced_s = float(later[later.device_id == node].compute_s.mean())
        devices.append({"device_id": int(node), "flower_s": computed_s, "emulated_s": priced_s})
    counted = [
        {"way": way, "flower_bytes": sum(measured), "emulated_bytes": int(emulated[f"{way}_bytes"].sum())}
        for way, measured in (("download", real.down_bytes), ("upload", real.up_bytes))
    ]
    return Comparison(rounds=tuple(rounds), devices=tuple(devices), bytes=tuple(counted))


def shown(found: Comparison) -> Iterator[str]:
    """What is printed: round by round, then the run, what devices computed, and bytes."""
    yield "| round | Flower, s | emulated, s | error |"
    yield "|---|---|---|---|"
    for each in found.rounds:
        real_s, length_s = each["flower_s"], each["emulated_s"]
        yield f"| {each['round']} | {real_s:.2f} | {length_s:.2f} | {_error(length_s, real_s)} |"
    run_s, emulated_s = (sum(each[key] for each in found.rounds) for key in ("flower_s", "emulated_s"))
    yield f"| all | {run_s:.2f} | {emulated_s:.2f} | {_error(emulated_s, run_s)} (wanted: {WANTED:.0%}) |"
    yield ""
    for each in found.devices:
        computed_s, priced_s = each["flower_s"], each["emulated_s"]
        error = _error(priced_s, computed_s)
        yield f"device {each['device_id']} computes {computed_s:.2f} s a round, emulated {priced_s:.2f} s: {error}"
    for each in found.bytes:
        measured, counted = each["flower_bytes"], each["emulated_bytes"]
        error = _error(counted, measured)
        yield f"{each['way']}: {measured / 1e6:.2f} MB on the wire, emulated {counted / 1e6:.2f} MB: {error}"


def _error(emulated: float, real: float) -> str:
    return f"{emulated / real - 1:+.1%}"


if __name__ == "__main__":
    main()
