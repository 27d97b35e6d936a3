"""Services of a toy project, shared by the tests of this folder."""

import shutil
from collections.abc import Iterator

import pytest

from infra.services import postgres
from infra.services.service_list import S3
from tests.service_project import Services, create_project, open_folder


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """Start the services in a toy project; the last test of a module must leave all of them running."""
    if postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    if shutil.which("node") is None or not (S3 / "node_modules").is_dir():
        pytest.skip(f"the packages of {S3} are not installed: make services")
    with open_folder() as folder:
        root = create_project(folder / "toy")
        started = Services(root)
        (root / "work/printed.txt").write_text(started.start())
        yield started
        assert started.stop() == 0
