"""Load the model and run it once; a new model is first loaded in a subprocess, since it could crash the process."""

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

SECONDS = 120.0  # for loading a model and running it once
MEMORY = 4 * 2**30  # bytes for loading, beside copies of the file; at most half of the container limit
COPIES = 4
REFUSED = 3  # exit status of the subprocess if it prints the reason
COMMAND = (sys.executable, "-m", "stages.serving.model_loading")


def load_model(settings: Settings) -> Model:
    """Load the model and run it once.

    Raises:
        UserError: the model cannot be loaded or run.
        RuntimeError: see `Model`.
    """
    _, threads = settings.runs(cores())
    model = Model(settings.file, threads, settings.engine)
    Image.init()  # load the formats of Pillow before the first request
    try:
        model.predict(create_probe_image(model.spec))
    except Exception as error:  # onnxruntime raises many exception types
        raise UserError(f"model: {settings.file} was loaded, but failed to predict a test image: {error}") from error
    return model


def try_in_subprocess(settings: Settings) -> None:
    """Load the model in a subprocess that runs `main`.

    Raises:
        UserError: see `load_model`; or the subprocess crashed, or exceeded its limit of time or memory.
    """
    env = os.environ | {SETTINGS: json.dumps(asdict(settings))}
    try:
        done = subprocess.run(
            COMMAND, check=False, env=env, capture_output=True, text=True, timeout=SECONDS, errors="replace"
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"model: {settings.file} was not loaded within {SECONDS:g} s") from error
    if done.returncode == REFUSED:
        raise UserError(done.stdout.strip())
    if done.returncode:
        code = done.returncode
        reason = done.stderr.strip()[-300:] or "no message"
        cause = signal.Signals(-code).name if code < 0 else f"exit status {code}: {reason}"
        raise UserError(f"model: loading {settings.file} crashed the process ({cause})")


def main(load: Callable[[Settings], object] = load_model) -> None:
    """Load the model of the settings in the environment with limited memory; print the reason and exit if it fails."""
    signal.alarm(int(SECONDS) + 1)  # in case the server that would end this process has died
    settings = Settings.from_environment()
    memory = min(MEMORY, allowed() // 2)
    try:
        bound(memory + COPIES * settings.file.stat().st_size)
        load(settings)
    except UserError as error:
        print(error)
        sys.exit(REFUSED)
    except MemoryError:
        print(f"model: loading {settings.file} requires more than {memory / 2**30:.1f} GiB")
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
