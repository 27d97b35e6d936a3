"""A worker that is killed with -9 at random moments while deployed runs proceed: `make test-services`."""

import os
import random
import time
from collections import Counter
from uuid import uuid4

import pytest

from tests.service_project import Services, eventually, record, record_words

pytestmark = [pytest.mark.services, pytest.mark.timeout(2400)]
KILLS = 20


def submit(services: Services) -> str:
    """Start a run that must run both stages again."""
    (services.root / "version.txt").write_text(str(uuid4()))
    return services.submit("pipeline")


def outputs(services: Services) -> list[str]:
    return [(services.root / name).read_text() for name in ("data/one", "data/two")]


def seconds_of_a_run(services: Services) -> float:
    began = time.monotonic()
    assert services.ended(submit(services)) == "Completed"
    return time.monotonic() - began


def test_a_worker_killed_at_random_moments_loses_no_run(services: Services) -> None:
    seed = int(os.environ.get("MACULA_SEED") or random.randrange(10**6))
    moments = random.Random(seed)
    print(f"MACULA_SEED={seed} repeats these moments")
    duration = min(seconds_of_a_run(services) for _ in range(3))
    states: Counter[str] = Counter()
    restarts, ends = [], []
    for number in range(1, KILLS + 1):
        run = submit(services)
        time.sleep(duration * (number - moments.random()) / KILLS)  # one moment in each twentieth of a run
        states[services.state(run)] += 1
        began = time.monotonic()
        restarts.append(services.kill("worker"))
        state = services.ended(run, 400)
        print(f"kill {number}: {state} after {time.monotonic() - began:.1f} s, states {dict(states)}", flush=True)
        assert state == "Completed", services.api(f"flow_runs/{run}")["state"]["message"]
        ends.append(time.monotonic() - began)
        assert outputs(services) == ["one", "two"]
    assert sum(states.values()) == KILLS and states["Completed"] < KILLS / 2, states
    assert eventually(lambda: services.run("status").returncode == 0, 60)
    words = ", ".join(f"{state} {count}" for state, count in sorted(states.items()))
    record_words(f"worker killed with -9 at {KILLS} random moments (seed {seed})", f"state of the run: {words}")
    record("worker killed with -9", "longest time until the worker runs again", max(restarts))
    record("worker killed with -9", "longest time until the run in progress has completed", max(ends))
