"""Query DVC for the stages of the workspace, their order and state; lock the workspace for one flow."""

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flows.git_commands import CommandFailed, git
from flows.state import try_lock
from stages.core.errors import UserError, did_you_mean

LOCK = Path(".dvc/tmp/flow.lock")
RWLOCK = Path(".dvc/tmp/rwlock")
"""File in which DVC records which process reads or writes which path."""
RELEASE_SECONDS = 30.0
"""Time limit in seconds for the supervisors of a killed run to end its stages."""
NO_PROJECT = "{} contains no folder .dvc; run this in the folder of the project"
CHECKING = threading.Lock()
"""Lock of the threads of a flow: DVC identifies the holder of its own lock by process only."""


def load(targets: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the stages that `dvc repro` runs, upstream first, each with the stages on which it depends.

    With targets, only these and their dependencies are returned. Stages of nested `dvc.yaml` files are included only if
    a stage of the root file depends on them. The sealed test set is therefore never included, and cannot be a target.

    Raises:
        UserError: a target is unknown, the current folder is not a DVC project, or DVC reports an error.
    """
    with _project() as repo:
        return {stage.addressing: ups for stage, ups in _ordered(repo, targets)}


def load_with_checks(targets: Sequence[str] = ()) -> tuple[dict[str, list[str]], dict[str, float]]:
    """Return the stages as `load` does, and the seconds that the check of each stage that is up to date took.

    A stage is up to date if `dvc repro` would skip it and all stages on which it depends: no stage of this run can then
    change what it reads. The others must be checked in their turn, by `unchanged`. All checks share one pass over the
    project, since opening it takes longer than checking a stage. Call this while holding the lock of the workspace.

    Raises:
        UserError: as for `load`.
    """
    from dvc.exceptions import DvcException

    skipped: dict[str, float] = {}
    with CHECKING, _project() as repo:
        stages = _ordered(repo, targets)
        try:
            with repo.lock:
                for stage, upstreams in stages:
                    began = time.monotonic()
                    if skipped.keys() >= set(upstreams) and _is_unchanged(stage):
                        skipped[stage.addressing] = time.monotonic() - began
        except (DvcException, OSError):
            skipped.clear()  # another process of DVC holds the lock: each stage waits for it in its turn
    return {stage.addressing: ups for stage, ups in stages}, skipped


@contextmanager
def _project() -> Iterator[Any]:
    """Open the DVC project in the current folder; raise errors of DVC in the block as UserError."""
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        with Repo(str(Path.cwd()), _wait_for_lock=True) as repo:
            yield repo
    except NotDvcRepoError:
        raise UserError(NO_PROJECT.format(Path.cwd())) from None
    except DvcException as error:
        raise UserError(f"DVC failed: {error}; `dvc repro --dry` reports the same error") from None


def _ordered(repo: Any, targets: Sequence[str]) -> list[tuple[Any, list[str]]]:
    """Return the stages of DVC in the order of `load`, each with the names of those on which it depends."""
    import networkx as nx
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    graph = get_active_graph(repo.index.graph)
    known = {stage.addressing: stage for stage in plan_repro(graph, collect_stages(repo, ["dvc.yaml"]))}
    for target in targets:
        if target not in known:
            raise UserError(f"{target} is not a stage of dvc.yaml; {did_you_mean(target, known)}")
    wanted = graph.subgraph(plan_repro(graph, [known[t] for t in targets or known]))
    order = nx.lexicographical_topological_sort(wanted.reverse(copy=True), key=lambda stage: stage.addressing)
    return [(s, sorted(up.addressing for up in wanted.successors(s))) for s in order]


def _is_unchanged(stage: Any) -> bool:
    from dvc.exceptions import DvcException

    try:
        return not stage.frozen and not stage.changed()
    except (DvcException, OSError):
        return False  # dvc repro reports the same error, or waits if a path is busy


def check_targets(targets: Sequence[str]) -> None:
    """Check that the targets are stages and that no other run uses the workspace, before Prefect is imported.

    Raises:
        UserError: a target is unknown, or another process uses the workspace; or see `load`.
    """
    if not Path(".dvc").is_dir():
        raise UserError(NO_PROJECT.format(Path.cwd()))
    with lock_workspace():
        if targets:
            restore_damaged_locks()
            load(targets)


def restore_damaged_locks() -> list[str]:
    """Replace each `dvc.lock` that is not readable YAML, as after a full disk, by the committed one, or remove it.

    No result is lost: DVC finds the outputs of stages that the file lacks in its run cache. The damaged file is kept
    with the suffix `.damaged`. Call this while holding the lock of the workspace.

    Returns:
        One message per replaced file.
    """
    messages = []
    for file in (Path("dvc.lock"), Path("data/dvc.lock")):
        if not file.is_file() or _is_lock(file):
            continue
        file.replace(file.with_suffix(".lock.damaged"))
        try:
            git("checkout", "HEAD", "--", str(file), cwd=Path.cwd())
        except CommandFailed:
            messages.append(f"{file} was not readable and is not committed: stages are restored from the run cache")
        else:
            messages.append(f"{file} was not readable: replaced by the committed file")
    return messages


def _is_lock(file: Path) -> bool:
    try:
        content = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError):
        return False
    return isinstance(content, dict) and isinstance(content.get("stages", {}), dict)


def unchanged(stage: str) -> bool:
    """Return whether `dvc repro` would skip the stage; False if it is frozen, or DVC or the disk reports an error.

    The check runs in this process, since starting dvc takes a second.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with CHECKING:
        try:
            with Repo(str(Path.cwd()), _wait_for_lock=True) as repo, repo.lock:
                (collected,) = repo.stage.collect(stage)
                return _is_unchanged(collected)
        except (DvcException, OSError):
            return False  # dvc repro reports the same error, or waits if a path is busy


@contextmanager
def lock_workspace() -> Iterator[int]:
    """Lock this workspace for one run; yield the file descriptor of the lock.

    Supervisors inherit the descriptor, so the lock of a killed run is released when the last of its stages has ended.

    Raises:
        UserError: another process uses the workspace; the message contains its id if that is known.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a+") as file:
        deadline = time.monotonic() + RELEASE_SECONDS
        while not try_lock(file.fileno()):
            holder = LOCK.read_text().strip()
            if not holder or psutil.pid_exists(int(holder)) or time.monotonic() > deadline:
                raise UserError(
                    f"another run (pid {holder or 'unknown'}) is using {Path.cwd()}; wait for it, stop it with "
                    f"`kill {holder or 'PID'}`, or run in another clone"
                )
            time.sleep(0.2)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        _remove_stale_rwlock()
        yield file.fileno()


def _remove_stale_rwlock() -> None:
    """Remove DVC's records of killed processes: DVC would wait forever once such a process id is reused.

    Raises:
        UserError: a process of DVC that is recorded is still running.
    """
    for entry in _read_rwlock():
        if _is_dvc(entry["pid"]):
            raise UserError(
                f"`{entry['cmd']}` (pid {entry['pid']}) is using {Path.cwd()}; wait for it, or stop it with "
                f"`kill -INT {entry['pid']}`"
            )
    RWLOCK.unlink(missing_ok=True)


def _read_rwlock() -> list[dict[str, Any]]:
    for _ in range(3):
        try:
            entries = json.loads(RWLOCK.read_text())
        except FileNotFoundError:
            return []
        except ValueError:  # incomplete: the file is being written, or its writer was killed
            time.sleep(0.2)
        else:
            readers = [reader for processes in entries.get("read", {}).values() for reader in processes]
            return [*readers, *entries.get("write", {}).values()]
    return []


def _is_dvc(pid: int) -> bool:
    try:
        return any(Path(word).name == "dvc" for word in psutil.Process(pid).cmdline()[:4])
    except psutil.Error:
        return False
