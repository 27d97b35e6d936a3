"""An S3 store that fails, is slow, or ends its responses too soon, with the number of requests and seconds.

`make test-flows` runs these tests; `MACULA_FAULTS=FILE` appends the figures to a file.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows import registry, source_listing, state, workspaces
from flows.git_commands import dvc, git
from flows.remote_check import check_remote
from flows.retrain import push_data
from stages.core.errors import UserError
from tests.s3_server import Store, running_store, use_store
from tests.service_project import record_words

pytestmark = [pytest.mark.flows, pytest.mark.timeout(1200)]
OBJECTS = 20
URL = "s3://photos/new"


@dataclass
class Site:
    """A bucket of images, and a project whose version 1 is in a bucket that is the remote of DVC."""

    store: Store
    folder: Path
    version: registry.Version

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def list_source(self) -> None:
        assert len(source_listing.listing(URL)) == OBJECTS

    def copy_source(self) -> None:
        """Copy all images into a new folder."""
        copy = self.folder / f"copy-{time.monotonic_ns()}"
        source_listing.mirror(URL, copy, {f"{i}.png": known for i, known in enumerate(self.entries())})
        assert [(copy / f"{i}.png").read_bytes() for i in range(OBJECTS)] == [image(i) for i in range(OBJECTS)]

    def entries(self) -> list[tuple[int, str]]:
        client = self.store.client()
        found = [client.head_object(Bucket="photos", Key=f"new/{i}.png") for i in range(OBJECTS)]
        return [(one["ContentLength"], one["ETag"].strip('"')) for one in found]

    def push(self) -> None:
        """Push a new output."""
        (self.project / "data/export/model.onnx").write_bytes(f"model {time.monotonic_ns()}".encode() * 1000)
        dvc("commit", "--force", "export", cwd=self.project)
        push_data.fn(self.project)

    def pull(self) -> None:
        """Get the model on a machine with an empty cache."""
        with pytest.MonkeyPatch.context() as elsewhere:
            elsewhere.setenv("MACULA_STATE", str(self.folder / f"state-{time.monotonic_ns()}"))
            elsewhere.setenv("MACULA_CACHE", str(state.folder() / "cache"))
            model = workspaces.model_of(str(self.project), self.version, ("data/export",)) / "data/export/model.onnx"
        assert model.read_bytes() == b"the model" * 1000

    def doctor(self) -> None:
        """Check all objects of the remote by reading them."""
        _, count, problems = check_remote(self.project, read=True, repair=False)
        assert count >= 2 and problems == []


def image(number: int) -> bytes:
    return bytes([number]) * 5000


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("MACULA_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("flows.retrain.PUSH_PAUSES", (0.1,))
    monkeypatch.setattr("flows.retrain.get_run_logger", lambda: __import__("logging").getLogger("test"))
    with running_store() as store:
        use_store(store, monkeypatch)
        for bucket in ("photos", "remote"):
            store.client().create_bucket(Bucket=bucket)
        for number in range(OBJECTS):
            store.client().put_object(Bucket="photos", Key=f"new/{number}.png", Body=image(number))
        root = tmp_path / "project"
        (root / "data/export").mkdir(parents=True)
        (root / "dvc.yaml").write_text("stages:\n  export:\n    cmd: 'true'\n    outs: [data/export]\n")
        (root / "data/export/model.onnx").write_bytes(b"the model" * 1000)
        git("init", "--quiet", "--initial-branch=main", cwd=root)
        for key, value in workspaces.AUTHOR.items():
            git("config", key, value, cwd=root)
        dvc("init", "--quiet", cwd=root)
        dvc("remote", "add", "--default", "flows", "s3://remote/dvc", cwd=root)
        dvc("commit", "--force", "export", cwd=root)
        dvc("push", cwd=root)
        git("add", ".", cwd=root)
        git("commit", "--quiet", "--message", "run", cwd=root)
        version = registry.register(root, "digits", git("rev-parse", "HEAD", cwd=root), "run")
        yield Site(store, tmp_path, version)


def measure(site: Site, work: Callable[[], None]) -> tuple[str, int, float]:
    """Return the error of an operation, if any, its requests to the store, and its duration in seconds."""
    site.store.requests.clear()
    began, error = time.monotonic(), ""
    try:
        work()
    except UserError as problem:
        error = str(problem)
    return error, len(site.store.requests), time.monotonic() - began


OPERATIONS = {
    "list the source": Site.list_source,
    "copy the source": Site.copy_source,
    "push": Site.push,
    "pull": Site.pull,
    "doctor --remote --read": Site.doctor,
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_store_that_fails_is_asked_again_and_never_believed(site: Site, operation: str) -> None:
    def work() -> None:
        OPERATIONS[operation](site)

    def note(fault: str, error: str, requests: int, seconds: float) -> None:
        outcome = "fails" if error else "succeeds"
        record_words(f"S3 {fault}: {operation}", f"{outcome}: {requests} requests, {seconds:.1f} s")

    known = site.entries()
    site.entries = lambda: known  # type: ignore[method-assign]
    error, usual, seconds = measure(site, work)
    assert not error and usual
    note("without a fault", error, usual, seconds)

    seen: list[str] = []

    def every_third(_: str, path: str) -> int:
        seen.append(path)
        return 500 if len(seen) % 3 == 1 else 0

    site.store.fail = every_third
    error, requests, seconds = measure(site, work)
    assert not error and requests > usual, error
    note("every third request fails with 500", error, requests, seconds)

    site.store.fail = lambda *_: 500
    error, requests, seconds = measure(site, work)
    assert error and requests >= 3
    note("every request fails with 500", error, requests, seconds)

    site.store.fail = lambda *_: 0
    site.store.delay = 1.0
    error, requests, seconds = measure(site, work)
    assert not error and seconds >= 1
    note("1.0 s before each response", error, requests, seconds)

    site.store.delay = 0.0
    cut: set[str] = set()

    def cut_once(method: str, path: str) -> bool:
        if method != "GET" or path in cut:
            return False
        cut.add(path)
        return True

    site.store.cut = cut_once
    error, requests, seconds = measure(site, work)
    note("first response to each GET ends in the middle", error, requests, seconds)
    assert cut and not error, error

    site.store.cut = lambda method, _: method == "GET"
    error, requests, seconds = measure(site, work)
    note("each response to GET ends in the middle", error, requests, seconds)

    site.store.cut = lambda *_: False
    error, requests, seconds = measure(site, work)
    assert not error, "the store works again, and nothing half-read is used"
