"""The page of all claims, made of runs written by hand."""

from pathlib import Path

import tomli_w

from benchmarks.claims.gates import GATES
from benchmarks.claims.page import measured, page, quoted, search, section
from benchmarks.claims.plan import Setting, claim_file, place
from tests.made_runs import write_sweep

SETTING = Setting(world="builtin", size="brief")
INFO = {
    "n_devices": 2,
    "cluster": "jetson80",
    "trained_model": "builtin:mini-12",
    "priced_model": "roberta-base",
    "majority_accuracy": 0.125,
    "n_test_examples": 400,
}  # fmt: skip


def write_group(folder: Path, label: str, round_s: float) -> None:
    """A group of LEGEND's claim on all three seeds: 0.5 in the third round."""
    names = {f"seed-{seed}": seed for seed in (0, 1, 2)}
    run = {
        "accuracies": [0.25, 0.375, 0.5],
        "round_s": round_s,
        "policy": label,
        "settings": {"rounds": 3, "data": {"source": "builtin:intents"}, "training": {"learning_rate": 0.002}},
        "info": INFO,
    }
    write_sweep(
        folder / place("legend", SETTING, label),
        {name: {**run, "seed": seed} for name, seed in names.items()},
        {name: {"policy": label, "seed": seed} for name, seed in names.items()},
    )


def test_a_claim_that_was_run_has_figure_bound_and_verdict(tmp_path: Path) -> None:
    write_group(tmp_path, "fedlora", round_s=12.0)
    write_group(tmp_path, "legend", round_s=10.0)

    text = section("legend", measured("legend", [tmp_path]), [])

    assert "a speedup of 1.5-2.8x" in text
    assert "**builtin-brief-common**: 2 devices (jetson80), 3 rounds; `builtin:mini-12` on `builtin:intents`" in text
    assert "trained in float32; learning rate 0.002 for all; 6 of 18 runs finished; the target is 0.500." in text
    compared = "time to target: `legend` and `fedlora`"
    assert f"| L1 | {compared} | 1.5 to 2.8 | >= 1.1 | 1.20 (1.20 to 1.20), n = 3 | reproduced |" in text
    assert "| L1, tuned layers only |" in text
    assert "| – | not run |" in text


def test_a_claim_that_was_not_run_says_so_with_its_bounds() -> None:
    text = section("fedquad", [], [])

    assert "Not run. Fixed are: Q3, time to target, over one depth that all can hold, >= 1.2." in text


def test_what_was_tried_is_below_its_claim() -> None:
    text = section("fedquad", [], [{"system": "fedquad", "world": "real", "text": "Less depth; no gain."}])

    assert text.endswith("Tried (`real`): Less depth; no gain.")


def test_the_page_begins_with_every_gate(tmp_path: Path) -> None:
    write_group(tmp_path, "fedlora", round_s=12.0)
    write_group(tmp_path, "legend", round_s=10.0)
    systems = dict.fromkeys(gate.system for gate in GATES)

    text = page({system: measured(system, [tmp_path]) for system in systems}, [], "")

    summary = text[: text.index("\n## ")]
    assert "| gate | claim | paper | builtin-brief-common |" in summary
    assert "| L1 | `legend`, time to target | 1.5 to 2.8 | reproduced |" in summary
    assert sum(line.endswith("| not run |") for line in summary.splitlines()) == len(GATES) - 3  # L1, L2, L3 were


def test_every_claim_has_a_sentence_in_quotation_marks() -> None:
    for system in dict.fromkeys(gate.system for gate in GATES):
        title, sentence = quoted(claim_file(system).read_text(encoding="utf-8"))
        assert title
        assert "arXiv" in sentence
        assert sentence.count('"') >= 2


def test_the_search_is_a_table_with_what_is_taken_in_bold(tmp_path: Path) -> None:
    file = tmp_path / "learning_rates.toml"
    found = {"size": "brief", "rates": {"fedlora": 0.001}, "scores": {"fedlora": {"0.0003": 0.25, "0.001": 0.5}}}
    file.write_text(tomli_w.dumps({"builtin": found}))

    lines = search(file).splitlines()

    assert "| builtin, brief | 0.0003 | 0.001 |" in lines
    assert "| `fedlora` | 0.250 | **0.500** |" in lines
    assert "No search was finished yet" in search(tmp_path / "none.toml")
