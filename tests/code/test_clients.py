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
    """Return the README's command that serves, and the commands of the same block that send requests."""
    blocks = [block.partition("```")[0] for block in (ROOT / "README.md").read_text().split("```sh\n")[1:]]
    (block,) = (block for block in blocks if "macula serve " in block)
    first, *asking = block.strip().splitlines()
    return shlex.split(first), asking


def test_the_readme_s_curl_is_answered_by_the_readme_s_server(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine: the README's commands are not run")
    (macula, verb, model), asking = readme_commands()
    assert (Path(macula).name, verb, model) == ("macula", "serve", README_MODEL) and asking
    python = Path(macula).parent / "python"
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
            result = json.loads(done.stdout)
            assert (done.returncode, result["task"], result["answer"]["label"]) == (0, "classification", "green")


PYTHON = ROOT / ".venv-serving-clients" / "bin" / "python"
TRITON = """
import json, sys
import numpy as np
from tritonclient import http
client = http.InferenceServerClient(sys.argv[1])
result = {
    "live": client.is_server_live(), "ready": client.is_server_ready(), "server": client.get_server_metadata()["name"],
    "model": client.get_model_metadata("colours"), "foreign": client.is_model_ready("others"),
}
version = result["model"]["versions"][0]
result["versions"] = [client.is_model_ready("colours", one) for one in (version, "other")]
pixels = np.zeros((3, 8, 6, 3), np.uint8)
for number in range(3):
    pixels[number, :, :, 2 - number] = 200
answers = []
for binary_in in (False, True):
    for binary_out in (False, True):
        given = http.InferInput("image", list(pixels.shape), "UINT8")
        given.set_data_from_numpy(pixels, binary_data=binary_in)
        wanted = [http.InferRequestedOutput("probability", binary_data=binary_out)]
        answer = client.infer("colours", [given], model_version=version, outputs=wanted, request_id="7")
        assert answer.get_response()["id"] == "7"
        answers.append(answer.as_numpy("probability"))
answers.append(client.infer("colours", [given]).as_numpy("probability"))
later = client.async_infer("colours", [given])
answers.append(later.get_result().as_numpy("probability"))
result["labels"] = [answer.argmax(1).tolist() for answer in answers]
words = http.InferInput("image", [1], "BYTES")
words.set_data_from_numpy(np.array([b"a file"], object))
try:
    client.infer("colours", [words])
except http.InferenceServerException as error:
    result["refused"] = [error.status(), error.message()]
print(json.dumps(result))
"""


def test_a_client_of_the_open_inference_protocol_is_answered(tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON.relative_to(ROOT)} is not there; `make .venv-serving-clients/synced` builds it")
    with served(colour_model(tmp_path / "model.onnx")) as (host, port):
        done = subprocess.run([PYTHON, "-c", TRITON, f"{host}:{port}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["live"] and result["ready"] and not result["foreign"] and result["versions"] == [True, False]
    assert result["model"]["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert result["labels"] == [[2, 1, 0]] * 6
    status, message = result["refused"]
    assert status == "400" and "'image' of datatype UINT8 is required, not 'image' of 'BYTES'" in message
