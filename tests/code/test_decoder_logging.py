"""Tests that prediction stores no telemetry, and that decoders write no messages."""

import io
import os
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT, png
from tests.shipped import colour_model, plain


def test_onnxruntime_stores_no_telemetry(tmp_path: Path) -> None:
    home, photo = tmp_path / "home", tmp_path / "photo.png"
    home.mkdir()
    photo.write_bytes(png(plain("green")))
    command = [sys.executable, "-m", "stages.predict", str(colour_model(tmp_path / "model.onnx")), str(photo)]
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(command, cwd=ROOT, env=environment | {"HOME": str(home)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "green" in done.stdout
    assert not list(home.rglob("*")), "telemetry stores a machine ID and unsent events in the home folder"


def noisy_files() -> dict[str, bytes]:
    """Return a TIFF file for which libtiff writes to stderr, and one for which tifffile logs and Pillow warns."""
    stream = io.BytesIO()
    Image.fromarray(plain("green", 64)).save(stream, "TIFF", compression="tiff_deflate")
    deflated = bytearray(stream.getvalue())
    deflated[8:40] = bytes(32)
    directory = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 5, 10**6), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    entries = b"".join(struct.pack("<HHII", *entry) for entry in directory)
    return {"packed.tif": bytes(deflated), "tags.tif": struct.pack("<2sHIH", b"II", 42, 8, len(directory)) + entries}


PREDICT = "macula('predict', 'model.onnx', 'images', '--workers', '0', '--output', 'a.csv')"


@pytest.mark.parametrize("setup", [PREDICT, "configure_logging()"])
def test_decoders_write_no_messages_to_the_output(setup: str, tmp_path: Path) -> None:
    colour_model(tmp_path / "model.onnx")
    (tmp_path / "images").mkdir()
    for name, data in noisy_files().items():
        (tmp_path / "images" / name).write_bytes(data)
    code = f"""
        from pathlib import Path
        from stages.images.decode import Unreadable, decode_image
        from stages.serving.admission import configure_logging
        from tests.command_line import macula
        {setup}
        for file in Path("images").glob("*.tif"):
            try:
                decode_image(file.read_bytes())
            except Unreadable:
                print(file.name)
    """
    path = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True)
    assert sorted(done.stdout.split()) == sorted(noisy_files())
    assert done.stderr in ("", "2 of 2 images could not be predicted; the output contains the reason for each\n")
