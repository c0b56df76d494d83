"""Carries one work out to its end: strikes while a command goes on, and takes the work up again as a user would."""

import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil

from benchmarks.chaos.ground import ROOM, Ground, lives
from benchmarks.chaos.kills import MOST_DELAY_S, MOST_START_S, Kill
from benchmarks.chaos.works import Work

OUT = f"{ROOM}/out"
LOOK_S = 0.1
END_S = 30.0
"""So long anything may live behind the command that has started it."""
MARK = "jetbed: "
"""With what a line of standard error begins that says more than how far it is."""
MOST_COMMAND_S = 900.0
"""A command that takes longer hangs."""


@dataclass(kw_only=True, slots=True)
class Struck:
    """A blow that was dealt.

    Attributes:
        kill: what it was to be.
        at_step: so many steps were told by then.
        at_s: when, by the monotonic clock.
        n_lines: how much the command had said by then.
        did: what the command did then.
        said: what it had to say of that, if anything.
    """

    kill: Kill
    at_step: int
    at_s: float
    n_lines: int
    did: str = "went on by itself"
    said: str = ""


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What became of a work.

    Attributes:
        struck: the blows that it got.
        faults: what went wrong, a line each.
        end_s: when it was finished, by the monotonic clock.
    """

    struck: list[Struck] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    end_s: float = 0.0


def carry_out(work: Work, kills: Sequence[Kill], ground: Ground) -> Outcome:
    """Start the work, deal the blows that come in time, and take it up until it is finished, or fails of itself."""
    outcome, waiting, left = Outcome(), deque(kills), list[_Left]()
    where = ("--backend", "ray", "--hosts", "2")
    command, n_told, is_over = work.command(OUT, *where), 0, False
    while not is_over:
        ended = _Command(work, command, ground, n_told).follow(waiting, outcome, left)
        n_told = ended.n_told
        left.append(_Left(ended.living, ended.end_s))
        if not ended.status:
            is_over = True
        elif not ended.was_struck:
            outcome.faults.append(f"{command[0]} ended of itself with status {ended.status}: {ended.last_line}")
            is_over = True
        else:
            has_begun = ground.has(f"{OUT}/run.json")
            command = work.command_again(OUT, *where, has_begun=has_begun)
            # What came before the last blow, the command has survived.
            ended.struck[-1].did = f"ended with status {ended.status}, then {command[0]}"
    outcome.end_s = time.monotonic()
    for each in left:
        outcome.faults += each.wait()
    return outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ended:
    """A command that has ended, and what it had started and was still there."""

    status: int
    n_told: int
    struck: list[Struck]
    last_line: str
    living: set[psutil.Process]
    end_s: float

    @property
    def was_struck(self) -> bool:
        return bool(self.struck)


def tell_said(struck: Sequence[Struck], lines: Sequence[str]) -> None:
    """Let each blow know what the command said of it: the first such line before the next blow."""
    ends: list[int | None] = [later.n_lines for later in struck[1:]]
    for blow, end in zip(struck, [*ends, None], strict=False):  # a command that was spared has an end more than blows
        after = lines[blow.n_lines : end]
        blow.said = next((line[len(MARK) :].strip() for line in after if line.startswith(MARK)), "")


class _Command:
    """One command, from its start to its end."""

    def __init__(self, work: Work, arguments: Sequence[str], ground: Ground, n_told: int) -> None:
        self._work = work
        self._arguments = arguments
        self._ground = ground
        self._lines: list[str] = []
        self._n_told = n_told
        self._told_s = time.monotonic()
        self._has_told = False
        self._free_s = float("inf")

    def follow(self, waiting: deque[Kill], outcome: Outcome, left: Sequence["_Left"]) -> _Ended:
        """Until it has ended; deals blows out of ``waiting`` into ``outcome`` when it is their time."""
        struck: list[Struck] = []
        start_s = time.monotonic()
        with self._ground.user.started(*self._arguments, **self._ground.environment) as process:
            reader = threading.Thread(target=self._read, args=(process,), daemon=True)
            reader.start()
            command, living = psutil.Process(process.pid), set[psutil.Process]()
            while process.poll() is None:
                if waiting and self._is_due(waiting[0]) and (blow := self._strike(waiting[0], command)):
                    struck.append(blow)
                    waiting.popleft()
                self._free_in_time()
                living |= self._ground.living(command)
                for each in left:
                    each.look()
                if time.monotonic() - start_s > MOST_COMMAND_S:
                    outcome.faults.append(f"{self._arguments[0]} has not ended within {MOST_COMMAND_S:.0f} s")
                    break
                time.sleep(LOOK_S)
            end_s = time.monotonic()
            # A shell of the machine may hold the other end.
            reader.join(5.0)
        self._free_s = min(self._free_s, end_s)
        self._free_in_time()
        tell_said(struck, self._lines)
        outcome.struck += struck
        said = [line for line in self._lines if line.startswith(MARK)] or self._lines or ["nothing said"]
        return _Ended(
            status=process.returncode,
            n_told=self._n_told,
            struck=struck,
            last_line=said[-1].strip(),
            living=living,
            end_s=end_s,
        )

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self._lines.append(line)
            n_steps = self._work.steps_told(line)
            if n_steps is not None and n_steps > self._n_told:
                self._n_told, self._told_s, self._has_told = n_steps, time.monotonic(), True

    def _is_due(self, kill: Kill) -> bool:
        longest_s = MOST_DELAY_S if self._has_told else MOST_START_S
        return self._n_told >= kill.n_steps and time.monotonic() > self._told_s + kill.delay * longest_s

    def _strike(self, kill: Kill, command: psutil.Process) -> Struck | None:
        """Deal the blow; None where there is nothing yet that it could hit."""
        if kill.what == "disk":
            if self._free_s < float("inf") or not self._ground.targets("coordinator", command):
                return None
            self._ground.fill()
            self._free_s = time.monotonic() + kill.full_s
        else:
            targets = sorted(self._ground.targets(kill.what, command), key=lambda process: process.pid)
            if not targets:
                return None
            targets[int(kill.pick * len(targets))].kill()
        # The next one waits anew from here.
        now_s = self._told_s = time.monotonic()
        return Struck(kill=kill, at_step=self._n_told, at_s=now_s, n_lines=len(self._lines))

    def _free_in_time(self) -> None:
        if time.monotonic() >= self._free_s:
            self._ground.free()
            self._free_s = float("inf")


class _Left:
    """What lived of a command when it ended."""

    def __init__(self, living: set[psutil.Process], end_s: float) -> None:
        self._living = living
        self._end_s = end_s
        self._ended_late: set[str] = set()

    def look(self) -> None:
        """Note who has ended, and who should have."""
        self._living = {each for each in self._living if lives(each)}
        if self._living and time.monotonic() > self._end_s + END_S:
            self._ended_late |= {_called(each) for each in self._living}

    def wait(self) -> list[str]:
        """A fault for those that lived too long, once all have ended or their time is over."""
        self.look()
        while self._living and not self._ended_late:
            time.sleep(LOOK_S)
            self.look()
        late = ", ".join(sorted(self._ended_late))
        return [f"alive {END_S:.0f} s after its command had ended: {late}"] if late else []


def _called(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return "one that has just ended"
