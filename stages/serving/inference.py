"""From the bytes of an image to the JSON of its answer."""

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
from stages.serving.hot_reload import Deployed
from stages.serving.http_errors import Refused
from stages.serving.memory_budget import Room, Share, bytes_a_pixel
from stages.serving.metrics import Metrics
from stages.serving.settings import Settings
from stages.tasks import TASKS
from stages.tasks.image_outputs import PICTURED, as_file, picture_of

Array = np.ndarray[Any, Any]
LARGE = 64 * 2**20  # bytes of a share, behind which memory is cleared: some 10 ms
DRAWN = 1600  # pixels of a drawing's longer side at most
TYPES = {".png": "image/png", ".npy": "application/octet-stream"}


class NoRoom(NotAdmitted):
    """For so many bytes, at present."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class Answering:
    """Decodes, lets the model run, and writes down."""

    def __init__(self, settings: Settings, metrics: Metrics, room: Room, workers: int) -> None:
        """`room`: for pixels and what becomes of them; `workers`: threads that decode and draw."""
        self.settings, self.metrics, self.room = settings, metrics, room
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
        share = Share(self.room)
        try:
            return await self._answer(deployed, data, drawing, picture, share)
        finally:
            if share.size > LARGE:  # its thread may still have work: it is behind that
                self.pool.submit(_cleared, share)
            else:
                share.give_back()

    async def _answer(
        self, deployed: Deployed, data: bytes, drawing: bool, picture: bool, share: Share
    ) -> dict[str, Any]:
        spec = deployed.model.spec
        if picture and spec.task not in PICTURED:
            raise Refused(400, f"picture: answers of task {spec.task} are no images; leave it out")
        try:
            image = await self._in_pool(share, self._decoded, deployed, data, drawing or picture, share)
        except NoRoom as found:
            await share.take(found.size)
            image = await self._in_pool(share, self._decoded, deployed, data, drawing or picture, None)
        answer = await deployed.batches.answer(image)
        height, width = image.shape[:2]
        given = {"task": spec.task, "width": width, "height": height}
        if drawing or spec.task in PICTURED:
            given |= await self._in_pool(share, _written, deployed, image, answer, drawing, picture)
        else:
            given["answer"] = TASKS[spec.task].record(answer, spec)
        return given

    async def _in_pool(self, share: Share, work: Callable[..., Any], *given: Any) -> Any:
        share.job = self.pool.submit(work, *given)
        return await asyncio.wrap_future(share.job)

    def _decoded(self, deployed: Deployed, data: bytes, drawn: bool, share: Share | None) -> Array:
        """The pixels; `NoRoom`, before they are decoded, where a share is given and does not get what they take."""

        def admit(pixels: int, _channels: int, _bits: int) -> None:
            size = pixels * bytes_a_pixel(deployed.model.spec, drawn)
            if share is not None and not share.take_at_once(size):
                raise NoRoom(size)

        started = time.perf_counter()
        try:
            return deployed.model.decode_file(data, self.settings.megapixels, admit)
        except TooManyPixels as error:
            raise Refused(413, f"the image {error}") from None
        except Unreadable as error:
            raise Refused(422, f"the image cannot be read: {error}") from None
        finally:
            self.metrics.step("decode", time.perf_counter() - started)


def _cleared(share: Share) -> None:
    """Who comes next is let in when what was freed is no more held by the threads that freed it."""
    give_back_freed_memory()
    share.give_back()


def _written(deployed: Deployed, image: Array, answer: Any, drawing: bool, picture: bool) -> dict[str, Any]:
    spec = deployed.model.spec
    task = TASKS[spec.task]
    given = {"answer": task.record(answer, spec)}
    if drawing:
        drawn = Image.fromarray(task.draw(image, answer, spec))
        drawn.thumbnail((DRAWN, DRAWN))
        stream = io.BytesIO()
        drawn.save(stream, "JPEG", quality=90)
        given["drawing"] = _uri(stream.getvalue(), "image/jpeg")
    if picture:
        data, ending = as_file(picture_of(answer, spec))
        given["picture"] = _uri(data, TYPES[ending])
    return given


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
