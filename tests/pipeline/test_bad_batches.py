"""Bad batches of real images that the real gate stops in `retrain`: `make test-flows`."""

import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from flows import registry, workspaces
from flows.git_commands import dvc, git
from tests import toy_project
from tests.conftest import ROOT, digit_images, png, write_folders, write_params
from tests.retrain_team import NAME, Team
from tests.service_project import record_words

pytestmark = [pytest.mark.flows, pytest.mark.timeout(1200), pytest.mark.usefixtures("prefect_api")]
CHANGES = {
    "ingest": {"name": NAME, "source": f"data/raw/{NAME}"},
    "split": {"by": "source"},
    "checks": {"min_train_per_class": 5},
    "evaluate": {"resamples": 100},
    "benchmark": {"seconds": 0.02},
}
STAGES = ("fingerprint", "resolve", "ingest", "validate", "audit", "gate")


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    """Team whose project has the real stages up to the gate, and a champion that was trained on 600 digits."""
    root = tmp_path / "template"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "stages", "data"], cwd=ROOT, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and name != "data/splits/digits.json":
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    write_params(root, CHANGES)
    shutil.rmtree(root / "data/params.resolved.yaml", ignore_errors=True)
    toy_project.write_batch(root / "data/batch", 3)
    yaml = YAML()
    stages = {name: yaml.load((ROOT / "dvc.yaml").read_text())["stages"][name] for name in STAGES}
    stages["train"] = {
        "cmd": "python -m tests.toy_project train data/batch",
        "deps": ["data/gate", "data/batch"],
        "outs": ["data/export", "data/evaluate", {"data/report": {"cache": False}}],
    }
    yaml.dump({"stages": stages}, root / "dvc.yaml")
    git("init", "--quiet", "--initial-branch=main", cwd=root)
    for key, value in workspaces.AUTHOR.items():
        git("config", key, value, cwd=root)
    dvc("init", "--quiet", cwd=root)
    git("add", ".", cwd=root)
    git("commit", "--quiet", "--message", "project", cwd=root)
    made = Team(tmp_path, monkeypatch, root)
    images = digit_images(per_class=60)
    for split, part in (("train", images[::4] + images[1::4]), ("val", images[2::4]), ("test", images[3::4])):
        write_folders(made.source / split, part)
    first = made.retrain()
    assert (first.name, made.champion()) == ("Promoted", "v0.0.1"), first.message
    return made


def add_confounder(team: Team) -> None:
    """Replace the images of one class by brighter ones."""
    for file in team.source.glob("*/3/*.png"):
        brighter = np.asarray(Image.open(file)).astype(int) + 40
        file.write_bytes(png(np.clip(brighter, 0, 255).astype(np.uint8), compress_level=0))


def add_leak(team: Team) -> None:
    """Add copies of training images to the validation images."""
    for file in sorted((team.source / "train/4").glob("*.png")):
        shutil.copy(file, team.source / "val/4" / f"copy-{file.name}")


def add_hostile_files(team: Team) -> None:
    """Add files that are not images, and images that are built to harm a reader."""
    folder = team.source / "train/5"
    good = next(folder.glob("*.png")).read_bytes()
    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = good[:8] + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(10_000_000))) + chunk(b"IEND", b"")
    contents = [bomb, b"", good[:60], b"<script>alert(1)</script>", b"#!/bin/sh\ntouch /tmp/hacked\n", os.urandom(5000)]
    for number, content in enumerate(contents * 2):
        (folder / f"$(touch hacked) {number}\n.png").write_bytes(content)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


BATCHES = {
    "a confounder": (add_confounder, "confounder/"),
    "a leak": (add_leak, "checks/image_in_one_split"),
    "hostile files": (add_hostile_files, "ingest.max_rejected"),
}


@pytest.mark.parametrize("batch", BATCHES)
def test_a_bad_batch_is_stopped_and_the_champion_stays(team: Team, batch: str) -> None:
    add, reason = BATCHES[batch]
    add(team)
    stopped = team.retrain()
    assert stopped.name == "Stopped", stopped.message
    assert reason in str(stopped.message) and "The champion stays." in str(stopped.message), stopped.message
    assert team.champion() == "v0.0.1" and len(registry.versions(team.project, NAME)) == 1
    assert team.record()["decision"]["result"] == "stopped" and reason in team.record()["decision"]["reason"]
    assert team.retrain().name == "Unchanged" and team.workspaces() == []
    assert not list(team.state.parent.rglob("hacked"))
    record_words(f"bad batch: {batch}", f"stopped by {reason.rstrip('/')}; the champion stays")


def test_a_named_pipe_in_the_source_does_not_block_the_run(team: Team) -> None:
    os.mkfifo(team.source / "train/5/pipe.png")
    failed = team.retrain()
    assert failed.name == "Failed" and "pipe.png' is neither a file nor a folder" in str(failed.message)
    (team.source / "train/5/pipe.png").unlink()
    assert team.retrain().name == "Unchanged" and team.champion() == "v0.0.1"
    record_words("bad batch: named pipe in the source", "the run fails at once and names it")
