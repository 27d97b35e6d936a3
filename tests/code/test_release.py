"""Tests of releases: the test split is opened once, also after a kill, and a second opening has a reason."""

import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from flows import releases, state, supervisor, workspaces
from flows.deployments import record_deployment
from flows.git_commands import dvc, git
from flows.model_source import find_model
from flows.registry import Conflict, assigned, register
from flows.releases import release
from stages.core.errors import UserError
from stages.core.openings import (
    COLUMNS,
    merge_openings,
    parse_openings,
    read_openings,
    time_of_opening,
    write_openings,
)
from stages.deployment.deployed_file import digest_of
from stages.deployment.deployment import deploy
from tests.command_line import macula
from tests.conftest import ROOT, png, write_params
from tests.deployed import plan_for
from tests.service_project import record_words
from tests.shipped import COLOURS, colour_model, plain, served
from tests.small_disk import names_the_disk, small_disk

TAG = "colours@v0.0.1"
BRANCH = "release/colours-v0.0.1"
EXPORT = """
import json, sys
from pathlib import Path
sys.path.insert(1, {root!r})
from stages.deployment.deployed_file import digest_of
from tests.deployed import exported
dataset = json.loads(Path("data/ingest/dataset.json").read_text())
folder = Path("data/export")
file = exported(folder, dataset["version"])
variant = {{"name": "float32", "engine": "onnxruntime", "precision": "float32"}}
(folder / "variants.json").write_text(json.dumps({{"shipped": "float32", "variants": [variant]}}))
(folder / "metadata.json").write_text(json.dumps({{"version": dataset["version"]}}))
"""
CARD = """
from pathlib import Path
folder = Path("data/model_card")
folder.mkdir(parents=True)
(folder / "model-card.md").write_text("# Card\\n\\n" + Path("data/openings.csv").read_text())
"""


class Killed(BaseException):
    """Stands for the death of the process: nothing handles it, and locks are released."""


def killing(step: str, after: bool = False) -> Callable[[str, Callable[[], Any]], Any]:
    """Return a runner of steps that ends before or after one of them."""

    def run_step(name: str, work: Callable[[], Any]) -> Any:
        if name == step and not after:
            raise Killed
        result = work()
        if name == step:
            raise Killed
        return result

    return run_step


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repository with a registered champion: the real ingest and unseal, a hand-made model and card."""
    root = tmp_path_factory.mktemp("template") / "project"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "stages", "data"], cwd=ROOT, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and name != "data/splits/digits.json":
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    changes = {"ingest": {"name": "colours", "source": "data/raw/colours"}, "evaluate": {"resamples": 100}}
    write_params(root, changes)
    shutil.rmtree(root / "data/params.resolved.yaml", ignore_errors=True)
    rng = np.random.default_rng(0)
    for number in range(90):
        colour = COLOURS[number % 3]
        image = plain(colour) // 2 + rng.integers(0, 60, (8, 8, 3), np.uint8)
        file = root / "data/raw/colours" / colour / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(image))
    (root / "export.py").write_text(EXPORT.format(root=str(ROOT)))
    (root / "card.py").write_text(CARD)
    yaml = YAML()
    graph = yaml.load((ROOT / "dvc.yaml").read_text())
    stages = {name: graph["stages"][name] for name in ("fingerprint", "resolve", "ingest")}
    stages["export"] = {"cmd": "python export.py", "deps": ["data/ingest"], "outs": ["data/export"]}
    card = {"cmd": "python card.py", "deps": ["data/export", "data/openings.csv"], "outs": ["data/model_card"]}
    yaml.dump({"stages": stages | {"model_card": card}}, root / "dvc.yaml")
    git("init", "--quiet", "--initial-branch=main", cwd=root)
    for key, value in workspaces.AUTHOR.items():
        git("config", key, value, cwd=root)
    dvc("init", "--quiet", cwd=root)
    dvc("repro", cwd=root)
    git("add", ".", cwd=root)
    git("commit", "--quiet", "--message", "run", cwd=root)
    register(root, "colours", git("rev-parse", "HEAD", cwd=root), "run")
    git("tag", "-a", "colours#champion#1", "-m", "better", "colours@v0.0.1^{}", cwd=root)
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy of the repository, and a state folder for the flows."""
    root = shutil.copytree(template, tmp_path / "project", symlinks=True)
    monkeypatch.setenv("MACULA_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MACULA_CACHE", str(root / ".dvc/cache"))
    monkeypatch.setenv("MACULA_REPOSITORY", str(root))
    monkeypatch.delenv("MACULA_REMOTE", raising=False)
    return root


def openings(project: Path) -> list[dict[str, str]]:
    return parse_openings(git("show", f"{BRANCH}:data/openings.csv", cwd=project), "openings")


def checkout_state(project: Path) -> tuple[str, str, str]:
    status = git("status", "--porcelain", cwd=project)
    return git("rev-parse", "HEAD", cwd=project), status, (project / "data/openings.csv").read_text()


def test_the_test_set_is_opened_once_and_again_only_with_a_reason(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checkout_state(project)
    remote = tmp_path / "remote"
    monkeypatch.setenv("MACULA_REMOTE", str(remote))
    outcome = release("champion")
    (row,) = openings(project)
    assert (outcome.outcome, outcome.version, outcome.branch) == ("released", TAG, BRANCH)
    assert outcome.value == row["value"] == "1.0" and float(row["low"]) <= 1.0 and row["reason"] == ""
    assert row["model"] in git("show", f"{BRANCH}:releases/colours-v0.0.1/model-card.md", cwd=project)
    scores = json.loads(git("show", f"{BRANCH}:releases/colours-v0.0.1/test-scores.json", cwd=project))
    assert scores["scores"]["balanced_accuracy"]["value"] == 1.0
    assert "unseal" in git("show", f"{BRANCH}:data/sealed/dvc.lock", cwd=project)
    found = assigned(project, "colours", "released")
    assert found is not None and found.tag == TAG
    assert checkout_state(project) == before and list(remote.rglob("*.dir"))
    assert not (state.folder() / "releases/colours-v0.0.1").exists()
    again = release(TAG)
    assert again.outcome == "unchanged" and "was not opened again" in again.message
    assert openings(project) == [row]
    second = release("champion", reason="labels were corrected")
    assert second.outcome == "released" and "the test set was opened" in second.message
    assert [one["reason"] for one in openings(project)] == ["", "labels were corrected"]
    repeated = release("champion", reason="labels were corrected")
    assert repeated.outcome == "unchanged" and len(openings(project)) == 2


@pytest.mark.parametrize(
    ("step", "after"),
    [
        ("unseal", True),
        pytest.param("record opening", True, marks=pytest.mark.slow),
        pytest.param("publish", False, marks=pytest.mark.slow),
    ],
)
def test_a_killed_release_is_resumed_without_a_second_opening(project: Path, step: str, after: bool) -> None:
    with pytest.raises(Killed):
        release("champion", run_step=killing(step, after))
    assert assigned(project, "colours", "released") is None
    outcome = release("champion")
    (row,) = openings(project)
    assert outcome.outcome == "released" and row["value"] == "1.0"
    assert assigned(project, "colours", "released") is not None


@pytest.mark.flows
def test_a_full_disk_at_any_step_of_a_release_opens_the_test_set_once(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ["prepare clone", "record opening", "unseal", "write card", "push data", "publish"]
    failed = []
    with small_disk(tmp_path / "disk", 64) as disk:
        monkeypatch.setenv("MACULA_STATE", str(disk.folder / "state"))
        for step in steps:

            def run_step(name: str, work: Callable[[], Any], full: str = step) -> Any:
                if name == full:
                    disk.fill()
                return work()

            try:
                release("champion", run_step=run_step)
            except (UserError, OSError) as error:
                assert disk.is_full() and names_the_disk(str(error)), (step, error)
                failed.append(step)
            disk.free()
            assert len(openings(project)) == 1 if step not in steps[:2] else True
        assert release("champion").outcome in ("released", "unchanged")
    (row,) = openings(project)
    assert row["value"] == "1.0" and failed == steps
    assert assigned(project, "colours", "released") is not None
    record_words(f"disk full at {len(steps)} steps of release", "each fails and names the disk; one opening; released")


def test_an_opening_without_a_score_is_explained_and_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = supervisor.output_of

    def killed(command: list[str], *words: Any) -> Any:
        if command[-1:] == [releases.STAGE]:
            raise Killed
        return real(command, *words)

    monkeypatch.setattr(supervisor, "output_of", killed)
    with pytest.raises(Killed):
        release("champion")
    monkeypatch.setattr(supervisor, "output_of", real)
    (row,) = openings(project)
    assert row["value"] == ""
    with pytest.raises(UserError, match=rf"at {row['opened_at'][:19]}.* recorded and interrupted .*--reason"):
        release("champion")
    shutil.rmtree(state.folder())  # the branch is the record, not this machine
    with pytest.raises(UserError, match=r"recorded and interrupted before its score was computed"):
        release("champion")
    outcome = release("champion", reason="power failure")
    assert outcome.outcome == "released"
    assert [(row["value"], row["reason"]) for row in openings(project)] == [("", ""), ("1.0", "power failure")]


def _release_and_die() -> None:
    def run_step(name: str, work: Callable[[], Any]) -> Any:
        if name == "write card":
            os.kill(os.getpid(), signal.SIGKILL)
        return work()

    release("champion", run_step=run_step)


@pytest.mark.slow
def test_a_release_whose_process_was_killed_is_resumed(project: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_release_and_die)
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert release("champion").outcome == "released" and len(openings(project)) == 1


@pytest.mark.slow
def test_of_two_machines_one_opens_the_test_set(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_machine(name: str, work: Callable[[], Any]) -> Any:
        if name == "record opening":
            with monkeypatch.context() as other:
                other.setenv("MACULA_STATE", str(tmp_path / "other"))
                assert release("champion").outcome == "released"
        return work()

    with pytest.raises(Conflict, match="was pushed by another run"):
        release("champion", run_step=other_machine)
    assert len(openings(project)) == 1


def test_an_opening_by_hand_on_a_branch_counts(project: Path) -> None:
    git("checkout", "--quiet", "-b", "by-hand", cwd=project)
    row = dict.fromkeys(COLUMNS, "") | {"opened_at": "2026-01-01T00:00:00+00:00", "data": "colours"}
    row |= {"version": json.loads((project / "data/sealed/test/dataset.json").read_text())["version"]}
    row |= {"model": digest_of(project / "data/export/model.onnx")[:12], "score": "accuracy", "value": "0.5"}
    write_openings(project / "data/openings.csv", [row])
    git("commit", "--quiet", "--all", "--message", "unseal", cwd=project)
    git("checkout", "--quiet", "main", cwd=project)
    outcome = release("champion")
    assert outcome.value == "0.5" and "the score of an earlier opening was used" in outcome.message
    assert [one["value"] for one in openings(project)] == ["0.5"]


def test_a_released_version_is_deployed_and_registered(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no version of colours is released"):
        find_model("released")
    git("tag", "-a", "colours#released#1", "-m", "tested", f"{TAG}^{{}}", cwd=project)
    file, version = find_model("released")
    assert version is not None
    outcome = deploy(plan_for(file, tmp_path / "served.onnx", label=version.tag))
    record_deployment("", version, outcome)
    found = assigned(project, "colours", "deployed")
    assert outcome.outcome == "deployed" and found == version
    with pytest.raises(UserError, match=r"did you mean `colours@v0\.0\.1`"):
        find_model("colours@v0.0.2")


@pytest.mark.slow
def test_the_flow_releases_and_then_reports_that_nothing_changed(project: Path, tmp_path: Path) -> None:
    env = os.environ | {"PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": str(ROOT)}
    env.pop("PREFECT_API_URL", None)
    for outcome in ("Released", "Unchanged"):
        command = [sys.executable, "-m", "flows.release", "model=champion"]
        done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{outcome}: {TAG} " in done.stdout
    assert len(openings(project)) == 1


@pytest.mark.slow
def test_every_command_of_the_guide_works(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs/guides/releasing.md").read_text()
    commands = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert [line.split()[1] for line in commands] == ["release", "release", "deploy", "deploy"]
    monkeypatch.chdir(project)
    Path("models").mkdir()
    with served(colour_model(Path("models/model.onnx"), version="before")) as (host, port):
        for line in commands:
            words = shlex.split(line.replace("http://127.0.0.1:8000", f"http://{host}:{port}"))
            assert macula(*words[1:]) == 0, line
    found = assigned(project, "colours", "deployed")
    assert found is not None and found.tag == TAG
    assert digest_of(Path("models/model.onnx")) == digest_of(project / "data/export/model.onnx")
    assert [row["reason"] for row in openings(project)][1:] == ["the labels of 12 test images were corrected"]


def test_old_records_are_read_and_get_the_new_column(tmp_path: Path) -> None:
    file = tmp_path / "openings.csv"
    file.write_text(",".join(COLUMNS[:-1]) + "\n2026-01-01,abc,toys,v1,m1,9,accuracy,0.9,0.8,1.0\n")
    rows = read_openings(file)
    assert rows[0]["reason"] == "" and rows[0]["value"] == "0.9"
    write_openings(file, rows)
    assert file.read_text().splitlines() == [",".join(COLUMNS), "2026-01-01,abc,toys,v1,m1,9,accuracy,0.9,0.8,1.0,"]
    incomplete = [{**rows[0], "value": ""}]
    assert merge_openings([incomplete, rows]) == merge_openings([rows, incomplete]) == rows
    file.write_text("opened_at,commit\n")
    with pytest.raises(UserError, match="lacks columns: data, version"):
        read_openings(file)


def test_a_second_opening_is_the_last_one_although_the_clock_was_set_back() -> None:
    first = dict.fromkeys(COLUMNS, "") | {"opened_at": "2999-01-01T00:00:00.000000+00:00", "value": "0.8"}
    second = first | {"opened_at": time_of_opening([first]), "value": "0.9"}
    assert [row["value"] for row in merge_openings([[second], [first]])] == ["0.8", "0.9"]
    assert time_of_opening([]) < time_of_opening([first])
