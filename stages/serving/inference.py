"""Inference for a request: decode the image, run the model, and encode the prediction as JSON."""

import asyncio
import base64
import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from stages.core.memory import give_back_freed_memory
from stages.images.decode import NotAdmitted, TooManyPixels, Unreadable
from stages.serving.hot_reload import LoadedModel
from stages.serving.http_errors import Refused
from stages.serving.memory_budget import MemoryBudget, Reservation, bytes_per_pixel
from stages.serving.metrics import Metrics
from stages.serving.settings import Settings
from stages.tasks import TASKS
from stages.tasks.image_outputs import PICTURED, as_file, picture_of

Array = np.ndarray[Any, Any]
LARGE = 64 * 2**20  # bytes; after a larger reservation, freed memory is returned to the system (about 10 ms)
MAX_DRAWING_SIDE = 1600  # pixels of the longer side of an overlay
TYPES = {".png": "image/png", ".npy": "application/octet-stream"}


class InsufficientMemory(NotAdmitted):
    """The memory budget does not have `size` bytes at present."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class Predictor:
    """Decodes images, runs the model, and encodes predictions."""

    def __init__(self, settings: Settings, metrics: Metrics, budget: MemoryBudget, workers: int) -> None:
        """Create a predictor.

        Args:
            settings: limits of requests.
            metrics: Prometheus metrics.
            budget: memory budget of pixels.
            workers: threads that decode and draw.
        """
        self.settings, self.metrics, self.budget = settings, metrics, budget
        self.pool = ThreadPoolExecutor(workers, "decode")

    async def predict(self, deployed: LoadedModel, data: bytes, drawing: bool, picture: bool) -> dict[str, Any]:
        """Return the prediction for one image, JSON-ready.

        Args:
            deployed: loaded model.
            data: bytes of an image file.
            drawing: add the prediction drawn over the image, a JPEG as a data URI.
            picture: add the predicted mask or image as a data URI.

        Raises:
            Refused: 413, the image is too large; 422, the image cannot be read; 400, `picture` is True, but the task
                does not predict images.
        """
        reservation = Reservation(self.budget)
        try:
            return await self._predict(deployed, data, drawing, picture, reservation)
        finally:
            if reservation.size > LARGE:  # after the pending work of its thread
                self.pool.submit(_trim_and_release, reservation)
            else:
                reservation.release()

    async def _predict(
        self, deployed: LoadedModel, data: bytes, drawing: bool, picture: bool, reservation: Reservation
    ) -> dict[str, Any]:
        spec = deployed.model.spec
        if picture and spec.task not in PICTURED:
            raise Refused(400, f"picture: predictions of task {spec.task} are not images; omit this parameter")
        try:
            image = await self._in_pool(reservation, self._decode, deployed, data, drawing or picture, reservation)
        except InsufficientMemory as error:
            await reservation.acquire(error.size)
            image = await self._in_pool(reservation, self._decode, deployed, data, drawing or picture, None)
        answer = await deployed.batches.predict(image)
        height, width = image.shape[:2]
        response = {"task": spec.task, "width": width, "height": height}
        if drawing or spec.task in PICTURED:
            response |= await self._in_pool(reservation, _encode, deployed, image, answer, drawing, picture)
        else:
            response["answer"] = TASKS[spec.task].record(answer, spec)
        return response

    async def _in_pool(self, reservation: Reservation, work: Callable[..., Any], *arguments: Any) -> Any:
        reservation.job = self.pool.submit(work, *arguments)
        return await asyncio.wrap_future(reservation.job)

    def _decode(self, deployed: LoadedModel, data: bytes, drawn: bool, reservation: Reservation | None) -> Array:
        """Return the pixels of an image file.

        Args:
            deployed: loaded model.
            data: bytes of an image file.
            drawn: True if the prediction will be drawn.
            reservation: reservation for the pixels; None if they are already reserved.

        Raises:
            InsufficientMemory: the reservation is not possible at present.
            Refused: the image is too large or cannot be read.
        """

        def admit(pixels: int, _channels: int, _bits: int) -> None:
            size = pixels * bytes_per_pixel(deployed.model.spec, drawn)
            if reservation is not None and not reservation.try_acquire(size):
                raise InsufficientMemory(size)

        started = time.perf_counter()
        try:
            return deployed.model.decode_file(data, self.settings.megapixels, admit)
        except Unreadable as error:
            raise Refused(413 if isinstance(error, TooManyPixels) else 422, f"the image {error}") from None
        finally:
            self.metrics.step("decode", time.perf_counter() - started)


def _trim_and_release(reservation: Reservation) -> None:
    """Return freed memory to the system, then release the reservation, which may admit the next request."""
    give_back_freed_memory()
    reservation.release()


def _encode(deployed: LoadedModel, image: Array, answer: Any, drawing: bool, picture: bool) -> dict[str, Any]:
    spec = deployed.model.spec
    task = TASKS[spec.task]
    response = {"answer": task.record(answer, spec)}
    if drawing:
        drawn = Image.fromarray(task.draw(image, answer, spec))
        drawn.thumbnail((MAX_DRAWING_SIDE, MAX_DRAWING_SIDE))
        stream = io.BytesIO()
        drawn.save(stream, "JPEG", quality=90)
        response["drawing"] = _uri(stream.getvalue(), "image/jpeg")
    if picture:
        data, ending = as_file(picture_of(answer, spec))
        response["picture"] = _uri(data, TYPES[ending])
    return response


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
