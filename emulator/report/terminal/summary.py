"""A run in a few figures: what the command line prints when it ends and when it is asked again."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emulator.analysis.costs import cost_to_target, final_score, kind_of_task, quoted_score, spent
from emulator.analysis.devices import in_cohort, power_remark
from emulator.analysis.metrics import Question, measure
from emulator.objective.scores import SCORES
from emulator.records import Status
from emulator.report.terminal.console import FittedTable, in_one_line
from emulator.report.terminal.units import curve, duration, energy, energy_joules, size
from emulator.results.reader import RunFrames


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileSummary:
    """The devices of one type. Means are over the rounds in which a device was in the cohort, NaN if it never was."""

    profile: str
    n_devices: int
    n_device_rounds: int
    n_failed: int  # Dropped, out of memory or late.
    mean_download_s: float
    mean_compute_s: float
    mean_upload_s: float
    mean_waiting_s: float
    energy_j: float
    mean_depth: float
    min_depth: int
    max_depth: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """A run in a few figures, over the rounds that are done. ``None`` is what the run does not tell.

    The figures are those of ``docs/metrics.md``, by ``score``. ``time_to_score_s`` has, for each value of it, the
    emulated time until it is reached. ``score_curve`` has the same times and the score of every evaluated round.
    ``other_scores`` are those of the last evaluated round, but for ``score`` and what is about single devices.
    ``ended_by`` says why the run ended before its last round. ``wall_s`` of a run that has not ended is what its rounds
    took.
    """

    policy: str | None
    seed: int | None
    status: str
    error: str | None
    ended_by: str | None
    trained_model: str | None
    priced_model: str | None
    n_rounds: int
    n_devices: int
    emulated_s: float
    wall_s: float | None
    score: str
    final_score: float | None
    best_score: float | None
    other_scores: tuple[tuple[str, float], ...]
    majority_accuracy: float | None
    mean_waiting_s: float | None
    download_bytes: int
    upload_bytes: int
    energy_j: float
    n_device_rounds: int
    n_out_of_memory: int
    n_dropped: int
    n_late: int
    n_unavailable: int
    time_to_score_s: tuple[tuple[float, float | None], ...]
    score_curve: tuple[tuple[float, float], ...]
    profiles: tuple[ProfileSummary, ...]


def summarise(frames: RunFrames, wanted: Sequence[float] | None = None, score: str | None = None) -> RunSummary:
    """Sum up a run, running ones too, by ``score``; without one by what people quote of such a run.

    ``wanted`` are the values of it whose time is told; by default up to four multiples of 0.05, the highest that the
    run reached, for accuracy above its majority class, so that runs of the same data share most of them. A score that
    is better the lower it is has none by default.
    """
    info, rounds, devices = frames.info, frames.rounds, frames.devices
    score = score or quoted_score([rounds], kind_of_task(info))
    metrics = measure(rounds, devices, Question(score=score))
    evaluated = spent(rounds, score).dropna(subset=score)
    majority = info.get("majority_accuracy") if score == "accuracy" else None
    best = metrics[f"best_{score}"]
    if wanted is None:
        wanted = _round_values(majority or 0.0, best or 0.0) if SCORES[score].is_higher_better else ()
    return RunSummary(
        policy=info.get("policy"),
        seed=info.get("seed"),
        status=str(info.get("status")),
        error=info.get("error"),
        ended_by=info.get("ended_by"),
        trained_model=info.get("trained_model"),
        priced_model=info.get("priced_model"),
        n_rounds=len(rounds),
        n_devices=devices["device_id"].nunique(),
        emulated_s=metrics["time_s"] or 0.0,
        wall_s=info.get("wall_s", _wall_s(frames.host)),
        score=score,
        final_score=metrics[f"final_{score}"],
        best_score=best,
        other_scores=_other_scores(rounds, score),
        majority_accuracy=majority,
        mean_waiting_s=metrics["mean_waiting_s"],
        download_bytes=int(metrics["download_bytes"] or 0),
        upload_bytes=int(metrics["upload_bytes"] or 0),
        energy_j=metrics["energy_j"] or 0.0,
        n_device_rounds=int(metrics["n_device_rounds"] or 0),
        n_out_of_memory=int(metrics["n_out_of_memory"] or 0),
        n_dropped=int(metrics["n_dropped"] or 0),
        n_late=int(metrics["n_late"] or 0),
        n_unavailable=int(metrics["n_unavailable"] or 0),
        time_to_score_s=tuple((value, _first_time_s(rounds, value, score)) for value in wanted),
        score_curve=tuple(zip(evaluated["time_s"].tolist(), evaluated[score].tolist(), strict=True)),
        profiles=tuple(_profile(str(name), rows) for name, rows in devices.groupby("profile")),
    )


def _other_scores(rounds: pd.DataFrame, score: str) -> tuple[tuple[str, float], ...]:
    names = (name for name in SCORES if name != score and not name.startswith("own_"))
    known = ((name, final_score(rounds, name)) for name in names)
    return tuple((name, value) for name, value in known if value is not None)


def _round_values(above: float, best: float) -> list[float]:
    # Dividing by 20 gives the double nearest to each multiple, the one that 0.85 in a source file is, too.
    steps = range(math.floor(above * 20 + 1e-9) + 1, math.floor(best * 20 + 1e-9) + 1)
    return [step / 20 for step in steps[-4:]]


def _first_time_s(rounds: pd.DataFrame, value: float, score: str) -> float | None:
    cost = cost_to_target(rounds, value, score=score)
    return None if cost is None else cost["time_s"]


def _wall_s(host: pd.DataFrame) -> float | None:
    rounds = host.loc[host["phase"] == "round", "wall_s"]
    return float(rounds.sum()) if len(rounds) else None


def _profile(name: str, rows: pd.DataFrame) -> ProfileSummary:
    cohort = rows.loc[in_cohort(rows)]
    return ProfileSummary(
        profile=name,
        n_devices=rows["device_id"].nunique(),
        n_device_rounds=len(cohort),
        n_failed=int((cohort["status"] != Status.OK).sum()),
        mean_download_s=float(cohort["download_s"].mean()),
        mean_compute_s=float(cohort["compute_s"].mean()),
        mean_upload_s=float(cohort["upload_s"].mean()),
        mean_waiting_s=float(cohort["waiting_s"].mean()),
        energy_j=float(rows["energy_j"].sum()),
        mean_depth=float(cohort["depth"].mean()),
        min_depth=int(cohort["depth"].min()) if len(cohort) else 0,
        max_depth=int(cohort["depth"].max()) if len(cohort) else 0,
    )


def render(summary: RunSummary) -> RenderableType:
    """The summary for a terminal of 80 columns: figures, the score over emulated time, one line per device type."""
    parts: list[RenderableType] = [_title(summary), _figures(summary)]
    if len(summary.score_curve) > 1:
        title = f"{SCORES[summary.score].title} over emulated time"
        parts += ["", Text(title, style="bold"), Text("\n".join(curve(summary.score_curve)))]
    if summary.profiles:
        note = "n: devices; times: mean per device and round in the cohort; depth: mean (range)"
        parts += ["", _profile_table(summary.profiles), Text(note, style="dim")]
    return Group(*parts)


def _title(summary: RunSummary) -> Text:
    title = Text(in_one_line(summary.policy or "run"), style="bold")
    if summary.seed is not None:
        title.append(f", seed {summary.seed}")
    if summary.trained_model is not None:
        title.append(in_one_line(f", trained {summary.trained_model}, priced {summary.priced_model}"), style="dim")
    title.append(f": {summary.status}", style="green" if summary.status == "finished" else "yellow")
    return title.append(in_one_line(f" ({summary.error})") if summary.error else "")


def _figures(summary: RunSummary) -> Table:
    reached_score = "not evaluated"
    if summary.final_score is not None:
        reached_score = f"{summary.final_score:.3f} (best {summary.best_score:.3f})"
        if summary.majority_accuracy is not None:
            reached_score += f"; majority class {summary.majority_accuracy:.3f}"
    reached = [
        f"{wanted:g} in {duration(time_s)}" if time_s is not None else f"{wanted:g} never"
        for wanted, time_s in summary.time_to_score_s
    ]
    losses = [
        f"{count} {what}"
        for count, what in (
            (summary.n_out_of_memory, "out of memory"),
            (summary.n_dropped, "dropped"),
            (summary.n_late, "late"),
            (summary.n_unavailable, "unavailable"),
        )
    ]
    waiting = "none" if summary.mean_waiting_s is None else f"{duration(summary.mean_waiting_s)} per device and round"
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("rounds", f"{summary.n_rounds}, {summary.n_devices} devices, {summary.n_device_rounds} device-rounds")
    if summary.ended_by:
        table.add_row("ended early", in_one_line(summary.ended_by))
    table.add_row(SCORES[summary.score].title, reached_score)
    if summary.other_scores:
        table.add_row("", ", ".join(f"{SCORES[name].title} {value:.3f}" for name, value in summary.other_scores))
    if summary.score_curve and (reached or summary.score == "accuracy"):
        table.add_row("reached", ", ".join(reached) or "no multiple of 0.05 above the majority class")
    wall = "" if summary.wall_s is None else f", on the wall {duration(summary.wall_s)} without start-up"
    table.add_row("time", f"emulated {duration(summary.emulated_s)}{wall}")
    table.add_row("mean waiting", waiting)
    table.add_row("traffic", f"{size(summary.download_bytes)} down, {size(summary.upload_bytes)} up")
    table.add_row("energy", _energy(summary))
    table.add_row("device-rounds lost", ", ".join(losses))
    return table


def _energy(summary: RunSummary) -> str:
    """Joules, and which boards they leave out since their profiles have no power figures."""
    without = [profile.profile for profile in summary.profiles if _has_no_power(profile)]
    if not without:
        return energy(summary.energy_j)
    boards = power_remark(without)
    return f"not known: {boards}" if len(without) == len(summary.profiles) else f"{energy(summary.energy_j)}; {boards}"


def _has_no_power(profile: ProfileSummary) -> bool:
    """Whether time has passed without a joule, as no board can let it."""
    return profile.energy_j == 0 and profile.n_device_rounds > 0


def _profile_table(profiles: Sequence[ProfileSummary]) -> Table:
    table = FittedTable(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("device type", no_wrap=True)
    for header in ("n", "lost", "down s", "compute s", "up s", "wait s", "depth", "energy"):
        table.add_column(header, justify="right", no_wrap=True)
    for profile in profiles:
        means_s = (
            profile.mean_download_s,
            profile.mean_compute_s,
            profile.mean_upload_s,
            profile.mean_waiting_s,
        )
        times = [f"{mean_s:.1f}" if profile.n_device_rounds else "–" for mean_s in means_s]
        depth = (
            f"{profile.mean_depth:.1f} ({profile.min_depth}–{profile.max_depth})" if profile.n_device_rounds else "–"
        )
        counts = [str(profile.n_devices), str(profile.n_failed)]
        joules = "–" if _has_no_power(profile) else energy_joules(profile.energy_j)
        table.add_row(profile.profile, *counts, *times, depth, joules)
    return table
