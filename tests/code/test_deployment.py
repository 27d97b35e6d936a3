"""Tests of deployments to a running server: under load, with bad models, interrupted, at the same time, disk full."""

import fcntl
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import UserError
from stages.deployment import deployment
from stages.deployment.deployed_file import DeployedFile, digest_of
from stages.deployment.deployment import Plan, deploy, repair
from stages.deployment.golden_images import GOLDEN_FILE
from tests.conftest import ROOT
from tests.deployed import LARGEST, Clients, exported, plan_for, proxy
from tests.service_project import record_words
from tests.shipped import colour_model, plain, served
from tests.small_disk import names_the_disk, small_disk

KILLED_AT = (
    ("repair", "before"),
    ("check model.onnx here", "before"),
    ("measure before", "before"),
    ("copy", "before"),
    ("copy", "after"),
    ("replace", "before"),
    ("check the server", "before"),
    ("check the server", "after"),
)
"""Steps, and whether the process is killed before or after them."""
STARTED = ("replace", "check the server")
"""Steps at which a change has been written down."""


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, tuple[str, int]]]:
    """Yield the file that a real server watches, and its address."""
    file = tmp_path_factory.mktemp("served") / "model.onnx"
    colour_model(file, version="first")
    with served(file, "--threads", "1") as address:
        yield file, address


@pytest.fixture
def target(running_server: tuple[Path, tuple[str, int]]) -> Path:
    return running_server[0]


@pytest.fixture
def server(running_server: tuple[Path, tuple[str, int]]) -> tuple[str, int]:
    return running_server[1]


def served_digest(server: tuple[str, int]) -> str:
    with urllib.request.urlopen(f"http://{server[0]}:{server[1]}/v1/model", timeout=10) as response:
        return json.load(response)["digest"]


def test_a_good_model_is_deployed_under_load_without_a_lost_request(
    tmp_path: Path, target: Path, server: tuple[str, int]
) -> None:
    before, model = digest_of(target), exported(tmp_path / "new", "second")
    with Clients(server, plain("green")) as clients:
        outcome = deploy(plan_for(model, target, server))
        again = deploy(plan_for(model, target, server))
    assert (outcome.outcome, outcome.digest) == ("deployed", digest_of(model) == outcome.digest and outcome.digest)
    assert "golden images within the tolerance" in outcome.message and "of clients" in outcome.message
    assert (clients.failures, set(clients.labels)) == ([], {"green"})
    assert clients.digests == [before[:12], outcome.digest[:12]] and len(clients.labels) > 50
    assert again.outcome == "unchanged" and "the server serves it" in again.message
    deployed = DeployedFile(target)
    assert deployed.history()[-1]["after"] == outcome.digest and deployed.history()[-1]["before"] == before
    assert digest_of(deployed.kept(before)) == before and deployed.pending() is None


def test_a_model_that_fails_its_golden_images_changes_nothing(
    tmp_path: Path, target: Path, server: tuple[str, int]
) -> None:
    before, rows = digest_of(target), len(DeployedFile(target).history())
    outcome = deploy(plan_for(exported(tmp_path / "new", "third", "wrong"), target, server))
    assert outcome.outcome == "refused" and not outcome.succeeded
    assert "6 of 6 golden images failed" in outcome.message and "nothing was changed" in outcome.message
    assert digest_of(target) == before and served_digest(server) == before[:12]
    assert len(DeployedFile(target).history()) == rows


def test_a_file_that_cannot_be_loaded_changes_nothing(tmp_path: Path, target: Path, server: tuple[str, int]) -> None:
    before, model = digest_of(target), exported(tmp_path / "new")
    model.write_bytes(model.read_bytes()[:200])
    outcome = deploy(plan_for(model, target, server))
    assert outcome.outcome == "refused" and "cannot be opened" in outcome.message
    assert digest_of(target) == before


def test_the_float32_file_is_deployed_if_the_model_fails_here(
    tmp_path: Path, target: Path, server: tuple[str, int]
) -> None:
    beside = exported(tmp_path / "new", "exact").rename(tmp_path / "new/float32.onnx")
    model = exported(tmp_path / "new", "quantized", "wrong")
    outcome = deploy(plan_for(model, target, server))
    assert outcome.outcome == "deployed" and digest_of(beside) == digest_of(target) == outcome.digest
    assert "model.onnx fails on this machine" in outcome.message
    assert "therefore float32.onnx is used" in outcome.message
    again = deploy(plan_for(model, target, server))
    assert again.outcome == "unchanged" and "therefore float32.onnx is used" in again.message


def test_a_slow_model_is_rolled_back(tmp_path: Path, target: Path, server: tuple[str, int]) -> None:
    before = digest_of(target)
    outcome = deploy(plan_for(exported(tmp_path / "new", "slow", "slow"), target, server, monitor_seconds=0.1))
    assert outcome.outcome == "rolled-back" and "median latency" in outcome.message, outcome
    assert "which the server serves" in outcome.message
    assert digest_of(target) == before == outcome.digest and served_digest(server) == before[:12]
    assert DeployedFile(target).history()[-1]["outcome"] == "rolled-back"


def test_a_model_with_which_requests_of_clients_fail_is_rolled_back(
    tmp_path: Path, target: Path, server: tuple[str, int]
) -> None:
    before = digest_of(target)
    with Clients(server, plain("green", LARGEST)) as clients:
        outcome = deploy(plan_for(exported(tmp_path / "new", "fragile", "fragile"), target, server))
    assert outcome.outcome == "rolled-back" and "requests of clients failed" in outcome.message, outcome
    assert clients.failures and digest_of(target) == before and served_digest(server) == before[:12]


def on_the_new_model(
    digest: str, fault: Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]
) -> Callable[[str, int, dict[str, Any]], tuple[int, dict[str, Any]]]:
    """Return a change of responses to predictions of one model."""

    def change(path: str, status: int, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        mine = path.startswith("/v1/predict") and body.get("model", {}).get("digest") == digest[:12]
        return fault(body) if mine else (status, body)

    return change


def test_a_model_that_predicts_otherwise_on_the_server_is_rolled_back(
    tmp_path: Path, target: Path, server: tuple[str, int]
) -> None:
    before, model = digest_of(target), exported(tmp_path / "new", "other-processor")

    def exchanged(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        red, green, blue = body["answer"]["probabilities"].values()
        body["answer"]["probabilities"] = {"red": green, "green": blue, "blue": red}
        return 200, body

    with proxy(server, on_the_new_model(digest_of(model), exchanged)) as address:
        outcome = deploy(plan_for(model, target, address))
    assert outcome.outcome == "rolled-back" and "over HTTP 6 of 6 golden images failed" in outcome.message, outcome
    assert digest_of(target) == before and served_digest(server) == before[:12]


def test_a_model_that_fails_on_the_server_is_rolled_back(tmp_path: Path, target: Path, server: tuple[str, int]) -> None:
    before, model = digest_of(target), exported(tmp_path / "new", "failing")
    with proxy(server, on_the_new_model(digest_of(model), lambda _: (500, {"error": "no memory"}))) as address:
        outcome = deploy(plan_for(model, target, address))
    assert outcome.outcome == "rolled-back" and "no memory" in outcome.message, outcome
    assert digest_of(target) == before and served_digest(server) == before[:12]


def _deploy_until(plan: Plan, stop: str, during: bool) -> None:
    """Kill this process before a step, or after its work."""

    def run_step(name: str, work: Callable[[], Any]) -> Any:
        if name == stop and not during:
            os.kill(os.getpid(), signal.SIGKILL)
        result = work()
        if name == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    deploy(plan, run_step)


def kill_at(plan: Plan, step: str, after: bool) -> None:
    """Deploy in a process that kills itself at a step."""
    process = multiprocessing.get_context("spawn").Process(target=_deploy_until, args=(plan, step, after))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(("step", "moment"), KILLED_AT)
def test_a_killed_deployment_is_repaired_by_the_next(
    tmp_path: Path, target: Path, server: tuple[str, int], step: str, moment: str
) -> None:
    before, model, started = digest_of(target), exported(tmp_path / "new", f"{step} {moment}"), step in STARTED
    plan = plan_for(model, target, server, monitor_seconds=0.5, baseline_seconds=0.2)
    kill_at(plan, step, moment == "after")
    deployed = DeployedFile(target)
    assert (deployed.pending() is not None) == started
    if step == "check the server":
        assert digest_of(target) == digest_of(model)
        repaired = repair(plan)
        assert (repaired.outcome, digest_of(target), served_digest(server)) == ("rolled-back", before, before[:12])
        kill_at(plan, step, moment == "after")
    outcome = deploy(plan)
    assert outcome.outcome == "deployed" and bool(outcome.repaired) == started
    assert digest_of(target) == digest_of(model) and served_digest(server) == digest_of(model)[:12]
    assert deployed.pending() is None and not list(deployed.folder.glob("*.part"))
    ids = [row["id"] for row in deployed.history()]
    assert len(ids) == len(set(ids))


def test_a_deployment_that_was_killed_after_its_record_counts_as_finished(tmp_path: Path) -> None:
    target, model = tmp_path / "served/model.onnx", exported(tmp_path / "new")
    target.parent.mkdir()
    assert deploy(plan_for(model, target)).outcome == "deployed"
    other = exported(tmp_path / "other", "other")
    deployed = DeployedFile(target)
    with deployed.locked():
        change = deployed.prepare(other, other.with_name(GOLDEN_FILE), "other")
        deployed.begin(change)
        deployed.replace(change)
        pending = (deployed.folder / "pending.json").read_text()
        deployed.finish(change, "deployed", "checked")
    (deployed.folder / "pending.json").write_text(pending)
    with deployed.record.open("a") as stream:
        stream.write('{"id": "torn')
    assert repair(plan_for(model, target)).outcome == "nothing-to-repair"
    assert digest_of(target) == digest_of(other) and deployed.pending() is None
    assert deploy(plan_for(model, target)).outcome == "deployed"
    assert [row["label"] for row in deployed.history()] == [str(model), "other", str(model)]


def test_an_interrupted_deployment_restores_the_previous_file(
    tmp_path: Path, target: Path, server: tuple[str, int]
) -> None:
    before = digest_of(target)

    def interrupted(name: str, work: Callable[[], Any]) -> Any:
        if name == "check the server":
            raise KeyboardInterrupt
        return work()

    with pytest.raises(KeyboardInterrupt):
        deploy(plan_for(exported(tmp_path / "new", "interrupted"), target, server), interrupted)
    assert digest_of(target) == before and DeployedFile(target).pending() is None
    assert DeployedFile(target).history()[-1]["message"].startswith("interrupted (KeyboardInterrupt)")


def test_two_deployments_at_once_do_not_mix(tmp_path: Path, target: Path, server: tuple[str, int]) -> None:
    model, entered, go_on = exported(tmp_path / "new", "slowly deployed"), threading.Event(), threading.Event()
    outcomes = []

    def slowly(name: str, work: Callable[[], Any]) -> Any:
        if name == "replace":
            entered.set()
            assert go_on.wait(60)
        return work()

    first = threading.Thread(target=lambda: outcomes.append(deploy(plan_for(model, target, server), slowly)))
    first.start()
    assert entered.wait(60)
    try:
        with pytest.raises(UserError, match=rf"another deployment of .* is running \(pid {os.getpid()} on "):
            deploy(plan_for(exported(tmp_path / "other", "other"), target, server))
    finally:
        go_on.set()
        first.join()
    assert [outcome.outcome for outcome in outcomes] == ["deployed"] and digest_of(target) == digest_of(model)


def test_a_file_that_another_program_replaced_is_left_as_it_is(
    tmp_path: Path, target: Path, server: tuple[str, int]
) -> None:
    other = colour_model(tmp_path / "by-hand.onnx", version="by hand")

    def disturbed(name: str, work: Callable[[], Any]) -> Any:
        if name == "check the server":
            shutil.copy(other, tmp_path / "copy")
            shutil.move(tmp_path / "copy", target)
        return work()

    outcome = deploy(plan_for(exported(tmp_path / "new", "disturbed"), target, server, load_seconds=5), disturbed)
    assert outcome.outcome == "not-rolled-back" and "was replaced by another program" in outcome.message
    assert digest_of(target) == digest_of(other) and DeployedFile(target).pending() is None


def test_the_first_model_is_placed_before_the_server_starts(tmp_path: Path) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    target, model = folder / "model.onnx", exported(tmp_path / "new")
    outcome = deploy(plan_for(model, target, ("127.0.0.1", 9)))
    assert outcome.outcome == "deployed" and "no server responds at http://127.0.0.1:9 yet" in outcome.message
    with served(target) as address:
        again = deploy(plan_for(model, target, address))
    assert again.outcome == "unchanged" and "over HTTP 6 golden images within the tolerance" in again.message


def test_nothing_is_changed_while_the_server_does_not_respond(tmp_path: Path) -> None:
    target = colour_model(tmp_path / "model.onnx")
    before = digest_of(target)
    with pytest.raises(UserError, match=r"does not respond before the change .*nothing was changed"):
        deploy(plan_for(exported(tmp_path / "new", "new"), target, ("127.0.0.1", 9)))
    assert digest_of(target) == before and not DeployedFile(target).history()


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    target, model = colour_model(tmp_path / "model.onnx"), exported(tmp_path / "new", "x" * 5000)
    before, limits = digest_of(target), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"the disk is full .*nothing was changed"):
            deploy(plan_for(model, target))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert digest_of(target) == before and not list(tmp_path.rglob("*.part"))
    assert deploy(plan_for(model, target)).outcome == "deployed"


@pytest.mark.flows
def test_a_full_disk_at_any_step_leaves_a_model_in_place(tmp_path: Path) -> None:
    steps = ["repair", "check model.onnx here", "copy", "replace", "check the server"]
    failed = []
    with small_disk(tmp_path / "disk", 16) as disk:
        target = colour_model(disk.folder / "model.onnx")
        for step in steps:
            before, model = digest_of(target), exported(tmp_path / step, step)

            def run_step(name: str, work: Callable[[], Any], full: str = step) -> Any:
                if name == full:
                    disk.fill()
                return work()

            try:
                outcome = deploy(plan_for(model, target), run_step)
            except (UserError, OSError) as error:
                assert names_the_disk(str(error)), (step, error)
                assert digest_of(target) == before, step
                failed.append(step)
            else:  # a rename requires no space, and a line of the record fits into its last block
                assert outcome.outcome == "deployed" and digest_of(target) == digest_of(model), (step, outcome)
            disk.free()
            assert deploy(plan_for(model, target)).succeeded, step
            assert digest_of(target) == digest_of(model) and DeployedFile(target).pending() is None
    assert failed == ["repair", "check model.onnx here", "copy"]
    words = f"fails before {', '.join(failed)}: the previous model stays; the next run deploys"
    record_words(f"disk full at {len(steps)} steps of deploy", words)


def test_a_deployment_whose_record_cannot_be_written_is_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, model = colour_model(tmp_path / "model.onnx"), exported(tmp_path / "new", "new")
    before, finish = digest_of(target), DeployedFile.finish

    def full(self: DeployedFile, change: Any, outcome: str, message: str) -> None:
        if outcome == "deployed":
            raise OSError(28, "No space left on device")
        finish(self, change, outcome, message)

    monkeypatch.setattr(DeployedFile, "finish", full)
    outcome = deploy(plan_for(model, target))
    assert outcome.outcome == "rolled-back" and "No space left" in outcome.message
    assert digest_of(target) == before and DeployedFile(target).pending() is None


def test_old_copies_are_removed_and_the_previous_two_are_kept(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    digests = []
    for number in range(5):
        assert deploy(plan_for(exported(tmp_path / f"{number}", f"v{number}"), target)).outcome == "deployed"
        digests.append(digest_of(target))
    folder = DeployedFile(target).folder
    assert {file.name for file in folder.glob("*.onnx")} == {f"{digest[:12]}.onnx" for digest in digests[2:4]}
    assert len(list(folder.glob("*.golden.zip"))) == 3


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    deployed = DeployedFile(tmp_path / "model.onnx")
    with deployed.locked(), (deployed.folder / "lock").open() as stream, pytest.raises(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with deployed.locked():
        pass


def test_golden_images_are_required(tmp_path: Path) -> None:
    model = colour_model(tmp_path / "new.onnx")
    with pytest.raises(UserError, match=r"golden\.zip does not exist.*export again"):
        deploy(plan_for(model, tmp_path / "model.onnx"))
    (tmp_path / GOLDEN_FILE).write_bytes(b"PK")
    with pytest.raises(UserError, match="cannot be read"):
        deploy(plan_for(model, tmp_path / "model.onnx"))
    assert not (tmp_path / "model.onnx").exists()


def test_a_model_that_crashes_the_check_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "sys", type("sys", (), {"executable": "/bin/false"}))
    plan = plan_for(exported(tmp_path / "new"), tmp_path / "model.onnx")
    assert "crashed the process" in deploy(plan).message and not plan.target.exists()


@pytest.mark.slow
def test_the_flow_deploys_and_reports_a_refusal(tmp_path: Path) -> None:
    target, good, bad = (
        tmp_path / "served.onnx",
        exported(tmp_path / "good"),
        exported(tmp_path / "bad", "bad", "wrong"),
    )
    env = os.environ | {"MACULA_STATE": str(tmp_path / "state"), "PREFECT_HOME": str(tmp_path / "prefect")}
    env.pop("PREFECT_API_URL", None)
    for model, code, outcome in ((good, 0, "deployed"), (good, 0, "unchanged"), (bad, 1, "refused")):
        command = [sys.executable, "-m", "flows.deploy", f"to={target}", f"model={model}"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stdout + done.stderr
        assert f"{outcome.capitalize()}: " in done.stdout
        newest = max((tmp_path / "state/outcomes").iterdir())
        assert json.loads(newest.read_text())["outcome"] == outcome
    assert digest_of(target) == digest_of(good)
