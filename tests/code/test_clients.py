"""Clients that are none of ours: the README's curl, and one of the Open Inference Protocol."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, png
from tests.shipped import colour_model, plain, served

README_MODEL, README_IMAGE, README_PLACE = "data/export/model.onnx", "photo.jpg", "127.0.0.1:8000"


def readme_commands() -> tuple[list[str], list[str]]:
    """The command that serves, and those of the same block that ask."""
    blocks = [block.partition("```")[0] for block in (ROOT / "README.md").read_text().split("```sh\n")[1:]]
    (block,) = (block for block in blocks if "stages.serve " in block)
    first, *asking = block.strip().splitlines()
    return shlex.split(first), asking


def test_the_readme_s_curl_is_answered_by_the_readme_s_server(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine: the README's commands are not run")
    (python, *module, model), asking = readme_commands()
    assert (module, model) == (["-m", "stages.serve"], README_MODEL) and asking
    if not (ROOT / python).exists():
        pytest.skip(f"{python} is not there; `make env` builds it")
    (tmp_path / README_IMAGE).write_bytes(png(plain("green")))
    with served(colour_model(tmp_path / "model.onnx"), python=str(ROOT / python)) as (host, port):
        for command in asking:
            assert README_PLACE in command
            done = subprocess.run(
                ["bash", "-c", command.replace(README_PLACE, f"{host}:{port}")],
                cwd=tmp_path,
                capture_output=True,
                text=True,
            )
            told = json.loads(done.stdout)
            assert (done.returncode, told["task"], told["answer"]["label"]) == (0, "classification", "green")
