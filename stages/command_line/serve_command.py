"""`macula serve`: predictions over HTTP, with an exported model."""

from typing import Annotated

from typer import Argument, Option

from stages.command_line.options import Engine
from stages.serving.settings import KEY, MIN_KEEP_ALIVE, Settings

EXAMPLE = """\
macula serve data/export/model.onnx
curl --data-binary @photo.jpg http://127.0.0.1:8000/v1/predict"""


def serve(
    model: Annotated[
        str,
        Argument(
            help="ONNX file that the stage export wrote; a file that replaces it is loaded without losing requests."
        ),
    ],
    host: Annotated[
        str, Option(help="Address to listen on; the default accepts requests from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    open: Annotated[  # noqa: A002
        bool, Option("--open", help="Accept requests from other machines without an API key.")
    ] = False,
    workers: Annotated[
        int, Option(min=1, help="Worker processes, each with the model; one that crashes is replaced.")
    ] = 1,
    engine: Annotated[Engine, Option(help="Inference engine; auto: the faster one on this machine.")] = "auto",
    name: Annotated[
        str, Option(help="Name of the model in the Open Inference Protocol; empty: the name of its data set.")
    ] = Settings.name,
    threads: Annotated[
        int, Option(min=0, help="Threads per run of the model; 0: the cores are divided among all simultaneous runs.")
    ] = Settings.threads,
    parallel: Annotated[
        int, Option(min=0, help="Simultaneous runs of the model per worker; 0: the cores divided by the workers.")
    ] = Settings.parallel,
    batch: Annotated[int, Option(min=1, help="Maximum number of images per run of the model.")] = Settings.batch,
    latency: Annotated[
        float,
        Option(
            min=0,
            help="Maximum expected duration of a run of several images, in seconds; if the first of them has waited "
            "longer, its waiting time applies.",
        ),
    ] = Settings.latency,
    queue: Annotated[
        int, Option(min=1, help="Maximum number of requests in progress per worker; further ones get status 429.")
    ] = Settings.queue,
    megabytes: Annotated[
        float, Option(min=0, help="Maximum size of a request body, in MB; larger ones get status 413.")
    ] = Settings.megabytes,
    megapixels: Annotated[
        float, Option(min=0, help="Maximum size of an image, in megapixels; larger ones get status 413.")
    ] = Settings.megapixels,
    memory: Annotated[
        float, Option(min=0, help="Memory limit of all workers together, in GiB; 0: that of the container or machine.")
    ] = Settings.memory,
    seconds: Annotated[
        float, Option(min=0, help="Maximum time from a request to its response, in seconds; then it gets status 503.")
    ] = Settings.seconds,
    images: Annotated[int, Option(min=1, help="Maximum number of images per request.")] = Settings.images,
    keep_alive: Annotated[
        float,
        Option(
            min=MIN_KEEP_ALIVE,
            help="Seconds until a connection without a request is closed; must exceed the idle timeout of a proxy in "
            "front: 75 for nginx and AWS ALB, 620 for Google Cloud, 3610 for Envoy.",
        ),
    ] = Settings.keep_alive,
) -> None:
    """Serve an exported model over HTTP, without torch, with a web page at / and API documentation at /docs."""
    from stages.serve import main

    settings = Settings(
        model=model, name=name, engine=engine, threads=threads, parallel=parallel, workers=workers, batch=batch,
        latency=latency, queue=queue, megabytes=megabytes, megapixels=megapixels, memory=memory, seconds=seconds,
        images=images, keep_alive=keep_alive,
    )  # fmt: skip
    main(settings, host, port, open)


serve.__doc__ = f"{serve.__doc__}\n\nIf the environment variable {KEY} is set, clients must send its value as API key."
