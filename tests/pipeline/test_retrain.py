"""Tests of the flow `retrain` on a toy project: `make test-flows`; one of them is a part of `make test`."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import registry, workspaces
from flows.git_commands import git
from tests import toy_project
from tests.retrain_team import NAME, Team
from tests.s3_server import running_store, use_store
from tests.service_project import record_words

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    return toy_project.create(folder / "project", "data/raw/colours")


@pytest.fixture
def team(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    return Team(tmp_path, monkeypatch, template)


def eventually(function: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := function()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return result


@pytest.mark.flows
def test_three_batches_give_a_first_champion_a_better_one_and_one_that_is_kept(team: Team) -> None:
    before = git("status", "--porcelain", cwd=team.project), git("rev-parse", "HEAD", cwd=team.project)
    team.batch(1)
    first = team.retrain()
    assert (first.name, team.champion()) == ("Promoted", "v0.0.1"), first.message
    team.batch(3, 1)
    better = team.retrain()
    assert (better.name, team.champion()) == ("Promoted", "v0.0.2"), better.message
    assert "accuracy is better by 0.6667" in str(better.message)
    team.batch(3, 2)
    same = team.retrain()
    assert (same.name, team.champion()) == ("Kept", "v0.0.2") and "same as the champion" in str(same.message)
    team.batch(1, 3)
    worse = team.retrain()
    assert (worse.name, team.champion()) == ("Kept", "v0.0.2") and "the challenger is worse" in str(worse.message)
    record = team.record()
    assert record["version"] == "v0.0.4" and record["champion"] == "v0.0.2" and record["files"] == 4
    assert record["decision"]["comparison"]["only_challenger_wrong"] == 20
    assert [version.number for version in registry.versions(team.project, NAME)] == [f"v0.0.{i}" for i in (1, 2, 3, 4)]
    assert (git("status", "--porcelain", cwd=team.project), git("rev-parse", "HEAD", cwd=team.project)) == before
    assert team.workspaces() == []
    # Another machine gets the champion from the remote.
    champion = registry.assigned(team.project, NAME, "champion")
    assert champion is not None
    folder = team.state.parent / "another"
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setenv("MACULA_CACHE", str(folder / "cache"))
        elsewhere.setenv("MACULA_STATE", str(folder / "state"))
        model = workspaces.model_of(str(team.project), champion) / "data/export/model.onnx"
    assert model.stat().st_size > 100


@pytest.mark.flows
def test_the_same_data_are_trained_on_once(team: Team) -> None:
    team.batch(3)
    assert team.retrain().name == "Promoted"
    began = time.monotonic()
    again = team.retrain()
    assert again.name == "Unchanged" and "promoted, it is the first model" in str(again.message)
    assert time.monotonic() - began < 30 and len(team.branches()) == 1
    forced = team.retrain(again=True)
    assert forced.name == "Kept" and len(team.branches()) == 2


def test_bad_data_stop_the_run_and_the_champion_stays(team: Team) -> None:
    team.batch(1)
    team.retrain()
    team.batch(3, 1, "confounded")
    stopped = team.retrain()
    assert stopped.name == "Stopped" and stopped.is_failed()
    assert "**confounder**: brightness predicts all" in str(stopped.message)
    assert team.champion() == "v0.0.1" and len(registry.versions(team.project, NAME)) == 1
    assert team.record()["version"] is None
    changed = git("diff", "--name-only", f"main...{team.branches()[-1]}", cwd=team.project).split()
    assert changed == ["data/retrain.json"], "the split table of bad data is not kept"
    assert team.retrain().name == "Unchanged" and team.workspaces() == []
    team.batch(3, 2)
    assert team.retrain().name == "Promoted" and team.champion() == "v0.0.2"


@pytest.mark.flows
def test_a_better_model_with_a_new_warning_is_held(team: Team) -> None:
    team.batch(1)
    team.retrain()
    team.batch(3, 1, "warn")
    held = team.retrain()
    assert held.name == "Held" and team.champion() == "v0.0.1"
    assert "better by 0.6667" in str(held.message) and "new warnings: outliers/dark" in str(held.message)
    subprocess.run(["gto", "assign", NAME, "--version", "v0.0.2", "--stage", "champion"], cwd=team.project, check=True)
    assert team.champion() == "v0.0.2"


@pytest.mark.flows
def test_a_slower_model_is_held(team: Team) -> None:
    team.batch(1)
    team.retrain()
    team.batch(3, 1)
    held = team.retrain(max_slowdown=0.01)
    assert held.name == "Held" and "above max_slowdown 0.01" in str(held.message) and team.champion() == "v0.0.1"


@pytest.mark.flows
def test_a_run_that_was_killed_is_resumed_by_the_next_one(team: Team) -> None:
    team.batch(3, 0, "slow")
    flow = toy_project.start(team.project, team.state, "flows.retrain", f"source={team.source}")

    def training() -> bool:
        return any((folder / "data/audit").is_dir() for folder in team.workspaces()) or flow.poll() is not None

    assert eventually(training, 120) and flow.poll() is None, flow.communicate()[0]
    flow.kill()
    flow.communicate()
    (folder,) = team.workspaces()
    (folder / "resumed").touch()
    ended = team.retrain(stage_hours=20 / 3600)  # long enough for all stages but the slow one
    assert ended.is_failed() and "`train`: error: the stage was stopped after 20.0 s" in str(ended.message)
    assert (folder / "resumed").is_file(), "the workspace was kept"
    assert team.champion() is None and team.branches() == []


@pytest.mark.flows
def test_an_interrupted_run_ends_with_a_hint(team: Team) -> None:
    team.batch(3, 0, "slow")
    flow = toy_project.start(team.project, team.state, "flows.retrain", f"source={team.source}")
    assert eventually(lambda: any((f / "data/audit").is_dir() for f in team.workspaces()), 120)
    flow.send_signal(signal.SIGINT)
    output, _ = flow.communicate(timeout=90)
    assert flow.returncode == 130 and output.rstrip().endswith("stopped; repeat the command to resume")


@pytest.mark.flows
def test_two_runs_on_the_same_data_do_not_share_a_workspace(team: Team) -> None:
    team.batch(3, 0, "slow")
    flow = toy_project.start(team.project, team.state, "flows.retrain", f"source={team.source}")
    assert eventually(lambda: any((f / "data/audit").is_dir() for f in team.workspaces()), 120)
    second = team.retrain()
    flow.send_signal(signal.SIGINT)
    flow.communicate(timeout=90)
    assert second.is_failed() and f"another run (pid {flow.pid}) is using the workspace" in str(second.message)


@pytest.mark.flows
def test_of_two_runs_that_end_at_the_same_time_the_second_compares_with_the_new_champion(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.batch(1)
    publish = registry.publish
    others: list[bool] = []

    def after_another_run(clone: Path, refs: list[str]) -> None:
        if not others:
            others.append(True)
            team.batch(3, 1)
            assert team.retrain().name == "Promoted"
        publish(clone, refs)

    monkeypatch.setattr(registry, "publish", after_another_run)
    ended = team.retrain()
    assert ended.name == "Kept" and "the challenger is worse" in str(ended.message)
    assert team.champion() == "v0.0.1" and len(registry.versions(team.project, NAME)) == 2


@pytest.mark.flows
def test_a_source_that_does_not_exist_or_is_empty_is_named(team: Team) -> None:
    missing = team.retrain()
    assert missing.is_failed() and str(team.source) in str(missing.message)
    team.source.mkdir()
    assert "contains no files" in str(team.retrain().message)
    assert "has no branch, tag or commit 'nowhere'" in str(team.retrain(revision="nowhere").message)


@pytest.mark.flows
def test_data_and_model_are_kept_in_a_bucket_that_fails_now_and_then(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_store() as store:
        use_store(store, monkeypatch)
        monkeypatch.setattr("flows.retrain.PUSH_PAUSES", (0.1, 0.1))
        for bucket in ("photos", "remote"):
            store.client().create_bucket(Bucket=bucket)
        store.client().put_object(Bucket="photos", Key="new/batch-0.txt", Body=b"1")
        monkeypatch.setenv("MACULA_REMOTE", "s3://remote/dvc")
        url = "s3://photos/new"
        failures: list[str] = []

        def fail_every_fourth_write(method: str, path: str) -> int:
            if method != "PUT" or len(failures) > 20:
                return 0
            failures.append(path)
            return 503 if len(failures) % 4 == 0 else 0

        store.fail = fail_every_fourth_write
        first = team.retrain(source=url)
        assert (first.name, team.champion()) == ("Promoted", "v0.0.1"), first.message
        assert len(failures) > 4
        assert "data/raw/colours" in git("show", f"{team.branches()[-1]}:params.yaml", cwd=team.project)
        store.requests.clear()
        assert team.retrain(source=url).name == "Unchanged"
        assert store.downloads() == [], "an unchanged bucket is listed, and no object is read"
        store.client().put_object(Bucket="photos", Key="new/batch-1.txt", Body=b"3")
        assert team.retrain(source=url).name == "Promoted"
        assert [path for path in store.downloads() if path.startswith("/photos")] == ["/photos/new/batch-1.txt"]


@pytest.mark.flows
def test_a_store_that_is_down_fails_the_run_and_the_next_one_resumes(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.retrain.PUSH_PAUSES", (0.1,))
    with running_store() as store:
        use_store(store, monkeypatch)
        store.client().create_bucket(Bucket="remote")
        monkeypatch.setenv("MACULA_REMOTE", "s3://remote/dvc")
        store.fail = lambda method, path: 503 if method == "PUT" else 0
        team.batch(1)
        failed = team.retrain()
        assert failed.is_failed() and "`dvc --wait-for-lock push`" in str(failed.message)
        assert team.champion() is None and team.branches() == []
        store.fail = lambda method, path: 0
        resumed = team.retrain()
        assert (resumed.name, team.champion()) == ("Promoted", "v0.0.1")


@pytest.mark.flows
@pytest.mark.parametrize("fault", ["damaged", "damaged list", "missing"])
def test_outputs_that_are_damaged_or_missing_in_the_cache_are_computed_again(team: Team, fault: str) -> None:
    team.batch(3)
    assert team.retrain().name == "Promoted"
    objects = sorted((team.state / "cache/files/md5").glob("*/*"))
    chosen = [file for file in objects if (file.suffix == ".dir") == (fault == "damaged list")]
    before = {file: file.read_bytes() for file in chosen}
    assert before
    for file in before:
        file.chmod(0o644)
        if fault == "missing":
            file.unlink()
        else:
            file.write_bytes(b"[]" if fault == "damaged list" else b"damaged " + file.read_bytes())
            file.chmod(0o444)
    ended = team.retrain(again=True)
    assert ended.name == "Kept" and "the same as the champion" in str(ended.message), ended.message
    assert {file: file.read_bytes() for file in chosen} == before
    record_words(f"objects {fault} in the cache", f"{len(before)} of {len(objects)}: computed again, equal bytes")
