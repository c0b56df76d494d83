"""What ``jetbed doctor`` prints: what will not fit, what the first rounds ask of the boards, how long a run takes."""

from datetime import datetime

import typer
from rich import box
from rich.console import Console
from rich.table import Column
from rich.text import Text

from emulator.config import Config
from emulator.launch.preflight import BoardPlan, Preflight, examine
from emulator.report.terminal.console import FittedTable, terminal
from emulator.report.terminal.units import duration, size
from emulator.results.writer import default_out_dir
from emulator.storage.places import Place


def show_preflight(config: Config, out_dir: Place | None) -> None:
    """Print what :func:`~emulator.launch.preflight.examine` finds.

    Raises:
        UserError: something that was given cannot be used (exit status 2).
        typer.Exit: with status 1 where something will not fit.
    """
    folder = out_dir or default_out_dir(config.policy.path, config.seed, datetime.now())
    found = examine(config, folder)
    console = terminal()
    _show_checks(console, found)
    if found.understood:
        _show_understood(console, found)
    if found.boards:
        _show_boards(console, config, found)
    for device, setting in found.outside_known_range.items():
        console.print(f"{device}: extrapolated, outside its known range: {setting}")
    if found.wall:
        wall = found.wall
        console.print(
            f"expected here: {duration(wall.total_s)} for {wall.n_rounds} rounds "
            f"({duration(wall.start_s)} to start, {wall.round_s:.2g} s a round, as in the longest to train)",
        )
    if not found.will_fit:
        raise typer.Exit(1)


def _show_checks(console: Console, found: Preflight) -> None:
    columns = (Column(no_wrap=True), Column(no_wrap=True), Column(overflow="fold"))
    table = FittedTable(*columns, box=box.SIMPLE_HEAD, show_header=False)
    for check in found.checks:
        table.add_row("fits" if check.is_fine else Text("WILL NOT FIT", style="bold"), check.name, check.detail)
    console.print(table)


def _show_understood(console: Console, found: Preflight) -> None:
    table = FittedTable(Column(no_wrap=True), Column(overflow="fold"), box=box.SIMPLE_HEAD, show_header=False)
    for name, said in found.understood.items():
        table.add_row(name.partition(" ")[0], said)
    console.print(table)


def _show_boards(console: Console, config: Config, found: Preflight) -> None:
    n_rounds = len(found.rounds_s)
    which = "round 0" if n_rounds == 1 else f"rounds 0 to {n_rounds - 1}"
    lengths = ", ".join(duration(length_s) for length_s in found.rounds_s)
    console.print(f"{which} of {config.policy.path}, played without training: {lengths} emulated")
    table = FittedTable(
        Column("device", no_wrap=True),
        Column("cohort", justify="right", no_wrap=True),
        Column("depth", justify="right", no_wrap=True),
        Column("needs", justify="right", no_wrap=True),
        Column("usable", justify="right", no_wrap=True),
        Column("compute s", justify="right", no_wrap=True),
        Column("transfer s", justify="right", no_wrap=True),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=0,
    )
    for board in found.boards:
        table.add_row(*_cells(board))
    console.print(table)
    for board in found.boards:
        console.print(_power(board))


def _power(board: BoardPlan) -> str:
    """What a board's joules rest on, so that a rail that is not the whole board is seen."""
    if not board.compute_w[1]:
        return f"{board.device}: its profile has no power figures, so that its energy is not known"
    origin = board.power_origin
    said = f" ({origin.kind}: {origin.source})" if origin else ""
    return f"{board.device}: draws {_range(board.compute_w)} W while it computes{said}"


def _cells(board: BoardPlan) -> tuple[str | Text, ...]:
    depth = str(board.max_depth) if board.min_depth == board.max_depth else f"{board.min_depth}–{board.max_depth}"
    needs = size(board.peak_memory_bytes)
    return (
        board.device,
        f"{board.n_cohort}/{board.n_devices}",
        depth,
        Text(needs, style="bold") if board.n_out_of_memory else needs,
        size(board.usable_memory_bytes),
        _range(board.compute_s),
        _range(board.transfer_s),
    )


def _range(span: tuple[float, float]) -> str:
    low, high = (f"{value:.3g}" for value in span)
    return low if low == high else f"{low}–{high}"
