"""Time limits of a connection that has no complete request; uvicorn only limits the time after a response.

A proxy keeps connections open and sends its next request over one of them. If the server closes such a connection at
the same moment, the proxy answers 502. The server therefore has to keep idle connections longer than the proxy.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10.0  # from the first byte of a request to the end of its headers
REST_SECONDS = 30.0  # for the rest of a request after its response, such as 413


class TimeoutProtocol(HttpToolsProtocol):
    """HTTP protocol of uvicorn with time limits; `AdmissionMiddleware` limits the time from headers to response.

    A connection without a request is closed after `timeout_keep_alive`, whether it is new or has had a response.
    """

    timer: asyncio.TimerHandle | None = None
    """Limit of the headers, or of the rest of a request that has had its response."""
    receiving = False
    """Whether a request has begun and is not complete."""
    unsent = 0
    """Bytes of responses that were not sent when the connection was last found idle."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Limit the time until the first byte."""
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Process data, and await the next request if they were empty lines, which some clients send after a body."""
        super().data_received(data)
        responded = self.cycle is None or self.cycle.response_complete
        if responded and not self.receiving and not self.transport.is_closing():
            self._await_request()

    def on_message_begin(self) -> None:
        """Limit the time of the headers of this request, which may follow another one in the same data."""
        self.receiving = True
        self._unset_keepalive_if_required()
        self._start_timer(HEADER_SECONDS)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the timer of the headers."""
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the timer of the rest of a request."""
        self.receiving = False
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Limit the time of the rest of a request that has had its response."""
        super().on_response_complete()
        if self.receiving and self.cycle.response_complete and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._start_timer(REST_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer when the connection is lost."""
        self._stop_timer()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; wait while its last response is being sent, and abort if nothing more was sent."""
        unsent, before = self.transport.get_write_buffer_size(), self.unsent
        self.unsent = unsent
        if unsent and unsent == before:
            self.transport.abort()
        elif unsent:
            self._await_request()
        else:
            super().timeout_keep_alive_handler()

    def _await_request(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _start_timer(self, seconds: float) -> None:
        if self.timer is None:
            self.timer = self.loop.call_later(seconds, super().timeout_keep_alive_handler)

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
