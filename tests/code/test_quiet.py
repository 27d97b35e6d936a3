"""A model that answers tells nobody."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, png
from tests.shipped import colour_model, plain


def test_onnxruntime_does_not_report_to_its_maker(tmp_path: Path) -> None:
    home, photo = tmp_path / "home", tmp_path / "photo.png"
    home.mkdir()
    photo.write_bytes(png(plain("green")))
    command = [sys.executable, "-m", "stages.predict", colour_model(tmp_path / "model.onnx"), photo]
    outside = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(command, cwd=ROOT, env=outside | {"HOME": str(home)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "green" in done.stdout
    assert not list(home.rglob("*")), "a number of the machine and what is to be sent lie there when it reports"
