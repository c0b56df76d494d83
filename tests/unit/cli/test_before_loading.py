"""What is wrong with what was given is told before anything is loaded that computes, which takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import contextlib, io, json, sys
from emulator.cli import main

told = []
for arguments in json.load(sys.stdin):
    sys.argv, said = ["jetbed", *arguments], io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            main.main()
        except SystemExit as ended:
            status = ended.code
    told.append([status, said.getvalue(), sorted({"torch", "transformers", "peft", "ray"} & set(sys.modules))])
print(json.dumps(told))
"""

WRONG = {
    "data.source=nope.csv": "there is no file 'nope.csv'",
    "data.test_source=nope.csv": "there is no file 'nope.csv'",
    "data.text_column=words": "has no column 'words'",
    "data.test_fraction=2": "data.test_fraction",
    "data.seq_len=4096": "data.seq_len",
    "model.train=./nope": "model.train: there is no directory './nope'",
    "model.train=./nope.gguf": "model.train: there is no GGUF file './nope.gguf'",
    "model.train=nope": "model.train: there is no model 'nope'",
    "model.train=empty": "no config.json",
    "model.train=gpt2-alike": "GPT2",
    "model.train=no-weights": "needs a model.safetensors",
    "model.price=./nope": "model.price: there is no directory './nope'",
    "model.price=./nope.gguf": "model.price: there is no GGUF file './nope.gguf'",
    "testbed.cluster=nope.toml": "there is no cluster at 'nope.toml'",
    "testbed.link=nope.toml": "there is no link at 'nope.toml'",
    "testbed.availability.trace=nope.csv": "nope.csv",
    "training.local_stps=3": "local_stps",
    "policy.path=nope": "nope",
    "policy.rnk=3": "rnk",
}


def test_what_can_be_checked_without_torch_is_told_before_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"film {i},{i % 2}\n" for i in range(12)))
    for name, kind in (("gpt2-alike", "unknown-GPT2"), ("no-weights", "bert")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": kind}))
    (tmp_path / "empty").mkdir()
    usual = ["data.source=a.csv", "testbed.n_devices=2", "testbed.availability.kind=always"]
    calls = []
    for setting in WRONG:
        kind = ["testbed.availability.kind=trace"] if setting.startswith("testbed.availability") else []
        overrides = [part for each in (*usual, *kind, setting) for part in ("--set", each)]
        calls.append(["run", "--out", "o", "--backend", "inline", *overrides])
    calls += [["run", "nope.toml"], ["resume", "nope"], ["sweep", "nope-sweep.toml"], ["price", "nope"]]
    calls += [["doctor", "--set", "data.source=nowhere.csv"]]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(calls),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    found = {" ".join(call[-1:]): (status, loaded) for call, (status, _, loaded) in zip(calls, told, strict=True)}
    assert found == {" ".join(call[-1:]): (2, []) for call in calls}
    for (setting, said), (_, text, _) in zip(WRONG.items(), told, strict=False):
        assert said in text, setting
        assert len(text.splitlines()) == 1
    assert not (tmp_path / "o").exists()
