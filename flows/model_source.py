"""Find the model file that a path, a stage of the registry or a version names."""

import hashlib
from pathlib import Path

from ruamel.yaml import YAML

from flows import registry, retrain_records, state, workspaces
from flows.git_commands import git
from stages.core.errors import UserError, did_you_mean

EXPORT = "data/export"


def model_file(model: str) -> tuple[Path, str]:
    """Return the file of a model, and the tag of its version; the tag is empty if the model is given as a file.

    Args:
        model: path of an ONNX file, a stage such as `deployed`, or a version such as `digits@v0.0.3`.

    Raises:
        UserError: there is no such model, or its files cannot be fetched.
    """
    if Path(model).is_file():
        return Path(model).absolute(), ""
    if model.endswith(".onnx"):
        raise UserError(f"the model {model} does not exist; name an ONNX file, a stage such as champion, or a version")
    repository = state.repository()
    version = _version(retrain_records.refreshed_mirror(repository), model)
    return workspaces.model_of(repository, version, (EXPORT,)) / EXPORT / "model.onnx", version.tag


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _version(mirror: Path, model: str) -> registry.Version:
    if model in registry.STAGES:
        params = YAML(typ="safe", pure=True).load(git("show", "refs/HEAD:params.yaml", cwd=mirror))
        name = registry.model_name(params["ingest"]["name"])
        if (found := registry.assigned(mirror, name, model)) is not None:
            return found
        raise UserError(f"no version of {name} is {model}; `gto show` lists the versions; or name an ONNX file")
    known = {version.tag: version for version in registry.versions(mirror, model.partition("@")[0])}
    if model not in known:
        stages = ", ".join(registry.STAGES)
        raise UserError(
            f"{model!r} is neither a file, nor a stage ({stages}), nor a registered version; "
            f"{did_you_mean(model, [*known, *registry.STAGES])}"
        )
    return known[model]
