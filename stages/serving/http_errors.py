"""Error of a request: an HTTP status, and a message that states what to do."""


class Refused(Exception):
    """Error of a request that is answered with an HTTP status and `{"error": message}`."""

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        """Create an error.

        Args:
            status: HTTP status.
            message: what is wrong and what to do.
            retry_after: value of the header Retry-After, seconds; None: no header.
        """
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after
