"""Write docs/reference/third-party-licences.md: the licence of every package in `infra/locks`.

    make licences

Licences are read from the package metadata of the environments that exist (`.venv`, `.venv-*`). Licences that the
metadata does not state are in `infra/licences.toml`. Entries of packages whose environment does not exist stay as they
are; `--report FILE` reads their licences from the output of `pip install --dry-run --report FILE`.
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "infra/locks"
REVIEWED = ROOT / "infra/licences.toml"
PAGE = ROOT / "docs/reference/third-party-licences.md"
DEFAULT = ("pipeline", "serving")
UNKNOWN = "unknown"

# Acceptable without review. The MPL covers changes to the licensed files only; the CUDA libraries, which torch requires
# on Linux, may be used and redistributed but are not open source.
PERMISSIVE = frozenset(
    "0BSD Apache-2.0 BSD BSD-2-Clause BSD-3-Clause BSL-1.0 CC0-1.0 CNRI-Python HPND ISC MIT MIT-0 MIT-CMU MPL-2.0 "
    "PSF-2.0 Unlicense Zlib ZPL-2.1 LicenseRef-NVIDIA-Proprietary".split()
)
# SPDX names of free texts and classifiers. `BSD` is a BSD licence whose variant is not stated.
SPDX = {
    "2-clause bsd": "BSD-2-Clause",
    "2-clause bsd license": "BSD-2-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "agpl-3.0": "AGPL-3.0",
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd license": "BSD",
    "bsd-3": "BSD-3-Clause",
    "epl-2.0 or gpl-2.0-or-later": "EPL-2.0 OR GPL-2.0-or-later",
    "freebsd": "BSD-2-Clause",
    "gnu affero general public license v3 or later (agplv3+)": "AGPL-3.0-or-later",
    "gpl-3.0": "GPL-3.0",
    "gplv2 | eplv1": "GPL-2.0-only OR EPL-1.0",
    "isc": "ISC",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit licence": "MIT",
    "mit license": "MIT",
    "mit or apache-2.0": "MIT OR Apache-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "mpl-2.0 and mit": "MPL-2.0 AND MIT",
    "new bsd": "BSD-3-Clause",
    "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary",
    "psf": "PSF-2.0",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
    "the mit license (mit)": "MIT",
}
SPDX |= {name.lower(): name for name in PERMISSIVE}


@dataclass(frozen=True)
class Package:
    """A locked package.

    Attributes:
        name: Its normalized name.
        version: The locked version.
        locks: The names of the locks that contain it.
        licence: An SPDX expression, or `UNKNOWN`.
    """

    name: str
    version: str
    locks: tuple[str, ...]
    licence: str

    @property
    def row(self) -> str:
        """The package as a row of the table."""
        return f"| {self.name} | {self.version} | {self.licence} | {', '.join(self.locks)} |"


def reviewed() -> dict[str, dict[str, Any]]:
    """Return the tables `stated` and `accepted` of `infra/licences.toml`."""
    return tomllib.loads(REVIEWED.read_text())


def locked() -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the names of the locks that contain each (name, version)."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for lock in sorted(LOCKS.glob("*.txt")):
        pins = re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^ ;\\]+)", lock.read_text(), re.MULTILINE)
        for name, version in dict.fromkeys(pins):
            found[name, version] = (*found.get((name, version), ()), lock.stem)
    return dict(sorted(found.items()))


def expression(stated: str | None, text: str | None, classifiers: list[str]) -> str | None:
    """Return the SPDX expression for a package's metadata.

    Args:
        stated: Value of `License-Expression`, which is an SPDX expression already.
        text: Value of `License`, free text; only names that `SPDX` lists are used.
        classifiers: Values of `Classifier`; only those that begin with `License :: OSI Approved` are used.

    Returns:
        The expression, or None if the metadata states no licence or one that `SPDX` does not list.
    """
    if stated:
        return stated
    known = SPDX.get((text or "").strip().lower())
    named = [c.rsplit(" :: ", 1)[-1].lower() for c in classifiers if c.startswith("License :: OSI Approved :: ")]
    if known and not (known == "BSD" and "BSD" not in {SPDX.get(name, "BSD") for name in named}):
        return known
    if not named or any(name not in SPDX for name in named):
        return known
    return " OR ".join(sorted({SPDX[name] for name in named}))


def installed() -> dict[tuple[str, str], str | None]:
    """Return the licence of every (name, version) in the environments that exist; see `expression`."""
    folders = [str(folder) for folder in sorted(ROOT.glob(".venv*/lib/python*/site-packages"))]
    found = {}
    for distribution in metadata.distributions(path=folders):
        about = distribution.metadata
        name = re.sub(r"[-_.]+", "-", about["Name"]).lower()
        stated, text = ((about.get_all(key) or [None])[0] for key in ("License-Expression", "License"))
        found[name, distribution.version] = expression(stated, text, about.get_all("Classifier") or [])
    return found


def reported(file: Path) -> dict[tuple[str, str], str | None]:
    """Return the licence of every (name, version) in a report of pip; see `expression`."""
    found = {}
    for entry in json.loads(file.read_text())["install"]:
        about = entry["metadata"]
        name = re.sub(r"[-_.]+", "-", about["name"]).lower()
        licence = expression(about.get("license_expression"), about.get("license"), about.get("classifier") or [])
        found[name, about["version"]] = licence
    return found


def kept() -> dict[tuple[str, str], str | None]:
    """Return the known licences that the current page lists, by (name, version)."""
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (.+?) \| .+ \|$", PAGE.read_text() if PAGE.exists() else "", re.MULTILINE)
    return {(name, version): licence for name, version, licence in rows if licence != UNKNOWN}


def packages(reports: list[Path]) -> list[Package]:
    """Return all locked packages with their licences, sorted by name; `reports` are reports of pip."""
    found = kept()
    for report in reports:
        found |= reported(report)
    here = installed()
    found |= here
    other_version = {name: licence for (name, _), licence in here.items()}
    stated = {name: entry["licence"] for name, entry in reviewed()["stated"].items()}
    return [
        Package(
            name,
            version,
            locks,
            stated.get(name) or found.get((name, version)) or other_version.get(name) or UNKNOWN,
        )
        for (name, version), locks in locked().items()
    ]


def needs_review(licence: str) -> bool:
    """Return whether an expression contains a licence that is not in `PERMISSIVE`."""
    plain = re.sub(r" WITH [\w.-]+", "", licence)
    return not set(re.split(r" AND | OR ", plain.replace("(", "").replace(")", ""))) <= PERMISSIVE


def is_default(package: Package) -> bool:
    """Return whether the pipeline or the server installs the package."""
    return not set(DEFAULT).isdisjoint(package.locks)


def page(found: list[Package]) -> str:
    """Return the page as Markdown."""
    accepted = reviewed()["accepted"]
    stated = reviewed()["stated"]
    default = [package for package in found if is_default(package)]
    other = [package for package in found if not is_default(package)]
    head = ["| package | version | licence | locks |", "| --- | --- | --- | --- |"]
    listed = [f"| {p.name} | {p.licence} | {accepted[p.name]} |" for p in default if p.name in accepted]
    sources = [f"| {name} | {entry['licence']} | {entry['source']} |" for name, entry in sorted(stated.items())]
    return "\n".join(
        [
            "# Third-party licences",
            "",
            "Macula is licensed under the Apache License 2.0 ([LICENSE](../../LICENSE)) and contains no third-party",
            "code. This page lists the licence of every package in `infra/locks`. `make licences` writes it.",
            "",
            "## Policy for the default sets",
            "",
            "The default sets are the packages that the pipeline (`pipeline`) and the server (`serving`) install. The",
            "test suite fails if they contain a package under the AGPL or a package whose licence is unknown.",
            "Permissive licences and the MPL are accepted. NVIDIA's CUDA libraries are proprietary; torch requires",
            "them on Linux.",
            "Every package under the GPL, the LGPL or the EPL is listed with the reason why it is acceptable:",
            "",
            "| package | licence | reason |",
            "| --- | --- | --- |",
            *listed,
            "",
            "## Default sets",
            "",
            "A version that is locked for another version of Python is listed under the licence of the installed one.",
            "",
            *head,
            *[package.row for package in default],
            "",
            "## Benchmarks and tools",
            "",
            "These packages are installed in separate environments, for benchmarks and linters. Macula does not import",
            "them. Some are under the AGPL or the GPL.",
            "",
            *head,
            *[package.row for package in other],
            "",
            "## Licences that metadata does not state",
            "",
            "| package | licence | source |",
            "| --- | --- | --- |",
            *sources,
            "",
        ]
    )


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--report",
        type=Path,
        nargs="*",
        default=[],
        help="files that `pip install --dry-run --report FILE` wrote, for packages that are not installed here",
    )
    PAGE.write_text(page(packages(parser.parse_args().report)))


if __name__ == "__main__":
    main()
