"""Output files: refused before the work, and whole or not there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.errors import ConfigError, UserError
from emulator.storage.files import check_writable, replaced, write_text


def test_a_folder_is_no_output_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this is a folder"):
        check_writable(tmp_path)


def test_the_parent_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        check_writable(tmp_path / "missing" / "page.html")

    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_parent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="does not exist"):
        check_writable(tmp_path / "file" / "page.html")


def test_a_written_file_is_there_with_its_size_and_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")

    assert write_text(path, ["é", "b"]) == 3
    assert path.read_text(encoding="utf-8") == "éb"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_what_stops_the_writing_leaves_what_was_there(tmp_path: Path, stop: type[BaseException]) -> None:
    def parts() -> Iterator[str]:
        yield "half"
        raise stop

    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(stop):
        write_text(path, parts())

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write the output"):
        write_text(tmp_path / "gone" / "page.html", ["x"])


def test_bytes_are_replaced_as_text_is(tmp_path: Path) -> None:
    path = tmp_path / "page.bin"
    path.write_bytes(b"old")
    with replaced(path) as file:
        file.write_bytes(b"\x00new")
        assert path.read_bytes() == b"old"

    assert path.read_bytes() == b"\x00new"
    assert list(tmp_path.iterdir()) == [path]
