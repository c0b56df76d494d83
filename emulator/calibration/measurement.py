"""Times training steps of many settings on this machine, in turns, so that a disturbance hits few of them for long."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from emulator.calibration.step_settings import StepSetting, shape_of
from emulator.running.limits import memory_left_bytes
from emulator.world.price.memory import peak_memory
from emulator.world.price.step_kinds import step_of

if TYPE_CHECKING:
    from emulator.learning.model.probe import StepBench

TimedBy = Literal["wall", "cpu"]

VISIT_S = 0.25
"""Each time that it is its turn, a setting is timed for about so long."""

_MIN_STEPS, _MAX_STEPS = 2, 12
_MEMORY_MARGIN = 1.5
_BUILD_S_PER_PARAMETER = 2e-8  # drawing random weights, one thread
_GUESSED_DISPATCH_S = 2e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class TimingMethod:
    """How steps are timed: where, with how many threads, how many times in turn, and by which clock.

    ``clock`` is ``wall``, or ``cpu`` for a single thread on a machine that others use at the same time.
    """

    device: str
    n_threads: int
    n_turns: int
    clock: TimedBy = "wall"
    precision: str = "fp32"


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredStep:
    """What the steps of one setting took. The fastest counts: whatever else goes on in a machine only adds.

    ``peak_memory_bytes`` is None where the system does not say.
    """

    setting: StepSetting
    precision: str
    step_s: float
    median_step_s: float
    n_steps: int
    peak_memory_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuringProgress:
    """How far a measurement has come; ``left_s`` is what it will still take."""

    n_done: int
    n_visits: int
    left_s: float
    setting: StepSetting


@dataclass(slots=True)
class _Seen:
    steps_s: list[float] = field(default_factory=list)
    peak_memory_bytes: int | None = None


def measure(
    settings: Sequence[StepSetting], method: TimingMethod, show: Callable[[MeasuringProgress], None]
) -> tuple[MeasuredStep, ...]:
    """Time the steps of ``settings``, which are in the order of their shapes; those that do not fit are left out.

    A setting may not fit into the memory that is free; the result then has none for it.
    """
    from emulator.learning.model.probe import StepBench

    settings = [setting for setting in settings if _fits(setting, method.precision)]
    seen = {setting: _Seen() for setting in settings}
    progress = _TimeLeft(settings, method, show)
    for _ in range(method.n_turns):
        for _, group in groupby(settings, key=shape_of):
            of_shape = list(group)
            with StepBench(of_shape[0].config, method.device, method.n_threads) as bench:
                for setting in of_shape:
                    progress.show(setting)
                    steps_s = _visited(bench, setting, method)
                    seen[setting].steps_s += steps_s
                    if seen[setting].peak_memory_bytes is None:
                        seen[setting].peak_memory_bytes = bench.peak_memory_bytes()
                    progress.done(setting, min(steps_s))
    return tuple(
        MeasuredStep(
            setting=setting,
            precision=method.precision,
            step_s=min(each.steps_s),
            median_step_s=statistics.median(each.steps_s),
            n_steps=len(each.steps_s),
            peak_memory_bytes=each.peak_memory_bytes,
        )
        for setting, each in seen.items()
    )


def expected_s(settings: Sequence[StepSetting], method: TimingMethod, flop_per_s: float) -> float:
    """About how long :func:`measure` will take where matrix products reach ``flop_per_s``."""
    steps_s = {setting: _guessed_step_s(setting, method.precision, flop_per_s) for setting in settings}
    return method.n_turns * (sum(map(_visit_s, steps_s.values())) + _build_s(settings))


def probed_flop_per_s(method: TimingMethod) -> float:
    """A first idea of the machine's rate, from a few steps of one setting."""
    from emulator.learning.model.probe import StepBench

    setting = StepSetting(hidden_size=256, n_layers=2, depth=2, rank=8, targets="qv", batch_size=8, seq_len=64)
    with StepBench(setting.config, method.device, method.n_threads) as bench, bench.steps(setting.work, "fp32") as step:
        seconds = min(step().wall_s for _ in range(4))
    return _flop(setting, "fp32") / seconds


class _TimeLeft:
    """Says what is left: what the remaining visits should take, scaled by how long the past ones really took."""

    def __init__(
        self, settings: Sequence[StepSetting], method: TimingMethod, show: Callable[[MeasuringProgress], None]
    ) -> None:
        self._settings, self._method, self._show = settings, method, show
        self._n_done = 0
        self._flop = {setting: _flop(setting, method.precision) for setting in settings}
        self._steps_s: dict[StepSetting, float] = {}
        self._begin_s = time.perf_counter()

    def show(self, setting: StepSetting) -> None:
        n_visits = self._method.n_turns * len(self._settings)
        left_s = 0.0
        if self._steps_s:
            visits_s = [self._visit_s(number) for number in range(n_visits)]
            pace = (time.perf_counter() - self._begin_s) / sum(visits_s[: self._n_done])
            left_s = pace * sum(visits_s[self._n_done :])
        self._show(MeasuringProgress(n_done=self._n_done, n_visits=n_visits, left_s=left_s, setting=setting))

    def done(self, setting: StepSetting, step_s: float) -> None:
        self._n_done += 1
        self._steps_s[setting] = step_s

    def _visit_s(self, number: int) -> float:
        """Seconds of a visit, from what its setting took already, or from the rate of those that were timed."""
        setting = self._settings[number % len(self._settings)]
        if setting in self._steps_s:
            return _visit_s(self._steps_s[setting])
        flop_per_s = sum(self._flop[each] for each in self._steps_s) / sum(self._steps_s.values())
        return _visit_s(self._flop[setting] / flop_per_s)


def _visited(bench: "StepBench", setting: StepSetting, method: TimingMethod) -> list[float]:
    """Seconds of the steps of one turn: as many as :data:`VISIT_S` has room for, after one that allocates."""
    steps_s: list[float] = []
    with bench.steps(setting.work, method.precision) as step:
        step()
        while len(steps_s) < _MIN_STEPS or (sum(steps_s) < VISIT_S and len(steps_s) < _MAX_STEPS):
            took = step()
            steps_s.append(took.wall_s if method.clock == "wall" else took.cpu_s)
    return steps_s


def _visit_s(step_s: float) -> float:
    n_steps = min(max(_MIN_STEPS, VISIT_S / step_s), _MAX_STEPS)
    return (n_steps + 1) * step_s


def _guessed_step_s(setting: StepSetting, precision: str, flop_per_s: float) -> float:
    demand = step_of(setting.model, setting.work, precision).demand()
    n_operations = demand.n_forward_operations + demand.n_backward_operations
    return _flop(setting, precision) / flop_per_s + n_operations * _GUESSED_DISPATCH_S


def _build_s(settings: Sequence[StepSetting]) -> float:
    models = {shape_of(setting): setting.model for setting in settings}
    return sum(_BUILD_S_PER_PARAMETER * model.n_parameters for model in models.values())


def _flop(setting: StepSetting, precision: str) -> float:
    demand = step_of(setting.model, setting.work, precision).demand()
    return demand.forward_flop + demand.backward_flop


def _fits(setting: StepSetting, precision: str) -> bool:
    free_bytes = memory_left_bytes()
    needed_bytes = _MEMORY_MARGIN * peak_memory(setting.model, setting.work, precision, allocator="glibc").total_bytes
    return free_bytes is None or needed_bytes <= free_bytes
