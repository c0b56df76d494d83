"""Draws the emulated world on one page: what steps cost, what the network does, how far a calibration can be believed.

``python -m benchmarks.world.page --out FOLDER [--calibration CSV] [--live JSON] [--flower JSON]``

writes ``index.html``, which needs no other file, and each figure as PNG and SVG beside it. ``--calibration`` takes what
``jetbed validate --csv`` wrote, ``--live`` what ``benchmarks.world.live --json`` did, and ``--flower`` what
``benchmarks.world.flower_real --json`` did; without these two, their figures and tables are left out. It needs
matplotlib, which the extra ``dev`` has.
"""

import argparse
import base64
import html
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks.world.calibration_plot import draw_calibration
from benchmarks.world.cost_plots import draw_step_memory, draw_step_time, draw_tx2_published
from benchmarks.world.network_plots import draw_fairness, draw_wifi_day
from benchmarks.world.truth_plots import draw_flower, draw_live, flower_table, live_table, read_found

EXAMPLE_CALIBRATION = Path(__file__).with_name("validated_epyc.csv")

CAPTIONS: Mapping[str, str] = {
    "step_time": "Seconds of a local step against LoRA depth on each board in its fastest mode. The band is what the "
    "uncertainties of the profile's figures leave open. Steps get dearer with depth by the backward pass alone.",
    "step_memory": "Peak memory of a local step against LoRA depth, with float32 activations and with those of all "
    "tuned layers quantized to 8 bits, beside what two boards have.",
    "tx2_published": "Published seconds of a step on a Jetson TX2, and what the cost model says of the same step with "
    "the board's one rate.",
    "wifi_day": "A day of Wi-Fi: the download rate of one device in each ring about the access point.",
    "fairness": "Twenty transfers share an access point max-min fairly: all in flight get the same, except that those "
    "with slower links leave to the others what they cannot use. Whenever one starts or ends, all are divided anew.",
    "calibration": "A machine that was measured by jetbed calibrate, and steps in models, ranks, batches and lengths "
    "that its profile was not fitted to: priced against timed.",
    "live": "Live devices, which really compute and transfer, beside their twins on the virtual clock: a point for "
    "each download, computation and upload. None can be shorter; what is longer, the machine could not keep.",
    "flower": "A federation of Flower's own processes on links of known rates, and its emulation, which knows the "
    "machine, the links and what Flower adds, each measured elsewhere. The first round, in which devices fetch the "
    "application, is left out.",
}

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
figure { margin: 2.5rem 0; }
img { width: 100%; height: auto; }
figcaption { color: #444; }
table { border-collapse: collapse; margin-top: 1rem; font-size: 0.8rem; }
th, td { border-bottom: 1px solid #ddd; padding: 0.2rem 0.5rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument(
        "--calibration", type=Path, default=EXAMPLE_CALIBRATION, help="what jetbed validate --csv wrote"
    )
    parser.add_argument("--live", type=Path, help="what benchmarks.world.live --json wrote")
    parser.add_argument("--flower", type=Path, help="what benchmarks.world.flower_real --json wrote")
    options = parser.parse_args()
    drawings: dict[str, Callable[[Any], None]] = {
        "step_time": draw_step_time,
        "step_memory": draw_step_memory,
        "tx2_published": draw_tx2_published,
        "wifi_day": draw_wifi_day,
        "fairness": draw_fairness,
        "calibration": partial(draw_calibration, path=options.calibration),
    }
    tables: dict[str, Sequence[Sequence[str]]] = {}
    if options.live:
        found = read_found(options.live, "benchmarks.world.live")
        drawings["live"], tables["live"] = partial(draw_live, found=found), live_table(found)
    if options.flower:
        found = read_found(options.flower, "benchmarks.world.flower_real")
        drawings["flower"], tables["flower"] = partial(draw_flower, found=found), flower_table(found)
    options.out.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")
    plt.rcParams["svg.hashsalt"] = "jetbed"  # the same figures give the same files
    for name, draw in drawings.items():
        figure, axes = plt.subplots(figsize=(8.5, 5), layout="constrained")
        draw(axes)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(options.out / f"{name}.png", dpi=120)
        figure.savefig(options.out / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
    page = options.out / "index.html"
    page.write_text(page_text(options.out, list(drawings), tables), encoding="utf-8")
    print(page)


def page_text(folder: Path, names: Sequence[str], tables: Mapping[str, Sequence[Sequence[str]]]) -> str:
    """The page with the figures of these ``names``, which lie in ``folder``, and their ``tables``."""
    figures = []
    for name in names:
        caption = CAPTIONS[name]
        image = base64.b64encode((folder / f"{name}.png").read_bytes()).decode("ascii")
        figures.append(
            f'<figure id="{name}"><img alt="{html.escape(caption)}" src="data:image/png;base64,{image}">'
            f"<figcaption>{html.escape(caption)}</figcaption>{_table_text(tables.get(name, ()))}</figure>"
        )
    body = "\n".join(["<h1>The emulated world of jetbed</h1>", *figures])
    head = f'<meta charset="utf-8"><title>The emulated world of jetbed</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _table_text(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its heading; nothing without rows."""
    if not rows:
        return ""
    lines = [
        "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in row) + "</tr>"
        for kind, row in zip(["th", *["td"] * (len(rows) - 1)], rows, strict=True)
    ]
    return f"<table>{''.join(lines)}</table>"


if __name__ == "__main__":
    main()
