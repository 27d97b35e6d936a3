"""Tests of the server: responses, rejected requests, and replacing the model while it runs."""

import asyncio
import base64
import http.client
import io
import json
import logging
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from stages.core.errors import UserError
from stages.runtime import engine_selection
from stages.serving import hot_reload as deployed
from stages.serving import model_loading
from stages.serving.app import create_app
from stages.serving.settings import Settings
from stages.tasks.task_spec import TaskSpec
from tests.conftest import png
from tests.shipped import colour_model, plain, running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return colour_model(tmp_path / "model.onnx")


def client(file: Path, key: str = "", **settings: Any) -> TestClient:
    return TestClient(create_app(Settings(model=str(file), **settings), key))


def test_an_image_is_accepted_as_a_body_or_in_a_form(file: Path) -> None:
    data = png(plain("green"))
    with client(file) as server:
        raw = server.post("/v1/predict", content=data).json()
        form = server.post("/v1/predict", files={"image": ("a.png", data)}).json()
    assert raw == form
    assert (raw["answer"]["label"], raw["width"], raw["height"]) == ("green", 8, 8)


@pytest.mark.parametrize("kind", ["Multipart/Form-Data; Boundary=x", "MULTIPART/FORM-DATA ;boundary=x;charset=utf-8"])
def test_the_content_type_of_a_form_is_compared_without_regard_to_case(file: Path, kind: str) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="a.png"\r\n\r\n'
    with client(file) as server:
        for path, field in (("/v1/predict", b"image"), ("/v1/predict-many", b"images")):
            body = part % field + png(plain("green")) + b"\r\n--x--\r\n"
            response = server.post(path, content=body, headers={"Content-Type": kind})
            assert response.status_code == 200, response.json()
        wrong = server.post("/v1/predict-many", content=b"", headers={"Content-Type": "multipart/form-datax"})
    assert wrong.status_code == 400 and "the content type is multipart/form-datax" in wrong.json()["error"]


ENCODED = base64.b64encode(png(plain("green"))).decode()


@pytest.mark.parametrize(
    "text",
    [
        ENCODED,
        ENCODED.rstrip("="),
        f"data:image/png;base64,{ENCODED}",
        base64.encodebytes(png(plain("green"))).decode(),
        base64.urlsafe_b64encode(png(plain("green"))).decode(),
    ],
    ids=["standard", "without padding", "data URI", "lines", "URL-safe"],
)
def test_images_are_accepted_as_base64_in_json(file: Path, text: str) -> None:
    with client(file) as server:
        one = server.post("/v1/predict", json={"image": text, "other": 1})
        many = server.post("/v1/predict-many", json={"images": [text, "?", text]})
        raw = server.post("/v1/predict", content=png(plain("green")))
    assert one.json() == raw.json()
    answers = many.json()["answers"]
    assert [answer.get("answer", {}).get("label") for answer in answers] == ["green", None, "green"]
    assert "images: the text is not valid base64" in answers[1]["error"]


SENT_IN_JSON = {
    "/v1/predict": 'send {"image": "<base64 of the file>"}',
    "/v1/predict-many": 'send {"images": ["<base64 of a file>", ...]}',
}


@pytest.mark.parametrize("path", SENT_IN_JSON)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"instances": [{"b64": "AA"}]}', "an object with the fields ['instances']"),
        ('{"image": 3, "images": 3}', "required"),
        ('{"image": "?", "images": []}', "image"),
        ('{"image": {}, "images": ["iVBO", {}]}', "base64 text is required"),
        ('"AA"', "the JSON is of type str"),
        ("[", "the request is not valid JSON"),
        ("[" * 100_000, "the request is not valid JSON"),
    ],
)
def test_malformed_json_is_answered_with_what_to_send(file: Path, path: str, content: str, message: str) -> None:
    with client(file) as server:
        response = server.post(path, content=content, headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert response.status_code == 400
    assert message in response.json()["error"] and SENT_IN_JSON[path] in response.json()["error"]


def test_too_many_images_in_json_are_refused(file: Path) -> None:
    with client(file, images=2) as server:
        response = server.post("/v1/predict-many", json={"images": [ENCODED] * 3})
    assert response.status_code == 413 and "3 images are above the limit of 2" in response.json()["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (ENCODED, "the body is base64: send the bytes of the file, or JSON"),
        (f'{{"image": "{ENCODED}"}}', "the body is JSON: send it with the content type application/json"),
    ],
)
def test_text_in_place_of_an_image_is_answered_with_what_to_send(file: Path, body: str, message: str) -> None:
    with client(file) as server:
        response = server.post("/v1/predict", content=body, headers={"Content-Type": "text/plain"})
        form = server.post("/v1/predict", files={"image": (None, ENCODED)})
    assert response.status_code == 422 and message in response.json()["error"]
    assert form.status_code == 400 and "Send images as files: curl -F image=@photo.jpg" in form.json()["error"]


def test_head_is_answered_like_get_without_a_body(file: Path) -> None:
    app = create_app(Settings(model=str(file)))
    paths = ["/", "/page.js", "/docs", "/docs.js", "/openapi.json", "/metrics", "/v1/model", "/v2", "/v2/health/live"]
    paths += ["/v2/health/ready", "/v2/models/colours", "/v2/models/colours/ready"]
    documented = {path for path, methods in app.openapi()["paths"].items() if "get" in methods and "{" not in path}
    assert documented <= set(paths)
    with running(app) as (host, port), ExitStack() as stack:
        # One connection: a body in a response to HEAD would be read as the next response.
        connection = stack.enter_context(closing(http.client.HTTPConnection(host, port, timeout=10)))
        for path in [*paths, "/v2/models/others", "/none"]:
            answers = []
            for method in ("HEAD", "GET"):
                connection.request(method, path)
                response = connection.getresponse()
                answers.append((response.status, response.headers["content-type"], bool(response.read())))
            assert answers[0] == (*answers[1][:2], False) and (path in paths) == (answers[0][0] == 200), path
        for method, path, allowed in (("POST", "/v1/model", "GET, HEAD"), ("HEAD", "/v1/predict", "POST")):
            connection.request(method, path)
            response = connection.getresponse()
            response.read()
            assert (response.status, response.headers["allow"]) == (405, allowed)


def test_a_damaged_image_of_a_batch_gets_its_own_error(file: Path) -> None:
    files = [
        ("images", ("a.png", png(plain("red")))),
        ("images", ("b.png", b"none")),
        ("images", ("c.png", png(plain("blue")))),
    ]
    with client(file) as server:
        responses = server.post("/v1/predict-many", files=files).json()["answers"]
    assert [response.get("answer", {}).get("label") for response in responses] == ["red", None, "blue"]
    assert "the image cannot be decoded" in responses[1]["error"]


def test_the_prediction_is_drawn_over_the_image_on_request(file: Path) -> None:
    with client(file) as server:
        response = server.post("/v1/predict?drawing=true", content=png(plain("red"))).json()
    assert response["drawing"].startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize(
    ("content", "settings", "status", "message"),
    [
        (b"no image", {}, 422, "the image cannot be decoded"),
        (b"", {}, 422, "0 bytes"),
        (png(plain("red", 64)), {"megapixels": 0.001}, 413, "megapixels"),
        (bytes(2000), {"megabytes": 0.001}, 413, "more than 0.001 MB"),
    ],
)
def test_an_invalid_image_is_rejected_with_a_reason(
    file: Path, content: bytes, settings: Any, status: int, message: str
) -> None:
    with client(file, **settings) as server:
        response = server.post("/v1/predict", content=content)
    assert response.status_code == status
    assert message in response.json()["error"]


def test_a_full_queue_responds_with_retry_after(file: Path) -> None:
    with client(file, queue=0) as server:
        response = server.post("/v1/predict", content=png(plain("red")))
    assert response.status_code == 429 and int(response.headers["retry-after"]) >= 1


def test_an_api_key_is_required_except_for_health_probes(file: Path) -> None:
    with client(file, key="secret") as server:
        assert server.get("/v1/model").status_code == 401
        assert server.get("/v1/model", headers={"X-API-Key": "wrong"}).status_code == 401
        assert server.get("/v1/model", headers={"X-API-Key": "secret"}).status_code == 200
        assert server.get("/v1/model", headers={"Authorization": "Bearer secret"}).status_code == 200
        assert server.get("/v2/health/ready").status_code == 200


def test_the_open_inference_protocol_accepts_json_and_binary_tensors(file: Path) -> None:
    image = plain("blue")[None]
    one = {"name": "image", "shape": list(image.shape), "datatype": "UINT8"}
    head = json.dumps({"inputs": [{**one, "parameters": {"binary_data_size": image.nbytes}}]}).encode()
    with client(file) as server:
        as_json = server.post("/v2/models/colours/infer", json={"inputs": [{**one, "data": image.tolist()}]})
        binary = server.post(
            "/v2/models/colours/infer",
            content=head + image.tobytes(),
            headers={"Inference-Header-Content-Length": str(len(head))},
        )
    assert as_json.json()["outputs"] == binary.json()["outputs"]
    assert int(np.argmax(as_json.json()["outputs"][0]["data"])) == 2


def test_a_model_version_is_found_by_its_digest_only(file: Path) -> None:
    pixel = {"inputs": [{"name": "image", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [0, 9, 0]}]}
    with client(file) as server:
        (version,) = server.get("/v2/models/colours").json()["versions"]
        path = f"/v2/models/colours/versions/{version}"
        assert server.get(path).json() == server.get("/v2/models/colours").json()
        assert server.get(f"{path}/ready").json() == {"name": "colours", "ready": True}
        assert server.post(f"{path}/infer", json=pixel).json()["model_version"] == version
        for unknown in ("/v2/models/colours/versions/1", f"/v2/models/others/versions/{version}"):
            responses = [
                server.get(unknown),
                server.get(f"{unknown}/ready"),
                server.post(f"{unknown}/infer", json=pixel),
            ]
            assert [response.status_code for response in responses] == [404] * 3
            assert "this server has" in responses[0].json()["error"]


def test_a_header_length_of_thousands_of_digits_is_a_bad_request(file: Path) -> None:
    with client(file) as server:
        response = server.post(
            "/v2/models/colours/infer", content=b"{}", headers={"Inference-Header-Content-Length": "9" * 5000}
        )
    assert response.status_code == 400 and "is not a valid length" in response.json()["error"]


@pytest.mark.parametrize("charset", ["undefined", "punycode", "utf-7"])
def test_form_file_names_in_any_encoding_cause_no_server_error(file: Path, charset: str) -> None:
    name = "+2AA-\xff" if charset != "utf-7" else "+2AA-"  # the latter is half of a surrogate pair in utf-7
    part = f'--x\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n\r\n'.encode("latin-1")
    body = part + png(plain("red")) + b"\r\n--x--\r\n"
    with client(file) as server:
        kind = f"multipart/form-data; boundary=x; charset={charset}"
        response = server.post("/v1/predict-many", content=body, headers={"Content-Type": kind})
    assert response.status_code in (200, 400)


def test_a_large_file_in_a_form_is_not_written_to_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
    with client(file) as server:
        response = server.post("/v1/predict", files={"image": ("a.bmp", bmp(plain("green", 800)))})
    assert response.status_code == 200, response.json()


def bmp(image: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "BMP")
    return stream.getvalue()


def test_text_in_place_of_files_is_a_bad_request(file: Path) -> None:
    with client(file) as server:
        response = server.post("/v1/predict-many", files={"images": (None, "0")})
    assert response.status_code == 400 and "requires files" in response.json()["error"]


def test_a_disconnected_client_is_not_logged_as_an_error(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("macula.serve").propagate = True
    app = create_app(Settings(model=str(file)))
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    with TestClient(app) as server:
        metrics = server.get("/metrics").text
    assert not sent and not any(record.exc_info for record in caplog.records)
    assert 'macula_requests_total{route="/v1/predict",status="499"} 1.0' in metrics


@pytest.mark.parametrize(
    "content",
    [
     b"[", b"{}", b'{"inputs": 3}',
     b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [1]}]}',
     b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, -2, 300]}]}',
     b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 1, 1, 3], "data": []}]}', b"[" * 100_000],
)  # fmt: skip
def test_a_malformed_tensor_request_is_a_bad_request(file: Path, content: bytes) -> None:
    with client(file) as server:
        response = server.post("/v2/models/colours/infer", content=content)
    assert response.status_code == 400 and response.json()["error"]


def test_metrics_count_successful_requests(file: Path) -> None:
    with client(file) as server:
        server.post("/v1/predict", content=png(plain("red")))
        metrics = server.get("/metrics").text
    assert 'macula_requests_total{route="/v1/predict",status="200"} 1.0' in metrics


def test_a_new_model_file_is_loaded_but_not_a_damaged_one(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployed, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(deployed, "SETTLE_SECONDS", 0.01)
    other = colour_model(tmp_path / "other.onnx", version="colours-2")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")

    def version(server: TestClient) -> str:
        return server.get("/v1/model").json()["version"]

    with client(file) as server:
        assert version(server) == "colours-1"
        shutil.copy(broken, tmp_path / "new")
        (tmp_path / "new").rename(file)
        time.sleep(0.3)
        assert version(server) == "colours-1"
        assert server.post("/v1/predict", content=png(plain("red"))).status_code == 200
        other.rename(file)
        until = time.monotonic() + 10
        while version(server) != "colours-2" and time.monotonic() < until:
            time.sleep(0.02)
        assert version(server) == "colours-2"


CRASH = "import os; os.kill(os.getpid(), 11)"
EXCESS_MEMORY = (
    "import numpy as np; from stages.serving import model_loading as m; m.main(lambda _: np.ones(m.MEMORY // 4).sum())"
)
HANG = "import time; time.sleep(60)"


def test_a_crash_hang_or_excess_memory_on_loading_is_reported(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(model=str(file), engine="onnxruntime")
    model_loading.try_in_subprocess(settings)
    for code, message in (
        (CRASH, "loading .* crashed the process .SIGSEGV"),
        (EXCESS_MEMORY, "requires more than .* GiB"),
    ):
        monkeypatch.setattr(model_loading, "COMMAND", (sys.executable, "-c", code))
        with pytest.raises(UserError, match=message):
            model_loading.try_in_subprocess(settings)
    monkeypatch.setattr(model_loading, "COMMAND", (sys.executable, "-c", HANG))
    monkeypatch.setattr(model_loading, "SECONDS", 0.5)
    with pytest.raises(UserError, match="was not loaded within 0.5 s"):
        model_loading.try_in_subprocess(settings)


def test_a_damaged_model_file_is_reported(file: Path) -> None:
    file.write_bytes(b"no model")
    with pytest.raises(UserError, match="it is damaged, or not an ONNX file"):
        model_loading.try_in_subprocess(Settings(model=str(file)))


def test_the_requested_engine_is_used_or_an_error_is_raised(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with client(file, engine="onnxruntime") as server:
        assert server.get("/v1/model").json()["engine"] == "onnxruntime"
    with pytest.raises(UserError, match="`export` did not accept openvino"):
        client(file, engine="openvino")
    monkeypatch.setattr(engine_selection, "has_openvino", lambda: False)
    with pytest.raises(UserError, match="openvino is not installed; `pip install openvino`, or use onnxruntime"):
        client(file, engine="openvino")


def test_concurrent_images_of_several_sizes_get_their_own_predictions(file: Path) -> None:
    import httpx

    app = create_app(Settings(model=str(file), batch=4, parallel=1))
    colours = ["red", "green", "blue"] * 8

    async def predict_all() -> list[str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
            responses = await asyncio.gather(
                *(http.post("/v1/predict", content=png(plain(c, 8 + n % 4))) for n, c in enumerate(colours))
            )
        return [response.json()["answer"]["label"] for response in responses]

    assert asyncio.run(predict_all()) == colours


def test_the_page_and_its_script_are_served(file: Path) -> None:
    with client(file) as server:
        page, script = server.get("/"), server.get("/page.js")
    assert page.status_code == script.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(("values", "expected"), [((0, 255), {"sky": 0, "bird": 255}), ((), {"sky": 0, "bird": 1})])
def test_the_description_of_a_model_states_the_values_of_its_masks(
    values: tuple[int, ...], expected: dict[str, int]
) -> None:
    spec = TaskSpec("segmentation", "mask", "mask", labels=("sky", "bird"), mask_values=values)
    model = SimpleNamespace(spec=spec, engine=SimpleNamespace(name="onnxruntime"), metadata={})
    loaded: Any = SimpleNamespace(model=model, name="m", version="1", digest="d")
    assert deployed.describe_model(loaded)["mask_values"] == expected
    model.spec = TaskSpec("classification", "class", "label", labels=("sky", "bird"))
    assert "mask_values" not in deployed.describe_model(loaded)
