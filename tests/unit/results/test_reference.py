"""The examples of docs/results.md run as they stand."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[3] / "docs" / "results.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_run(tmp_path: Path, write_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)


def test_the_python_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    examples = blocks("python")
    assert len(examples) == 3
    for example in examples:
        exec(compile(example, "docs/results.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "finished 0.75" in printed
    # Of four devices three upload, in each of three rounds.
    assert "9 {b'unit': b'J'" in printed


def test_the_sql_example_runs() -> None:
    duckdb = pytest.importorskip("duckdb")
    (query,) = blocks("sql")
    # Device 2 is the only fast one that is ever ok: 3 * 81 J. The slow ones take 3 * (185 + 145) J.
    assert duckdb.sql(query).fetchall() == [
        ("fast", 4.0, 13.0, pytest.approx(243 / 3600)),
        ("slow", 14.5, 2.5, pytest.approx(990 / 3600)),
    ]
