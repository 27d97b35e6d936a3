"""Each stage of the real pipeline on a full disk, and again after space was freed: `make test-flows`."""

import gc
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from flows import dvc_graph, workspaces
from flows.git_commands import dvc, git
from flows.stage_runner import Outcome, StageRunner
from flows.state import full_disk_explained
from stages.config.edit import edited
from stages.core.errors import UserError
from tests.conftest import ROOT, digit_images, write_folders
from tests.digit_plans import TINY
from tests.service_project import record_words
from tests.small_disk import SmallDisk, names_the_disk, small_disk

pytestmark = [
    pytest.mark.flows,
    pytest.mark.timeout(2400),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CHANGES = {
    "ingest": {"name": "some", "source": "data/raw/some"},
    "objective": {"at_least": 0.1},
    "network": {"name": TINY},
    "train": {"epochs": 1, "batch_size": 16},
    "tune": {"trials": 1, "epochs": 1},
    "evaluate": {"resamples": 100},
    "benchmark": {"seconds": 0.1},
    "checks": {"min_train_per_class": 5},
    "export": {"variants": []},
}
ROOMS = (0, 16_384)
"""Bytes that are free when a stage starts: none, so that DVC itself cannot write, and some for DVC, but not for most
outputs."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 400) as mounted:
        yield mounted


def create_project(folder: Path) -> Path:
    """Create a repository of this project with 300 digits."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "stages", "data", "dvc.yaml", "params.yaml", "flows"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    params = folder / "params.yaml"
    params.write_text(edited(params.read_text(), [CHANGES], "test"))
    write_folders(folder / "data/raw/some", digit_images(per_class=30))
    git("init", "--quiet", "--initial-branch=main", cwd=folder)
    for key, value in workspaces.AUTHOR.items():
        git("config", key, value, cwd=folder)
    dvc("init", "--quiet", cwd=folder)
    git("add", ".", cwd=folder)
    git("commit", "--quiet", "--message", "project", cwd=folder)
    return folder


def reproduce(project: Path, stage: str) -> Outcome:
    """Run one stage as the flows do."""
    try:
        with chdir(project), full_disk_explained(), dvc_graph.lock_workspace() as lock:
            dvc_graph.restore_damaged_locks()
            return StageRunner(lock).reproduce(stage, lambda line: None)
    except UserError as error:
        return Outcome("Failed", str(error), 0)
    finally:
        gc.collect()  # DVC leaves a file open whose lock could not be written


def test_each_stage_survives_a_full_disk(disk: SmallDisk) -> None:
    project = create_project(disk.folder / "project")
    with chdir(project):
        stages = list(dvc_graph.load())
    failed = []
    for stage in stages:
        for room in ROOMS:
            disk.fill(room)
            outcome = reproduce(project, stage)
            disk.free()
            if outcome.ending == "Failed":
                assert names_the_disk(outcome.words), (stage, room, outcome.words)
                with chdir(project):
                    dvc_graph.restore_damaged_locks()
                    assert not dvc_graph.unchanged(stage), (stage, room)
                failed.append((stage, room))
            else:
                assert room and outcome.ending == "Ran", (stage, room, outcome)
                break
        outcome = reproduce(project, stage)
        assert outcome.ending in ("Ran", "Restored", "Unchanged"), (stage, outcome.words)
    assert [stage for stage, room in failed if not room] == stages, "with no room at all, each stage fails"
    with chdir(project):
        assert all(dvc_graph.unchanged(stage) for stage in stages)
    check_cache(project)
    with_room = [stage for stage, room in failed if room]
    record_words(
        f"disk full at each of the {len(stages)} stages",
        f"each fails and names the disk, and the next run completes; with 16 KiB of room: {', '.join(with_room)}",
    )


def check_cache(project: Path) -> None:
    """Assert that each object of the cache has the bytes that its name states; DVC may leave hidden drafts."""
    files = [file for file in (project / ".dvc/cache/files/md5").glob("*/[0-9a-f]*") if file.is_file()]
    assert files
    for file in files:
        digest = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        assert digest == (file.parent.name + file.name).removesuffix(".dir"), file
