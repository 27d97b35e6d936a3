"""Team that retrains a toy project: its repository, source of images, remote and state folder."""

import json
import subprocess
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from prefect import State

from flows import registry
from flows.git_commands import git
from flows.retrain import retrain
from tests import toy_project

NAME = "colours"


class Team:
    """A repository, a source of images and the state folder of the flows."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, template: Path) -> None:
        self.project, self.state, self.source = folder / "project", folder / "state", folder / "source"
        subprocess.run(["git", "clone", "--quiet", str(template), str(self.project)], check=True)
        for key, value in toy_project.environment(self.project, self.state).items():
            monkeypatch.setenv(key, value)
        monkeypatch.setenv("MACULA_REMOTE", str(folder / "remote"))
        self.remote = folder / "remote"

    def retrain(self, **options: Any) -> State:
        with chdir(self.project):
            ended: State = retrain(**({"source": str(self.source)} | options), return_state=True)
        return ended

    def batch(self, correct: int, number: int = 0, note: str = "") -> None:
        toy_project.write_batch(self.source, correct, number, note)

    def champion(self) -> str | None:
        found = registry.assigned(self.project, NAME, "champion")
        return found.number if found else None

    def branches(self) -> list[str]:
        return git("branch", "--list", "retrain/*", "--format=%(refname:short)", cwd=self.project).split()

    def record(self) -> dict[str, Any]:
        return json.loads(git("show", f"{self.branches()[-1]}:data/retrain.json", cwd=self.project))

    def workspaces(self) -> list[Path]:
        return [folder for folder in (self.state / "workspaces").glob("*") if folder.is_dir()]
