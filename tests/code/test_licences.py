"""Tests of the licences of the locked packages, and of the page that lists them."""

import pytest

from infra.licences import (
    PAGE,
    PERMISSIVE,
    SPDX,
    UNKNOWN,
    Package,
    expression,
    installed,
    is_default,
    locked,
    needs_review,
    packages,
    page,
    reviewed,
)
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def found() -> list[Package]:
    return packages([])


def test_the_page_is_up_to_date(found: list[Package]) -> None:
    assert PAGE.read_text() == page(found), "run `make licences`"


def test_every_locked_package_is_listed(found: list[Package]) -> None:
    assert len(found) > 300
    assert {(package.name, package.version) for package in found} == set(locked())
    assert {"pipeline", "serving", "training-peers", "uv"} <= {lock for package in found for lock in package.locks}


def test_the_default_sets_contain_no_agpl_and_no_unknown_licence(found: list[Package]) -> None:
    default = [package for package in found if is_default(package)]
    assert len(default) > 200
    assert not [package for package in default if package.licence == UNKNOWN or "AGPL" in package.licence]


def test_every_licence_that_is_not_permissive_has_a_reason(found: list[Package]) -> None:
    needing_review = {package.name for package in found if is_default(package) and needs_review(package.licence)}
    assert "psycopg" in needing_review
    assert needing_review == set(reviewed()["accepted"]), "add or remove entries of [accepted] in infra/licences.toml"


def test_every_reviewed_licence_is_needed() -> None:
    stated = reviewed()["stated"]
    names = {name for name, _ in locked()}
    assert stated
    assert not set(stated) - names, "remove packages that are not locked from infra/licences.toml"
    readable = {name for (name, _), licence in installed().items() if licence}
    assert len(readable) > 200
    assert not set(stated) & readable, "remove licences that the metadata states from infra/licences.toml"


@pytest.mark.parametrize(
    ("stated", "text", "classifiers", "licence"),
    [
        ("MIT", "BSD", [], "MIT"),
        (None, "Apache 2.0", ["License :: OSI Approved :: Apache Software License"], "Apache-2.0"),
        (None, "ISC", ["License :: OSI Approved :: BSD License"], "ISC"),
        (None, None, ["License :: OSI Approved :: MIT License"], "MIT"),
        (None, "2", ["License :: OSI Approved :: MIT License", "License :: OSI Approved :: BSD License"], "BSD OR MIT"),
        (None, None, ["License :: OSI Approved :: Artistic License"], None),
        (None, "see the file", [], None),
        (None, "", [], None),
    ],
)  # fmt: skip
def test_the_licence_is_read_from_metadata(
    stated: str | None, text: str | None, classifiers: list[str], licence: str | None
) -> None:
    assert expression(stated, text, classifiers) == licence


@pytest.mark.parametrize(
    ("licence", "review"),
    [
        ("MIT", False),
        ("Apache-2.0 WITH LLVM-exception AND (MIT OR Zlib)", False),
        ("MPL-2.0 AND MIT", False),
        ("Apache-2.0 OR GPL-2.0-or-later", True),
        ("AGPL-3.0-only", True),
        ("LGPL-3.0-only", True),
        ("GPL-2.0-only WITH linking-exception", True),
        (UNKNOWN, True),
    ],
)
def test_licences_that_need_a_review_are_detected(licence: str, review: bool) -> None:
    assert needs_review(licence) == review


def test_no_licence_with_conditions_counts_as_permissive() -> None:
    assert not [name for name in PERMISSIVE if "GPL" in name or "EPL" in name]
    assert {"BSD", "MIT"} <= set(SPDX.values())


def test_macula_states_its_licence() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()
