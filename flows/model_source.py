"""Find the model file that a path, a stage of the registry or a version names."""

from pathlib import Path

from ruamel.yaml import YAML

from flows import registry, retrain_records, state, workspaces
from flows.git_commands import git
from flows.registry import Version
from stages.core.errors import UserError, did_you_mean

EXPORT = "data/export"


def find_model(model: str, repository: str = "") -> tuple[Path, Version | None]:
    """Return the file of a model, and its version; None if the model is given as a file.

    Args:
        model: path of an ONNX file, a stage such as `deployed`, or a version such as `digits@v0.0.3`.
        repository: path or URL of the git repository; empty for the default.

    Raises:
        UserError: there is no such model, or its files cannot be fetched.
    """
    if Path(model).is_file():
        return Path(model).absolute(), None
    if model.endswith(".onnx"):
        raise UserError(f"the model {model} does not exist; name an ONNX file, a stage such as champion, or a version")
    repository = repository or state.repository()
    version = find_version(retrain_records.refreshed_mirror(repository), "refs/HEAD", model)
    return workspaces.model_of(repository, version, (EXPORT,)) / EXPORT / "model.onnx", version


def find_version(folder: Path, revision: str, model: str) -> Version:
    """Return the version that a stage or a tag names.

    Args:
        folder: clone or mirror of the repository, with its tags.
        revision: revision whose params.yaml names the data set, for stages.
        model: a stage such as `released`, or a tag such as `digits@v0.0.3`.

    Raises:
        UserError: there is no such version.
    """
    if model in registry.STAGES:
        params = YAML(typ="safe", pure=True).load(git("show", f"{revision}:params.yaml", cwd=folder))
        name = registry.model_name(params["ingest"]["name"])
        if (found := registry.assigned(folder, name, model)) is not None:
            return found
        raise UserError(
            f"no version of {name} is {model}; `gto show` lists the versions: register one with `macula retrain`, or "
            "name a file"
        )
    known = {version.tag: version for version in registry.versions(folder, model.partition("@")[0])}
    if model not in known:
        stages = ", ".join(registry.STAGES)
        raise UserError(
            f"{model!r} is neither a file, nor a stage ({stages}), nor a registered version; "
            f"{did_you_mean(model, [*known, *registry.STAGES])}"
        )
    return known[model]
