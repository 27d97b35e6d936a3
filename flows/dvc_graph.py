"""What DVC says of the workspace: its stages, their order, what is unchanged; and the lock that a flow holds on it."""

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from stages.core.errors import UserError, did_you_mean

LOCK = Path(".dvc/tmp/flow.lock")
RWLOCK = Path(".dvc/tmp/rwlock")
"""Where DVC notes which process reads or writes which path."""
ENDING = 30.0
"""Seconds that a killed run's guards may take to end its stages."""
_CHECKING = threading.Lock()


def load(targets: Sequence[str] = ()) -> dict[str, list[str]]:
    """Stages that `dvc repro` goes through, upstream first, each with the stages it depends on.

    With targets only these and what they depend on. Stages of nested files count only where one of the root
    `dvc.yaml` depends on them: the sealed test is never among them, nor to be had as a target.
    """
    import networkx as nx
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    try:
        with Repo(str(Path.cwd()), _wait_for_lock=True) as repo:
            graph = get_active_graph(repo.index.graph)
            known = {stage.addressing: stage for stage in plan_repro(graph, collect_stages(repo, ["dvc.yaml"]))}
            for target in targets:
                if target not in known:
                    raise UserError(f"{target}: no stage that dvc.yaml runs; {did_you_mean(target, known)}")
            wanted = graph.subgraph(plan_repro(graph, [known[t] for t in targets or known]))
            order = nx.lexicographical_topological_sort(wanted.reverse(copy=True), key=lambda stage: stage.addressing)
            return {s.addressing: sorted(up.addressing for up in wanted.successors(s)) for s in order}
    except NotDvcRepoError:
        raise UserError(f"{Path.cwd()} holds no .dvc; run from the project's folder") from None
    except DvcException as error:
        raise UserError(f"dvc: {error}; `dvc repro --dry` shows the same") from None


def unchanged(stage: str) -> bool:
    """Whether `dvc repro` would skip the stage. Asked here, because starting a dvc process costs a second."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    # DVC tells lock holders apart by process only: two threads of one would pass each other's locks.
    with _CHECKING:
        try:
            with Repo(str(Path.cwd()), _wait_for_lock=True) as repo, repo.lock:
                (found,) = repo.stage.collect(stage)
                return not found.frozen and not found.changed()
        except DvcException:
            return False  # dvc repro meets the same error, waits if a path is busy, and says the rest in its output


@contextmanager
def locked() -> Iterator[int]:
    """Hold this workspace for one run; gives the lock's file descriptor.

    Guards inherit the descriptor: the lock of a killed run is free only when the last of its stages has ended.

    Raises:
        UserError: naming the process that works here.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a+") as file:
        deadline = time.monotonic() + ENDING
        while not _taken(file.fileno()):
            holder = LOCK.read_text().strip()
            if not holder or psutil.pid_exists(int(holder)) or time.monotonic() > deadline:
                raise UserError(
                    f"another run (pid {holder or 'not known yet'}) works in {Path.cwd()}; wait for it, stop it with "
                    f"`kill {holder or 'PID'}`, or run in another clone"
                )
            time.sleep(0.2)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        _drop_stale_rwlock()
        yield file.fileno()


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _drop_stale_rwlock() -> None:
    """Remove DVC's notes left by killed processes: DVC would wait for ever once a pid among them is used again."""
    for note in _notes():
        if _is_dvc(note["pid"]):
            raise UserError(
                f"`{note['cmd']}` (pid {note['pid']}) works in {Path.cwd()}; wait for it, or stop it with "
                f"`kill -INT {note['pid']}`"
            )
    RWLOCK.unlink(missing_ok=True)


def _notes() -> list[dict[str, Any]]:
    for _ in range(3):
        try:
            notes = json.loads(RWLOCK.read_text())
        except FileNotFoundError:
            return []
        except ValueError:  # being written just now, or killed while writing it
            time.sleep(0.2)
        else:
            readers = [reader for those in notes.get("read", {}).values() for reader in those]
            return [*readers, *notes.get("write", {}).values()]
    return []


def _is_dvc(pid: int) -> bool:
    try:
        return any(Path(word).name == "dvc" for word in psutil.Process(pid).cmdline()[:4])
    except psutil.Error:
        return False
