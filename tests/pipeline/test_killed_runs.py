"""Runs of `retrain` that are killed with -9 at random moments: `make test-flows`."""

import hashlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.settings import PREFECT_API_URL
from ruamel.yaml import YAML

from flows import registry
from flows.git_commands import git
from flows.retrain_records import RECORD
from tests import toy_project
from tests.retrain_team import NAME, Team
from tests.service_project import record, record_words

pytestmark = [pytest.mark.flows, pytest.mark.timeout(2400), pytest.mark.usefixtures("prefect_api")]
KILLS = 20
STEPS = ("find data", "prepare workspace", "ingest", "audit", "train", "push data", "compare with champion", "record")


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    template = toy_project.create(tmp_path / "template", "data/raw/colours")
    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))  # the killed runs use the server of this test
    return Team(tmp_path, monkeypatch, template)


@pytest.mark.parametrize("whole_group", [False, True], ids=["the process of the run", "all processes of the run"])
def test_a_run_that_is_killed_at_random_moments_is_completed_by_the_next(team: Team, whole_group: bool) -> None:
    seed = int(os.environ.get("MACULA_SEED") or random.randrange(10**6))
    moments = random.Random(seed)
    print(f"MACULA_SEED={seed} repeats these moments")
    team.batch(1)
    began = time.monotonic()
    flow, output = start(team)
    assert flow.wait(300) == 0, output.read_text()
    duration = time.monotonic() - began
    reached: Counter[str] = Counter()
    longest = 0.0
    for number in range(1, KILLS + 1):
        team.batch(3, number)
        flow, output = start(team)
        time.sleep(duration * (number - moments.random()) / KILLS)  # one moment in each twentieth of a run
        reached[kill(flow, output, whole_group)] += 1
        check_what_is_published(team)
        began = time.monotonic()
        ended = team.retrain()
        longest = max(longest, time.monotonic() - began)
        assert (ended.name, "promoted" in str(ended.message)) in (("Promoted", True), ("Unchanged", True)), (
            ended.message
        )
        assert team.champion() == f"v0.0.{number + 1}", "one version per batch, also if a run was killed"
        assert team.record()["files"] == number + 1
        check_what_is_published(team)
        check_cache(team)
        assert team.workspaces() == []
        git("tag", "-a", f"{NAME}#champion#{2 * number + 1}", "-m", "by hand", f"{NAME}@v0.0.1^{{}}", cwd=team.project)
    assert sum(reached.values()) == KILLS
    which = "all processes of a run" if whole_group else "the process of a run"
    steps = ", ".join(f"{step} {reached[step]}" for step in (*STEPS, "after the end") if reached[step])
    record_words(f"{which} killed with -9 at {KILLS} random moments (seed {seed})", f"step reached: {steps}")
    record(f"{which} killed with -9", "longest next run", longest)


def test_a_run_whose_git_was_killed_is_resumed(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    team.batch(1)

    def stop(*_: object) -> None:
        raise RuntimeError("the machine stops")

    with monkeypatch.context() as patched:
        patched.setattr("flows.retrain.record_run", stop)
        assert team.retrain().is_failed()
    (folder,) = team.workspaces()
    (folder / ".git/index.lock").touch()
    ended = team.retrain()
    assert (ended.name, team.champion()) == ("Promoted", "v0.0.1"), ended.message


@pytest.mark.parametrize("created", [1, 2])
def test_a_push_of_which_a_stopped_machine_created_a_part_is_repeated(
    team: Team, monkeypatch: pytest.MonkeyPatch, created: int
) -> None:
    publish = registry.publish

    def in_part(clone: Path, refs: list[str]) -> None:
        publish(clone, refs[:created])
        raise RuntimeError("the machine stops")

    team.batch(1)
    with monkeypatch.context() as patched:
        patched.setattr(registry, "publish", in_part)
        assert team.retrain().is_failed()
    check_objects(team)
    assert team.champion() == (None if created == 1 else "v0.0.1")
    ended = team.retrain()
    assert ended.name == ("Promoted" if created == 1 else "Kept"), ended.message
    assert team.champion() == ("v0.0.2" if created == 1 else "v0.0.1")
    assert team.retrain().name == "Unchanged"


def start(team: Team) -> tuple[psutil.Popen, Path]:
    """Start a run in a session of its own; return it and the file with its output."""
    output = team.state.parent / "output.txt"
    with output.open("w") as stream:
        flow = psutil.Popen(
            toy_project.command("flows.retrain", f"source={team.source}"),
            cwd=team.project, env=toy_project.environment(team.project, team.state),
            stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
    return flow, output


def kill(flow: psutil.Popen, output: Path, whole_group: bool) -> str:
    """Kill a run and, if asked, all processes that it has started; return the step that it had reached."""
    started = flow.children(recursive=True) if flow.is_running() else []
    for process in [flow, *(started if whole_group else [])]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    ended = flow.wait(60) == 0
    assert not psutil.wait_procs(started, timeout=40)[1], "no process of a killed run stays"
    if ended:
        return "after the end"
    completed = [step for step in STEPS if f"'{step}' - Finished" in output.read_text()]
    return STEPS[min(len(completed), len(STEPS) - 1)]


def check_what_is_published(team: Team) -> None:
    """Assert that each version and champion in the repository is complete: record, branch and all objects."""
    versions = check_objects(team)
    for version, written in versions.items():
        branches = git("branch", "--contains", version.commit, "--list", "retrain/*", cwd=team.project).split()
        assert [branch for branch in branches if branch.endswith(written["key"])], version.number
    assert len(team.branches()) == len(versions)
    champion = team.champion()
    assert champion is None or champion in {version.number for version in versions}


def check_objects(team: Team) -> dict[registry.Version, dict[str, Any]]:
    """Assert that the commits and objects of each version exist; return the records by version."""
    git("fsck", "--connectivity-only", cwd=team.project)
    records = {}
    for version in registry.versions(team.project, NAME):
        written = records[version] = json.loads(git("show", f"{version.commit}:{RECORD}", cwd=team.project))
        assert written["version"] == version.number
        for digest in used_objects(team, version.commit):
            assert md5(team.remote / "files/md5" / digest[:2] / digest[2:]) == digest.removesuffix(".dir")
    return records


def used_objects(team: Team, commit: str) -> Iterator[str]:
    """Yield the digests of all objects that the outputs of a version consist of."""
    stages = YAML(typ="safe").load(git("show", f"{commit}:dvc.lock", cwd=team.project))["stages"].values()
    for digest in {out["md5"] for stage in stages for out in stage["outs"]}:
        yield digest
        if digest.endswith(".dir"):
            listed = json.loads((team.remote / "files/md5" / digest[:2] / digest[2:]).read_text())
            yield from (entry["md5"] for entry in listed)


def check_cache(team: Team) -> None:
    """Assert that each object of the shared cache has the bytes that its name states; DVC may leave hidden drafts."""
    files = [file for file in (team.state / "cache/files/md5").glob("*/[0-9a-f]*") if file.is_file()]
    assert files
    assert [file for file in files if md5(file) != (file.parent.name + file.name).removesuffix(".dir")] == []


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
