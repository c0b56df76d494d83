"""What the names of models mean."""

from pathlib import Path

import pytest

from emulator.shapes.names import ModelKind, ModelName


@pytest.mark.parametrize(
    ("text", "kind", "family"),
    [
        ("builtin:tiny-12", ModelKind.BUILTIN_TRANSFORMER, "transformer"),
        ("builtin:cnn", ModelKind.BUILTIN_CONVNET, "convnet"),
        ("roberta-base", ModelKind.PRICED_TRANSFORMER, "transformer"),
        ("alexnet", ModelKind.PRICED_CONVNET, "convnet"),
        ("FacebookAI/roberta-base", ModelKind.HUB, "transformer"),
        ("alexnets", ModelKind.HUB, "transformer"),
    ],
)
def test_a_name_tells_kind_and_family(text: str, kind: ModelKind, family: str) -> None:
    name = ModelName(text)

    assert (name.kind, name.family) == (kind, family)
    assert name.is_builtin == text.startswith("builtin:")
    assert name.is_convnet == (family == "convnet")


def test_a_directory_is_one_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))

    assert ModelName("~/mine").kind is ModelName(str(tmp_path / "mine")).kind is ModelKind.DIRECTORY
    assert ModelName("~/mine").folder == tmp_path / "mine"
    assert ModelName("~/other").kind is ModelKind.HUB


def test_a_built_in_name_is_never_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "builtin:tiny-12").mkdir()
    monkeypatch.chdir(tmp_path)

    assert ModelName("builtin:tiny-12").kind is ModelKind.BUILTIN_TRANSFORMER
    assert ModelName("builtin:tiny-12").without_prefix == "tiny-12"
