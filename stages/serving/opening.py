"""A model is opened and tried; one that comes later in a child process first, which it may take down instead."""

import signal
from collections.abc import Callable
from concurrent import futures

from pebble import ProcessExpired
from PIL import Image

from stages.frame.cores import cores
from stages.frame.errors import UserError
from stages.images.isolation import children, ended
from stages.runtime import Model
from stages.runtime.choosing import probe
from stages.serving.limits import Settings

SECONDS = 120.0  # for a model to open and to answer once
MEMORY = 4 * 2**30  # bytes that it may take, beside
COPIES = 4  # of its file


def opened(settings: Settings) -> Model:
    """The model of a server, which has answered once.

    Raises:
        UserError: it cannot be opened, or gives no answer.
    """
    _, threads = settings.runs(cores())
    model = Model(settings.file, threads, settings.engine)
    Image.init()  # Pillow's formats are loaded now and not with the first request
    try:
        model.answer(probe(model.outline))
    except Exception as error:  # onnxruntime raises a type of its own for each way a graph can fail
        raise UserError(f"model: {settings.file} opens, but gives no answer to a test image: {error}") from error
    return model


def _opens(settings: Settings) -> None:
    opened(settings)


def rehearse(settings: Settings, opens: Callable[[Settings], None] = _opens) -> None:
    """Open the model in a child process.

    Raises:
        UserError: as `opened`; or it crashed, took longer than `SECONDS`, or more memory than it may.
    """
    pool = children(1, MEMORY + COPIES * settings.file.stat().st_size)
    try:
        pool.schedule(opens, (settings,), timeout=SECONDS).result()
    except ProcessExpired as error:
        cause = signal.Signals(-error.exitcode).name if error.exitcode < 0 else f"exit status {error.exitcode}"
        raise UserError(f"model: {settings.file} takes down who opens it ({cause})") from error
    except futures.TimeoutError as error:
        raise UserError(f"model: {settings.file} was not open after {SECONDS:g} s") from error
    except MemoryError as error:
        raise UserError(f"model: {settings.file} takes more than {MEMORY / 2**30:g} GiB to open") from error
    finally:
        ended(pool)
