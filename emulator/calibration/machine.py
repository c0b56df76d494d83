"""What can be found out about the machine that is measured: its name, its processor and its memory."""

import platform
from dataclasses import dataclass
from pathlib import Path

from emulator.running.limits import machine_memory_bytes, memory_left_bytes

_CPUINFO = Path("/proc/cpuinfo")
_BOARD_NAME = Path("/proc/device-tree/model")  # on Jetson, Raspberry Pi and other boards of that kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The machine by name, its processor or GPU, and the memory that training shares or has."""

    name: str
    processor: str
    memory_bytes: int
    available_memory_bytes: int
    memory_source: str


def this_machine(device: str) -> Machine:
    """The machine that this process runs on, as seen by training on its ``cpu`` or ``cuda``."""
    if device == "cuda":
        from emulator.learning.model.probe import cuda_name_and_memory

        name, total_bytes, free_bytes = cuda_name_and_memory()
        return Machine(
            name=_board_name() or name,
            processor=name,
            memory_bytes=total_bytes,
            available_memory_bytes=free_bytes,
            memory_source="CUDA's total and free memory",
        )
    processor = _processor()
    memory_bytes = machine_memory_bytes()
    unused_bytes = memory_left_bytes()
    return Machine(
        name=_board_name() or processor,
        processor=processor,
        memory_bytes=memory_bytes,
        available_memory_bytes=memory_bytes if unused_bytes is None else min(unused_bytes, memory_bytes),
        memory_source="MemTotal and MemAvailable of /proc/meminfo, where there is one",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Trainer:
    """What trains here: PyTorch's version, where it can compute (the best first), and its number of threads."""

    version: str
    devices: tuple[str, ...]
    n_threads: int


def this_trainer() -> Trainer:
    """PyTorch as it is here; it takes seconds to load."""
    from emulator.learning.model.probe import default_threads, silence_libraries, torch_version, usable_devices

    silence_libraries()
    return Trainer(version=f"PyTorch {torch_version()}", devices=usable_devices(), n_threads=default_threads())


def _board_name() -> str:
    return _read(_BOARD_NAME).rstrip("\0\n")


def _processor() -> str:
    for line in _read(_CPUINFO).splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
