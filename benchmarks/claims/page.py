"""The page of all claims, from Parquet: ``python -m benchmarks.claims.page [--runs FOLDER ...] [--page FILE]``.

For each system the paper's sentence, and for each of its gates what was fixed before any run, what was measured under
each setting that was run, and a verdict. What was tried where a claim is not reproduced is taken from ``tried.toml``,
written by hand. Nothing else on the page is typed.
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.claims.figures import (
    Figure,
    Runs,
    Verdict,
    bound,
    common_target,
    figure,
    finished,
    has_no_effect_inside,
    is_learnt,
    shown,
    verdict,
)
from benchmarks.claims.gates import GATES, Gate
from benchmarks.claims.plan import (
    HERE,
    LEARNING_RATES,
    SIZES,
    TRIAL,
    WORLDS,
    Rates,
    Setting,
    claim_file,
    own_world,
    policies,
    read_toml,
    seeds,
)

PAGE = HERE.parent / "claims.md"
RATES_IN_WORDS = {"common": "learning rate {rate:g} for all", "tuned": "each policy at its own tuned learning rate"}

HEAD = """# What the papers claim, and what is measured here

Each claim has gates: comparisons with a bound that was fixed before any run (`claims/gates.py`). A figure is a mean
over seeds 0, 1 and 2 with its 95 % interval: of ratios the paired geometric mean (1.50 of a time to target means 1.5
times faster), of accuracies the paired difference in points.

- **reproduced**: the mean meets the bound;
- **direction only**: it does not, but the difference has the paper's sign;
- **not reproduced**: it has not even that;
- **cannot be told**: some run learns no more than chance gives, so that there is no target;
- **unfinished**: not all seeds of both groups are there; **not run**: none is.

A bound is this project's judgement of what a faithful implementation must show on an emulated testbed; the paper's own
figure stands beside it. The target is the best accuracy that all finished runs of a claim reach. A setting is named by
its world (what is trained on what), its size (`claims/*.toml`) and its learning rates.

Made by `python -m benchmarks.claims.page` from Parquet, and from `claims/tried.toml` what was tried."""

SEARCH = """Mean over seeds 10, 11 and 12, which no gate looks at, of the mean accuracy in the second half of the rounds
(`claims/tuning.toml`); bold is what is taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A claim under one setting, by its finished runs."""

    system: str
    setting: Setting
    runs: Runs

    def figure(self, gate: Gate) -> tuple[Figure, Verdict]:
        """A gate's figure, and what is said of it."""
        found = figure(gate, self.runs)
        return found, verdict(gate, found, len(seeds(self.system)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", default=[Path("runs/claims")], help="folders of claims")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write")
    options = parser.parse_args()
    systems = dict.fromkeys(gate.system for gate in GATES)
    found = {system: measured(system, options.runs) for system in systems}
    tried = read_toml(HERE / "tried.toml").get("tried", [])
    options.page.write_text(page(found, tried, search(LEARNING_RATES)), encoding="utf-8")
    print(f"wrote {options.page}")


def measured(system: str, folders: Sequence[Path]) -> list[Measured]:
    """A claim under all settings of which a run is finished, each from the last of the folders that have it."""
    found = {
        setting: Measured(system=system, setting=setting, runs=runs)
        for folder in folders
        for setting in settings(system)
        if (runs := finished(system, setting, folder))
    }
    return list(found.values())


def settings(system: str) -> list[Setting]:
    """All settings under which a claim's figures mean something."""
    sizes = [size for size in SIZES if size != TRIAL]
    worlds = dict.fromkeys(own_world(system, world) for world in WORLDS)
    all_rates: tuple[Rates, ...] = ("common", "tuned")
    return [Setting(world=world, size=size, rates=rates) for world in worlds for size in sizes for rates in all_rates]


def page(found: Mapping[str, Sequence[Measured]], tried: Sequence[Mapping[str, str]], learning_rates: str) -> str:
    """The page, as Markdown.

    Args:
        found: by system the settings under which its claim was run; none where it was not.
        tried: ``system``, ``world`` and ``text`` of what was tried where a claim is not reproduced.
        learning_rates: the part about the search for them.
    """
    parts = [HEAD, summary(found)]
    for system, runs in found.items():
        parts.append(section(system, runs, [entry for entry in tried if entry["system"] == system]))
    return "\n\n".join([*parts, learning_rates]) + "\n"


def summary(found: Mapping[str, Sequence[Measured]]) -> str:
    """A line for each gate: its verdict under each setting that any claim was run under."""
    names = list(dict.fromkeys(one.setting.name for runs in found.values() for one in runs))
    lines = [f"| {' | '.join(['gate', 'claim', 'paper', *names])} |", "|" + "---|" * (3 + len(names))]
    for gate in GATES:
        said = {one.setting.name: one.figure(gate)[1] for one in found.get(gate.system, ())}
        cells = [gate.key, f"`{gate.system}`, {gate.what}", gate.paper, *(said.get(name, "not run") for name in names)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def section(system: str, runs: Sequence[Measured], tried: Sequence[Mapping[str, str]]) -> str:
    """A system's part: the sentence, a table for each setting, and what was tried."""
    title, sentence = quoted(claim_file(system).read_text(encoding="utf-8"))
    parts = [f"## {title} (`{system}`)", f"> {sentence}", *(table(one) for one in runs)]
    if not runs:
        own = [f"{gate.key}, {gate.what}, {bound(gate)}" for gate in GATES if gate.system == system]
        parts.append("Not run. Fixed are: " + "; ".join(own) + ".")
    parts += [f"Tried (`{entry['world']}`): {entry['text']}" for entry in tried]
    return "\n\n".join(parts)


def table(one: Measured) -> str:
    """The gates of a claim under one setting."""
    lines = [about(one), "", "| gate | compared | paper | must | measured | verdict |", "|---|---|---|---|---|---|"]
    for gate in (gate for gate in GATES if gate.system == one.system):
        found, said = one.figure(gate)
        open_ = found.estimate is not None and has_no_effect_inside(gate, found.estimate)
        note = " (no effect is within its interval)" if open_ and said in ("reproduced", "direction only") else ""
        compared = f"{gate.what}: `{gate.group}` and `{gate.baseline}`"
        lines.append(
            f"| {gate.key} | {compared} | {gate.paper} | {bound(gate)} | {shown(gate, found)} | {said}{note} |"
        )
    return "\n".join(lines)


def about(one: Measured) -> str:
    """What was run, as ``run.json`` of a finished run tells it."""
    info = next(iter(next(iter(one.runs.values())).values())).info
    config = info["config"]
    n_finished, n_runs = sum(map(len, one.runs.values())), len(policies(one.system)) * len(seeds(one.system))
    rate = RATES_IN_WORDS[one.setting.rates].format(rate=config["training"]["learning_rate"])
    trained, source = (short(str(name)) for name in (info["trained_model"], config["data"]["source"]))
    precision = config["training"].get("precision", "float32")
    return (
        f"**{one.setting.name}**: {info['n_devices']} devices ({info['cluster']}), {config['rounds']} rounds; "
        f"`{trained}` on `{source}`, priced as `{info['priced_model']}`; "
        f"trained in {precision}; {rate}; "
        f"{n_finished} of {n_runs} runs finished; the target is {target_in_words(one.runs)}."
    )


def target_in_words(runs: Runs) -> str:
    """The target of a claim, and whether it means anything."""
    target = common_target(runs)
    if target is None:
        return "–"
    return f"{target:.3f}" + ("" if is_learnt(runs, target) else ", no more than chance, so that nothing is told by it")


def short(name: str) -> str:
    """A name, or the last two parts of a path."""
    return name if not Path(name).is_absolute() else "/".join(Path(name).parts[-2:])


def quoted(text: str) -> tuple[str, str]:
    """The system's name and the paper's sentence, from the comment that a claim's sweep file begins with.

    The sentence ends with its last quotation mark; what follows in the comment is about the sweep.
    """
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    comment = " ".join(line.removeprefix("#").strip() for line in lines)
    return comment.partition(",")[0], comment[: comment.rindex('"') + 1]


def search(file: Path) -> str:
    """The published search: for each world a table of what every rate scores."""
    parts = ["## Learning rates"]
    if not file.exists():
        return "\n\n".join([*parts, "No search was finished yet: `python -m benchmarks.claims.tuning` makes it."])
    parts.append(SEARCH)
    for world, found in read_toml(file).items():
        columns = sorted({rate for scores in found["scores"].values() for rate in scores}, key=float)
        lines = [f"| {world}, {found['size']} | {' | '.join(columns)} |", "|" + "---|" * (1 + len(columns))]
        for policy, scores in found["scores"].items():
            best = f"{found['rates'][policy]:g}"
            cells = [_cell(scores.get(rate), is_best=rate == best) for rate in columns]
            lines.append(f"| `{policy}` | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(score: float | None, *, is_best: bool) -> str:
    if score is None:
        return "–"
    return f"**{score:.3f}**" if is_best else f"{score:.3f}"


if __name__ == "__main__":
    main()
