"""Predict the new images of a folder or bucket and compare them with the training images: `python -m flows.score`.

Only images that are new or have changed since the last run are predicted, by `macula predict` in another process, so
that a crash loses no rows and the next run resumes. Drift is reported as the event `macula.drift`, which an automation
can turn into a run of `retrain`. The parameters are KEY=VALUE: `source=s3://photos/new output=data/scored`.
"""

import fcntl
import json
import os
import sys
import time
import uuid
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from flows import api, registry, score_batches, source_listing, state, supervisor
from flows.command import arguments
from flows.git_commands import environment
from flows.model_source import find_model
from flows.remote_files import shown
from flows.score_batches import DRIFT, ROWS, Batch, Store, Waiting, new_files
from flows.stage_runner import last_output
from stages.core.errors import UserError
from stages.core.interrupts import raise_from_now_on
from stages.core.plurals import quantity
from stages.deployment.deployed_file import digest_of

if __name__ == "__main__":  # Prefect reads the environment when it is imported
    wait_for_api = api.connect()

from prefect import State, flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.states import Completed, Failed

from flows.result_artifacts import embedded

ROOT = Path(__file__).parents[1]
EVENT = "macula.drift"
RELEASE_SECONDS = 30.0
"""Time limit in seconds for the prediction processes of a killed run to end."""
SHOWN_STATISTICS = 5
"""Number of statistics in the payload of the event."""


@dataclass(frozen=True)
class Prediction:
    """Options of a run for `macula predict`."""

    files: bool
    """Whether predicted masks or images are written."""
    workers: int
    """Number of processes; 0 for one per core, or with `dask` for one per thread of the cluster."""
    dask: str
    """Address of a Dask scheduler; empty for this machine."""


@flow(name="score", persist_result=False)
def score(
    source: Annotated[
        str, Field(description="Folder or archive of images, or a URL such as s3://bucket/prefix.", min_length=1)
    ],
    output: Annotated[
        str, Field(description="Folder for the results, one subfolder per run with new images.", min_length=1)
    ],
    model: Annotated[
        str, Field(description="A stage (deployed, released, champion), a version such as digits@v0.0.3, or a file.")
    ] = "deployed",
    again: Annotated[bool, Field(description="Predict all images, also those that were predicted before.")] = False,
    drift_images: Annotated[
        int, Field(ge=20, description="Number of new images that are compared at a time; fewer wait for the next run.")
    ] = 100,
    files: Annotated[
        bool, Field(description="Write predicted masks or images; required if the model predicts images.")
    ] = False,
    workers: Annotated[int, Field(ge=0, description="Prediction processes; 0: one per core.")] = 0,
    dask: Annotated[
        str, Field(description="Address of a Dask scheduler, whose workers predict; empty for this machine.")
    ] = "",
) -> State:
    """Predict the new images of a source, and compare them and their predictions with the training images.

    The false-alarm rate of the comparison is at most 1 % for independent images. Fewer than `drift_images` new images
    are compared together with those of the next runs, each image once.
    """
    try:
        with state.full_disk_explained():
            path, version = find_model(model)
            tag = version.tag if version else ""
            store = Store(source, Path(output))
            with state.lock(f"score-{store.key}", f"{shown(store.source)} with results in {store.output}"):
                return _run(store, path, tag, again, drift_images, Prediction(files, workers, dask))
    except UserError as error:
        return Failed(message=f"error: {error}")


def _run(store: Store, model: Path, tag: str, again: bool, drift_images: int, how: Prediction) -> State:
    digest = digest_of(model)
    listed = list_source(store.source)
    scored: list[Waiting] = []
    batch = store.unfinished(listed, digest)
    repeated = again and not (batch and batch.again)
    if batch is not None:
        get_run_logger().info("resuming %s with %s", batch.name, quantity(len(batch.files), "file"))
        scored.append(predict(store, batch, model, how))
    new = new_files(store.source, listed, {} if repeated else store.scored())
    if new:
        scored.append(predict(store, store.start(new, digest, again), model, how))
    waiting = store.waiting()
    words = f"{quantity(sum(one.images for one in scored), 'image')} predicted" if scored else "no new images"
    count = sum(one.images for one in waiting)
    if not waiting or count < drift_images:
        store.clean()
        wait = f"; {count} of the {drift_images} images for the next comparison are there" if waiting else ""
        return _report(store, "scored" if scored else "nothing new", f"{words} in {shown(store.source)}{wait}", tag, {})
    result = compare(store, waiting, model, digest)
    publish(store, waiting[-1], result, tag)
    store.compared()
    store.clean()
    outcome = {"drift": "drift", "no drift": "scored", "not checked": "scored"}[result["verdict"]]
    return _report(store, outcome, f"{words} in {shown(store.source)}. {result['sentence']}", tag, result)


@task(name="list source", task_run_name="list source", cache_policy=NO_CACHE, persist_result=False)
def list_source(source: str) -> source_listing.Listing:
    """List the files of the source without reading them."""
    found = source_listing.listing(source)
    get_run_logger().info("%s in %s", quantity(len(found), "file"), shown(source))
    return found


@task(name="predict", task_run_name="predict {batch.name}", cache_policy=NO_CACHE, persist_result=False)
def predict(store: Store, batch: Batch, model: Path, how: Prediction) -> Waiting:
    """Predict the images of a batch and record them as scored; an interrupted batch is resumed.

    Args:
        store: state and results of the source.
        batch: images to predict.
        model: ONNX file.
        how: options of `predict`.

    Raises:
        UserError: the images cannot be fetched, or `predict` stopped.
    """
    if not store.results(batch).is_dir() and not (store.work / ROWS).is_file():
        folder, images = store.prepare(batch)
        rows = store.work / ROWS
        _wait_for_writer(rows.with_name(f"{ROWS}.part"))
        options = ["--statistics", "--format", "jsonl", "--output", str(rows)]
        options += ["--files", str(store.work / "files")] if how.files else []
        options += ["--workers", str(how.workers)] if how.workers else []
        options += ["--dask", how.dask] if how.dask else []
        lines = _macula(["predict", *options, "--", str(model), images], folder)
        if not rows.is_file():
            raise UserError(f"the images were not predicted: {last_output(lines)}")
    return store.finish(batch)


@task(name="compare", task_run_name="compare", cache_policy=NO_CACHE, persist_result=False)
def compare(store: Store, waiting: list[Waiting], model: Path, digest: str) -> dict[str, Any]:
    """Compare the waiting images with the reference in the model; write drift.json and the page to the last results.

    Args:
        store: state and results of the source.
        waiting: results to compare.
        model: ONNX file.
        digest: SHA-256 of the model file.

    Raises:
        UserError: the rows cannot be compared.
    """
    comparable = [one for one in waiting if one.model == digest and (store.results(one) / ROWS).is_file()]
    if left := sum(one.images for one in waiting if one not in comparable):
        get_run_logger().warning("%s are not compared: another model predicted them, or the rows were removed", left)
    results = store.results(waiting[-1])
    results.mkdir(parents=True, exist_ok=True)
    rows = [str(store.results(one) / ROWS) for one in comparable]
    if not rows:
        return {"verdict": "not checked", "sentence": "No predicted images of this model are left to compare."}
    folder = next((f for f in (store.work / "images", store.copy) if f.is_dir()), Path(store.source).parent)
    options = ["--output", str(results / DRIFT), "--page", str(results)]
    lines = _macula(["drift", str(model), *rows, *options], folder if folder.is_dir() else results)
    try:
        result: dict[str, Any] = json.loads((results / DRIFT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"the images were not compared: {last_output(lines)}") from None
    return result


@task(name="publish", task_run_name="publish", cache_policy=NO_CACHE, persist_result=False)
def publish(store: Store, last: Waiting, result: dict[str, Any], tag: str) -> None:
    """Publish the page as an artifact and, if there is drift, emit the event; its id is that of the batch.

    Args:
        store: state and results of the source.
        last: results that contain the page.
        result: content of drift.json.
        tag: version of the model; empty if it is a file.
    """
    page = store.results(last) / "drift.md"
    if page.is_file():
        text = page.read_text(encoding="utf-8").replace("![furthest images](furthest.png)", "")
        picture = embedded(page.with_name("furthest.png"), "images furthest from the reference")
        create_markdown_artifact(
            key=f"score-{store.key}", markdown=text + picture, description=f"Drift of {shown(store.source)}"
        )
    if result["verdict"] != "drift":
        return
    emit_event(
        event=EVENT,
        resource={"prefect.resource.id": f"macula.model.{registry.model_name(result['model']['name'])}"},
        payload=_payload(store, last, result, tag),
        id=uuid.uuid5(uuid.NAMESPACE_URL, f"{EVENT}/{store.key}/{last.name}"),
    )


def _payload(store: Store, last: Waiting, result: dict[str, Any], tag: str) -> dict[str, Any]:
    drifted = [one for one in result["comparisons"] if one["drifted"]]
    return {
        "source": shown(store.source),
        "model": tag or result["model"]["sha256"],
        "images": result["images"],
        "sentence": result["sentence"],
        "p": drifted[0]["adjusted_p"],
        "statistics": [
            {key: one[key] for key in ("name", "of", "before", "now", "adjusted_p", "distance")}
            for one in drifted[:SHOWN_STATISTICS]
        ],
        "results": str(store.results(last)),
    }


def _macula(words: list[str], folder: Path) -> list[str]:
    """Run a command of `macula` in a folder under a supervisor, log its output, and return the last lines."""
    log = get_run_logger()
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    output: deque[str] = deque(maxlen=200)
    running = supervisor.start(
        [sys.executable, "-m", "stages", *words], environment() | {"PYTHONPATH": path}, cwd=folder
    )
    assert running.stdout is not None
    with running:
        try:
            for line in supervisor.lines(running.stdout):
                output.append(line)
                log.info(line)
        except BaseException:
            running.terminate()
            raise
    return list(output)


def _wait_for_writer(part: Path) -> None:
    """Wait until the processes of a killed run have ended, which they do within seconds."""
    deadline = time.monotonic() + RELEASE_SECONDS
    while part.is_file():
        with part.open("rb") as stream:
            if state.try_lock(stream.fileno()):
                fcntl.flock(stream.fileno(), fcntl.LOCK_UN)
                return
        if time.monotonic() > deadline:
            raise UserError(f"{part} is being written by a process of an earlier run; end that process, and run again")
        time.sleep(0.2)


def _report(store: Store, outcome: str, message: str, tag: str, result: dict[str, Any]) -> State:
    """Write the outcome to the state folder and return the state of the flow."""
    about = {"outcome": outcome, "message": message, "model": tag or "", "results": str(store.output)}
    score_batches.write_outcome(store, about | ({"verdict": result["verdict"]} if result else {}))
    return Completed(name="".join(word.capitalize() for word in outcome.split()), message=message)


def main(words: list[str]) -> int:
    """Run the flow.

    Args:
        words: parameters as KEY=VALUE.

    Returns:
        0 if the images were predicted, also if they have drifted; 130 after an interrupt; otherwise 1.

    Raises:
        RuntimeError: the temporary Prefect server did not start.
    """
    raise_from_now_on()
    wait_for_api()
    try:
        ended = score(**arguments(words, score.fn), return_state=True)
    except KeyboardInterrupt:
        print("stopped; repeat the command to resume", file=sys.stderr)
        return 130
    except (UserError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{ended.name}: {ended.message}")
    return 0 if ended.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
