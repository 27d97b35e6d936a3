"""Commands of the guide about retraining, in their order, on a toy project: `make test-flows`."""

import subprocess
from pathlib import Path

import pytest

from flows.git_commands import git
from tests import toy_project
from tests.conftest import ROOT
from tests.s3_server import running_store, use_store

GUIDE = ROOT / "docs/guides/scheduled-retraining.md"
EXPECTED = {
    "macula retrain": "Promoted",
    "macula retrain --source s3://bucket/photos": "Kept",
    "python -m flows.retrain source=s3://bucket/photos": "Promoted",
    'git tag --list "digits*"': "digits#champion#2",
    "gto show digits": "v0.0.3",
    "git show digits@v0.0.3:data/retrain.json": '"result": "promoted"',
    "git diff digits@v0.0.2 digits@v0.0.3 -- params.yaml data/splits": "",
    "gto assign digits --version v0.0.2 --stage champion": "Created git tag 'digits#champion#3'",
    "macula doctor --remote": " 0 with a problem",
    "macula doctor --remote --read --repair": " 0 with a problem",
}
"""Words in the output of each command."""


def commands() -> list[str]:
    lines = [line[4:] for line in GUIDE.read_text().splitlines() if line.startswith("    ")]
    return [line.partition("  #")[0].strip() for line in lines]


@pytest.mark.flows
def test_every_command_of_the_guide_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = toy_project.create(tmp_path / "project", "data/raw/colours")
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("name: colours", "name: digits"))
    git("commit", "--quiet", "--all", "--message", "name", cwd=project)
    toy_project.write_batch(project / "data/raw/colours", correct=1)
    assert commands() == list(EXPECTED)
    with running_store() as store:
        use_store(store, monkeypatch)
        store.client().create_bucket(Bucket="bucket")
        environment = toy_project.environment(project, tmp_path / "state") | {"MACULA_REMOTE": str(tmp_path / "remote")}
        batches = {1: b"1", 2: b"3"}  # as many colours as the model of the command with this number recognizes
        for number, (command, expected) in enumerate(EXPECTED.items()):
            if number in batches:
                store.client().put_object(Bucket="bucket", Key=f"photos/batch-{number}.txt", Body=batches[number])
            done = subprocess.run(
                command, shell=True, cwd=project, env=environment, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            assert expected in done.stdout + done.stderr, f"{command}\n{done.stdout}\n{done.stderr}"
