"""Memory budget shared by all requests; requests wait in FIFO order until their memory is available."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

from stages.core.errors import UserError
from stages.core.memory import allowed, resident
from stages.core.plurals import quantity
from stages.serving.http_errors import Refused
from stages.serving.settings import Settings
from stages.tasks.image_outputs import PICTURED
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_spec import TaskSpec

REQUEST_SHARE, BODY_SHARE = 0.75, 0.25
"""Share of the free memory for requests (the rest is for fragmentation, responses and a new model), and the share of
that for bodies. A request reserves its body before its pixels, never the reverse, which prevents deadlocks."""
MIN_BYTES = 64_000_000  # for requests, enough for a photo
BODY = 2  # bytes per byte of a body: as received, and as extracted from a form
PARSED = 32  # bytes of memory per byte of JSON, at most
PILLOW, DRAWN = 10, 8  # bytes per pixel for decoding, and for drawing the prediction
GREYED = 38  # bytes per pixel for converting 16-bit colour to grey
DENSE, STITCHED = 10, 16  # bytes per output value of a pixel, of a whole image or stitched from tiles
PER_INSTANCE, INSTANCES = 6.3, 100  # bytes per pixel of an instance mask, and the assumed number of instances


def bytes_per_pixel(spec: TaskSpec, drawn: bool = False) -> int:
    """Return the peak memory per pixel from the file to the prediction, bytes; measured and rounded up.

    The memory includes the image, its copy in a batch, the floats in the graph, and the outputs.

    Args:
        spec: task specification of the model.
        drawn: True if the prediction is drawn.

    >>> bytes_per_pixel(TaskSpec("classification", "class", "label"))
    31
    """
    kind = REPRESENTATIONS[spec.representation]
    given = spec.channels * (3 * spec.depth // 8 + 4) + PILLOW + DRAWN * drawn
    if spec.depth == 16 and spec.channels == 1:
        given = max(given, GREYED)
    if kind.gives == "boxes":
        return given + int(PER_INSTANCE * INSTANCES) * spec.masks
    if kind.gives == "vector" or (spec.task not in PICTURED and spec.fit != "tile"):
        return given
    parts = spec.fit == "tile" or spec.task == "instances"
    return given + kind.outputs(spec) * (STITCHED if parts else DENSE)


class MemoryBudget:
    """Bytes that are reserved in FIFO order by threads and coroutines."""

    def __init__(self, size: int, what: str) -> None:
        """Create a budget.

        Args:
            size: bytes.
            what: what the budget is for, in error messages.
        """
        self.size = self.free = size
        self.what = what
        self.waiting: deque[_Waiter] = deque()
        self.lock = threading.Lock()
        """Protects `free` and `waiting`."""

    def try_acquire(self, size: int) -> bool:
        """Reserve `size` bytes if they are available and no request is waiting; return whether they were."""
        with self.lock:
            fits = not self.waiting and size <= self.free
            self.free -= size * fits
        return fits

    async def acquire(self, size: int) -> None:
        """Reserve `size` bytes as soon as they are available.

        Raises:
            Refused: 413, `size` exceeds the budget.
        """
        if size > self.size:
            raise Refused(
                413,
                f"the request requires {size / 1e6:.0f} MB of memory, but {self.what} are limited to "
                f"{self.size / 1e6:.0f} MB; send a smaller image, or raise --memory of the server",
            )
        if self.try_acquire(size):
            return
        waiter = _Waiter(size)
        with self.lock:
            self.waiting.append(waiter)
        self.release(0)  # bytes may have been released in the meantime
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            with self.lock:
                if not waiter.acquired:
                    self.waiting.remove(waiter)
            self.release(size * waiter.acquired)
            raise

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Reserve `size` bytes for the duration of the block.

        Raises:
            Refused: see `acquire`.
        """
        await self.acquire(size)
        try:
            yield
        finally:
            self.release(size)

    def release(self, size: int) -> None:
        """Release `size` bytes and admit queued requests in FIFO order while they fit."""
        with self.lock:
            self.free += size
            while self.waiting and self.waiting[0].size <= self.free:
                waiter = self.waiting.popleft()
                self.free -= waiter.size
                waiter.acquired = True
                waiter.loop.call_soon_threadsafe(waiter.admit)


class _Waiter:
    """A queued request for memory."""

    def __init__(self, size: int) -> None:
        self.size, self.acquired = size, False
        self.loop = asyncio.get_running_loop()
        self.admitted: asyncio.Future[None] = self.loop.create_future()

    def admit(self) -> None:
        if not self.admitted.done():
            self.admitted.set_result(None)


class Reservation:
    """Memory that one request has reserved from a budget."""

    def __init__(self, budget: MemoryBudget) -> None:
        self.budget, self.size = budget, 0
        self.job: Future[Any] | None = None
        """Task of a thread that uses the memory, even after the request was cancelled."""

    def try_acquire(self, size: int) -> bool:
        """Reserve more bytes if they are available; see `MemoryBudget.try_acquire`."""
        acquired = self.budget.try_acquire(size)
        self.size += size * acquired
        return acquired

    async def acquire(self, size: int) -> None:
        """Reserve more bytes as soon as they are available.

        Raises:
            Refused: see `MemoryBudget.acquire`.
        """
        await self.budget.acquire(size)
        self.size += size

    def release(self) -> None:
        """Release all bytes as soon as no thread uses them."""
        if self.job is not None:
            self.job.add_done_callback(self._release)
        else:
            self._release()

    def _release(self, _job: Any = None) -> None:
        self.budget.release(self.size)
        self.size = 0


def memory_budgets(settings: Settings) -> tuple[MemoryBudget, MemoryBudget]:
    """Return the budgets of a worker for request bodies and for pixels, in addition to the loaded model.

    Raises:
        UserError: the memory limit is too low for this model.
    """
    whole = settings.memory * 2**30 or allowed()
    free = int((whole / settings.workers - resident()) * REQUEST_SHARE)
    if free < MIN_BYTES:
        needed = ((MIN_BYTES / REQUEST_SHARE) + resident()) * settings.workers
        raise UserError(
            f"memory: the limit of {quantity(settings.workers, 'worker')} is {whole / 2**30:.2f} GiB, but this model "
            f"requires at least {needed / 2**30:.2f} GiB; raise the limit of the container or --memory"
        )
    bodies = int(free * BODY_SHARE)
    return MemoryBudget(bodies, "bodies of requests"), MemoryBudget(free - bodies, "images")
