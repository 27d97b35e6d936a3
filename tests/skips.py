"""Report skipped tests as failures when `MACULA_REQUIRE_TOOLS` is set, as `.ci/run` does.

A test may still be skipped for a reason that no installation removes: see `ALLOWED`.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

ALLOWED = (
    "reference data sets are not at",  # the data sets are not part of the project
    "malloc of glibc",  # Linux only
    "takes two cores",
    "this machine has the device that must be missing",
    "the processor has no AVX2 to disable",
    "chroot requires Linux and root",
    "this Python is part of the system",
    "namespaces cannot be created on this machine",
    "file systems cannot be mounted by this user",
)


def is_allowed(reason: str) -> bool:
    """Return whether a test may be skipped for `reason` even if all tools are required."""
    return reason.removeprefix("Skipped: ").startswith(ALLOWED)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure if its reason is not in `ALLOWED`."""
    report = yield
    if os.environ.get("MACULA_REQUIRE_TOOLS") and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if not is_allowed(reason):
            report.outcome = "failed"
            report.longrepr = f"{reason}\nMACULA_REQUIRE_TOOLS is set: install what is missing"
    return report
