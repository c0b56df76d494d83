"""Paths are what their users mean, and text is read or refused with the way out."""

from pathlib import Path

import pytest

from device_profiles.text_files import FileError, decoded, lines_of, parsed_toml, read_text, user_path


@pytest.mark.parametrize(
    ("given", "folder", "expected"),
    [
        ("a.csv", None, "a.csv"),
        ("a.csv", "/data", "/data/a.csv"),
        ("~/a.csv", "/data", "/home/me/a.csv"),
        ("file:///data/a%20b.csv", "/x", "/data/a b.csv"),
        ("file://localhost/data/a.csv", None, "/data/a.csv"),
        (Path("file:///data/a.csv"), None, "/data/a.csv"),
        ("a~b", None, "a~b"),
        ("user/dataset", None, "user/dataset"),
    ],
)
def test_a_path_is_what_its_user_means(
    monkeypatch: pytest.MonkeyPatch, given: str | Path, folder: str | None, expected: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert user_path(given, None if folder is None else Path(folder)) == Path(expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("é".encode("latin-1"), "line 1 has the byte 0xe9.*it looks like Latin-1: convert it with iconv -f LATIN-1 -t"),
        (
            "a = 1".encode("utf-16"),
            "its byte order mark.*looks like UTF-16: convert it with iconv -f UTF-16",
        ),
        ("a = 1\n".encode("utf-16-le"), "null bytes.*looks like UTF-16"),
        (b"a = 1\n\0", "is not text: line 2 has a null byte"),
        (b"PAR1\0\0\xff", "is not text: line 1 has the byte 0xff"),
    ],
)
def test_another_encoding_is_named_with_the_command_that_converts_it(content: bytes, message: str) -> None:
    with pytest.raises(FileError, match=message):
        decoded(content)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbfa\r\nb\n")
    assert read_text(tmp_path / "f") == "a\r\nb\n"
    assert list(lines_of(tmp_path / "f", most_lines=2)) == [(1, "a"), (2, "b")]


def test_what_is_too_large_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1\n2\n3\n")
    with pytest.raises(FileError, match=r"is larger than the .* MiB"):
        read_text(tmp_path / "f", most_bytes=5)
    with pytest.raises(FileError, match="more than the 2 lines"):
        list(lines_of(tmp_path / "f", most_lines=2))
    with pytest.raises(FileError, match="is a folder"):
        read_text(tmp_path)
    with pytest.raises(FileError, match="there is no such file"):
        read_text(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text", [".".join("a" * 65) + " = 1", "[" + ".".join("a" * 65) + "]", "x = {a" + ".a" * 64 + "=1}"]
)
def test_a_key_of_many_parts_is_refused(text: str) -> None:
    with pytest.raises(FileError, match="line 1 has a key of more than 64 parts"):
        parsed_toml(text)


def test_dots_in_values_are_no_parts_of_keys() -> None:
    assert parsed_toml('note = "' + "." * 500 + '"\nnumbers = [\n' + "0.5, " * 500 + "]")["note"] == "." * 500
