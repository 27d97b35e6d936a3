"""Registry of model versions in git tags, in the format of GTO: `digits@v0.0.3`, `digits#champion#4`.

A tag `NAME@VERSION` registers the commit of a run. A tag `NAME#STAGE#K` assigns a stage to a version; the newest one
counts. `gto show` lists both. The registry is the repository to which the tags are pushed: a push is atomic and never
replaces a tag, so that of two runs which register or promote at the same time one is refused and decides again.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.git_commands import CommandFailed, git
from stages.core.errors import UserError

STAGES = ("champion", "released", "deployed")
"""Stages of a version: the best model so far; the test split was opened for it; it is served."""


class Conflict(UserError):
    """Another run has pushed a tag or branch of the same name."""


@dataclass(frozen=True)
class Version:
    """Registered version of a model."""

    name: str
    """Name of the model."""
    number: str
    """Version, such as v0.0.3."""
    commit: str
    """Commit of the run that trained the model."""

    @property
    def tag(self) -> str:
        """Name of the tag that registers the version."""
        return f"{self.name}@{self.number}"


def model_name(data: str) -> str:
    """Return the name in the registry of a model for a data set.

    >>> model_name("fundus_dr600")
    'fundus-dr600'
    """
    return re.sub(r"[^a-z0-9]+", "-", data.lower()).strip("-")


def versions(clone: Path, name: str) -> list[Version]:
    """Return the registered versions of a model that a clone contains, oldest first.

    Args:
        clone: folder of a git repository.
        name: name of the model.
    """
    from gto.constants import VersionSort
    from gto.registry import GitRegistry

    with GitRegistry.from_url(str(clone)) as registry:
        artifact = registry.get_state().artifacts.get(name)
        found = artifact.get_versions(sort=VersionSort.SemVer, ascending=True) if artifact else []
    return [Version(name, one.version, one.commit_hexsha) for one in found]


def assigned(clone: Path, name: str, stage: str) -> Version | None:
    """Return the version of a model to which a stage was assigned last; None if there is none.

    Args:
        clone: folder of a git repository.
        name: name of the model.
        stage: one of `STAGES`.
    """
    from gto.base import Assignment
    from gto.registry import GitRegistry

    with GitRegistry.from_url(str(clone)) as registry:
        artifact = registry.get_state().artifacts.get(name)
        events = [
            (event, version)
            for version in (artifact.get_versions(active_only=True) if artifact else [])
            if stage in version.stages
            for event in version.stages[stage].get_events()
        ]
    # The counter of the tags is their order. Their times are not: they can be equal, or of a clock that was set back.
    last: dict[str, tuple[Any, Any]] = {}
    for event, version in sorted(events, key=lambda one: int(one[0].ref.rpartition("#")[2])):
        last.pop(version.version, None)
        last[version.version] = event, version
    holders = [version for event, version in last.values() if isinstance(event, Assignment)]
    return Version(name, holders[-1].version, holders[-1].commit_hexsha) if holders else None


def register(clone: Path, name: str, commit: str, message: str) -> Version:
    """Create the tag of the next version for a commit; a commit that is registered keeps its version.

    Args:
        clone: folder of a git repository.
        name: name of the model.
        commit: commit of the run.
        message: text of the tag.
    """
    from gto.api import register as create

    for version in versions(clone, name):
        if version.commit == commit:
            return version
    created = create(str(clone), name, commit, message=message)
    return Version(name, created.version, commit)


def assign(clone: Path, version: Version, stage: str, message: str) -> str | None:
    """Create the tag that assigns a stage to a version; return its name, or None if the version already has the stage.

    Args:
        clone: folder of a git repository.
        version: registered version.
        stage: one of `STAGES`.
        message: text of the tag.
    """
    from gto.api import assign as create

    assert stage in STAGES, stage
    if assigned(clone, version.name, stage) == version:
        return None
    created = create(str(clone), version.name, stage, version=version.number, message=message, force=True)
    return str(created.tag)


def publish(clone: Path, refs: list[str]) -> None:
    """Push branches and tags to the repository of the clone, all or none; refs that are there already are left alone.

    Args:
        clone: folder of a git repository with the remote `origin`.
        refs: full names, such as refs/tags/digits@v0.0.3.

    Raises:
        Conflict: one of the refs exists in the repository with another commit.
        CommandFailed: the repository cannot be reached or refused the push.
    """
    if not refs:
        return
    try:
        git("push", "--quiet", "--atomic", "origin", *(f"{ref}:{ref}" for ref in refs), cwd=clone)
    except CommandFailed as error:
        if taken := _taken(clone, refs):
            raise Conflict(f"{', '.join(taken)} was pushed by another run in the meantime") from error
        raise


def refresh(clone: Path) -> None:
    """Make the tags of a clone those of its repository; tags that were not published are removed.

    Args:
        clone: folder of a git repository with the remote `origin`.
    """
    git("fetch", "--quiet", "--force", "--prune", "origin", "+refs/tags/*:refs/tags/*", cwd=clone)


def _taken(clone: Path, refs: list[str]) -> list[str]:
    """Return those refs which the repository has with another object than the clone."""
    listed = git("ls-remote", "origin", *refs, cwd=clone).splitlines()
    there = {ref: commit for commit, ref in (line.split("\t") for line in listed)}
    return [ref for ref in refs if ref in there and there[ref] != git("rev-parse", ref, cwd=clone)]
