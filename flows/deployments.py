"""Resolve a model by its stage or version in the registry, and register that it was deployed.

This module does not import Prefect: `macula deploy` uses it without a flow.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows import registry, state, workspaces
from flows.registry import Conflict, Version
from stages.config.load import load
from stages.core.errors import UserError, did_you_mean
from stages.deployment.deployment import Outcome

ATTEMPTS = 5
"""Attempts to push a tag while other runs push tags of the same stage."""
EXPORT = "data/export"


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


def resolve(clone: Path, model: str) -> Version:
    """Return the version that a stage or a tag names.

    Args:
        clone: clone of the registry.
        model: a stage such as `released`, or a tag such as `digits@v0.0.3`.

    Raises:
        UserError: there is no such version.
    """
    name = registry.model_name(load(clone / "params.yaml").ingest.name)
    if model in registry.STAGES:
        if (found := registry.assigned(clone, name, model)) is not None:
            return found
        raise UserError(
            f"no version of {name} is {model}; `gto show` lists the versions: register one with `macula retrain`, or "
            "name a file"
        )
    known = {version.tag: version for version in registry.versions(clone, model.partition("@")[0])}
    if model not in known:
        raise UserError(
            f"{model!r} is neither a file, nor a stage ({', '.join(registry.STAGES)}), nor a registered version; "
            f"{did_you_mean(model, known)}"
        )
    return known[model]


def find_model(repository: str, model: str) -> tuple[Path, Version | None]:
    """Return the file of a model, and its version if it is a registered one.

    Args:
        repository: path or URL of the git repository; empty for the default.
        model: path of an ONNX file, a stage or a version.

    Raises:
        UserError: there is no such model.
    """
    if Path(model).is_file():
        return Path(model), None
    if Path(model).suffix == ".onnx":
        raise UserError(f"deploy: the model {model} does not exist; nothing was changed")
    with registry_clone(repository, "deploy") as clone:
        version = resolve(clone, model)
    folder = workspaces.model_of(repository or state.repository(), version, (EXPORT,))
    return folder / EXPORT / "model.onnx", version


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
