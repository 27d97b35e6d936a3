"""Register in the repository that a version was released or deployed.

This module does not import Prefect: `macula deploy` uses it without a flow.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows import registry, state, workspaces
from flows.registry import Conflict, Version
from stages.core.errors import UserError
from stages.deployment.deployment import Outcome

ATTEMPTS = 5
"""Attempts to push a tag while other runs push tags of the same stage."""


@contextmanager
def registry_clone(repository: str, purpose: str) -> Iterator[Path]:
    """Yield a temporary clone of the repository with all tags.

    Args:
        repository: path or URL of the git repository; empty for the default.
        purpose: name of the clone.

    Raises:
        UserError: the repository does not exist, or another process uses a clone of this name.
    """
    with workspaces.temporary_clone(repository or state.repository(), "HEAD", purpose) as clone:
        registry.refresh(clone)
        yield clone


def assign_stage(clone: Path, version: Version, stage: str, message: str, refs: list[str]) -> None:
    """Assign a stage to a version and push it together with other refs; repeat if another run was first.

    Args:
        clone: clone of the registry.
        version: registered version.
        stage: one of the stages of the registry.
        message: text of the tag.
        refs: further refs to push at the same time.

    Raises:
        Conflict: another run pushed a tag or one of the refs at each attempt.
    """
    for attempt in range(ATTEMPTS):
        tag = registry.assign(clone, version, stage, message)
        try:
            registry.publish(clone, [*refs, *([f"refs/tags/{tag}"] if tag else [])])
        except Conflict:
            if attempt == ATTEMPTS - 1:
                raise
            registry.refresh(clone)
        else:
            return


def record_deployment(repository: str, version: Version, outcome: Outcome) -> None:
    """Assign the stage `deployed` to a version after it was deployed.

    Args:
        repository: path or URL of the git repository; empty for the default.
        version: registered version.
        outcome: outcome of the deployment.

    Raises:
        UserError: the model is deployed, but the tag was not pushed.
    """
    if outcome.outcome not in ("deployed", "unchanged"):
        return
    try:
        with registry_clone(repository, "deploy") as clone:
            assign_stage(clone, version, "deployed", outcome.message, [])
    except UserError as error:
        raise UserError(
            f"{outcome.message}. But {version.tag} was not registered as deployed: {error}. Run the command again"
        ) from error
