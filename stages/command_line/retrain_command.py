"""`macula retrain`: train on new data, and promote the model if it is better."""

import sys
from typing import Annotated

from typer import Option

from stages.command_line.exit_codes import OK

EXAMPLE = """\
macula retrain                                # if params.yaml, code or data have changed
macula retrain --source s3://bucket/photos    # data in a bucket"""


def retrain(
    source: Annotated[
        str, Option(help="Folder, archive or URL of the images.  [default: ingest.source of params.yaml]")
    ] = "",
    revision: Annotated[
        str, Option(help="Branch, tag or commit of the project to train; HEAD for its default branch.")
    ] = "HEAD",
    min_gain: Annotated[
        float, Option(min=0, help="Smallest gain of the score for a promotion, in units of the score.")
    ] = 0.0,
    max_slowdown: Annotated[
        float, Option(help="Largest duration of a prediction, as a multiple of that of the champion.")
    ] = 1.25,
    stage_hours: Annotated[
        float | None, Option(help="Time limit for each stage, in hours.  [default: no limit]")
    ] = None,
    push: Annotated[bool, Option(help="Push data and model to the default remote of DVC, if there is one.")] = True,
    again: Annotated[bool, Option("--again", help="Train even if commit and data were trained on before.")] = False,
) -> int:
    """Train on new data in a clone, compare the model with the champion, and promote it if it is better.

    The checkout does not change: the result is a branch retrain/..., the tag of the version, and the tag of the
    champion if the model is promoted. Repeat the command to resume an interrupted run. The exit code is 3 if the data
    stopped the pipeline, or if the model may be better but a check failed.
    """
    from flows import supervisor
    from flows.git_commands import environment

    words = [
        f"source={source}", f"revision={revision}", f"min_gain={min_gain}", f"max_slowdown={max_slowdown}",
        f"stage_hours={'' if stage_hours is None else stage_hours}", f"push={str(push).lower()}",
        f"again={str(again).lower()}",
    ]  # fmt: skip
    given = [word for word in words if not word.endswith("=")]
    try:
        return supervisor.run([sys.executable, "-m", "flows.retrain", *given], environment()) or OK
    except KeyboardInterrupt:
        raise KeyboardInterrupt("repeat the command to resume") from None
