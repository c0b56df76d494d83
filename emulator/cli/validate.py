"""``jetbed validate``: times steps that no profile was fitted to, and prints what the profile says beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column

from device_profiles.catalog import ProfileError, load_profile
from device_profiles.records import DeviceProfile, PowerMode
from emulator.calibration.agreement import Agreement, agreements_of, agreements_text, overall
from emulator.calibration.machine import this_machine
from emulator.calibration.measurement import MeasuredStep, TimedBy
from emulator.calibration.process_peak import ProcessPeak, ProcessSetting, process_peak
from emulator.calibration.step_settings import N_UNSEEN, StepSetting, quick_unseen, unseen
from emulator.cli.calibrate import software, timed, timing_method
from emulator.cli.price import power_mode
from emulator.errors import ConfigError, UserError
from emulator.records import WorkKind
from emulator.report.terminal.console import FittedTable, terminal
from emulator.report.terminal.units import size
from emulator.storage.files import check_writable, write_text
from emulator.storage.places import Place


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationRequest:
    """What is to be validated, as the command line has it; None takes what the profile says, or the machine has."""

    profile: str
    mode: str | None
    device: str | None
    threads: int | None
    quick: bool
    settings: int | None
    clock: TimedBy
    csv: Place | None


def validate(request: ValidationRequest, as_json: bool) -> None:
    """Time settings that are in no grid, and print predicted beside measured.

    Raises:
        UserError: something that was given cannot be used.
        KeyboardInterrupt: it was interrupted; nothing is written then.
    """
    try:
        profile = load_profile(request.profile)
    except ProfileError as error:
        raise ConfigError(str(error)) from None
    mode = power_mode(profile, request.mode)
    if request.csv:
        check_writable(request.csv, "--csv")
    device = request.device or ("cpu" if mode.n_cpu_threads else None)
    threads = (mode.n_cpu_threads or None) if request.threads is None else request.threads
    method = timing_method(device, threads, request.clock, quick=request.quick)
    console = terminal(stderr=True)
    steps = timed(_settings(request), method, console)
    if not steps:
        raise ConfigError("no setting fits into the memory that is free; end other programs and try again")
    in_processes = method.device == "cpu" and not request.quick
    processes = _processes(steps, method.n_threads, console) if in_processes else {}
    agreements = agreements_of(profile, mode, steps, processes)
    machine = this_machine(method.device)
    with_what = f"threads: {method.n_threads}, {software(method.clock)}"
    what = f"{profile.name} [{mode.name}] against {machine.processor}, {with_what}"
    if request.csv:
        write_text(request.csv, [agreements_text(agreements, f"jetbed validate: {what}")])
    if as_json:
        print(json.dumps(_as_plain(profile, mode, agreements), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(terminal(), what, agreements)


def _settings(request: ValidationRequest) -> tuple[StepSetting, ...]:
    if not request.quick:
        return unseen(N_UNSEEN if request.settings is None else request.settings)
    if request.settings is not None:
        raise ConfigError(f"--quick has settings of its own; leave out --settings, got {request.settings!r}")
    return quick_unseen()


def _processes(steps: Sequence[MeasuredStep], n_threads: int, console: Console) -> Mapping[StepSetting, ProcessPeak]:
    """What a process of its own held for each setting; nothing where the system does not say."""
    console.print(f"measuring the memory of {len(steps)} processes")
    found = {}
    try:
        for step in steps:
            found[step.setting] = process_peak(ProcessSetting.of(step.setting), n_threads)
    except UserError as error:
        console.print(f"jetbed: {error}; memory is left out", soft_wrap=True, markup=False)
        return {}
    return found


def _show(console: Console, what: str, agreements: tuple[Agreement, ...]) -> None:
    console.print(what, soft_wrap=True)
    table = FittedTable(
        Column("layers", no_wrap=True),
        Column("trained", no_wrap=True),
        Column("batch", no_wrap=True),
        *(Column(name, justify="right", no_wrap=True) for name in ("ms", "priced ms", "error", "memory", "error")),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=0,
    )
    for each in agreements:
        memory, memory_error = each.measured_memory_bytes, each.memory_error_fraction
        setting = each.step.setting
        adapters = f"{setting.depth}, rank {setting.rank} {setting.targets}"
        trained = {
            WorkKind.ADAPTERS: adapters,
            WorkKind.WEIGHTS: f"{setting.depth} whole",
            WorkKind.INFERENCE: "inference",
        }[setting.kind]
        table.add_row(
            f"{setting.n_layers} x {setting.hidden_size}{' dec' if setting.is_decoder else ''}",
            trained,
            f"{setting.batch_size} x {setting.seq_len}",
            f"{each.step.step_s * 1e3:.4g}",
            f"{each.predicted_s * 1e3:.4g}",
            f"{each.error_fraction:+.1%}",
            "–" if memory is None else size(max(0, memory)),
            "–" if memory_error is None else f"{memory_error:+.1%}",
        )
    console.print(table)
    n_outside = sum(each.outside is not None for each in agreements)
    if n_outside:
        console.print(f"{n_outside} of them are outside the range in which the profile is known")
    for what, some in _by_family(agreements).items():
        errors = overall(some)
        of_memory = ""
        if errors.mean_memory_error_fraction is not None:
            of_memory = (
                f"; memory {errors.mean_memory_error_fraction:.1%} in the mean, "
                f"{errors.worst_memory_error_fraction:.1%} at worst"
            )
        console.print(
            f"{errors.n_settings} {what}: error {errors.mean_error_fraction:.1%} in the mean, "
            f"{errors.worst_error_fraction:.1%} at worst{of_memory}",
            soft_wrap=True,
        )


def _by_family(agreements: Sequence[Agreement]) -> Mapping[str, Sequence[Agreement]]:
    """All together, and those of encoders and decoders where there are both."""
    families = {
        name: [each for each in agreements if each.step.setting.is_decoder is is_decoder]
        for name, is_decoder in (("encoders", False), ("decoders", True))
    }
    together = {"settings that are in no grid": agreements}
    return together | (families if all(families.values()) else {})


def _as_plain(profile: DeviceProfile, mode: PowerMode, agreements: tuple[Agreement, ...]) -> dict[str, Any]:
    return {
        "profile": profile.name,
        "mode": mode.name,
        **asdict(overall(agreements)),
        "by_family": {name: asdict(overall(some)) for name, some in _by_family(agreements).items()},
        "settings": [
            {
                **asdict(each.step.setting),
                "precision": each.step.precision,
                "measured_s": each.step.step_s,
                "predicted_s": each.predicted_s,
                "error_fraction": each.error_fraction,
                "measured_peak_memory_bytes": each.measured_memory_bytes,
                "predicted_peak_memory_bytes": each.predicted_memory_bytes,
                "outside_known_range": each.outside,
            }
            for each in agreements
        ],
    }
