"""``jetbed calibrate``: measures this machine and writes a profile that can be used like any other."""

import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from device_profiles.catalog import ProfileError, load_profile
from device_profiles.records import AllocatorName, PowerMode
from emulator.calibration.fit import MOST_MEAN_ERROR_FRACTION, Fit, FitError, fit_rate, fit_steps
from emulator.calibration.link import MeasuredLink, measure_link, parse_peer, serve
from emulator.calibration.machine import Machine, this_machine, this_trainer
from emulator.calibration.measurement import (
    MeasuredStep,
    MeasuringProgress,
    TimedBy,
    TimingMethod,
    expected_s,
    measure,
    probed_flop_per_s,
)
from emulator.calibration.power import DrawnPower, PowerSensor, find_sensor, sampled
from emulator.calibration.power_log import power_of_log
from emulator.calibration.process_peak import process_peak
from emulator.calibration.profile_file import KEYS, Calibration, PowerFigures, check_out, write_calibration
from emulator.calibration.step_settings import StepSetting, grid
from emulator.calibration.transfer import LEAST_SAMPLES, fit_like, samples_like
from emulator.errors import ConfigError, UserError
from emulator.report.terminal.console import terminal
from emulator.report.terminal.units import duration

SAMPLES = 12
"""Settings that are timed with ``--like``, unless another number is given."""

_LINK_S = 5.0
_IDLE_S = 3.0
_TURNS, _QUICK_TURNS = 5, 2
_AMP_EVERY = 4  # a quarter of the grid is timed in half precision, where one figure is to be found
_NOISY, _MOST_NOISE = 1.25, 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationRequest:
    """What is to be measured, as the command line has it; None takes what the machine has."""

    out: Path
    name: str | None
    mode: str
    device: str | None
    threads: int | None
    quick: bool
    clock: TimedBy
    watts: str | None
    sensor: str | None
    power_log: Path | None
    peer: str | None
    like: str | None
    samples: int | None


def serve_link(port: int) -> None:
    """Answer the measurements of other machines until interrupted; errors as for :func:`serve`."""
    console = terminal(stderr=True)

    def ready(number: int) -> None:
        console.print(
            f"serving on port {number}; measure with: jetbed calibrate --peer THIS_MACHINE:{number} --out FILE.toml; "
            "Ctrl-C ends it",
            soft_wrap=True,
        )

    with suppress(KeyboardInterrupt):
        serve(port, ready)


def calibrate(request: CalibrationRequest) -> None:
    """Measure this machine and write the profile.

    Raises:
        UserError: something that was given cannot be used, or nothing can be fitted.
        KeyboardInterrupt: it was interrupted; nothing is written then.
    """
    check_out(request.out, with_link=request.peer is not None)
    if not request.mode.strip():
        raise ConfigError(f"--mode must be a name of at least one letter, got {request.mode!r}")
    known = _known_board(request.like, request.samples, len(grid(quick=request.quick)))
    given_watts = _given_watts(request)
    sensor = None if given_watts else find_sensor(chosen=request.sensor)
    peer = None if request.peer is None else parse_peer(request.peer)
    method = timing_method(request.device, request.threads, request.clock, quick=request.quick)
    console = terminal(stderr=True)
    link = None
    if peer:
        console.print(f"measuring the link to {request.peer}")
        link = measure_link(*peer, _LINK_S)
    machine = this_machine(method.device)
    if sensor is not None:
        console.print(f"power: {sensor.source}", soft_wrap=True, markup=False)
    runtime_memory_bytes = _runtime_memory_bytes(method)
    idle = _idle(sensor)
    settings = grid(quick=request.quick)
    if known:
        settings = samples_like(known.mode, settings, known.n_samples)
    with sampled(sensor) as drawn:
        steps = timed(settings, method, console)
    amp_steps: tuple[MeasuredStep, ...] = ()
    amp_flop_per_s = None
    if known:
        fit = fit_like(steps, known.mode, known.name)
        amp_flop_per_s = fit.flop_per_s * known.amp_ratio
    else:
        if method.device == "cuda":
            amp_steps = timed(settings[::_AMP_EVERY], replace(method, precision="amp"), console)
        fit = fit_steps(steps, "queued" if method.device == "cuda" else "in_turn")
        amp_flop_per_s = fit_rate(amp_steps, fit) if amp_steps else None
    check_quiet(steps, fit)
    calibration = Calibration(
        title=request.name or machine.name,
        mode_name=request.mode,
        machine=machine,
        fit=fit,
        steps=(*steps, *amp_steps),
        amp_flop_per_s=amp_flop_per_s,
        power=given_watts or _measured_watts(sensor, idle, drawn),
        n_threads=method.n_threads if method.device == "cpu" else None,
        software=software(method.clock),
        link=link,
        peer=request.peer or "",
        runtime_memory_bytes=runtime_memory_bytes,
        allocator=_allocator(method.device),
    )
    _show_result(request, machine, fit, calibration.power, link, write_calibration(request.out, calibration))


@dataclass(frozen=True, kw_only=True, slots=True)
class _KnownBoard:
    """A board whose law is transferred to this machine, in one of its modes, by so many timed settings."""

    name: str
    mode: PowerMode
    n_samples: int

    @property
    def amp_ratio(self) -> float:
        return self.mode.effective_flop_per_s["amp"] / self.mode.effective_flop_per_s["fp32"]


def _known_board(like: str | None, samples: int | None, n_grid: int) -> _KnownBoard | None:
    """The board whose law is transferred, by some of the ``n_grid`` settings that a full calibration times."""
    if like is None:
        if samples is not None:
            raise ConfigError(f"--samples is for --like PROFILE, whose law that many settings scale; got {samples!r}")
        return None
    n_samples = SAMPLES if samples is None else samples
    if samples is not None and not LEAST_SAMPLES <= n_samples <= n_grid:
        raise ConfigError(
            f"--samples must be between {LEAST_SAMPLES} and the {n_grid} settings that a full calibration times, got "
            f"{samples!r}; leave out --like for all of them"
        )
    try:
        profile = load_profile(like)
    except ProfileError as error:
        raise ConfigError(f"--like: {error}") from None
    mode = profile.mode(profile.default_mode)
    return _KnownBoard(name=f"{profile.name} [{mode.name}]", mode=mode, n_samples=n_samples)


def _given_watts(request: CalibrationRequest) -> PowerFigures | None:
    """What is read off a meter or out of a log rather than measured here; None without either."""
    given = {"--watts": request.watts, "--sensor": request.sensor, "--power-log": request.power_log}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ConfigError(f"{' and '.join(names)} exclude one another; give one of them, got {str(given[names[-1]])!r}")
    if request.power_log is not None:
        return power_of_log(request.power_log)
    return parse_watts(request.watts)


def timing_method(device: str | None, threads: int | None, clock: TimedBy, *, quick: bool) -> TimingMethod:
    """Where and how steps are timed on this machine.

    Raises:
        ConfigError: it has no such device, or the number of threads is not possible.
    """
    trainer = this_trainer()
    if device is not None and device not in trainer.devices:
        raise ConfigError(f"--device: PyTorch can compute here on {' or '.join(trainer.devices)}, got {device!r}")
    if threads is not None and threads < 1:
        raise ConfigError(f"--threads must be at least 1, got {threads!r}")
    device = device or trainer.devices[0]
    n_threads = threads or trainer.n_threads
    if clock == "cpu" and (device != "cpu" or n_threads != 1):
        raise ConfigError(
            f"--clock cpu counts the time of one thread: give --threads 1 and --device cpu with it; got {n_threads!r} "
            f"threads on {device!r}"
        )
    return TimingMethod(device=device, n_threads=n_threads, n_turns=_QUICK_TURNS if quick else _TURNS, clock=clock)


def timed(settings: tuple[StepSetting, ...], method: TimingMethod, console: Console) -> tuple[MeasuredStep, ...]:
    """Time the steps of ``settings`` and show how far that has come."""
    wanted_s = expected_s(settings, method, probed_flop_per_s(method))
    where = "on the GPU" if method.device == "cuda" else f"with {method.n_threads} thread{'s' * (method.n_threads > 1)}"
    console.print(
        f"timing {len(settings)} kinds of training steps {where}, {method.precision}, in {method.n_turns} turns: about "
        f"{duration(wanted_s)}",
    )
    begin_s = time.perf_counter()
    with _Display(console) as display:
        steps = measure(settings, method, display.show)
    console.print(f"timed in {duration(time.perf_counter() - begin_s)}")
    if len(steps) < len(settings):
        console.print(f"{len(settings) - len(steps)} settings were left out: they need more memory than is free")
    noise = _noise(steps)
    if noise > _NOISY:
        console.print(
            f"jetbed: steps took {noise:.2f} times as long in the median as at their fastest; the machine is busy with "
            "something else, and what is measured on it says less",
            soft_wrap=True,
        )
    return steps


def check_quiet(steps: Sequence[MeasuredStep], fit: Fit) -> None:
    """See to it that what was timed tells a profile at all.

    Raises:
        FitError: steps took far longer in the median than at their fastest, or do not follow the figures.
    """
    noise = _noise(steps)
    if noise > _MOST_NOISE or fit.mean_error_fraction > MOST_MEAN_ERROR_FRACTION:
        raise FitError(
            f"what was timed is no profile, and nothing was written: steps took {noise:.2f} times as long in the "
            f"median as at their fastest (at most {_MOST_NOISE:g}), and the figures that fit best are "
            f"{fit.mean_error_fraction:.0%} off in the mean (at most {MOST_MEAN_ERROR_FRACTION:.0%}); try again while "
            "the machine does nothing else, without --quick"
        )


def _noise(steps: Sequence[MeasuredStep]) -> float:
    """How much longer a step takes in the median than at its fastest: the middle one of all settings."""
    return sorted(step.median_step_s / step.step_s for step in steps)[len(steps) // 2] if steps else 1.0


def software(clock: TimedBy) -> str:
    """What computes, with its version, and by which clock that was timed."""
    return f"{this_trainer().version}{', CPU time of the one thread' if clock == 'cpu' else ''}"


def parse_watts(text: str | None) -> PowerFigures | None:
    """Watts that the user read off a meter: ``IDLE,COMPUTE,TRANSFER``.

    Raises:
        ConfigError: it is not of that form.
    """
    if text is None:
        return None
    try:
        idle_w, compute_w, transfer_w = (float(part) for part in text.split(","))
        is_fine = 0 <= idle_w <= min(compute_w, transfer_w) and max(compute_w, transfer_w) < 1e6
    except ValueError:
        is_fine = False
    if not is_fine:
        raise ConfigError(
            "--watts takes three numbers, IDLE,COMPUTE,TRANSFER, of which the first is the least, such as 3.1,9.5,4; "
            f"got {text!r}"
        )
    return PowerFigures(
        idle_w=idle_w,
        compute_w=compute_w,
        transfer_w=transfer_w,
        kind="measured",
        source="a meter, read by whoever ran jetbed calibrate --watts",
    )


class _Display:
    """A bar on a terminal; elsewhere a line for every tenth of the way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tenths = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("timing", total=None, left="")

    def __enter__(self) -> "_Display":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):  # a terminal that has hung up cannot be drawn on
            self._bar.stop()

    def show(self, progress: MeasuringProgress) -> None:
        left = f"about {duration(progress.left_s)} left" if progress.left_s else ""
        left_and_now = f"{left}  {progress.setting}"
        self._bar.update(self._task, completed=progress.n_done, total=progress.n_visits, left=left_and_now)
        tenths = 10 * progress.n_done // progress.n_visits
        if not self._console.is_terminal and tenths > self._tenths:
            self._tenths = tenths
            self._console.print(f"{progress.n_done}/{progress.n_visits}  {left}")


def _runtime_memory_bytes(method: TimingMethod) -> int | None:
    """What a training process holds beside its model; None on a GPU, or where the system does not say."""
    if method.device != "cpu":
        return None
    with suppress(UserError):
        return process_peak(n_threads=method.n_threads).runtime_bytes
    return None


def _allocator(device: str) -> AllocatorName:
    """Whose rules place tensors; glibc's stand for those of other systems' libraries, too."""
    if device == "cuda":
        return "pytorch_cuda"
    name, version = platform.libc_ver()
    is_newer = name == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 39)
    return "glibc_2_39" if is_newer else "glibc"


def _idle(sensor: PowerSensor | None) -> DrawnPower:
    with sampled(sensor) as drawn:
        if sensor is not None:
            time.sleep(_IDLE_S)
    return drawn


def _measured_watts(sensor: PowerSensor | None, idle: DrawnPower, busy: DrawnPower) -> PowerFigures:
    idle_w, compute_w = idle.mean_w, busy.mean_w
    n_unread = idle.n_unread + busy.n_unread
    n_read = len(idle.samples_w) + len(busy.samples_w)
    unread = f" {n_unread} of {n_unread + n_read} samples could not be read ({busy.reason or idle.reason})."
    if sensor is None or idle_w is None or compute_w is None:
        return PowerFigures(
            idle_w=0.0,
            compute_w=0.0,
            transfer_w=0.0,
            kind="assumed",
            source="none: this machine has no power sensor that can be read",
            note="0 W leaves energy out of account; --watts IDLE,COMPUTE,TRANSFER takes what a meter says."
            + (f"{unread} The sensor was: {sensor.source}." if sensor else ""),
        )
    return PowerFigures(
        idle_w=idle_w,
        compute_w=max(idle_w, compute_w),
        transfer_w=idle_w,
        kind="measured",
        source=f"jetbed calibrate: {sensor.source}",
        note="Means before and while steps were timed. Transfers were not measured: the idle figure is repeated."
        + (unread if n_unread else ""),
    )


def _show_result(
    request: CalibrationRequest,
    machine: Machine,
    fit: Fit,
    power: PowerFigures,
    link: MeasuredLink | None,
    files: tuple[Path, ...],
) -> None:
    console = terminal()
    lines = [
        f"{request.name or machine.name}: {fit.flop_per_s / 1e9:.4g} GFLOP/s, {fit.memory_bytes_per_s / 1e9:.3g} GB/s, "
        f"{fit.dispatch_s * 1e6:.3g} us an operation, {fit.step_overhead_s * 1e3:.3g} ms a step",
        f"priced with these, the timed steps are {fit.mean_error_fraction:.1%} off in the mean and "
        f"{fit.worst_error_fraction:.1%} at worst",
    ]
    if fit.not_determined:
        names = ", ".join(KEYS[name] for name in fit.not_determined)
        lines.append(f"not determined by these steps, and assumed in the profile: {names}")
    if link:
        lines.append(
            f"link: {link.download_bytes_per_s * 8e-6:.4g} Mb/s down, {link.upload_bytes_per_s * 8e-6:.4g} Mb/s up, "
            f"{link.latency_s * 1e3:.3g} ms"
        )
    if " samples could not be read" in power.note:
        lines.append(f"energy: {power.note}")
    if power.kind != "measured":
        lines.append("energy: no power sensor could be read, so the profile has 0 W; --watts takes a meter's figures")
    lines += [f"written: {file}" for file in files]
    lines.append(f"next: jetbed validate {request.out}")
    for line in lines:
        console.print(line, soft_wrap=True)
