"""Memory that requests share: who does not fit waits for its turn, and what never fits is refused before it is read."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

from stages.core.errors import UserError
from stages.core.memory import allowed, resident
from stages.serving.http_errors import Refused
from stages.serving.settings import Settings
from stages.tasks.image_outputs import PICTURED
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_spec import TaskSpec

SHARED, OF_BODIES = 0.75, 0.25
"""Of what the open model leaves free: share for requests, the rest is for fragments, answers and a new model; and of
that the share for bodies. Who has a body waits for pixels, and never the other way round: nobody waits for ever."""
LEAST = 64_000_000  # bytes for requests, without which no photo can be answered
BODY = 2  # bytes for each byte of a body: as it came, and as it is taken out of a form
PILLOW, DRAWN = 10, 8  # bytes of a pixel while a file is decoded, and while an answer is drawn or made a picture
GREYED = 38  # bytes of a pixel while colour of 16 bits becomes grey
DENSE, STITCHED = 10, 16  # bytes for each value that is answered of each pixel, whole or put together of parts
THING, THINGS = 6.3, 100  # bytes of a pixel for the mask of each thing that boxes hold, and how many are reckoned with


def bytes_a_pixel(spec: TaskSpec, drawn: bool = False) -> int:
    """What a pixel takes from its file to its answer, at the worst moment; measured, and rounded up.

    The image and its copy in a batch, as floats in the graph, and what is answered of each pixel.

    >>> bytes_a_pixel(Outline("classification", "class", "label"))
    31
    """
    kind = REPRESENTATIONS[spec.representation]
    given = spec.channels * (3 * spec.depth // 8 + 4) + PILLOW + DRAWN * drawn
    if spec.depth == 16 and spec.channels == 1:
        given = max(given, GREYED)
    if kind.gives == "boxes":
        return given + int(THING * THINGS) * spec.masks
    if kind.gives == "vector" or (spec.task not in PICTURED and spec.fit != "tile"):
        return given
    parts = spec.fit == "tile" or spec.task == "instances"
    return given + kind.outputs(spec) * (STITCHED if parts else DENSE)


class Room:
    """So many bytes, first come, first served; for threads and coroutines."""

    def __init__(self, size: int, what: str) -> None:
        """`what` may be in it, for people."""
        self.size = self.free = size
        self.what = what
        self.waiting: deque[_Turn] = deque()
        self.lock = threading.Lock()
        """Held to change what stands above."""

    def take_at_once(self, size: int) -> bool:
        """Whether there was room, and nobody who came first."""
        with self.lock:
            fits = not self.waiting and size <= self.free
            self.free -= size * fits
        return fits

    async def take(self, size: int) -> None:
        """Once there is room; raises `Refused`, 413, where there never will be."""
        if size > self.size:
            raise Refused(
                413,
                f"this takes {size / 1e6:.0f} MB of memory while it is answered, and {self.what} may take "
                f"{self.size / 1e6:.0f} MB together: send something smaller, or give the server more memory (--memory)",
            )
        if self.take_at_once(size):
            return
        turn = _Turn(size)
        with self.lock:
            self.waiting.append(turn)
        self.give_back(0)  # what was given back between the two
        try:
            await turn.come
        except asyncio.CancelledError:
            with self.lock:
                if not turn.taken:
                    self.waiting.remove(turn)
            self.give_back(size * turn.taken)
            raise

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Inside, it is."""
        await self.take(size)
        try:
            yield
        finally:
            self.give_back(size)

    def give_back(self, size: int) -> None:
        """And let in who waits and fits now."""
        with self.lock:
            self.free += size
            while self.waiting and self.waiting[0].size <= self.free:
                turn = self.waiting.popleft()
                self.free -= turn.size
                turn.taken = True
                turn.loop.call_soon_threadsafe(turn.let_in)


class _Turn:
    """Of one who waits."""

    def __init__(self, size: int) -> None:
        self.size, self.taken = size, False
        self.loop = asyncio.get_running_loop()
        self.come: asyncio.Future[None] = self.loop.create_future()

    def let_in(self) -> None:
        if not self.come.done():
            self.come.set_result(None)


class Share:
    """What one image holds of a room."""

    def __init__(self, room: Room) -> None:
        self.room, self.size = room, 0
        self.job: Future[Any] | None = None
        """A thread's work on it that goes on, though nobody waits for it any more."""

    def take_at_once(self, size: int) -> bool:
        """As of `Room`."""
        taken = self.room.take_at_once(size)
        self.size += size * taken
        return taken

    async def take(self, size: int) -> None:
        """As of `Room`."""
        await self.room.take(size)
        self.size += size

    def give_back(self) -> None:
        """All of it, as soon as no thread is at work on it."""
        if self.job is not None:
            self.job.add_done_callback(self._given_back)
        else:
            self._given_back()

    def _given_back(self, _job: Any = None) -> None:
        self.room.give_back(self.size)
        self.size = 0


def rooms(settings: Settings) -> tuple[Room, Room]:
    """For bodies, and for pixels: of what the memory allows to each worker beside the model that it has opened.

    Raises:
        UserError: the model leaves too little.
    """
    whole = settings.memory * 2**30 or allowed()
    free = int((whole / settings.workers - resident()) * SHARED)
    if free < LEAST:
        needed = ((LEAST / SHARED) + resident()) * settings.workers
        raise UserError(
            f"memory: {settings.workers} workers may take {whole / 2**30:.2f} GiB together, and need "
            f"{needed / 2**30:.2f} for this model and the smallest images; give the container more, or see --memory"
        )
    bodies = int(free * OF_BODIES)
    return Room(bodies, "bodies of requests"), Room(free - bodies, "images")
