"""The page of `benchmarks.inference`."""

from typing import Any


def page(found: dict[str, Any]) -> str:
    return ""
