"""Training on two machines by `infra/train_on_nodes.sh`, as two processes with clones of their own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flows.git_commands import dvc, git
from flows.workspaces import AUTHOR
from infra.retrain_demo.demo_services import free_ports
from tests.conftest import ROOT, digit_images, write_folders
from tests.digit_plans import TINY
from tests.service_project import environment

SCRIPT = ROOT / "infra/train_on_nodes.sh"
JOB = YAML(typ="safe").load(ROOT / "infra/kubernetes-training/job.yaml")
PARAMS = f"""
task: {{name: classification}}
ingest: {{name: few, source: SOURCE}}
checks: {{min_train_per_class: 5}}
prepare: {{size: 16, channels: 1}}
network: {{name: {TINY}}}
train: {{epochs: 2, batch_size: 8, device: cpu, precision: 32-true}}
tune: {{trials: 0}}
"""


def test_the_job_sets_the_variables_that_the_script_requires() -> None:
    (container,) = JOB["spec"]["template"]["spec"]["containers"]
    required = {word.split(":?")[0].removeprefix('"${') for word in SCRIPT.read_text().split() if ":?" in word}
    assert {variable["name"] for variable in container["env"]} == required
    assert container["command"] == ["sh", f"/code/{SCRIPT.relative_to(ROOT)}"]
    service = YAML(typ="safe").load(ROOT / "infra/kubernetes-training/service.yaml")
    pod = JOB["spec"]["template"]
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    first = {variable["name"]: variable.get("value") for variable in container["env"]}["MACULA_FIRST"]
    assert (
        first
        == f"{JOB['metadata']['name']}-0.{pod['spec']['subdomain']}"
        == f"macula-train-0.{service['metadata']['name']}"
    )


@pytest.mark.flows
@pytest.mark.timeout(900)
def test_two_machines_without_images_train_from_the_remote(tmp_path: Path) -> None:
    project, source, remote = tmp_path / "project", tmp_path / "images", tmp_path / "remote"
    write_folders(source, digit_images(per_class=30, classes=4))
    git("clone", "--quiet", str(ROOT), str(project), cwd=tmp_path)
    for folder in ("stages", "flows"):  # changes that are not committed yet
        shutil.copytree(
            ROOT / folder, project / folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for key, value in AUTHOR.items():
        git("config", key, value, cwd=project)
    (project / "params.yaml").write_text(PARAMS.replace("SOURCE", str(source)))
    dvc("remote", "add", "--default", "team", str(remote), cwd=project)
    variables = environment() | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-m", "stages", "run", "tune"], cwd=project, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    dvc("push", "--quiet", cwd=project)
    git("add", "--all", cwd=project)
    git("commit", "--quiet", "--message", "Prepared images", cwd=project)
    git("clone", "--quiet", "--bare", str(project), "team.git", cwd=tmp_path)
    shutil.rmtree(source)
    shutil.rmtree(project)
    shared = {
        "MACULA_REPOSITORY": str(tmp_path / "team.git"), "MACULA_REVISION": "HEAD", "MACULA_BRANCH": "training/test",
        "MACULA_NODES": "2", "MACULA_FIRST": "127.0.0.1", "MACULA_PORT": str(free_ports(1)[0]),
        "MACULA_REMOTE": str(remote), "TMPDIR": str(tmp_path),
    }  # fmt: skip
    nodes = [
        subprocess.Popen(
            ["sh", str(SCRIPT)], cwd=tmp_path, env=variables | shared | {"MACULA_NODE": str(rank)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]  # fmt: skip
    printed = [node.communicate(timeout=600)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(printed)
    assert "trained on 2 machines: branch training/test" in printed[0]
    git("clone", "--quiet", "--branch", "training/test", str(tmp_path / "team.git"), "result", cwd=tmp_path)
    dvc("pull", "--quiet", "data/train", cwd=tmp_path / "result")
    assert (tmp_path / "result/data/train/model.pt").stat().st_size > 1000
    assert not (tmp_path / "result/data/raw").exists()
