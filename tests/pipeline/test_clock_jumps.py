"""Runs of `retrain` while the clock is wrong, and is set during the run: `make test-flows`.

A library that is loaded into every process shifts the time of day, as setting the clock does. Durations, and the times
that the file system writes, are those of the machine.
"""

import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from flows import registry
from flows.git_commands import git
from flows.retrain_records import RECORD
from tests import toy_project
from tests.retrain_team import NAME, Team
from tests.service_project import record_words

pytestmark = [pytest.mark.flows, pytest.mark.timeout(1200), pytest.mark.usefixtures("prefect_api")]
SHIFT = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long shift(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("CLOCK_SHIFT"), "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME && result == 0) now->tv_sec += shift();
    return result;
}
time_t time(time_t *store) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (store) *store = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
"""
HOUR, YEAR = 3600, 365 * 24 * 3600
STEPS = 40
"""Number of times that the clock is set during a run, once in half a second."""


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    """Team whose processes have a clock of their own."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler on this machine")
    made = Team(tmp_path, monkeypatch, toy_project.create(tmp_path / "template", "data/raw/colours"))
    (tmp_path / "shift.c").write_text(SHIFT)
    library = tmp_path / "shift.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "shift.c", "-ldl"], check=True)
    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
    (tmp_path / "shift").write_text("0")
    monkeypatch.setenv("CLOCK_SHIFT", str(tmp_path / "shift"))
    monkeypatch.setenv("LIBRARY", str(library))
    return made


def retrain(team: Team, *shifts: int) -> str:
    """Run `retrain` while the clock is shifted by some seconds, one value after the other; return its last lines."""
    file = team.state.parent / "shift"
    file.write_text(str(shifts[0]))
    library = str(team.state.parent / "shift.so")
    flow = subprocess.Popen(
        toy_project.command("flows.retrain", f"source={team.source}"),
        cwd=team.project, env=toy_project.environment(team.project, team.state) | {"LD_PRELOAD": library},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    ended = threading.Event()

    def set_clock() -> None:
        for shift in shifts[1:]:
            if ended.wait(0.5):
                return
            draft = file.with_suffix(".new")
            draft.write_text(str(shift))
            draft.replace(file)

    with_clock = threading.Thread(target=set_clock)
    with_clock.start()
    try:
        output, _ = flow.communicate(timeout=300)
    finally:
        flow.kill()
        ended.set()
        with_clock.join()
    lines = output.splitlines()
    found = [line for line in lines if line.startswith(("Promoted:", "Kept:", "Stopped:", "Unchanged:", "Failed:"))]
    assert found, output[-3000:]
    return "\n".join(lines[lines.index(found[-1]) :])


def times(team: Team) -> list[str]:
    """Return the end of each registered run, in the order of the versions."""
    versions = registry.versions(team.project, NAME)
    return [json.loads(git("show", f"{one.commit}:{RECORD}", cwd=team.project))["ended"] for one in versions]


def test_runs_are_right_while_the_clock_is_wrong_and_is_set(team: Team) -> None:
    backward = [-HOUR * number for number in range(STEPS)]
    forward = [HOUR * number for number in range(STEPS)]
    began = time.monotonic()
    team.batch(1)
    assert retrain(team, 0).startswith("Promoted:")
    team.batch(3, 1)
    assert retrain(team, YEAR).startswith("Promoted:") and team.champion() == "v0.0.2"
    year = str(time.gmtime(time.time() + YEAR).tm_year)
    assert times(team)[-1].startswith(year), "the clock of the run was a year ahead"
    team.batch(1, 2)
    assert retrain(team, 0).startswith("Kept:") and team.champion() == "v0.0.2"
    assert times(team) != sorted(times(team))
    team.batch(3, 3, "confounded")
    stopped = retrain(team, *backward)
    assert stopped.startswith("Stopped:") and "**confounder**: brightness predicts all" in stopped
    assert retrain(team, -YEAR).startswith("Unchanged:")
    team.batch(1, 4)
    assert retrain(team, *forward).startswith("Kept:")
    team.batch(3, 5)
    assert retrain(team, *backward).startswith("Kept:") and team.champion() == "v0.0.2"
    assert [one.number for one in registry.versions(team.project, NAME)] == [f"v0.0.{i}" for i in range(1, 6)]
    assert team.workspaces() == []
    record_words(
        "clock a year ahead or back in a run, and set by an hour each half second during runs",
        f"7 runs in {time.monotonic() - began:.0f} s, each with the right result",
    )
