"""Tests of the server with other clients: the README's curl commands, and one of the Open Inference Protocol."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, png
from tests.shipped import colour_model, plain, served

README_MODEL, README_IMAGE, README_ADDRESS = "data/export/model.onnx", "photo.jpg", "127.0.0.1:8000"


def readme_commands() -> tuple[list[str], list[str]]:
    """Return the README's command that starts the server, and the commands of the same block that send requests."""
    blocks = [block.partition("```")[0] for block in (ROOT / "README.md").read_text().split("```sh\n")[1:]]
    (block,) = (block for block in blocks if "macula serve " in block)
    first, *requests = block.strip().splitlines()
    return shlex.split(first), requests


def test_readme_curl_commands_work_with_the_readme_server(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: the README's commands are not run")
    (macula, subcommand, model), requests = readme_commands()
    assert (Path(macula).name, subcommand, model) == ("macula", "serve", README_MODEL) and requests
    python = Path(macula).parent / "python"
    if not (ROOT / python).exists():
        pytest.skip(f"{python} does not exist; `make env` builds it")
    (tmp_path / README_IMAGE).write_bytes(png(plain("green")))
    with served(colour_model(tmp_path / "model.onnx"), python=str(ROOT / python)) as (host, port):
        for command in requests:
            assert README_ADDRESS in command
            completed = subprocess.run(
                ["bash", "-c", command.replace(README_ADDRESS, f"{host}:{port}")],
                cwd=tmp_path,
                capture_output=True,
                text=True,
            )
            result = json.loads(completed.stdout)
            assert (completed.returncode, result["task"], result["answer"]["label"]) == (0, "classification", "green")


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
predictions = []
for binary_in in (False, True):
    for binary_out in (False, True):
        image = http.InferInput("image", list(pixels.shape), "UINT8")
        image.set_data_from_numpy(pixels, binary_data=binary_in)
        outputs = [http.InferRequestedOutput("probability", binary_data=binary_out)]
        response = client.infer("colours", [image], model_version=version, outputs=outputs, request_id="7")
        assert response.get_response()["id"] == "7"
        predictions.append(response.as_numpy("probability"))
predictions.append(client.infer("colours", [image]).as_numpy("probability"))
pending = client.async_infer("colours", [image])
predictions.append(pending.get_result().as_numpy("probability"))
result["labels"] = [prediction.argmax(1).tolist() for prediction in predictions]
text = http.InferInput("image", [1], "BYTES")
text.set_data_from_numpy(np.array([b"a file"], object))
try:
    client.infer("colours", [text])
except http.InferenceServerException as error:
    result["refused"] = [error.status(), error.message()]
print(json.dumps(result))
"""


def test_a_client_of_the_open_inference_protocol_gets_predictions(tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON.relative_to(ROOT)} does not exist; `make .venv-serving-clients/synced` builds it")
    with served(colour_model(tmp_path / "model.onnx")) as (host, port):
        completed = subprocess.run([PYTHON, "-c", TRITON, f"{host}:{port}"], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    result = json.loads(completed.stdout)
    assert result["live"] and result["ready"] and not result["foreign"] and result["versions"] == [True, False]
    assert result["model"]["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert result["labels"] == [[2, 1, 0]] * 6
    status, message = result["refused"]
    assert status == "400" and "inputs: datatype is 'BYTES'; 'UINT8' is required" in message
