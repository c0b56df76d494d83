"""The pages of ``jetbed report`` in a headless Chromium: drawn, alive, quiet, and alone with themselves."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from emulator.cli.report import write_report
from emulator.results.reader import load_run
from tests.command_line import in_process
from tests.integration.conftest import small_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian's package: chromium)"),
]

WINDOW = {"width": 1280, "height": 900}
MARKS = {
    "accuracy": ".scatterlayer path.js-line",
    "waiting": ".scatterlayer path.js-line",
    "round": ".barlayer .point path",
    "boxes": ".boxlayer path.box",
    "seconds": ".barlayer .point path",
    "settings": ".heatmaplayer image",
    "bytes": ".barlayer .point path",
    "joules": ".barlayer .point path",
    "memory": ".barlayer .point path",
    "lost": ".barlayer .point path",
}
"""By kind of figure, the elements that are its marks."""


@dataclass
class Tab:
    """An open page, all that it said on the console, and all that it asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def runs(inline_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two policies with two seeds each; the first is LEGEND with seed 0."""
    folder = tmp_path_factory.mktemp("report")
    others = [
        small_run(folder / f"{policy}-s{seed}", "--policy", policy, "--seed", str(seed))
        for policy, seed in (("legend", 1), ("fedlora", 0), ("fedlora", 1))
    ]
    return [inline_run, *others]


@pytest.fixture(scope="module")
def one(browser: Any, runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Tab:
    return opened(browser, runs[:1], tmp_path_factory.mktemp("one") / "report.html")


@pytest.fixture(scope="module")
def four(browser: Any, runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Tab:
    return opened(browser, runs, tmp_path_factory.mktemp("four") / "report.html")


def opened(browser: Any, runs: list[Path], page_file: Path) -> Tab:
    """The page of some runs. Tests share it, and leave it as they found it."""
    write_report(runs, page_file, None)
    tab = Tab(browser.new_page(viewport=WINDOW, reduced_motion="reduce"))
    tab.page.on("console", lambda message: tab.said.append(message.text))
    tab.page.on("pageerror", lambda error: tab.said.append(str(error)))
    tab.page.on("request", lambda request: tab.asked.append(request.url))
    tab.page.goto(page_file.as_uri())
    tab.page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
    return tab


def figures(tab: Tab, kind: str) -> list[Any]:
    found: list[Any] = tab.page.query_selector_all(f"[data-figure={kind}]")
    return found


def box_of(tab: Tab, kind: str) -> dict[str, float]:
    """Where the plotting area of a figure lies, in the middle of the window."""
    figure = figures(tab, kind)[0]
    figure.evaluate("figure => figure.scrollIntoView({block: 'center', behavior: 'instant'})")
    box: dict[str, float] = figure.query_selector(".nsewdrag").bounding_box()
    return box


def range_of(tab: Tab, kind: str) -> list[float]:
    found: list[float] = tab.page.evaluate(f"document.querySelector('[data-figure={kind}]')._fullLayout.xaxis.range")
    return found


@pytest.mark.parametrize("which", ["one", "four"])
def test_the_page_opens_quietly_draws_every_figure_and_asks_for_nothing(
    which: str, request: pytest.FixtureRequest
) -> None:
    tab = request.getfixturevalue(which)

    assert tab.said == []
    assert [url for url in tab.asked if not url.startswith(("data:", "blob:"))] == [tab.page.url]
    kinds = [figure.get_attribute("data-figure") for figure in tab.page.query_selector_all("[data-figure]")]
    assert kinds.count("accuracy") == 4
    assert set(kinds) >= set(MARKS) - {"lost"}
    for kind in set(kinds):
        for figure in figures(tab, kind):
            marks = figure.query_selector_all(MARKS[kind])
            sizes = [mark.bounding_box() for mark in marks]
            assert any(size and size["width"] * size["height"] > 20 for size in sizes), kind


def test_the_page_cannot_ask_for_anything(browser: Any, runs: list[Path], tmp_path: Path) -> None:
    tab = opened(browser, runs[:1], tmp_path / "report.html")
    answer = tab.page.evaluate("fetch('https://example.org/').then(() => 'answered', () => 'refused')")

    assert answer == "refused"
    assert any("Content Security Policy" in text for text in tab.said)
    titles = {button.get_attribute("data-title") for button in tab.page.query_selector_all(".modebar-btn")}
    assert titles == {"Download plot", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"}


def test_a_round_has_a_bar_for_each_activity_of_its_devices(one: Tab, runs: list[Path]) -> None:
    activities = load_run(runs[0]).activities
    slider = one.page.query_selector("#round-number")
    for position, round_index in enumerate((0, 1, 2)):
        slider.fill(str(position))
        one.page.wait_for_function(
            f"document.getElementById('round-label').textContent.includes('round {round_index}:')"
        )
        rows = activities[activities["round_index"] == round_index]
        n_lasting = int((rows["end_s"] > rows["start_s"]).sum())
        bars = f"document.querySelectorAll('[data-figure=round] {MARKS['round']}').length"
        one.page.wait_for_function(f"{bars} === {n_lasting}", timeout=10_000)


def test_a_comparison_has_a_curve_with_its_band_for_each_group(four: Tab) -> None:
    drawn = four.page.evaluate(
        """[...document.querySelectorAll('[data-figure=accuracy]')].map((plot) => ({
            markers: plot.querySelectorAll('.scatterlayer .points').length,
            bands: plot.querySelectorAll('.scatterlayer path.js-fill').length,
            dashes: new Set(plot.data.filter((t) => t.name).map((t) => t.line.dash)).size,
            symbols: new Set(plot.data.filter((t) => t.name).map((t) => t.marker.symbol)).size,
        }))"""
    )

    assert len(drawn) == 4
    assert all(plot["bands"] == plot["dashes"] == plot["symbols"] == 2 for plot in drawn)


def test_pointing_at_a_curve_tells_its_values(four: Tab) -> None:
    box = box_of(four, "accuracy")
    four.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5)
    four.page.wait_for_selector("[data-figure=accuracy] .hoverlayer text", timeout=10_000)

    told = figures(four, "accuracy")[0].query_selector(".hoverlayer").text_content()
    assert all(word in told for word in ("emulated time: ", " s", "legend", "fedlora"))


def test_pointing_at_a_bar_tells_who_does_what(one: Tab) -> None:
    box_of(one, "round")
    bars = [bar.bounding_box() for bar in figures(one, "round")[0].query_selector_all(MARKS["round"])]
    box = max(bars, key=lambda bar: bar["width"])
    one.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    one.page.wait_for_selector("[data-figure=round] .hoverlayer text", timeout=10_000)

    assert "device" in figures(one, "round")[0].query_selector(".hoverlayer").text_content()


@pytest.mark.parametrize("kind", ["accuracy", "round", "settings", "joules"])
def test_dragging_zooms_and_a_double_click_goes_back(four: Tab, kind: str) -> None:
    before = range_of(four, kind)
    box = box_of(four, kind)
    middle = box["y"] + box["height"] / 2
    four.page.mouse.move(box["x"] + box["width"] * 0.3, middle)
    four.page.mouse.down()
    four.page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=5)
    four.page.mouse.up()
    low, high = range_of(four, kind)

    assert high - low == pytest.approx(0.3 * (before[1] - before[0]), rel=0.1)
    four.page.mouse.dblclick(box["x"] + box["width"] * 0.5, middle)
    four.page.wait_for_function(
        f"Math.abs(document.querySelector('[data-figure={kind}]')._fullLayout.xaxis.range[1] - {before[1]}) < 1e-6",
        timeout=10_000,
    )


def test_groups_can_be_hidden_and_the_round_of_another_be_shown(four: Tab) -> None:
    visible = "document.querySelector('[data-figure=accuracy]').data.filter((trace) => trace.visible !== false).length"
    n_before = four.page.evaluate(visible)
    four.page.click("#accuracy .group-key button >> nth=0")

    # Both groups have as many curves: a mean, a band of two edges, and two runs.
    assert four.page.evaluate(visible) == n_before / 2
    four.page.click("#accuracy .group-key button >> nth=0")
    assert four.page.evaluate(visible) == n_before
    for position, label in ((1, "fedlora"), (0, "legend")):
        four.page.select_option("#round-group", str(position))
        four.page.wait_for_function(f"document.getElementById('round-label').textContent.startsWith('{label}')")


def test_the_page_fits_paper_and_small_screens(four: Tab) -> None:
    too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    four.page.emulate_media(media="print")
    four.page.set_viewport_size({"width": 700, "height": 1000})

    assert not four.page.is_visible("nav")
    assert four.page.evaluate(too_wide) <= 0
    four.page.emulate_media(media="screen")
    four.page.set_viewport_size({"width": 390, "height": 800})
    four.page.wait_for_timeout(500)
    assert four.page.evaluate(too_wide) <= 0
    assert four.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    four.page.set_viewport_size(WINDOW)


def test_the_command_line_writes_a_page_and_refuses_with_one_line(runs: list[Path], tmp_path: Path) -> None:
    made = in_process("report", *map(str, runs), "--out", "page.html", "--target", "0.2", cwd=tmp_path)
    refused = in_process("report", str(tmp_path), "--out", "other.html", cwd=tmp_path)

    assert made.returncode == 0, made.stderr
    assert (tmp_path / "page.html").stat().st_size < 8e6
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
