"""`macula score`: batch scoring of new images with a drift check, as a Prefect flow."""

import json
import sys
from typing import Annotated

from typer import Argument, Option

EXAMPLE = """\
macula score s3://photos/new data/scored                      # with the deployed version
macula score new/ data/scored --model data/export/model.onnx  # with a file"""
RESUME = "rows that were written are kept; repeat the command to resume"


def score(
    source: Annotated[str, Argument(help="Folder or archive of images, or a URL such as s3://bucket/prefix.")],
    output: Annotated[str, Argument(help="Folder for the results, one subfolder per run with new images.")],
    model: Annotated[
        str,
        Option(help="A stage (deployed, released, champion), a version such as digits@v0.0.3, or an ONNX file."),
    ] = "deployed",
    again: Annotated[
        bool, Option("--again", help="Predict all images, also those that were predicted before.")
    ] = False,
    drift_images: Annotated[
        int, Option(min=20, help="Number of new images that are compared at a time; fewer wait for the next run.")
    ] = 100,
    files: Annotated[
        bool, Option("--files", help="Write predicted masks or images; required if the model predicts images.")
    ] = False,
    workers: Annotated[int, Option(min=0, help="Prediction processes; 0: one per core.")] = 0,
    dask: Annotated[
        str,
        Option(
            help="Address of a Dask scheduler, such as tcp://HOST:8786, whose workers predict.  [default: this "
            "machine]",
            show_default=False,
        ),
    ] = "",
) -> int:
    """Predict the new images of a folder or bucket, and compare them with the training images.

    Images that were predicted before and have not changed are skipped. Drift is reported on the page drift.md beside
    the predictions, and as the Prefect event macula.drift. It is reported for at most 1 % of batches of independent
    images that come from the same distribution. Credentials of a bucket are read from the environment.
    """
    from flows import supervisor
    from flows.git_commands import environment

    given = {
        "source": source,
        "output": output,
        "model": model,
        "again": again,
        "drift_images": drift_images,
        "files": files,
        "workers": workers,
        "dask": dask,
    }
    words = [f"{key}={json.dumps(value)}" for key, value in given.items()]
    try:
        return supervisor.run([sys.executable, "-m", "flows.score", *words], environment())
    except KeyboardInterrupt:
        raise KeyboardInterrupt(RESUME) from None
