"""Places: what a user may write, and files of a storage, on an S3 server and on a file system that must move files."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.errors import ConfigError, UserError
from emulator.results.reader import load
from emulator.results.writer import check_out_dir
from emulator.storage.files import check_writable, filled_folder, remove_tree, replaced, write_durably, write_text
from emulator.storage.places import Place, RemotePath, StorageError, listed, place
from tests.s3_server import BUCKET, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["s3", "moved"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RemotePath:
    """An empty folder of a storage that puts files, and of one that writes and then moves them, as HDFS does."""
    if request.param == "moved":
        return RemotePath("file:///", str(tmp_path / "runs").strip("/"))
    request.getfixturevalue("server")
    return RemotePath(f"s3://{BUCKET}", tmp_path.name)


@pytest.mark.parametrize("given", ["runs/a", "file:///runs/a", Path("runs/a")])
def test_what_lies_on_this_machine_is_a_path(given: str | Path) -> None:
    assert isinstance(place(given), Path)


@pytest.mark.parametrize("given", ["s3://bucket/runs/a", "s3://bucket/runs/a/", Path("s3://bucket/runs/a")])
def test_a_url_is_a_remote_path_however_it_ends(given: str | Path) -> None:
    assert str(place(given)) == "s3://bucket/runs/a"


def test_a_url_is_said_with_its_options_and_without_credentials_which_travel_all_the_same() -> None:
    found = place("s3://me:secret@bucket/runs?region=eu-west-1") / "run.json"

    assert str(found) == "s3://bucket/runs/run.json?region=eu-west-1"
    assert "secret" not in repr(found)
    assert pickle.loads(pickle.dumps(found)) == found != place(str(found))


def test_names_of_a_remote_path_are_those_of_a_path() -> None:
    path: Place = place("s3://bucket/runs/page.html")

    assert (path.name, path.suffix, str(path.parent)) == ("page.html", ".html", "s3://bucket/runs")
    assert str(path.with_suffix(".json")) == "s3://bucket/runs/page.json"


@pytest.mark.parametrize("given", ["ftp://host/x", "s3://", "s3:///key", "gs://"])
def test_other_urls_are_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="got"):
        place(given)


def test_a_file_is_there_with_its_bytes_and_replaces_an_older_one(folder: RemotePath) -> None:
    for content in (b"old", bytes(range(256)) * 40_000):  # in more than one part
        (folder / "deep" / "file.bin").write_bytes(content)

        assert (folder / "deep" / "file.bin").read_bytes() == content
    assert [path.name for path in listed(folder / "deep")] == ["file.bin"]
    assert folder.is_dir()
    assert (folder / "deep" / "file.bin").is_file()


def test_what_stops_the_writing_leaves_what_was_there(folder: RemotePath) -> None:
    def parts() -> Iterator[str]:
        yield "half"
        raise KeyboardInterrupt

    assert write_text(folder / "page.html", ["é"]) == 2
    with pytest.raises(KeyboardInterrupt):
        write_text(folder / "page.html", parts())

    assert (folder / "page.html").read_text() == "é"
    assert [path.name for path in listed(folder)] == ["page.html"]


def test_durable_and_replaced_files_and_filled_folders_lie_in_the_storage(folder: RemotePath) -> None:
    write_durably(folder / "a", b"1")
    with replaced(folder / "b") as file:
        file.write_bytes(b"2")
    with filled_folder(folder / "c") as filled:
        (filled / "d").mkdir(parents=True)
        (filled / "d" / "e").write_bytes(b"3")

    assert [(folder / name).read_bytes() for name in ("a", "b", "c/d/e")] == [b"1", b"2", b"3"]


def test_a_removed_folder_is_gone_and_may_be_removed_again(folder: RemotePath) -> None:
    (folder / "run" / "run.json").write_bytes(b"{}")
    for _ in range(2):
        remove_tree(folder / "run")

        assert not (folder / "run" / "run.json").exists()
        assert listed(folder / "run") == []


def test_a_file_that_is_not_there_is_not_found(folder: RemotePath) -> None:
    with pytest.raises(FileNotFoundError):
        (folder / "none").read_bytes()
    with pytest.raises(FileNotFoundError):
        (folder / "none").unlink()
    (folder / "none").unlink(missing_ok=True)


def test_a_folder_that_holds_something_is_refused_for_a_run_but_not_for_its_owner(folder: RemotePath) -> None:
    check_out_dir(folder)
    (folder / ".owner-1").write_bytes(b"")
    check_out_dir(folder)
    (folder / "run.json").write_bytes(b"{}")

    with pytest.raises(ConfigError, match=r"holds 'run\.json'"):
        check_out_dir(folder)
    with pytest.raises(ConfigError, match="this is a folder"):
        check_writable(folder)


@pytest.mark.slow
@pytest.mark.parametrize("use", [check_out_dir, check_writable, load])
def test_a_storage_that_is_away_and_a_bucket_that_is_not_there_are_one_sentence(use: object, server: str) -> None:
    assert callable(use)
    with pytest.raises(UserError, match="there is no such bucket"):
        use(place("s3://nowhere/runs"))
    with pytest.raises(StorageError, match=r"^the storage cannot be reached.*'s3://results/runs\?"):
        use(place("s3://results/runs?endpoint_override=127.0.0.1:1&scheme=http"))


def test_a_write_that_fails_says_why(server: str) -> None:
    with pytest.raises(UserError, match=r"cannot write the output \(there is no such bucket\)"):
        write_text(place("s3://nowhere/page.html"), ["x"])
