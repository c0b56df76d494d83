"""Runs the sweeps of the six systems' claims and shows the papers' figures beside the measured ones.

    python -m benchmarks.claims [SYSTEM ...] [--size laptop] [--world builtin] [--rates tuned] [--out FOLDER]
    python -m benchmarks.claims --size gpu --device cuda --world real --model FOLDER --data FILE --test-data FILE

Started again it goes on where it was. ``python -m benchmarks.claims.page`` makes a page of what the folder holds.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.claims.driver import carry_out_or_exit
from benchmarks.claims.figures import bound, figure, finished, shown, verdict
from benchmarks.claims.gates import GATES
from benchmarks.claims.options import add_options, given, n_parallel
from benchmarks.claims.plan import Group, Setting, groups, own_world, seeds, tuned_rates
from emulator.errors import ConfigError

SYSTEMS = tuple(dict.fromkeys(gate.system for gate in GATES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", choices=[*SYSTEMS, []], help="all of them without")
    parser.add_argument(
        "--rates", choices=("common", "tuned"), default="common", help="one learning rate for all, or each policy's own"
    )
    parser.add_argument("--no-controls", action="store_true", help="leave out what no gate looks at")
    add_options(parser)
    options = parser.parse_args()
    settings = {system: setting_of(system, options) for system in options.systems or SYSTEMS}
    try:
        plan = [group for system, setting in settings.items() for group in planned(system, setting, options)]
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    failed = carry_out_or_exit(plan, options.out, n_parallel(options))
    print(table(settings, options.out))
    sys.exit(1 if failed else 0)


def setting_of(system: str, options: argparse.Namespace) -> Setting:
    """The setting under which a claim is run, in the world that was asked for or its own."""
    return Setting(world=own_world(system, options.world), size=options.size, rates=options.rates)


def planned(system: str, setting: Setting, options: argparse.Namespace) -> list[Group]:
    """The groups of a claim that were asked for, those that gates look at first and in their order."""
    found = groups(system, setting, given(options, setting.world), tuned_rates().get(setting.world))
    own = [gate for gate in GATES if gate.system == system]
    looked_at = list(dict.fromkeys(label for gate in own for label in (gate.group, gate.baseline)))
    if options.no_controls:
        found = [group for group in found if group.label in looked_at]
    place_of = {label: index for index, label in enumerate(looked_at)}
    return sorted(found, key=lambda group: place_of.get(group.label, len(looked_at)))


def table(settings: Mapping[str, Setting], out: Path) -> str:
    """A line per gate: what the paper says, what was measured over the seeds, and what is said of it."""
    lines = ["| gate | compared | paper | measured | must | |", "|---|---|---|---|---|---|"]
    for system, setting in settings.items():
        runs = finished(system, setting, out)
        for gate in (gate for gate in GATES if gate.system == system):
            found = figure(gate, runs)
            said = verdict(gate, found, len(seeds(system)))
            what = f"{gate.what}: {gate.group} and {gate.baseline}"
            lines.append(f"| {gate.key} | {what} | {gate.paper} | {shown(gate, found)} | {bound(gate)} | {said} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
