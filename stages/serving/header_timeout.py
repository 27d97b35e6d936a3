"""Time limit for the headers of a request; uvicorn only limits the time between requests."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10.0  # from the connection, or the first byte of a later request, to the end of its headers


class HeaderTimeoutProtocol(HttpToolsProtocol):
    """HTTP protocol of uvicorn with a time limit for headers; bodies are limited by `AdmissionMiddleware`."""

    timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first headers."""
        super().connection_made(transport)
        self._start_timer()

    def on_message_begin(self) -> None:
        """Start the timer at the first byte of a request."""
        self._start_timer()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the timer when the headers are complete."""
        self._stop_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer when the connection is lost."""
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        if self.timer is None:
            # This handler closes the connection.
            self.timer = self.loop.call_later(HEADER_SECONDS, self.timeout_keep_alive_handler)

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
