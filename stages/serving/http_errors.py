"""Why a request gets no answer: a status, and words that say what to do."""


class Refused(Exception):
    """Answered with this status and `{"error": words}`."""

    def __init__(self, status: int, words: str, retry_after: int | None = None) -> None:
        """`retry_after`: seconds, for the header of that name."""
        super().__init__(words)
        self.status, self.words, self.retry_after = status, words, retry_after
