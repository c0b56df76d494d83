"""The sections of a page, from top to bottom: what is shown, and captions that say what one sees."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import Any

import pandas as pd

from emulator.analysis import Comparison
from emulator.objective.scores import Score
from emulator.report.curves import AXES
from emulator.report.headline import headline_tables, run_facts, shown
from emulator.report.markup import Figures, TableCell, counted, notice, paragraph, plot, section, table
from emulator.report.page_content import GroupContent
from emulator.report.provenance import provenance
from emulator.report.terminal.comparison import power_notes

_KEY = "<div class='group-key'></div>\n"
_OVER = {
    "time_s": "emulated time",
    "n_rounds": "rounds done",
    "total_bytes": "bytes received and sent",
    "energy_j": "energy of all devices",
}


class Page:
    """The sections of one page, which share the numbers of their figures."""

    def __init__(
        self, comparison: Comparison, groups: Sequence[GroupContent], infos: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """``infos`` has the ``run.json`` of each run that has one."""
        self._comparison = comparison
        self._groups = groups
        self._infos = infos
        self._figures = Figures()
        self._short = short_names(comparison.runs["run"].astype(str).tolist())
        self._is_comparison = len(comparison.runs) > 1
        self._has_seeds = any(len(group.runs) > 1 for group in groups)

    def sections(self) -> list[tuple[str, str, str]]:
        """Name, title and HTML of each section that has something to show."""
        made = [("summary", "Summary", self._summary())]
        if self._groups:
            if self._comparison.question.target is not None:
                title = _capital(self._comparison.score.title)
                made.append(("accuracy", f"{title} and what it costs", self._accuracy()))
            if any(group.class_f1 for group in self._groups):
                made.append(("labels", "F1 by label", self._labels()))
            made.append(("round", "A round from inside", self._round()))
            made.append(("waiting", "Waiting", self._waiting()))
            if any(info.get("partition") for info in self._infos.values()):
                made.append(("holdings", "Who holds what", self._data()))
            made.append(("settings", "Adapter settings", self._settings()))
            made.append(("traffic", "Bytes and energy", self._traffic()))
            made.append(("memory", "Memory and losses", self._memory()))
        if self._is_comparison:
            made.append(("runs", "Runs", self._runs()))
        made.append(("provenance", "Configuration and provenance", self._provenance()))
        return [(name, title, section(name, title, content)) for name, title, content in made]

    def _summary(self) -> str:
        runs = self._comparison.runs
        content = headline_tables(self._comparison) if self._is_comparison else run_facts(self._comparison)
        if not self._is_comparison and (reason := self._ended_by(str(runs["run"].iloc[0]))):
            content += paragraph(f"Ended before its last round: {reason}.")
        unfinished = runs.loc[runs["status"] != "finished"]
        if len(unfinished):
            text = (
                f"{len(unfinished)} of {len(runs)} runs are not finished." if self._is_comparison else "Not finished."
            )
            content = notice(text, (_unfinished(row) for row in unfinished.to_dict("records"))) + content
        return content + "".join(paragraph(f"{note[0].upper()}{note[1:]}.") for note in power_notes(self._comparison))

    def _accuracy(self) -> str:
        score = self._comparison.score
        title = _capital(score.title)
        plots = "".join(plot("accuracy", f"{title} over {_OVER[axis]}", over=axis) for axis in AXES)
        seeds = (
            "The heavy line is the mean over the finished runs of a group, drawn as far as all of them go; the band "
            "reaches from the lowest to the highest of them, thin lines are the single runs. "
            if self._has_seeds
            else ""
        )
        caption = (
            f"{seeds}{title} on held-out examples after a round, drawn over all that was spent until then: a curve "
            f"further left is cheaper, a {'higher' if score.is_higher_better else 'lower'} one is better. "
            f"{_dotted(score)}"
        )
        return _KEY + self._figures.figure(
            f"<div class='pair'>{plots}</div>", f"{title} over time, rounds, bytes and energy", caption
        )

    def _ended_by(self, run: str) -> str | None:
        """Why a run ended before its last round; None where it did not."""
        return self._infos.get(run, {}).get("ended_by")

    def _labels(self) -> str:
        known = {group.label: dict(self._f1_by_label(group)) for group in self._groups if group.class_f1}
        labels = dict.fromkeys(label for own in known.values() for label in own)
        rows: list[list[str | TableCell]] = [
            [label, *("–" if (f1 := own.get(label)) is None else f"{f1:.3f}" for own in known.values())]
            for label in labels
        ]
        caption = (
            "F1 on held-out examples, the harmonic mean of precision and recall, after the last round that is "
            "evaluated; a dash is a label that neither occurs there nor is called."
            + (" Of the first run of each group." if self._is_comparison else "")
        )
        return table(["label", *(known if self._is_comparison else ["F1"])], rows, caption)

    def _f1_by_label(self, group: GroupContent) -> Iterable[tuple[str, float | None]]:
        names = self._infos[group.shown_run].get("label_names") or range(len(group.class_f1))
        return zip(map(str, names), group.class_f1, strict=True)

    def _round(self) -> str:
        options = "".join(f"<option value='{i}'>{escape(g.label)}</option>" for i, g in enumerate(self._groups))
        chooser = f"<label>group <select id='round-group'>{options}</select></label>"
        most = max(len(group.rounds) for group in self._groups) - 1
        controls = (
            f"<div class='controls'>{chooser}<label>round "
            f"<input id='round-number' type='range' min='0' max='{most}' value='{most // 2}'></label>"
            "<output id='round-label'></output></div>"
        )
        is_thinned = any(len(bars["status"]) < bars["n_devices"] for group in self._groups for bars in group.rounds)
        thinned = " Of many devices, an even choice is drawn." if is_thinned else ""
        named = ", ".join(self._short[group.shown_run] for group in self._groups)
        caption = (
            "Each row is a device, from the left edge, where the round begins, to the right, where the server has "
            "aggregated. Rows are sorted by device type and then by how long they wait; the one with least grey set "
            f"the pace. Point at a bar for bytes and joules.{thinned} The slider has rounds from all over the "
            f"run, numbered from 0. Shown: {named}; jetbed timeline makes a trace of any round of any run."
        )
        label = "What each device does over one round"
        return controls + self._figures.figure(plot("round", label), "Who does what in a round", caption)

    def _waiting(self) -> str:
        boxes = self._figures.figure(
            plot("boxes", "Waiting time by device type"),
            "Waiting by device type",
            "Over all rounds in which a device was in the cohort: the box holds the middle half, the line in it is the "
            "median, the dashed one the mean, the whiskers end at 5 and 95 %.",
        )
        curve = self._figures.figure(
            plot("waiting", "Mean waiting over rounds"),
            "Waiting over rounds",
            "Mean over the cohort of the time that a device neither computes nor transfers"
            + (", and its range over seeds" if self._has_seeds else "")
            + ". Steps come from power modes that are redrawn, and from policies that learn how fast devices are.",
        )
        seconds = self._figures.figure(
            plot("seconds", "Mean seconds by device type"),
            "Where the time of a device goes",
            "Mean over devices and rounds in the cohort. The parts add up to the length of a round.",
        )
        return _KEY + boxes + curve + seconds

    def _settings(self) -> str:
        depth = self._figures.figure(
            plot("settings", "LoRA depth by device and round", which="depth"),
            "LoRA depth over rounds",
            "Tuned layers, counted from the output, or from the cut of a model that is split, of each device (rows, by "
            "type) in each round. Blank: not in the cohort.",
        )
        rank = self._figures.figure(
            plot("settings", "LoRA rank by device and round", which="rank"),
            "LoRA rank over rounds",
            "Mean rank over those layers of a device that carry an adapter.",
        )
        runs = ", ".join(self._short[group.shown_run] for group in self._groups)
        lead = paragraph(f"Of the first run of each group: {runs}.", "lead") if self._is_comparison else ""
        return lead + depth + rank

    def _data(self) -> str:
        rows: list[list[str | TableCell]] = []
        for group in self._groups:
            held = self._infos[group.shown_run].get("partition")
            if not held:
                continue
            for board, figures in held["devices"].items():
                examples = figures["n_examples"]
                rows.append(
                    [
                        group.label if self._is_comparison else held["scheme"],
                        board,
                        str(figures["n_devices"]),
                        *(f"{examples[name]:,.0f}" for name in ("least", "median", "mean", "most")),
                        f"{figures['mean_n_labels']:.1f}",
                        f"{figures['label_distance']:.2f}",
                    ]
                )
        headers = ["group" if self._is_comparison else "partition", "board", "devices"]
        headers += ["least examples", "median", "mean", "most", "labels", "distance"]
        caption = (
            "How the training examples are spread. Labels: how many different ones a device holds, on average. "
            "Distance: half the sum of the differences between the shares of labels on a device and among all, on "
            "average; 0 is all alike, towards 1 each device has labels of its own. partition.parquet beside the tables "
            "has the counts of every device."
        )
        return table(headers, rows, caption, n_text=2)

    def _traffic(self) -> str:
        means = "Mean over the devices of a type" + (" and over seeds" if self._has_seeds else "") + ", whole run."
        n_bytes = self._figures.figure(plot("bytes", "Bytes by device type"), "Bytes by device type", means)
        lacking = [f"{note[0].upper()}{note[1:]}." for note in power_notes(self._comparison)]
        joules = self._figures.figure(
            plot("joules", "Energy by device type"),
            "Energy by device type and activity",
            " ".join([means, "What a device draws while it waits is part of what a slow peer costs.", *lacking]),
        )
        return n_bytes + joules

    def _memory(self) -> str:
        memory = self._figures.figure(
            plot("memory", "Memory by device type"),
            "Memory against the limit",
            "The outlined bar is what a board leaves for training, the diamond the median of what the work of a round "
            "needs at most, with the lowest and the highest beside it, also where it did not fit.",
        )
        names = ("n_out_of_memory", "n_dropped", "n_late", "n_unavailable")
        if self._comparison.runs[list(names)].fillna(0).to_numpy().sum() == 0:
            none = "No device-round was lost: none ran out of memory, dropped out or came too late."
            return memory + paragraph(none)
        lost = self._figures.figure(
            plot("lost", "Device-rounds lost"),
            "Device-rounds lost",
            "Those that ran out of memory, dropped out or came too late were in the cohort; those unavailable were "
            "not.",
        )
        return memory + lost

    def _runs(self) -> str:
        rows: list[list[str | TableCell]] = []
        score = self._comparison.score
        for row in self._comparison.runs.to_dict("records"):
            info = self._infos.get(str(row["run"]), {})
            ended = "" if row["status"] == "finished" else "missed"
            figures = ("n_rounds", f"final_{score.name}", "time_to_target_s", "time_s")
            wall_s = info.get("wall_s")
            cells: list[str | TableCell] = [
                str(row["run"]),
                TableCell(str(row["group"]), look="text"),
                str(row["seed"]),
            ]
            remark = str(row["error"] or self._ended_by(str(row["run"])) or "")
            cells.append(TableCell(str(row["status"]), remark, ended))
            cells += [shown(name, row[name]) if not pd.isna(row[name]) else "–" for name in figures]
            rows.append([*cells, "–" if wall_s is None else shown("time_s", wall_s)])
        headers = [
            "run",
            "group",
            "seed",
            "status",
            "rounds",
            f"final {score.title}",
            "time to target",
            "emulated",
            "wall",
        ]
        return table(headers, rows, "Every run that was given, whatever has become of it.", n_text=2)

    def _provenance(self) -> str:
        runs = self._comparison.runs
        first = {}
        for label, rows in runs.groupby("group", sort=False):
            known = [self._infos[name] for name in rows["run"].astype(str) if name in self._infos]
            if known:
                first[str(label)] = known[0]
        return provenance(list(first.items()))


def _capital(title: str) -> str:
    return f"{title[0].upper()}{title[1:]}"


def _dotted(score: Score) -> str:
    if score.name != "accuracy":
        return "The dotted line is the target."
    return (
        "Accuracy is the share of examples that are classified right. The dotted lines are the target and what always "
        "naming the most frequent class would reach."
    )


def short_names(names: Sequence[str]) -> dict[str, str]:
    """The last part of each path, as long as that tells the runs apart."""
    last = [PurePath(name).name for name in names]
    return dict(zip(names, last if len(set(last)) == len(last) else names, strict=True))


def _unfinished(row: Mapping[Hashable, Any]) -> str:
    what = {
        "planned": "was not started",
        "running": "still runs, or was killed",
        "failed": "failed",
        "interrupted": "was interrupted",
    }.get(str(row["status"]), str(row["status"]))
    done = 0 if pd.isna(row["n_rounds"]) else int(row["n_rounds"])
    return f"{row['run']} {what} after {counted(done, 'round')}" + (f": {row['error']}" if row["error"] else ".")
