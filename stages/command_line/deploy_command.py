"""`macula deploy`: replace the model of a running server, with checks before and after, and roll-back."""

import os
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from stages.command_line.exit_codes import FAILED, OK
from stages.command_line.options import AsJson, Engine, print_json
from stages.core.errors import UserError

EXAMPLE = """\
macula deploy data/export/model.onnx --to models/model.onnx --server http://127.0.0.1:8000
macula deploy --to models/model.onnx --server http://127.0.0.1:8000   # the released version
macula deploy --to models/model.onnx --repair                         # after a killed deployment"""


def deploy(
    model: Annotated[
        str,
        Argument(help="An ONNX file, a registered version such as digits@v0.0.3, or a stage such as champion."),
    ] = "released",
    to: Annotated[str, Option(help="File that the server watches; required.")] = "",
    server: Annotated[
        str, Option(help="Address of the server, such as http://127.0.0.1:8000; without it, no server is checked.")
    ] = "",
    golden: Annotated[
        Path | None, Option(help="Golden images.  [default: golden.zip beside the model]", show_default=False)
    ] = None,
    monitor: Annotated[
        float, Option(min=0, help="Seconds during which error rate and latency are watched after the change.")
    ] = 60.0,
    max_slowdown: Annotated[
        float, Option(min=1, help="Largest accepted ratio of the median latencies after and before the change.")
    ] = 2.0,
    engine: Annotated[Engine, Option(help="Inference engine of the check on this machine.")] = "auto",
    repair: Annotated[
        bool, Option("--repair", help="Only roll back the change of a deployment that was killed.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Replace the model of a running server, and roll back if a check fails.

    Before the change, the model must predict its golden images as recorded on this machine. After it, the server must
    do the same over HTTP, and its error rate and latency are watched. If int8 or bfloat16 fails on this processor,
    float32.onnx beside the model is deployed. A server with a key requires it in MACULA_API_KEY.
    """
    if not to:
        raise UserError("deploy: name the file that the server watches: --to models/model.onnx")
    from flows.deployments import record_deployment
    from flows.model_source import find_model
    from stages.deployment import deployment

    file, version = (Path(model), None) if repair else find_model(model)
    plan = deployment.Plan(
        model=file, target=Path(to), golden=golden, label=version.tag if version else "", server=server,
        key=os.environ.get("MACULA_API_KEY", ""), engine=engine, monitor_seconds=monitor, max_slowdown=max_slowdown,
    )  # fmt: skip
    outcome = deployment.repair(plan) if repair else deployment.deploy(plan)
    if version is not None:
        record_deployment("", version, outcome)
    if as_json:
        print_json(outcome.as_json())
    else:
        lines = [f"repaired: {outcome.repaired}"] if outcome.repaired and not repair else []
        print("\n".join([*lines, f"{outcome.outcome}: {outcome.message}"]))
    return OK if outcome.succeeded or repair else FAILED
