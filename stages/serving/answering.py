"""From the bytes of an image to the JSON of its answer."""

import asyncio
import base64
import io
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from stages.images.reading import TooManyPixels, Unreadable
from stages.serving.deployed import Deployed
from stages.serving.errors import Refused
from stages.serving.limits import Settings
from stages.serving.metrics import Metrics
from stages.tasks import TASKS
from stages.tasks.pictures import PICTURED, as_file, picture_of

Array = np.ndarray[Any, Any]
DRAWN = 1600  # pixels of a drawing's longer side at most
TYPES = {".png": "image/png", ".npy": "application/octet-stream"}


class Answering:
    """Decodes, lets the model run, and writes down."""

    def __init__(self, settings: Settings, metrics: Metrics, workers: int) -> None:
        """`workers`: threads that decode and draw."""
        self.settings, self.metrics = settings, metrics
        self.pool = ThreadPoolExecutor(workers, "decode")

    async def answer(self, deployed: Deployed, data: bytes, drawing: bool, picture: bool) -> dict[str, Any]:
        """The answer to one image, JSON-ready.

        Args:
            deployed: the model.
            data: bytes of an image file.
            drawing: with the answer drawn over the image, a JPEG as data: URI.
            picture: with the answered mask or image as a file in a data: URI.

        Raises:
            Refused: 413 or 422, the image is too large or cannot be read; 400, no picture is answered.
        """
        outline = deployed.model.outline
        if picture and outline.task not in PICTURED:
            raise Refused(400, f"picture: answers of task {outline.task} are no images; leave it out")
        loop = asyncio.get_running_loop()
        image = await loop.run_in_executor(self.pool, self._decoded, deployed, data)
        answer = await deployed.batches.answer(image)
        height, width = image.shape[:2]
        given = {"task": outline.task, "width": width, "height": height}
        if drawing or outline.task in PICTURED:
            given |= await loop.run_in_executor(self.pool, _written, deployed, image, answer, drawing, picture)
        else:
            given["answer"] = TASKS[outline.task].record(answer, outline)
        return given

    def _decoded(self, deployed: Deployed, data: bytes) -> Array:
        started = time.perf_counter()
        try:
            return deployed.model.decode_file(data, self.settings.megapixels)
        except TooManyPixels as error:
            raise Refused(413, f"the image {error}") from None
        except Unreadable as error:
            raise Refused(422, f"the image cannot be read: {error}") from None
        finally:
            self.metrics.step("decode", time.perf_counter() - started)


def _written(deployed: Deployed, image: Array, answer: Any, drawing: bool, picture: bool) -> dict[str, Any]:
    outline = deployed.model.outline
    task = TASKS[outline.task]
    given = {"answer": task.record(answer, outline)}
    if drawing:
        drawn = Image.fromarray(task.draw(image, answer, outline))
        drawn.thumbnail((DRAWN, DRAWN))
        stream = io.BytesIO()
        drawn.save(stream, "JPEG", quality=90)
        given["drawing"] = _uri(stream.getvalue(), "image/jpeg")
    if picture:
        data, ending = as_file(picture_of(answer, outline))
        given["picture"] = _uri(data, TYPES[ending])
    return given


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
