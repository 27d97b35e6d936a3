"""A connection that does not wait for ever for the head of a request; uvicorn bounds the time between them alone."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD = 10.0  # seconds from a connection, or from the first byte of a later request, to the end of its head


class Impatient(HttpToolsProtocol):
    """uvicorn's, with a limit on heads; that on bodies and answers is the gate's."""

    due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is awaited."""
        super().connection_made(transport)
        self._await_head()

    def on_message_begin(self) -> None:
        """The first byte of a head."""
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._stop()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self.due is None:
            self.due = self.loop.call_later(HEAD, self.timeout_keep_alive_handler)  # closes

    def _stop(self) -> None:
        if self.due is not None:
            self.due.cancel()
            self.due = None
