"""Tests of the documentation: commands and linked files exist, and figures equal the measured values."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from benchmarks.pipeline.example_scores import DEMO, demo_block, records, table
from benchmarks.result_pages import replace_block
from stages.config.load import check
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def test_every_named_make_target_exists() -> None:
    named = {word for page in PAGES for word in re.findall(r"`?\bmake ([a-z]+(?:-[a-z]+)*)\b", page.read_text())}
    named &= set(re.findall(r"`make ([a-z]+(?:-[a-z]+)*)", " ".join(p.read_text() for p in PAGES))) | {"demo", "test"}
    assert {"demo", "test", "unseal"} <= named
    for target in named:
        done = subprocess.run(
            ["make", "--dry-run", target, "NAME=clothing10", "SOURCE=."], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, f"make {target}: {done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_point_to_existing_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    for link in links:
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_figures_equal_the_measured_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    measured = records()
    assert len(measured) > 1
    assert replace_block(README, "examples", table(measured)) == README
    assert replace_block(README, "demo", demo_block((ROOT / DEMO).read_text().strip())) == README


def test_the_params_in_the_readme_are_valid() -> None:
    shown = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert shown
    params = check(YAML(typ="safe", pure=True).load(shown.group(1)))
    assert params.ingest.name == "flowers"


def test_the_tree_names_every_stage() -> None:
    tree = README[README.index("## The tree") :]
    for file in (ROOT / "stages").glob("*.py"):
        if file.stem not in ("__init__", "__main__"):
            assert re.search(rf"\b{file.stem}\b", tree), file.stem


def test_the_version_is_defined_in_one_place() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    text = re.compile(rf"(?<![\w.=]){re.escape(version)}(?![\w.])")
    others = (
        "CHANGELOG.md",
        "infra/locks/",
        "infra/browser/package-lock.json",
        "infra/s3/package-lock.json",
        "docs/reference/third-party-licences.md",
    )
    named = [
        name
        for name in files.split("\0")
        if Path(name).suffix in {".py", ".md", ".toml", ".yaml", ".json", ".Dockerfile", ""} | {".js", ".html"}
        and not name.startswith(others)
        and (ROOT / name).is_file()
        and text.search((ROOT / name).read_text())
    ]
    assert named == ["pyproject.toml"]
