"""A model is opened and tried; one that comes later in a process of its own first, which it may take down instead."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict

from PIL import Image

from stages.core.cpu import cores
from stages.core.errors import UserError
from stages.core.memory import allowed, bound
from stages.runtime import Model
from stages.runtime.engine_selection import create_probe_image
from stages.serving.settings import SETTINGS, Settings

SECONDS = 120.0  # for a model to open and to answer once
MEMORY = 4 * 2**30  # bytes that it may take, beside copies of its file; in a container half of what that has
COPIES = 4
REFUSED = 3  # exit status of the process that says why
COMMAND = (sys.executable, "-m", "stages.serving.model_loading")


def opened(settings: Settings) -> Model:
    """The model of a server, which has answered once.

    Raises:
        UserError: it cannot be opened, or gives no answer.
    """
    _, threads = settings.runs(cores())
    model = Model(settings.file, threads, settings.engine)
    Image.init()  # Pillow's formats are loaded now and not with the first request
    try:
        model.answer(create_probe_image(model.spec))
    except Exception as error:  # onnxruntime raises a type of its own for each way a graph can fail
        raise UserError(f"model: {settings.file} opens, but gives no answer to a test image: {error}") from error
    return model


def rehearse(settings: Settings) -> None:
    """Open the model in a process of its own, by `main`.

    Raises:
        UserError: as `opened`; or it crashed, took longer than `SECONDS`, or more memory than it may.
    """
    env = os.environ | {SETTINGS: json.dumps(asdict(settings))}
    try:
        done = subprocess.run(
            COMMAND, check=False, env=env, capture_output=True, text=True, timeout=SECONDS, errors="replace"
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"model: {settings.file} was not open after {SECONDS:g} s") from error
    if done.returncode == REFUSED:
        raise UserError(done.stdout.strip())
    if done.returncode:
        code = done.returncode
        cause = signal.Signals(-code).name if code < 0 else f"exit status {code}: {done.stderr.strip()[-300:]}"
        raise UserError(f"model: {settings.file} takes down who opens it ({cause})")


def main(opens: Callable[[Settings], object] = opened) -> None:
    """Open the model of the environment's settings in bounded memory; say on stdout why that cannot be done."""
    signal.alarm(int(SECONDS) + 1)  # should the server be gone that would end this process
    settings = Settings.from_environment()
    memory = min(MEMORY, allowed() // 2)
    try:
        bound(memory + COPIES * settings.file.stat().st_size)
        opens(settings)
    except UserError as error:
        print(error)
        sys.exit(REFUSED)
    except MemoryError:
        print(f"model: {settings.file} takes more than {memory / 2**30:.1f} GiB to open")
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
