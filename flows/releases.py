"""Release a registered version: open its sealed test split once, write the model card, and publish both.

The steps run in a clone below the state folder, which stays until the release is published, so that the next run of the
same release resumes. The opening is pushed on the branch `release/NAME-VERSION` before any score is computed. This
module does not import Prefect: `macula release` uses it without a flow.
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

from flows import registry, state, supervisor, workspaces
from flows.deployments import assign_stage, registry_clone
from flows.git_commands import CommandFailed, dvc, environment, git
from flows.model_source import find_version
from flows.registry import Version
from stages.core import openings
from stages.core.errors import UserError
from stages.core.openings import Row
from stages.deployment.deployed_file import SHORT, digest_of

STAGE = "data/sealed/dvc.yaml:unseal"
RECORD = "data/openings.csv"
CARD_INPUTS = ("validate", "audit", "gate", "tune", "train", "evaluate", "benchmark")
OUTPUTS = (
    *("data/code", "data/params.resolved.yaml", "data/ingest", "data/sealed/test", "data/export"),
    *(f"data/{name}" for name in CARD_INPUTS),
)
"""Outputs that unseal and model_card read; those that the project does not have are left out."""
COMMITTED = (RECORD, "dvc.lock", "data/sealed/dvc.lock")
SHOWN = 20
"""Lines of the output of a failed stage that its message contains."""
Step = Callable[[str, Callable[[], Any]], Any]


@dataclass(frozen=True)
class Release:
    """Outcome of a release."""

    outcome: Literal["released", "unchanged"]
    message: str
    version: str
    branch: str
    score: str
    """Name of the score."""
    value: str
    """Score on the test split; empty if it is undefined."""
    low: str
    high: str

    def as_json(self) -> dict[str, str]:
        """Return the outcome as plain values."""
        return asdict(self)


@dataclass
class Progress:
    """Progress of a release that this machine has begun, stored beside its clone."""

    file: Path
    opened_at: str = ""
    """Time of the opening that this release has recorded; empty before that."""
    started: bool = False
    """Whether the stage that reads the test images was started."""

    @classmethod
    def read(cls, file: Path) -> "Progress":
        """Return the stored progress."""
        return cls(file, **json.loads(file.read_text())) if file.exists() else cls(file)

    def save(self) -> None:
        """Store the progress; the file is complete at every moment."""
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps({"opened_at": self.opened_at, "started": self.started}))
        part.rename(self.file)


def run_directly(_name: str, work: Callable[[], Any]) -> Any:
    """Run a step."""
    return work()


def release(model: str, reason: str = "", repository: str = "", run_step: Step = run_directly) -> Release:
    """Release a version; without a reason, the test split is never opened a second time for a model.

    Args:
        model: stage such as `champion`, or version such as digits@v0.0.3.
        reason: reason for a second opening; it is recorded.
        repository: path or URL of the git repository; empty for the default.
        run_step: runs each step.

    Raises:
        UserError: there is no such version, another release of it is running, its data are missing, the test split was
            opened and no score is known, or a stage failed.
    """
    repository = repository or state.repository()
    with registry_clone(repository, "release") as clone:
        version = find_version(clone, "HEAD", model)
    label = f"{version.name}-{version.number}"
    folder = state.folder() / "releases" / label
    with state.lock(f"release-{label}", f"the release of {version.tag}"):
        progress = Progress.read(folder.with_suffix(".json"))
        run_step("prepare clone", lambda: _prepare(repository, version, folder))
        work = _Work(folder, version, reason, progress)
        outcome = work.run(run_step)
        shutil.rmtree(folder)
        progress.file.unlink(missing_ok=True)
    return outcome


def _prepare(repository: str, version: Version, folder: Path) -> None:
    """Clone the commit of a version with its outputs, unless a killed release left the clone; update its branches."""
    complete = folder / ".git/macula-complete"
    if not complete.exists():
        workspaces.clone(repository, version.commit, folder)
        locked = YAML(typ="safe").load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"].values()
        known = {out["path"] for stage in locked for out in stage.get("outs", [])}
        workspaces.check_out(folder, [output for output in OUTPUTS if output in known], version)
        complete.touch()
    workspaces.remove_stale_locks(folder)
    git("fetch", "--quiet", "--prune", "origin", cwd=folder)
    registry.refresh(folder)


class _Work:
    """Steps of one release in its clone. Each may be repeated."""

    def __init__(self, folder: Path, version: Version, reason: str, progress: Progress) -> None:
        self.folder, self.version, self.reason, self.progress = folder, version, reason, progress
        self.is_locked = False  # whether DVC has recorded the outputs of unseal in this process
        self.branch = f"release/{version.name}-{version.number}"
        self.data = json.loads((folder / "data/sealed/test/dataset.json").read_text())
        self.model = digest_of(folder / "data/export/model.onnx")[:SHORT]
        metadata = json.loads((folder / "data/export/metadata.json").read_text())
        if metadata["version"] != self.data["version"]:
            raise UserError(
                f"release: {version.tag} was trained on version {metadata['version']} of the data, but its sealed test "
                f"set has version {self.data['version']}; run the pipeline again and register the new model"
            )

    def run(self, run_step: Step) -> Release:
        self.on_branch()
        scored = [row for row in self.openings() if row["value"]]
        done = [row for row in scored if not self.reason or row["reason"] == self.reason]
        if done and registry.assigned(self.folder, self.version.name, "released") == self.version:
            return self.outcome("unchanged", done[-1], "was released already; the test set was not opened again")
        resumed = self.progress.opened_at and any(row["opened_at"] == self.progress.opened_at for row in scored)
        if resumed or (scored and not self.reason):
            opened = "the score of an earlier opening was used"
        else:
            self.refuse_unclear()
            run_step("record opening", self.record)
            run_step("unseal", self.unseal)
            opened = "the test set was opened"
        row = [row for row in self.openings() if row["value"]][-1]
        run_step("write card", self.write_card)
        run_step("push data", self.push_data)
        run_step("publish", lambda: self.publish(row))
        return self.outcome("released", row, f"is released; {opened}")

    def openings(self) -> list[Row]:
        """Return the openings for this model on this test split, of all branches and of the clone."""
        return openings.openings_of(self.all_openings(), self.data["name"], self.data["version"], self.model)

    def all_openings(self) -> list[Row]:
        """Return the openings that all branches and the clone have recorded."""
        refs = git("for-each-ref", "--format=%(refname)", "refs/remotes/origin", cwd=self.folder).splitlines()
        records = [openings.read_openings(self.folder / RECORD)]
        for ref in dict.fromkeys(refs):
            try:
                text = git("show", f"{ref}:{RECORD}", cwd=self.folder)
            except CommandFailed:  # a branch without the file
                continue
            records.append(openings.parse_openings(text, f"{RECORD} of {ref}"))
        return openings.merge_openings(records)

    def refuse_unclear(self) -> None:
        """Raise UserError if the test images may have been read, but no score is known, and no reason is given."""
        mine = self.progress.opened_at
        unclear = [
            row for row in self.openings() if not row["value"] and (row["opened_at"] != mine or self.progress.started)
        ]
        if unclear and not self.reason:
            raise UserError(
                f"release: an opening of the test set at {unclear[-1]['opened_at']} for {self.version.tag} was "
                "recorded and interrupted before its score was computed. Its images may have been read, so it counts "
                "as an opening. To open the test set again, give a reason: --reason 'interrupted by a power failure'"
            )
        if unclear:
            self.progress = Progress(self.progress.file)

    def record(self) -> None:
        """Write the opening on the branch of the release and push it, before any score is computed."""
        if not self.progress.opened_at:
            self.progress.opened_at = openings.time_of_opening(self.all_openings())
            self.progress.save()
        row = dict.fromkeys(openings.COLUMNS, "") | {
            "opened_at": self.progress.opened_at,
            "commit": self.version.commit[:12],
            "data": self.data["name"],
            "version": self.data["version"],
            "model": self.model,
            "images": str(json.loads((self.folder / "data/ingest/metrics.json").read_text())["test"]),
            "score": YAML(typ="safe").load((self.folder / "data/params.resolved.yaml").read_text())["task"]["score"],
            "reason": self.reason,
        }
        known = self.all_openings()
        if not any(row["opened_at"] == one["opened_at"] and row["model"] == one["model"] for one in known):
            known = openings.merge_openings([known, [row]])
        openings.write_openings(self.folder / RECORD, known)
        self.commit(f"Open the sealed test set for {self.version.tag}")
        registry.publish(self.folder, [f"refs/heads/{self.branch}"])

    def on_branch(self) -> None:
        """Check out the branch of the release as it was published, or create it; an unfinished one is kept."""
        if git("rev-parse", "--abbrev-ref", "HEAD", cwd=self.folder) == self.branch:
            return
        there = git("for-each-ref", f"refs/remotes/origin/{self.branch}", cwd=self.folder)
        start = [f"origin/{self.branch}"] if there else []
        git("checkout", "--quiet", "--force", "--no-track", "-B", self.branch, *start, cwd=self.folder)

    def unseal(self) -> None:
        """Compute the score on the test split; raise UserError if the stage fails."""
        self.progress.started = True
        self.progress.save()
        env = environment() | {
            "MACULA_UNSEAL": "yes",
            openings.CLAIM: self.progress.opened_at,
            openings.REASON: self.reason,
        }
        words = ["--force", STAGE] if self.reason else ["fingerprint", STAGE]  # a second opening changes no dependency
        command = [sys.executable, "-m", "dvc", "repro", "--single-item", *words]
        code, output = supervisor.output_of(command, env, self.folder)
        if code:
            shown = "\n".join([*output.splitlines()[-SHOWN:], state.full_disk_in(output, self.folder)]).strip()
            raise UserError(f"release: `dvc repro {' '.join(words)}` failed in {self.folder}:\n{shown}")
        self.is_locked = True

    def write_card(self) -> None:
        """Write the model card with the score, and copy both where git keeps them."""
        if not self.is_locked and (self.folder / "data/unseal/scores.json").exists():
            dvc("commit", "--force", STAGE, cwd=self.folder)  # the release may have been killed before DVC recorded it
        openings.write_openings(self.folder / RECORD, self.all_openings())
        dvc("repro", "--single-item", "model_card", cwd=self.folder)
        kept = self.folder / "releases" / f"{self.version.name}-{self.version.number}"
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.folder / "data/model_card/model-card.md", kept / "model-card.md")
        if (self.folder / "data/unseal/scores.json").exists():
            shutil.copyfile(self.folder / "data/unseal/scores.json", kept / "test-scores.json")

    def push_data(self) -> None:
        """Push the outputs of the release to the DVC remote, if there is one."""
        if workspaces.remote(self.folder):
            scored = [STAGE] if (self.folder / "data/unseal/scores.json").exists() else []
            dvc("push", "model_card", *scored, cwd=self.folder)

    def publish(self, row: Row) -> None:
        """Commit the record, the card and the locks, and push them with the tag of the stage `released`."""
        value = f"{row['score']} {row['value']} [{row['low']}, {row['high']}]"
        self.commit(f"Release {self.version.tag}: {value} on the sealed test set")
        message = f"{value} on {row['images']} test images"
        assign_stage(self.folder, self.version, "released", message, [f"refs/heads/{self.branch}"])

    def commit(self, message: str) -> None:
        """Commit the files of the release, unless they are committed already."""
        there = [file for file in (*COMMITTED, "releases") if (self.folder / file).exists()]
        git("add", "--", *there, cwd=self.folder)
        if git("diff", "--cached", "--name-only", cwd=self.folder):
            git("commit", "--quiet", "--no-verify", "--message", message, cwd=self.folder)

    def outcome(self, outcome: Literal["released", "unchanged"], row: Row, words: str) -> Release:
        """Return the outcome with the score of an opening.

        Args:
            outcome: word for the outcome.
            row: completed opening.
            words: continuation of a sentence that begins with the version.
        """
        value = f"{row['score']} {row['value']} [{row['low']}, {row['high']}]"
        message = f"{self.version.tag} {words}: {value} on {row['images']} images of the sealed test set"
        return Release(
            outcome, message, self.version.tag, self.branch, row["score"], row["value"], row["low"], row["high"]
        )
