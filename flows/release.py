"""Release a registered version, as a Prefect flow: `python -m flows.release [KEY=VALUE...]`.

The steps are those of `macula release`; each is a task.
"""

import sys
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from flows import api, releases, state
from flows.command import arguments
from flows.flow_outcome import report, write_failure
from stages.core.errors import UserError
from stages.core.interrupts import raise_from_now_on

if __name__ == "__main__":  # Prefect reads the environment when it is imported
    wait_for_api = api.connect()

from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed


@task(name="step", cache_policy=NO_CACHE, persist_result=False)
def run_step(work: Callable[[], Any]) -> Any:
    """Run one step of the release; each may be repeated."""
    return work()


@flow(name="release", persist_result=False)
def release(
    model: Annotated[
        str, Field(description="A stage such as champion, or a registered version such as digits@v0.0.3.")
    ] = "champion",
    reason: Annotated[
        str, Field(description="Reason to open the test set a second time for the same model; it is recorded.")
    ] = "",
    repository: Annotated[
        str, Field(description="Git repository with the registry; empty: MACULA_REPOSITORY, or the current folder.")
    ] = "",
) -> State:
    """Open the sealed test set once for a registered version, write the model card, and publish both."""
    logger = get_run_logger()

    def step(name: str, work: Callable[[], Any]) -> Any:
        logger.info("step: %s", name)
        return run_step.with_options(name=name)(work)

    try:
        with state.full_disk_explained():
            outcome = releases.release(model, reason, repository, step)
    except UserError as error:
        write_failure("release", {"message": str(error), "model": model})
        return Failed(message=f"error: {error}")
    event = "macula.released" if outcome.outcome == "released" else ""
    report("release", outcome.version.partition("@")[0], outcome.as_json(), event)
    return Completed(name=outcome.outcome.capitalize(), message=outcome.message)


def main(words: list[str]) -> int:
    """Run the flow.

    Args:
        words: parameters as KEY=VALUE.

    Returns:
        0 if the version is released, 130 after an interrupt, otherwise 1.
    """
    raise_from_now_on()
    wait_for_api()
    try:
        ended = release(**arguments(words, release.fn), return_state=True)
    except KeyboardInterrupt:
        print("stopped; repeat the command to resume", file=sys.stderr)
        return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{ended.name}: {ended.message}")
    return 0 if ended.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
