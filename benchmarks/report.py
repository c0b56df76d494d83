"""How long the page of a large comparison takes to make, how large it is, and how fast a browser answers on it.

``python -m benchmarks.report [--devices 80] [--rounds 100] [--out FILE.html]``

Four policies and three seeds are run without training; accuracies are made up and written into their tables, since
what a page costs does not depend on where they come from. With playwright and a Chromium, the page is then opened, and
each figure is zoomed and reset.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emulator.analysis import Question
from emulator.config import load_config
from emulator.launch.execute import execute
from emulator.report.page import report_page
from emulator.results.reader import load_run
from emulator.storage.files import write_text

POLICIES = ("fedlora", "legend", "hetlora", "fedbuff")
SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path, help="keep the page here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            made_up_run(Path(folder) / f"{policy}-s{seed}", policy, seed, options.devices, options.rounds)
            for policy in POLICIES
            for seed in SEEDS
        ]
        page = options.out or Path(folder) / "report.html"
        begun_s = time.perf_counter()
        n_bytes = write_text(page, report_page([load_run(run) for run in runs], Question()))
        made_s = time.perf_counter() - begun_s
        print(f"{len(runs)} runs of {options.devices} devices and {options.rounds} rounds")
        print(f"made in {made_s:.1f} s, {n_bytes / 1e6:.1f} MB")
        show_browser_times(page.absolute())


def made_up_run(folder: Path, policy: str, seed: int, n_devices: int, n_rounds: int) -> Path:
    """A run without training, with accuracies that rise as accuracies do."""
    settings = [
        ("policy.path", policy),
        ("seed", seed),
        ("rounds", n_rounds),
        ("testbed.n_devices", n_devices),
        ("training.enabled", False),
    ]
    execute(load_config(None, settings), folder)
    rng = np.random.default_rng([seed, POLICIES.index(policy)])
    for part in sorted((folder / "rounds").glob("part-*.parquet")):
        rows = pq.read_table(part)
        done = rows["round_index"].to_numpy() + 1
        accuracy = 0.9 - 0.75 * np.exp(-done / (12 + 4 * POLICIES.index(policy))) + rng.normal(0, 0.01, len(done))
        column = rows.schema.get_field_index("accuracy")
        pq.write_table(rows.set_column(column, rows.schema.field(column), pa.array(accuracy)), part)
    return folder


def show_browser_times(page: Path) -> None:
    """Seconds until everything is drawn, and until a figure answers to a zoom, in a Chromium without a GPU."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("no playwright: not opened in a browser")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page(viewport={"width": 1360, "height": 900})
        begun_s = time.perf_counter()
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-ready=yes]", timeout=120_000)
        print(f"drawn {time.perf_counter() - begun_s:.1f} s after it was opened")
        answers = tab.evaluate(
            """async () => {
                const answers = [];
                for (const plot of document.querySelectorAll("[data-figure]")) {
                    const [low, high] = plot._fullLayout.xaxis.range;
                    const begun = performance.now();
                    await Plotly.relayout(plot, {"xaxis.range": [low, (low + high) / 2]});
                    await new Promise(requestAnimationFrame);
                    answers.push([plot.dataset.figure, performance.now() - begun]);
                    await Plotly.relayout(plot, {"xaxis.range": [low, high]});
                }
                return answers;
            }"""
        )
        slowest, slowest_ms = max(answers, key=lambda answer: answer[1])
        median_ms = statistics.median(answer[1] for answer in answers)
        print(f"a zoom takes {median_ms:.0f} ms (median of {len(answers)}), at most {slowest_ms:.0f} ms ({slowest})")
        browser.close()


if __name__ == "__main__":
    main()
