"""Explanations of errors that dependencies raise: what is wrong, and what to do.

Errors are recognized by the name of their class, so that no library is imported to explain the error of another.
"""

import errno
import re
from collections.abc import Callable
from typing import Any

DEBUG = "MACULA_DEBUG"
"""Environment variable that shows tracebacks, in stages too; `macula COMMAND --debug` sets it."""

Explain = Callable[[Any], str]


def explain(error: BaseException) -> str | None:
    """Return one sentence for an error of a dependency, or None if the error is not known.

    The sentence is that of the most specific known class of the error, else of a known pattern in its message, else of
    the error that caused it or was being handled when it was raised.

    >>> explain(MemoryError())
    'memory is exhausted; close other programs, or lower prepare.size or train.batch_size'
    >>> explain(ZeroDivisionError()) is None
    True
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        message = _of_class(current) or _of_message(current)
        if message is not None:
            return message
        current = current.__cause__ or current.__context__
    return None


def _of_class(error: BaseException) -> str | None:
    for kind in type(error).__mro__:
        known = BY_CLASS.get(f"{kind.__module__}.{kind.__qualname__}")
        if known is not None and (message := known(error)):
            return message
    return None


def _of_message(error: BaseException) -> str | None:
    text = str(error)
    return next((message for pattern, message in BY_MESSAGE if re.search(pattern, text)), None)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(getattr(error, "msg", error)).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__


def _missing_module(error: ModuleNotFoundError) -> str:
    name = (error.name or "").partition(".")[0]
    if name in ("flows", "benchmarks") or (name == "stages" and error.name != "stages"):
        return (
            "this command is part of the pipeline, which is not in the installed package: clone the project, run "
            "`make env` in it, and use its `.venv/bin/macula`; this installation provides predict, drift, serve and "
            "doctor"
        )
    return (
        f"the package {name} is not installed in this environment; in a clone of the project, run `make env`, which "
        "installs all packages of the pipeline, and use `.venv/bin/macula`"
    )


def _operating_system(error: OSError) -> str:
    what = f"{error.filename}: " if error.filename else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"{what}the disk is full or its quota is used up; free space and repeat the command"
        case errno.EROFS:
            return f"{what}the file system is read-only; use another folder"
        case errno.EACCES | errno.EPERM if what:
            return f"{what}permission denied; change its owner or mode, or use another path"
        case errno.EACCES | errno.EPERM:
            return "permission denied; run the command as a user who has the permission"
        case errno.ENOENT:
            return f"{what}no such file, folder or program; check the path, and run from the project's folder"
        case errno.EADDRINUSE:
            return "the port is in use by another process; name another --port"
        case errno.EMFILE | errno.ENFILE:
            return f"{what}too many open files; raise the limit with `ulimit -n 65536`"
    return ""


def _stage_failed(error: Any) -> str:
    stage = re.search(r"failed to reproduce(?: stages:)? (.*)", str(error))
    name = stage.group(1).strip("'") if stage else "a stage"
    cause = error.__cause__
    if cause is not None and type(cause).__name__ == "StageCmdFailedError":
        return f"the stage {name} failed; its message is above. Fix the cause and repeat the command"
    inner = explain(cause) if cause is not None else None
    return f"the stage {name} failed: {inner or (cause and _first_line(cause)) or 'see above'}"


def _missing_dependency(error: BaseException) -> str:
    return f"{_first_line(error)}; restore it, or correct ingest.source in params.yaml"


def _validation(error: Any) -> str:
    mistakes = [
        f"{'.'.join(str(part) for part in one['loc']) or 'value'}: {one['input']!r}: {one['msg']}"
        for one in error.errors()
    ]
    return f"{error.title} is not valid: {'; '.join(mistakes)}; correct the named values"


def _dvc(then: str) -> Explain:
    return lambda error: f"DVC: {_first_line(error)}; {then}"


def _model(error: BaseException) -> str:
    return f"ONNX Runtime cannot use this model: {_first_line(error)}; export it again with `macula run export`"


BY_CLASS: dict[str, Explain] = {
    "builtins.ModuleNotFoundError": _missing_module,
    "builtins.MemoryError": lambda _: (
        "memory is exhausted; close other programs, or lower prepare.size or train.batch_size"
    ),
    "builtins.OSError": _operating_system,
    # DVC
    "dvc.exceptions.NotDvcRepoError": lambda _: (
        "this folder is not a DVC project; run the command in the project's folder, which contains dvc.yaml and .dvc"
    ),
    "dvc.exceptions.ReproductionError": _stage_failed,
    "dvc.lock.LockError": lambda _: (
        "another DVC process is running in this folder; wait until it has finished, or end it, and repeat the command"
    ),
    "dvc.rwlock.RWLockFileCorruptedError": _dvc("end all DVC processes in this folder and remove .dvc/tmp/rwlock"),
    "dvc.rwlock.RWLockFileFormatError": _dvc("end all DVC processes in this folder and remove .dvc/tmp/rwlock"),
    "dvc.stage.exceptions.MissingDataSource": _missing_dependency,
    "dvc.dependency.base.DependencyDoesNotExistError": _missing_dependency,
    "dvc.stage.exceptions.StageNotFound": _dvc("`dvc stage list --all` shows the stages"),
    "dvc.stage.exceptions.StageFileDoesNotExistError": _dvc("`dvc stage list --all` shows the stages"),
    "dvc.exceptions.NoOutputOrStageError": _dvc("`dvc stage list --all` shows the stages"),
    "dvc.utils.strictyaml.YAMLValidationError": _dvc("correct the file, or restore it with git"),
    "dvc.utils.serialize._common.ParseError": _dvc("correct the file, or restore it with git"),
    "dvc.parsing.ResolveError": _dvc("correct dvc.yaml or params.yaml, or restore them with git"),
    "dvc.config.NoRemoteError": _dvc("`dvc remote add --default NAME URL` configures one"),
    "dvc.config.ConfigError": _dvc("correct .dvc/config; `dvc config --list` shows it"),
    "dvc.exceptions.CheckoutError": _dvc("repeat the command, which computes the outputs that are not in the cache"),
    "dvc.exceptions.DvcException": _dvc("`dvc repro --dry` repeats the check without running a stage"),
    "scmrepo.exceptions.SCMError": lambda error: (
        f"git: {_first_line(error)}; run the command in a clone of the project, made with `git clone`"
    ),
    # Prefect
    "prefect.exceptions.PrefectHTTPStatusError": lambda error: (
        f"the Prefect API refused a request: {_first_line(error)}; check PREFECT_API_URL and PREFECT_API_KEY with "
        "`prefect config view`"
    ),
    "httpx.ConnectError": lambda _: (
        "the Prefect API cannot be reached; start it with `prefect server start`, or remove the setting with "
        "`prefect config unset PREFECT_API_URL`: the flow then starts a server of its own"
    ),
    "httpx.TimeoutException": lambda _: (
        "the Prefect API did not respond in time; repeat the command, or remove the setting with "
        "`prefect config unset PREFECT_API_URL`: the flow then starts a server of its own"
    ),
    "prefect.exceptions.PrefectException": lambda error: (
        f"Prefect: {_first_line(error)}; `macula run` without --flow runs the same stages without Prefect"
    ),
    # Great Expectations
    "great_expectations.exceptions.exceptions.GreatExpectationsError": lambda error: (
        f"Great Expectations could not check the data: {_first_line(error)}; correct section checks in params.yaml"
    ),
    # torch
    "torch.OutOfMemoryError": lambda _: (
        "the GPU has too little free memory; lower train.batch_size or prepare.size, or set train.device to cpu"
    ),
    "torch._C._LinAlgError": lambda error: (
        f"a matrix could not be inverted or factorized: {_first_line(error)}; the data may contain constant columns"
    ),
    # ONNX Runtime
    "onnxruntime.capi.onnxruntime_pybind11_state.NoSuchFile": lambda _: (
        "the model file does not exist; name the ONNX file that the stage export wrote, data/export/model.onnx"
    ),
    **{
        f"onnxruntime.capi.onnxruntime_pybind11_state.{name}": _model
        for name in ("InvalidProtobuf", "InvalidGraph", "Fail", "NotImplemented", "InvalidArgument", "RuntimeException")
    },
    # configuration files
    "pydantic_core._pydantic_core.ValidationError": _validation,
    "ruamel.yaml.error.YAMLError": lambda error: (
        f"a YAML file cannot be read: {' '.join(str(error).split())}; correct it, or restore it with git"
    ),
    "json.decoder.JSONDecodeError": lambda error: (
        f"a JSON file is damaged: {_first_line(error)} at line {error.lineno}, column {error.colno}; restore the file, "
        "or remove it if a stage wrote it, and repeat the command"
    ),
    "pyarrow.lib.ArrowInvalid": lambda error: (
        f"a Parquet file is damaged: {_first_line(error)}; remove its folder in data/ and repeat the command"
    ),
    "subprocess.CalledProcessError": lambda error: (
        f"`{' '.join(map(str, error.cmd)) if isinstance(error.cmd, list) else error.cmd}` failed with exit status "
        f"{error.returncode}; its message is above"
    ),
    "urllib.error.HTTPError": lambda error: (
        f"{error.filename}: the server returned HTTP status {error.code} ({error.reason}); check the address, or set "
        "network.weights to none"
    ),
    "urllib.error.URLError": lambda error: (
        f"the network cannot be reached: {error.reason}; check the connection, or set network.weights to none"
    ),
}
"""Functions that return the message, by module and name of the exception's class; empty text: not known."""

BY_MESSAGE = (
    (r"can't allocate memory|not enough memory: you tried to allocate|std::bad_alloc", (
        "memory is exhausted; close other programs, or lower train.batch_size or prepare.size"
    )),
    (r"Found no NVIDIA driver|CUDA driver version is insufficient|Torch not compiled with CUDA", (
        "no usable GPU was found; set train.device to cpu or auto, or install a driver that fits the installed torch"
    )),
    (r"CUDA error|cuDNN error|CUBLAS_STATUS|NCCL error", (
        "the GPU reported an error; repeat the command, which resumes a training from its last checkpoint, or set "
        "train.device to cpu if the error occurs again"
    )),
    (r"bus error.*shared memory|shared memory \(shm\)|No space left on device.*/dev/shm", (
        "shared memory is too small; start the container with --shm-size=2g"
    )),
    (r"DataLoader worker .* (exited|is killed)", (
        "a process that loads images was ended, most often for lack of memory; lower train.batch_size"
    )),
)  # fmt: skip
"""Patterns and messages of errors whose class is too general, such as torch's RuntimeError."""
