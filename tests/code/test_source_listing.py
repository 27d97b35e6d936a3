"""Tests of listing and copying sources: local folders, archives, and buckets with failures."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import remote_files, source_listing
from flows.source_listing import digest, is_single_file, listing, mirror, refuse_what_dvc_cannot_read
from stages.core.errors import UserError
from tests.s3_server import Store, running_store, use_store

URL = "s3://photos/new"


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    with running_store() as store:
        yield store


@pytest.fixture
def store(server: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty bucket `photos`, and attempts that follow each other at once."""
    use_store(server, monkeypatch)
    monkeypatch.setattr(remote_files, "FIRST_PAUSE", 0.01)
    server.fail, server.cut, server.delay = lambda *_: 0, lambda *_: False, 0.0
    client = server.client()
    client.create_bucket(Bucket="photos")
    server.requests.clear()
    yield server
    server.fail, server.cut, server.delay = lambda *_: 0, lambda *_: False, 0.0
    for found in client.list_objects_v2(Bucket="photos").get("Contents", []):
        client.delete_object(Bucket="photos", Key=found["Key"])
    client.delete_bucket(Bucket="photos")


def put(store: Store, **files: bytes) -> None:
    for name, data in files.items():
        store.client().put_object(Bucket="photos", Key=f"new/{name.replace('__', '/')}.png", Body=data)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_is_listed_without_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "cat" / ".thumbs").mkdir(parents=True)
    for name in ("cat/1.png", "2.png", ".DS_Store", "cat/.thumbs/1.png"):
        (tmp_path / name).write_bytes(b"abc")
    os.utime(tmp_path / "2.png", ns=(5, 7))
    found = listing(str(tmp_path))
    assert list(found) == ["2.png", "cat/1.png"]
    assert found["2.png"] == (3, "7")
    assert listing(f"file://{tmp_path}") == found


def test_a_digest_changes_with_name_size_and_tag() -> None:
    variants = [{"a": (1, "x")}, {"b": (1, "x")}, {"a": (2, "x")}, {"a": (1, "y")}, {"a": (1, "x"), "b": (1, "x")}, {}]
    assert len({digest(v) for v in variants}) == len(variants)
    assert digest({"a": (1, "x"), "b": (2, "y")}) == digest({"b": (2, "y"), "a": (1, "x")})


def test_a_missing_source_is_an_error_and_an_empty_folder_is_not(tmp_path: Path) -> None:
    assert listing(str(tmp_path)) == {}
    with pytest.raises(UserError, match="does not exist"):
        listing(str(tmp_path / "missing"))


def test_an_archive_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"zip")
    source = str(tmp_path / "a.zip")
    files = listing(source)
    assert is_single_file(source, files)
    assert not is_single_file(str(tmp_path), listing(str(tmp_path)))
    assert mirror(source, tmp_path / "copy", files).read_bytes() == b"zip"


def test_a_bucket_is_listed_below_its_prefix(store: Store) -> None:
    put(store, one=b"1", cat__two=b"22")
    store.client().put_object(Bucket="photos", Key="new/", Body=b"")
    store.client().put_object(Bucket="photos", Key="new/cat/", Body=b"")
    store.client().put_object(Bucket="photos", Key="newer/three.png", Body=b"333")
    found = listing(URL)
    assert {name: size for name, (size, _) in found.items()} == {"cat/two.png": 2, "one.png": 1}
    put(store, one=b"9")
    changed = listing(URL)
    assert changed["one.png"] != found["one.png"]
    assert changed["cat/two.png"] == found["cat/two.png"]
    assert list(listing("s3://photos/new/one.png")) == ["one.png"]
    assert listing("s3://photos/none") == {}


def test_only_changed_objects_are_downloaded(store: Store, tmp_path: Path) -> None:
    put(store, one=b"1", cat__two=b"22", three=b"333")
    copy = tmp_path / "copy"
    assert mirror(URL, copy, listing(URL)) == copy
    assert contents(copy) == {"one.png": b"1", "cat/two.png": b"22", "three.png": b"333"}
    store.requests.clear()
    mirror(URL, copy, listing(URL))
    assert store.downloads() == []
    put(store, one=b"9")
    store.client().delete_object(Bucket="photos", Key="new/cat/two.png")
    (copy / "three.png").write_bytes(b"33")
    store.requests.clear()
    mirror(URL, copy, listing(URL))
    assert sorted(store.downloads()) == ["/photos/new/one.png", "/photos/new/three.png"]
    assert contents(copy) == {"one.png": b"9", "three.png": b"333"}
    assert not (copy / "cat").exists()


def test_an_object_that_is_an_archive_is_downloaded_as_a_file(store: Store, tmp_path: Path) -> None:
    store.client().put_object(Bucket="photos", Key="all.zip", Body=b"zip")
    url = "s3://photos/all.zip"
    assert mirror(url, tmp_path / "copy", listing(url)) == tmp_path / "copy" / "all.zip"


def test_errors_of_the_store_are_retried(store: Store, tmp_path: Path) -> None:
    put(store, one=b"1", two=b"2")
    seen: Counter[tuple[str, str]] = Counter()

    def twice(method: str, path: str) -> int:
        seen[method, path] += 1
        return 503 if seen[method, path] <= 2 else 0

    store.fail = twice
    mirror(URL, tmp_path / "copy", listing(URL))
    assert contents(tmp_path / "copy") == {"one.png": b"1", "two.png": b"2"}
    assert max(seen.values()) > 2


def test_a_store_that_only_fails_is_an_error_and_the_copy_stays(store: Store, tmp_path: Path) -> None:
    put(store, one=b"1")
    copy = tmp_path / "copy"
    mirror(URL, copy, listing(URL))
    put(store, one=b"2", two=b"2")
    files = listing(URL)
    store.fail = lambda method, path: 500 if path.endswith(".png") else 0
    with pytest.raises(UserError, match=r"cannot be read after 5 attempts"):
        mirror(URL, copy, files)
    assert contents(copy) == {"one.png": b"1"}
    store.fail = lambda *_: 500
    with pytest.raises(UserError, match=r"s3://photos/new cannot be read after 5 attempts"):
        listing(URL)


def test_a_missing_bucket_and_a_refusal_are_not_retried(store: Store) -> None:
    with pytest.raises(UserError, match="s3://absent/x cannot be read"):
        listing("s3://absent/x")
    store.fail = lambda *_: 403
    before = len(store.requests)
    with pytest.raises(UserError, match="cannot be read"):
        listing(URL)
    assert len(store.requests) - before < remote_files.ATTEMPTS


def test_a_partial_response_never_becomes_a_file(store: Store, tmp_path: Path) -> None:
    put(store, one=b"0123456789" * 100)
    store.cut = lambda method, path: method == "GET" and path.endswith("one.png")
    files = listing(URL)
    with pytest.raises(UserError, match=r"one.png cannot be read after 5 attempts"):
        mirror(URL, tmp_path / "copy", files)
    assert contents(tmp_path) == {"copy.jsonl": b""}
    store.cut = lambda *_: False
    mirror(URL, tmp_path / "copy", files)
    assert len(contents(tmp_path / "copy")["one.png"]) == 1000


def test_a_slow_store_is_waited_for_up_to_the_time_limit(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, one=b"1")
    monkeypatch.setattr(remote_files, "READ_SECONDS", 1)
    store.delay = 0.3
    mirror(URL, tmp_path / "copy", listing(URL))
    assert contents(tmp_path / "copy") == {"one.png": b"1"}
    store.delay = 3.0
    monkeypatch.setattr(remote_files, "ATTEMPTS", 1)
    began = time.monotonic()
    with pytest.raises(UserError, match="cannot be read"):
        listing(URL)
    assert time.monotonic() - began < 60


def test_an_object_that_changes_during_the_copy_is_an_error(store: Store, tmp_path: Path) -> None:
    put(store, one=b"1", two=b"2")
    files = listing(URL)
    put(store, one=b"9")
    with pytest.raises(UserError, match=r"1 file of s3://photos/new changed while being copied, such as one.png"):
        mirror(URL, tmp_path / "copy", files)
    assert contents(tmp_path / "copy") == {"two.png": b"2"}


@pytest.mark.parametrize("key", ["new/../../evil.png", "new//double.png", "new/a/./b.png", f"new/{'x' * 300}.png"])
def test_names_that_are_not_paths_below_the_source_are_refused(store: Store, tmp_path: Path, key: str) -> None:
    store.client().put_object(Bucket="photos", Key=key, Body=b"evil")
    copy = tmp_path / "state" / "copy"
    with pytest.raises(UserError, match=r"is not the path of a file|cannot be written"):
        mirror(URL, copy, listing(URL))
    assert contents(tmp_path) in ({}, {"state/copy.jsonl": b""})


def test_an_object_that_is_also_a_folder_is_refused(store: Store) -> None:
    put(store, one=b"1")
    store.client().put_object(Bucket="photos", Key="new/one.png/inner.png", Body=b"2")
    with pytest.raises(UserError, match=r"'one.png' as a file and as the folder of 'one.png/inner.png'"):
        listing(URL)


def test_a_killed_copy_is_resumed(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, one=b"1", two=b"22", three=b"333")
    files = listing(URL)
    copied: list[Any] = []
    original = source_listing._copy

    def killed(*arguments: Any) -> Any:
        if len(copied) == 2:
            raise KeyboardInterrupt
        copied.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(source_listing, "_copy", killed)
    monkeypatch.setattr(source_listing, "DOWNLOADS", 1)
    with pytest.raises(KeyboardInterrupt):
        mirror(URL, tmp_path / "copy", files)
    with (tmp_path / "copy.jsonl").open("a") as journal:
        journal.write('["thr')  # a line that was being written
    monkeypatch.setattr(source_listing, "_copy", original)
    store.requests.clear()
    mirror(URL, tmp_path / "copy", files)
    assert len(store.downloads()) == 1
    assert len(contents(tmp_path / "copy")) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "copy.jsonl"]


def test_a_password_in_a_url_is_not_shown() -> None:
    with pytest.raises(UserError) as error:
        listing("unknown://me:secret@host/photos")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [(b"pipe", "neither a file nor a folder"), (b"link", "link without a target"), (b"\xff.png", "not UTF-8")],
)
def test_entries_that_dvc_cannot_read_are_refused(tmp_path: Path, name: bytes, message: str) -> None:
    source = tmp_path / "photos"
    (source / "a").mkdir(parents=True)
    (source / "a/\u00e9\n.png").write_bytes(b"1")
    (source / "b").symlink_to("a")
    refuse_what_dvc_cannot_read(source)
    refuse_what_dvc_cannot_read(source / "a/\u00e9\n.png")
    path = source / "a" / os.fsdecode(name)
    if name == b"pipe":
        os.mkfifo(path)
    elif name == b"link":
        path.symlink_to("nowhere")
    else:
        path.touch()
    with pytest.raises(UserError, match=message):
        refuse_what_dvc_cannot_read(source)
