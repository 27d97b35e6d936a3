"""Tests that exceptions raised by the real libraries are explained in one sentence that states what to do."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.core.dependency_errors import BY_CLASS, BY_MESSAGE, explain
from stages.core.errors import UserError


def no_dvc_project() -> None:
    from dvc.repo import Repo

    Repo(str(Path.cwd()))


def dvc_project() -> Path:
    from dvc.repo import Repo

    with Repo.init(no_scm=True):
        return Path.cwd()


def broken_dvc_yaml() -> None:
    (dvc_project() / "dvc.yaml").write_text("stages: [\n")
    reproduce()


def invalid_dvc_yaml() -> None:
    (dvc_project() / "dvc.yaml").write_text("stages:\n  a:\n    comand: x\n")
    reproduce()


def unresolved_dvc_yaml() -> None:
    (dvc_project() / "dvc.yaml").write_text("stages:\n  a:\n    cmd: echo ${nothing}\n")
    reproduce()


def missing_dependency() -> None:
    (dvc_project() / "dvc.yaml").write_text("stages:\n  a:\n    cmd: echo\n    deps: [nowhere]\n")
    reproduce()


def failing_stage() -> None:
    (dvc_project() / "dvc.yaml").write_text("stages:\n  train:\n    cmd: exit 7\n")
    reproduce()


def unknown_stage() -> None:
    (dvc_project() / "dvc.yaml").write_text("stages:\n  train:\n    cmd: echo\n")
    reproduce("trian")


def no_remote() -> None:
    from dvc.repo import Repo

    dvc_project()
    with Repo() as repo:
        repo.push()


def locked_project() -> None:
    from dvc.lock import Lock

    folder = dvc_project()
    with Lock(str(folder / ".dvc/tmp/lock")), Lock(str(folder / ".dvc/tmp/lock")):
        pass


def reproduce(*targets: str) -> None:
    from dvc.repo import Repo

    with Repo() as repo:
        repo.reproduce(list(targets) or None)


def no_prefect_api() -> None:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), get_client(sync_client=True) as client:
        client.hello()


def prefect_refuses() -> None:
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    request = httpx.Request("GET", "http://127.0.0.1/api")
    response = httpx.Response(401, request=request, json={"detail": "no key"})
    try:
        response.raise_for_status()
    except httpx.HTTPStatusError as error:
        raise PrefectHTTPStatusError.from_httpx_error(error) from error


def great_expectations_without_data() -> None:
    import great_expectations as gx

    gx.get_context(mode="ephemeral").checkpoints.get("nowhere")


def no_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        torch.empty(2**60, device="cuda")
    torch.ones(1, device="cuda")


def too_large_for_torch() -> None:
    import torch

    torch.empty(2**50, dtype=torch.float32)


def singular_matrix() -> None:
    import torch

    torch.linalg.inv(torch.zeros(2, 2))


def too_large_for_numpy() -> None:
    np.empty(2**60, np.uint8)


def session(data: bytes | str) -> None:
    import onnxruntime

    onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def wrong_input() -> None:
    import onnxruntime

    from tests.shipped import colour_model

    opened = onnxruntime.InferenceSession(str(colour_model(Path("model.onnx"))), providers=["CPUExecutionProvider"])
    opened.run(None, {"image": np.zeros((1, 2), np.uint8)})


def invalid_value() -> None:
    from pydantic import TypeAdapter

    TypeAdapter(int).validate_python("many")


def broken_yaml() -> None:
    from ruamel.yaml import YAML

    YAML(typ="safe", pure=True).load("a: [1\nb: }")


def broken_parquet() -> None:
    import pandas as pd

    Path("table.parquet").write_bytes(b"PAR1 no table PAR1")
    pd.read_parquet("table.parquet")


def no_git() -> None:
    from scmrepo.git import Git

    Git(str(Path.cwd()))


def full_disk() -> None:
    with Path("/dev/full").open("w") as stream:
        stream.write("x")


def no_network() -> None:
    from urllib.request import urlopen

    urlopen("http://127.0.0.1:9/")


RAISED: list[tuple[Callable[[], object], str, str]] = [
    (no_dvc_project, "is not a DVC project", "run the command in the project's folder"),
    (broken_dvc_yaml, "DVC: ", "correct the file, or restore it with git"),
    (invalid_dvc_yaml, "DVC: ", "correct the file, or restore it with git"),
    (unresolved_dvc_yaml, "nothing", "correct dvc.yaml or params.yaml"),
    (missing_dependency, "nowhere", "correct ingest.source"),
    (failing_stage, "the stage train failed", "its message is above"),
    (unknown_stage, "trian", "dvc stage list"),
    (no_remote, "DVC: ", "dvc remote add --default"),
    (locked_project, "another DVC process", "wait until it has finished"),
    (no_prefect_api, "the Prefect API cannot be reached", "prefect server start"),
    (prefect_refuses, "the Prefect API refused a request", "prefect config view"),
    (great_expectations_without_data, "Great Expectations could not check the data", "correct section checks"),
    (no_gpu, "GPU", "set train.device to cpu"),
    (too_large_for_torch, "memory is exhausted", "lower train.batch_size or prepare.size"),
    (singular_matrix, "a matrix could not be inverted", "constant columns"),
    (too_large_for_numpy, "memory is exhausted", "close other programs"),
    (lambda: session("nowhere.onnx"), "the model file does not exist", "data/export/model.onnx"),
    (lambda: session(b"no model"), "ONNX Runtime cannot use this model", "export it again"),
    (wrong_input, "ONNX Runtime cannot use this model", "export it again"),
    (invalid_value, "value: 'many'", "correct the named values"),
    (broken_yaml, "a YAML file cannot be read", "restore it with git"),
    (lambda: json.loads("{"), "a JSON file is damaged", "restore the file"),
    (broken_parquet, "a Parquet file is damaged", "remove its folder in data/"),
    (no_git, "git: ", "git clone"),
    (full_disk, "the disk is full", "free space"),
    (lambda: Path("nowhere").read_text(), "nowhere: no such file, folder or program", "check the path"),
    (lambda: subprocess.run(["false"], check=True), "`false` failed with exit status 1", "its message is above"),
    (no_network, "the network cannot be reached", "check the connection"),
]


@pytest.mark.parametrize(("body", "problem", "advice"), RAISED, ids=lambda value: getattr(value, "__name__", None))
def test_a_dependency_error_gives_one_sentence_with_advice(
    body: Callable[[], object], problem: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception) as caught:  # each library has its own class
        body()
    assert not isinstance(caught.value, UserError)
    message = explain(caught.value)
    assert message is not None, repr(caught.value)
    assert problem in message and advice in message, message
    assert "\n" not in message and not message.endswith(".")


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        ("flows", "this command is part of the pipeline"),
        ("stages.audits_of_another_version", "this command is part of the pipeline"),
        ("pandas_of_another_version", "the package pandas_of_another_version is not installed in this environment"),
    ],
)
def test_a_missing_module_is_explained(module: str, problem: str) -> None:
    message = explain(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert (message or "").startswith(problem)


@pytest.mark.parametrize("error", [ValueError("x"), ZeroDivisionError(), KeyError("a"), AssertionError()])
def test_an_error_of_the_project_is_not_explained(error: Exception) -> None:
    assert explain(error) is None


def test_an_unknown_error_is_explained_by_its_cause() -> None:
    error = RuntimeError("stage")
    error.__cause__ = MemoryError()
    assert (explain(error) or "").startswith("memory is exhausted")


def test_every_listed_exception_class_exists() -> None:
    import importlib

    assert len(BY_CLASS) > 30 and len(BY_MESSAGE) > 3
    for name in BY_CLASS:
        module, _, kind = name.rpartition(".")
        assert issubclass(getattr(importlib.import_module(module), kind), BaseException), name
