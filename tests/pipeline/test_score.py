"""Tests of the flow `score` with a toy model: `pytest tests/pipeline/test_score.py`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect import State

from flows import model_source, registry, state, workspaces
from flows import score as score_flow
from flows.git_commands import git
from flows.score import score
from flows.score_batches import Store as Batches
from stages.core.errors import UserError
from tests.conftest import ROOT
from tests.drift_models import with_reference, write_images
from tests.s3_server import Store, running_store, use_store
from tests.service_project import record_words
from tests.shipped import colour_model
from tests.small_disk import names_the_disk, small_disk

pytestmark = pytest.mark.usefixtures("prefect_api")


class Site:
    """A source of images, the results, the model, and the events that were emitted."""

    def __init__(self, folder: Path) -> None:
        self.source, self.output, self.model = folder / "source", folder / "results", folder / "model.onnx"
        self.events: list[dict[str, Any]] = []

    def score(self, **options: Any) -> State:
        given = {"source": str(self.source), "output": str(self.output), "model": str(self.model), "workers": 1}
        ended: State = score(**(given | options), return_state=True)
        return ended

    def rows(self) -> list[list[dict[str, Any]]]:
        """Return the rows of each batch, the oldest first."""
        files = sorted(self.output.glob("*/predictions.jsonl"))
        return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]

    def names(self) -> list[list[str]]:
        return [[row["path"] for row in batch] for batch in self.rows()]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A toy model whose reference are 60 images of brightness 100."""
    monkeypatch.setenv("MACULA_STATE", str(tmp_path / "state"))
    made = Site(tmp_path)
    with_reference(colour_model(made.model), write_images(tmp_path / "known", 0, 60, 100))
    monkeypatch.setattr(score_flow, "emit_event", lambda **event: made.events.append(event))
    return made


def test_only_new_and_changed_images_are_predicted(site: Site) -> None:
    write_images(site.source / "a", 1, 3, 100)
    assert site.score().name == "Scored"
    assert site.names() == [["a/1-000.png", "a/1-001.png", "a/1-002.png"]]
    ended = site.score()
    assert ended.name == "NothingNew"
    assert "no new images" in str(ended.message)
    write_images(site.source, 2, 1, 100)
    os.utime(site.source / "a/1-001.png", (1, 1))
    site.score()
    assert site.names()[1] == ["2-000.png", "a/1-001.png"]
    site.score(again=True)
    assert [len(names) for names in site.names()] == [3, 2, 4]


def test_images_wait_until_there_are_enough_to_compare_and_drift_emits_one_event(site: Site) -> None:
    write_images(site.source, 1, 12, 40)
    first = site.score(drift_images=24)
    assert "12 of the 24 images for the next comparison" in str(first.message)
    assert not list(site.output.glob("*/drift.json"))
    write_images(site.source, 2, 12, 40)
    second = site.score(drift_images=24)
    assert second.name == "Drift"
    (event,) = site.events
    assert event["event"] == "macula.drift"
    assert event["resource"] == {"prefect.resource.id": "macula.model.colours"}
    payload = event["payload"]
    assert payload["images"] == 24
    assert payload["p"] <= 0.01
    assert payload["source"] == str(site.source)
    assert "brightness" in [one["name"] for one in payload["statistics"]]
    results = Path(payload["results"])
    assert json.loads((results / "drift.json").read_text())["verdict"] == "drift"
    assert "furthest from the reference" in (results / "drift.md").read_text()
    assert (results / "furthest.png").stat().st_size > 1000
    assert site.score(drift_images=24).name == "NothingNew"
    assert len(site.events) == 1


@pytest.mark.flows
def test_images_like_those_of_training_emit_no_event(site: Site) -> None:
    write_images(site.source, 3, 40, 100)
    ended = site.score(drift_images=20)
    assert ended.name == "Scored"
    assert "differs from the reference" in str(ended.message)
    assert site.events == []


@pytest.mark.flows
def test_a_model_without_reference_is_reported_as_not_checked(site: Site) -> None:
    colour_model(site.model)
    write_images(site.source, 1, 20, 40)
    ended = site.score(drift_images=20)
    assert ended.name == "Scored"
    assert "contains no drift_reference" in str(ended.message)


@pytest.mark.flows
def test_a_failed_comparison_is_repeated_without_a_second_prediction(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(site.source, 1, 20, 40)

    def fail(**_: Any) -> None:
        raise RuntimeError("no connection")

    with monkeypatch.context() as patched:
        patched.setattr(score_flow, "emit_event", fail)
        assert site.score(drift_images=20).is_failed()
    assert site.score(drift_images=20).name == "Drift"
    assert [len(names) for names in site.names()] == [20]
    assert len(site.events) == 1


@pytest.mark.flows
def test_hostile_names_and_damaged_images_become_rows(site: Site) -> None:
    write_images(site.source, 1, 1, 100)
    good = (site.source / "1-000.png").read_bytes()
    for name in ("-rf.png", "line\nbreak.png", "<b>|`.png", "a b.png"):
        (site.source / name).write_bytes(good)
    (site.source / "empty.png").write_bytes(b"")
    (site.source / "truncated.png").write_bytes(good[:60])
    (site.source / "notes.txt").write_text("not an image")
    (site.source / "link.png").symlink_to(site.source / "missing.png")
    os.mkfifo(site.source / "pipe.png")
    ended = site.score()
    assert ended.name == "Scored"
    (rows,) = site.rows()
    errors = {row["path"]: row["error"] for row in rows}
    assert [name for name, error in errors.items() if not error] == [
        "-rf.png", "1-000.png", "<b>|`.png", "a b.png", "line\nbreak.png",
    ]  # fmt: skip
    assert "empty (0 bytes)" in errors["empty.png"]
    assert "not a regular file" in errors["pipe.png"]
    assert len(errors) == 9
    assert site.score().name == "NothingNew"


def test_an_empty_source_is_nothing_new_and_a_missing_one_an_error(site: Site) -> None:
    site.source.mkdir()
    assert site.score().name == "NothingNew"
    missing = site.score(source=str(site.source / "missing"))
    assert missing.is_failed()
    assert "does not exist" in str(missing.message)
    inside = site.score(output=str(site.source / "results"))
    assert "is inside the source" in str(inside.message)
    wrong = site.score(model="missing.onnx")
    assert "the model missing.onnx does not exist" in str(wrong.message)


@pytest.mark.flows
def test_an_archive_is_scored_as_a_whole_when_it_changes(site: Site, tmp_path: Path) -> None:
    write_images(tmp_path / "packed", 1, 3, 100)
    source = shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "packed")
    site.score(source=source)
    assert site.names() == [[f"photos.zip/1-00{i}.png" for i in range(3)]]
    assert site.score(source=source).name == "NothingNew"


@pytest.mark.flows
def test_only_new_objects_of_a_bucket_are_downloaded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_store() as store:
        use_store(store, monkeypatch)
        store.client().create_bucket(Bucket="photos")
        put(store, write_images(site.source, 1, 3, 100))
        assert site.score(source="s3://photos/new").name == "Scored"
        put(store, write_images(site.source, 1, 5, 100))
        store.requests.clear()
        site.score(source="s3://photos/new")
        assert len(store.downloads()) == 2
        store.fail = lambda method, path: 404 if path.endswith(".png") else 0
        put_failed = site.score(source="s3://photos/new", again=True)
        assert put_failed.is_failed()
        store.fail = lambda *_: 0
        assert site.score(source="s3://photos/new", again=True).is_completed()
    assert [len(names) for names in site.names()] == [3, 2, 5]
    assert site.names()[1] == ["3.png", "4.png"]


def put(store: Store, images: list[bytes]) -> None:
    client = store.client()
    known = {one["Key"] for one in client.list_objects_v2(Bucket="photos").get("Contents", [])}
    for number, data in enumerate(images):
        if (key := f"new/{number}.png") not in known:
            client.put_object(Bucket="photos", Key=key, Body=data)


def test_two_runs_at_once_do_not_share_a_batch(site: Site) -> None:
    write_images(site.source, 1, 3, 100)
    made = Batches(str(site.source), site.output)
    with state.lock(f"score-{made.key}", "the source"):
        ended = site.score()
    assert ended.is_failed()
    assert "another run (pid" in str(ended.message)
    assert site.score().name == "Scored"


def start(site: Site, folder: Path) -> subprocess.Popen[bytes]:
    words = [f"source={site.source}", f"output={site.output}", f"model={site.model}", "workers=1"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "flows.score", *words], cwd=folder, env=env)


def wait_for(running: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def contains(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text() == text


def kill(running: subprocess.Popen[bytes]) -> None:
    running.send_signal(signal.SIGKILL)
    running.wait()


@pytest.mark.flows
def test_a_run_that_is_killed_is_resumed_without_losing_or_repeating_rows(site: Site, tmp_path: Path) -> None:
    write_images(site.source, 1, 300, 100)
    part = Batches(str(site.source), site.output).work / "predictions.jsonl.part"
    running = start(site, tmp_path)
    wait_for(running, lambda: part.is_file() and part.stat().st_size > 0)
    kill(running)
    write_images(site.source, 2, 2, 100)
    assert site.score().is_completed()
    assert [len(names) for names in site.names()] == [300, 2]
    assert len({name for names in site.names() for name in names}) == 302


@pytest.mark.flows
def test_runs_killed_at_random_moments_lose_and_repeat_nothing(site: Site, tmp_path: Path) -> None:
    write_images(site.source, 1, 400, 40)
    lock = state.folder() / "locks" / f"score-{Batches(str(site.source), site.output).key}.lock"
    for seconds in np.random.default_rng(0).uniform(0, 6, 5):  # after the run has taken the lock
        running = start(site, tmp_path)
        held = f"{running.pid}\n"
        wait_for(running, partial(contains, lock, held))
        time.sleep(seconds)
        kill(running)
    assert site.score().is_completed()
    names = [name for batch in site.names() for name in batch]
    assert len(names) == len(set(names)) == 400
    assert [json.loads(file.read_text())["verdict"] for file in site.output.glob("*/drift.json")] == ["drift"]
    assert site.score().name == "NothingNew"


def test_a_stage_and_a_version_of_the_registry_name_a_model(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "params.yaml").write_text("ingest: {name: my_photos}\n")
    for words in (("init", "--quiet", "--initial-branch=main"), ("config", "user.name", "me")):
        git(*words, cwd=project)
    git("config", "user.email", "me@localhost", cwd=project)
    git("add", ".", cwd=project)
    git("commit", "--quiet", "--message", "Start", cwd=project)
    first = registry.register(project, "my-photos", git("rev-parse", "HEAD", cwd=project), "first")
    registry.assign(project, first, "champion", "best")
    monkeypatch.setenv("MACULA_REPOSITORY", str(project))
    monkeypatch.setattr(workspaces, "model_of", lambda repository, version, outputs: Path("models", version.tag))
    expected = (Path("models/my-photos@v0.0.1/data/export/model.onnx"), first)
    assert model_source.find_model("champion") == expected
    assert model_source.find_model("my-photos@v0.0.1") == expected
    with pytest.raises(UserError, match="no version of my-photos is deployed"):
        model_source.find_model("deployed")
    with pytest.raises(UserError, match=r"'my-photos@v0.0.9' is neither a file"):
        model_source.find_model("my-photos@v0.0.9")


@pytest.mark.flows
def test_a_full_disk_at_any_step_loses_and_repeats_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ("list_source", "predict", "compare", "publish")
    with small_disk(tmp_path / "disk", 64) as disk:
        monkeypatch.setenv("MACULA_STATE", str(disk.folder / "state"))
        site.output = disk.folder / "results"
        for number, step in enumerate(steps, 1):
            write_images(site.source, number, 20, 100)
            original = getattr(score_flow, step)

            def full(*words: Any, original: Callable[..., Any] = original) -> Any:
                disk.fill()
                return original(*words)

            with monkeypatch.context() as patched:
                patched.setattr(score_flow, step, full)
                failed = site.score(drift_images=20)
            assert disk.is_full() and failed.is_failed() and names_the_disk(failed.message), (step, failed.message)
            disk.free()
            assert site.score(drift_images=20).is_completed(), step
        names = [name for batch in site.names() for name in batch]
        compared = [json.loads(file.read_text()) for file in site.output.glob("*/drift.json")]
    assert len(names) == len(set(names)) == 20 * len(steps)
    assert [one["images"] for one in compared] == [20] * len(steps)
    outcome = "each run fails and names the disk; no row is lost or repeated"
    record_words(f"disk full at {len(steps)} steps of score", outcome)
