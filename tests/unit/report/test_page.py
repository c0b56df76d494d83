"""The page: all that must be on it, nothing that reaches out, and the same bytes for the same runs."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from emulator.analysis import Question
from emulator.errors import UserError
from emulator.report.page import report_page
from emulator.report.sections import short_names
from emulator.results.reader import load_run
from tests.made_runs import write_run
from tests.unit.report.conftest import MakeRun

VOID = {"meta", "link", "br", "input"}


class Reader(HTMLParser):
    """Text outside scripts, addresses, and whether tags are closed in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.addresses: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data


def page_of(*runs: Path, target: float | None = None) -> str:
    given = [load_run(run) for run in runs]
    return "".join(report_page(given[0] if len(given) == 1 else given, Question(target=target)))


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def figures_of(page: str) -> list[str]:
    return re.findall(r"data-figure='(\w+)'", page)


def test_the_page_of_a_run_has_every_section_and_reaches_nowhere(make_run: MakeRun) -> None:
    page = page_of(make_run("run"))
    reader = read(page)

    assert all(address.startswith(("#", "data:")) for address in reader.addresses)
    linked = {address[1:] for address in reader.addresses if address.startswith("#")}
    assert linked <= set(reader.ids)
    assert linked == {"summary", "accuracy", "round", "waiting", "settings", "traffic", "memory", "provenance"}
    assert figures_of(page) == [
        *["accuracy"] * 4, "round", "boxes", "waiting", "seconds", "settings", "settings", "bytes", "joules", "memory",
    ]  # fmt: skip
    assert "default-src 'none'" in page


def test_the_summary_of_a_run_has_its_figures(make_run: MakeRun) -> None:
    text = read(page_of(make_run("run"), target=0.7)).text

    # Round 1 reaches 0.7 after 20 s, 12 kB and 464 J.
    for words in ("calm, seed 0", "20.0 s", "12.0 kB", "464 J", "accuracy 0.700, after 2 rounds"):
        assert words in text


def test_a_comparison_has_a_row_for_each_group_and_run(make_run: MakeRun) -> None:
    runs = [make_run(f"{policy}-{seed}", policy=policy, seed=seed) for policy in ("calm", "brisk") for seed in (0, 1)]
    page = page_of(*runs)
    reader = read(page)

    assert "4 runs: 2 groups, 2 seeds" in reader.text
    assert [group["label"] for group in data_of(page)["groups"]] == ["calm", "brisk"]
    assert [len(group["lines"]) for group in data_of(page)["groups"]] == [2, 2]
    assert all(str(run) in reader.text for run in runs)


def test_a_group_that_never_reaches_the_target_is_said_to_never_do(make_run: MakeRun) -> None:
    runs = [make_run("calm", accuracy=[0.5, 0.9]), make_run("brisk", policy="brisk", accuracy=[0.5, 0.6])]

    cell = "<td class='missed'>never</td>"

    assert page_of(*runs, target=0.8).count(cell) == 4  # time, rounds, traffic and energy of one group
    assert cell not in page_of(*runs, target=0.55)


def test_unfinished_runs_are_named_and_stay_out_of_the_curves(make_run: MakeRun) -> None:
    three = {"rounds": 3}
    whole = make_run("whole", seed=0, config=three)
    failed = make_run("failed", seed=1, config=three, accuracy=[0.1], status="failed", error="the roof <fell>")
    page = page_of(whole, failed)

    assert "1 of 2 runs are not finished." in read(page).text
    assert "failed failed after 1 round: the roof <fell>" in read(page).text
    group = data_of(page)["groups"][0]
    assert group["score"]["n_rounds"]["n"] == 1
    assert [line["is_counted"] for line in group["lines"]] == [True, False]


def test_a_run_that_only_failed_has_a_page_without_figures(make_run: MakeRun) -> None:
    page = page_of(make_run("run", accuracy=(), status="failed", error="no luck"))

    assert figures_of(page) == []
    assert "no luck" in read(page).text


def test_a_page_can_be_about_another_score(make_run: MakeRun) -> None:
    # The loss of these runs is one minus their accuracy.
    page = "".join(report_page(load_run(make_run("run")), Question(score="loss", target=0.31)))

    data, text = data_of(page), read(page).text
    assert (data["score"], data["majority"], data["target"]) == ("loss", None, 0.31)
    assert data["groups"][0]["score"]["n_rounds"]["mean"] == pytest.approx([0.5, 0.3, 0.2])
    assert "Loss and what it costs" in text
    assert "a lower one is better. The dotted line is the target." in text
    assert "loss 0.310, after 2 rounds" in text


def test_the_page_says_why_a_run_ended_before_its_last_round(make_run: MakeRun) -> None:
    early = make_run("early", info={"ended_by": "stop_at.accuracy = 0.8 is reached: 0.81"})
    other = make_run("other", seed=1)

    said = "stop_at.accuracy = 0.8 is reached: 0.81"
    assert f"Ended before its last round: {said}." in read(page_of(early)).text
    assert f"finished{said}" in read(page_of(early, other)).text
    assert "Ended before" not in read(page_of(other)).text


def test_f1_is_shown_by_label_where_it_is_logged(make_run: MakeRun) -> None:
    calm = make_run("calm", class_f1=[0.25, None], info={"label_names": ["yes", "no"]})
    brisk = make_run("brisk", policy="brisk", class_f1=[0.5, 0.75], info={"label_names": ["yes", "no"]})
    alone, both = read(page_of(calm)), read(page_of(calm, brisk))

    assert "yes0.250\nno–" in alone.text.partition("F1 by label")[2]
    assert "labelcalmbrisk\nyes0.2500.500\nno–0.750" in both.text
    assert "labels" in both.ids
    assert "labels" not in read(page_of(make_run("without"))).ids


def test_a_run_without_training_has_no_section_on_accuracy(make_run: MakeRun) -> None:
    page = page_of(make_run("run", accuracy=[float("nan")] * 2))

    assert "accuracy" not in figures_of(page)
    assert data_of(page)["target"] is None


def test_boards_without_power_figures_are_named_in_the_place_of_0_joules(tmp_path: Path, make_run: MakeRun) -> None:
    unknown = write_run(tmp_path / "unknown", [0.5, 0.7], energy_j=0.0)
    text = read(page_of(unknown)).text
    assert text.count("Energy leaves boards out: ") == 2  # in the summary, and at the figure of joules
    assert "–no power figures" in text
    assert "no power figures" not in read(page_of(make_run("run"))).text


def test_texts_of_runs_are_no_markup(make_run: MakeRun) -> None:
    page = page_of(make_run("run", policy="</script><b>x", config={"policy": {"path": "</script><i>y"}}))

    read(page)
    assert "<b>x" not in page
    assert "<i>y" not in page
    assert data_of(page)["groups"][0]["label"] in ("</script><b>x", "</script><i>y")


def test_the_same_runs_give_the_same_bytes(make_run: MakeRun) -> None:
    runs = [make_run("a"), make_run("b", seed=1)]

    assert page_of(*runs) == page_of(*runs)


def test_settings_that_differ_are_set_side_by_side(make_run: MakeRun) -> None:
    slow = {"policy": {"path": "calm", "pause_s": 3.0}}
    quick = {"policy": {"path": "calm", "pause_s": 0.5}}
    text = read(page_of(make_run("a", config=slow), make_run("b", config=quick))).text

    assert "policy.pause_s" in text.partition("Settings in which the groups differ")[2].partition("Models, data")[0]


def test_runs_on_other_data_are_refused(make_run: MakeRun) -> None:
    runs = [make_run("a"), make_run("b", config={"data": {"source": "other"}})]

    with pytest.raises(UserError, match=r"cannot be compared.*data\.source"):
        page_of(*runs)


def test_names_are_short_where_that_tells_them_apart() -> None:
    assert short_names(["x/a", "x/b"]) == {"x/a": "a", "x/b": "b"}
    assert short_names(["x/a", "y/a"]) == {"x/a": "x/a", "y/a": "y/a"}


@pytest.mark.parametrize(
    ("n_seeds", "brisk", "is_said"),
    [(3, (0.8, 0.81, 0.82), True), (2, (0.8, 0.81), False), (3, (0.4, 0.6, 0.8), False)],
)
def test_a_group_is_called_the_best_where_intervals_of_three_seeds_are_apart(
    make_run: MakeRun, n_seeds: int, brisk: tuple[float, ...], is_said: bool
) -> None:
    runs = [
        make_run(f"{policy}-{seed}", policy=policy, seed=seed, accuracy=[reached[seed]])
        for policy, reached in (("calm", (0.5, 0.51, 0.52)), ("brisk", brisk))
        for seed in range(n_seeds)
    ]
    assert ("class='best'" in page_of(*runs)) == is_said
