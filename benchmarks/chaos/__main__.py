"""Whether a study survives whatever dies.

``python -m benchmarks.chaos --kills 40 --seed 0`` starts small runs of several policies, and a sweep of 3 x 2, on a
machine of its own (``tests/machines.py``), and kills hosts, coordinators, raylets and drivers in their midst, or fills
the disk of the results. Where the command ends of it, the work is taken up as a user would: by ``jetbed resume``, or by
the same command where there is nothing yet to resume, and for a sweep. In the end every run must be finished, with the
bytes of the same run in one undisturbed process, and nothing may live for longer than 30 s behind its command.

A line a blow, and the sum. What is hit and when follows from the seed; ``--machines`` has the hosts on a cluster of two
machines, and kills the raylet of the second. Exit status 1 where anything is not as it must be.
"""

import argparse
import sys
import textwrap
from collections import Counter
from pathlib import Path

from benchmarks.chaos.following import OUT, Outcome, carry_out
from benchmarks.chaos.ground import started_ground, twins
from benchmarks.chaos.kills import WHAT, drawn
from benchmarks.chaos.works import Work
from tests.command_line import in_process
from tests.machines import why_no_machines

MOST_SAID = 120
"""So many characters are quoted of what a command says of a blow."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=40, help="how many must have been dealt (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="what is hit and when (default: %(default)s)")
    parser.add_argument("--machines", action="store_true", help="on a cluster of two machines")
    given = parser.parse_args()
    if reason := why_no_machines():
        sys.exit(f"no machines can be made here: {reason}")
    totals = _Totals()
    with twins() as folder:
        plan = drawn(given.seed)
        while totals.n_kills < given.kills:
            work, kills = next(plan)
            kills = kills[: given.kills - totals.n_kills]
            with started_ground(2 if given.machines else 1) as ground:
                outcome = carry_out(work, kills, ground)
                outcome.faults += work.faults(ground.fetch(OUT), _twin(work, folder))
            totals.add(work, outcome)
    totals.show()
    sys.exit(bool(totals.n_faults))


_twins: dict[Work, Path] = {}


def _twin(work: Work, folder: Path) -> Path:
    """The same work in one process, undisturbed."""
    if work not in _twins:
        out = folder / work.name
        # In this process, which has loaded everything by the second time.
        done = in_process(*work.command(str(out), "--backend", "inline"), cwd=folder)
        if done.returncode:
            raise RuntimeError(f"the undisturbed {work.name} failed: {done.stderr}")
        _twins[work] = out
    return _twins[work]


class _Totals:
    """What has been dealt, and what came of it."""

    def __init__(self) -> None:
        self.n_faults = 0
        self._kills: Counter[str] = Counter()
        self._works: Counter[str] = Counter()
        self._n_runs = 0

    @property
    def n_kills(self) -> int:
        return self._kills.total()

    def add(self, work: Work, outcome: Outcome) -> None:
        """Count the outcome of a work, and print its lines."""
        for struck in outcome.struck:
            self._kills[struck.kill.what] += 1
            at = f"{struck.at_step}/{work.n_steps}"
            finished = f"finished {outcome.end_s - struck.at_s:4.0f} s later"
            said = f": {textwrap.shorten(struck.said, MOST_SAID)}" if struck.said else ""
            print(f"{self.n_kills:3}  {struck.kill.what:11}  {work.name:8} {at:>4}  {finished}  {struck.did}{said}")
        self.n_faults += len(outcome.faults)
        self._works[work.name] += 1
        self._n_runs += work.n_runs
        for fault in outcome.faults:
            print(f"FAULT  {work.name}: {fault}")
        if not outcome.struck:
            print(f"     no blow came in time: {work.name}")
        sys.stdout.flush()

    def show(self) -> None:
        kills = ", ".join(f"{self._kills[what]} {what}" for what in WHAT)
        works = ", ".join(f"{number} {name}" for name, number in sorted(self._works.items()))
        print(f"{self.n_kills} kills ({kills}) in {self._n_runs} runs ({works})")
        print(
            f"{self.n_faults} faults"
            if self.n_faults
            else "all runs are finished with the bytes of their twins, and nothing outlived its command for over 30 s"
        )


if __name__ == "__main__":
    main()
