"""Flows whose disk is full at each of their steps, and work after space was freed: `make test-flows`."""

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import registry, supervisor
from flows import retrain as retrain_flow
from flows.stage_runner import StageRunner
from tests import toy_project
from tests.retrain_team import NAME, Team
from tests.service_project import record_words
from tests.small_disk import SmallDisk, names_the_disk, small_disk

pytestmark = [
    pytest.mark.usefixtures("prefect_api"),
    pytest.mark.flows,
    pytest.mark.timeout(2400),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
STAGES = ("ingest", "audit", "train")
TASKS = ("find_data", "prepare_workspace", "push_data", "compare_with_champion", "record_run")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 64) as mounted:
        yield mounted


def filling(disk: SmallDisk, step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step before which the disk becomes full."""

    def run(*words: Any, **options: Any) -> Any:
        disk.fill()
        return step(*words, **options)

    return run


def test_a_comparison_that_is_killed_is_repeated_and_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = Team(tmp_path, monkeypatch, toy_project.create(tmp_path / "template", "data/raw/colours"))
    team.batch(1)
    team.retrain()
    team.batch(3, 1)
    output_of = supervisor.output_of

    def killed(command: list[str], *words: Any) -> tuple[int, str]:
        return (137, "") if "stages.compare_models" in command else output_of(command, *words)

    with monkeypatch.context() as patched:
        patched.setattr(supervisor, "output_of", killed)
        ended = team.retrain()
    assert ended.name == "Failed" and "the models were not compared (exit code 137)" in str(ended.message)
    assert len(team.branches()) == 1
    assert team.retrain().name == "Promoted"


def test_retrain_with_a_full_disk_publishes_nothing_and_completes_after_space_was_freed(
    disk: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = toy_project.create(tmp_path / "template", "data/raw/colours")
    team = Team(tmp_path, monkeypatch, template)
    monkeypatch.setenv("MACULA_STATE", str(disk.folder / "state"))
    monkeypatch.setenv("MACULA_CACHE", str(disk.folder / "cache"))
    team.state = disk.folder / "state"
    monkeypatch.setattr("flows.retrain.PUSH_PAUSES", ())
    team.batch(1)
    assert team.retrain().name == "Promoted"
    reproduce = StageRunner.reproduce
    failed: Counter[str] = Counter()
    for number, step in enumerate((*TASKS, *STAGES), 1):
        team.batch(3, number)
        before = team.branches(), team.champion()
        with monkeypatch.context() as patched:
            if step in TASKS:
                patched.setattr(retrain_flow, step, filling(disk, getattr(retrain_flow, step)))
            else:

                def full(self: StageRunner, stage: str, *words: Any, which: str = step) -> Any:
                    if stage == which:
                        disk.fill()
                    return reproduce(self, stage, *words)

                patched.setattr(StageRunner, "reproduce", full)
            ended = team.retrain()
            gc.collect()  # DVC leaves a file open whose lock could not be written
        assert disk.is_full() and ended.is_failed() and ended.name == "Failed", (step, ended)
        assert names_the_disk(ended.message), (step, ended.message)
        assert (team.branches(), team.champion()) == before, step
        failed[step] += 1
        disk.free()
        again = team.retrain()
        assert again.name == ("Promoted" if number == 1 else "Kept"), (step, again.message)
        assert len(registry.versions(team.project, NAME)) == number + 1 and team.workspaces() == []
    assert sum(failed.values()) == len(TASKS) + len(STAGES)
    record_words(
        f"disk full at {len(failed)} steps of retrain", "each fails and names the disk; the next run completes"
    )
