"""Groups of similar images where names do not tell which belong together: the table that configure proposes."""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import configure as configure_stage
from stages import ingest as ingest_stage
from stages.config.load import load
from stages.config.schema import Params
from stages.configuration import appearance_groups, look_alikes
from stages.configuration.appearance_groups import THOROUGH, ComparisonLimits
from stages.core.errors import UserError
from stages.dataset.manifest import read_manifest
from stages.importers.group_table import FOLDER, name_group_table, read_group_table
from stages.near_duplicates.similarity_links import find_links
from stages.runner.stage import call
from tests.code.test_graph import GRAPH
from tests.command_line import macula
from tests.conftest import Ingest, png

SIDE = 48
Files = dict[str, bytes]
Configure = Callable[..., tuple[Params, str]]


@pytest.fixture
def configure(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Configure:
    """Run `configure --quick` on files in the folder `lamps`; return the proposed params and the output text."""
    (workspace / FOLDER).mkdir(parents=True)

    def run(files: Mapping[str, bytes], *options: str) -> tuple[Params, str]:
        for name, content in files.items():
            (workspace / "lamps" / name).parent.mkdir(parents=True, exist_ok=True)
            (workspace / "lamps" / name).write_bytes(content)
        macula("configure", "lamps", "--quick", *(options or ("--replace",)))
        return load(workspace / "params.proposed.yaml"), capsys.readouterr().out

    return run


def surface(number: int) -> np.ndarray:
    """Return a smooth random surface, which is larger than an image, so that a part of it can be shown."""
    small = np.random.default_rng(number).integers(0, 256, (12, 12), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((SIDE + 8, SIDE + 8), Image.Resampling.BICUBIC), float)


def view(number: int, copy: int, shift: int = 1) -> np.ndarray:
    """Return a noisy part of a surface under one of six exposures."""
    rng = np.random.default_rng(1000 * number + copy)
    top, left = 4 + rng.integers(-shift, shift + 1, 2)
    part = surface(number)[top : top + SIDE, left : left + SIDE]
    exposed = (0.4 + 0.12 * copy) * part + 12 * copy + rng.normal(0, 6, part.shape)
    return np.clip(exposed, 0, 255).astype(np.uint8)


def exposures(objects: int, copies: int = 6, start: int = 3667) -> tuple[Files, dict[str, int]]:
    """Return images whose names have no part in common for an object, and the object of each."""
    files, truth = {}, {}
    for copy in range(copies):
        order = np.random.default_rng(copy).permutation(objects)
        for number in range(objects):
            name = f"{'ab'[number % 2]}/s{copy + 1}_k_{start + 29 * copy + order[number]}.png"
            files[name], truth[name] = png(view(number, copy)), number
    return files, truth


def accept(output: str) -> None:
    """Run the commands that configure states, except for macula."""
    moves = re.findall(r"mv (\S+) (\S+) &&", output)
    assert moves
    for source, place in moves:
        shutil.move(source, place)


def ingested(workspace: Path) -> pd.DataFrame:
    """Run ingest with params.yaml and return all rows, including those of the test split."""
    params = load(workspace / "params.yaml")
    paths = [Path(params.ingest.source), *(workspace / name for name in (FOLDER, "sealed", "ingested"))]
    call(ingest_stage.main, paths, {"ingest": params.ingest, "split": params.split})
    return pd.concat([read_manifest(workspace / name) for name in ("ingested", "sealed")])


@pytest.mark.parametrize("start", [3667, 0])
def test_exposures_of_an_object_are_kept_in_one_split(start: int, configure: Configure, workspace: Path) -> None:
    files, truth = exposures(40, start=start)
    proposed, output = configure(files)
    assert proposed.ingest.group_table == "data/splits/lamps.groups.csv"
    assert "40 groups of 6 similar images contain 240 of 240 images" in output
    with Image.open("params.proposed.groups.png") as picture:
        assert picture.width > 6 * 100 and picture.height > 12 * 100
    accept(output)
    rows = ingested(workspace)
    rows["object"] = rows["path"].map(truth)
    assert len(rows) == 240 and rows.groupby("object")["group"].nunique().max() == 1
    assert rows.groupby("group")["object"].nunique().max() == 1
    training = set(rows.loc[rows["split"] == "train", "object"])
    held_out = rows[rows["split"] != "train"]
    assert len(held_out) > 60 and not held_out["object"].isin(training).any()


def test_large_groups_are_a_question(configure: Configure) -> None:
    proposed, output = configure(exposures(4, copies=8)[0])
    assert not proposed.ingest.group_table and not Path("params.proposed.groups.csv").exists()
    assert re.search(r"do (\S+) and (\S+); .* show the same object\?.* No table of groups is proposed", output), output


def test_more_images_than_are_compared_quickly_are_a_question_with_the_command(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configure_stage, "QUICK", ComparisonLimits(100, 100.0, 0, 0.0))
    files, truth = exposures(20)
    proposed, output = configure(files)
    assert not proposed.ingest.group_table and not Path("params.proposed.groups.csv").exists()
    asked = re.search(r"do (\S+) and (\S+); .* show the same object\?", output)
    assert asked and truth[asked[1]] == truth[asked[2]]
    assert "`macula configure lamps --replace` compares all images and writes a table of groups" in output


def test_copies_that_a_sample_does_not_show_are_found_among_all_images(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (look_alikes, appearance_groups):
        monkeypatch.setattr(module, "MOST_COMPARED", 60)
    monkeypatch.setattr(look_alikes, "WINDOW", 10)
    rng = np.random.default_rng(0)
    files = {
        f"{'ab'[n % 2]}/{rng.integers(1 << 40):010x}.png": png(view(n, copy)) for n in range(400) for copy in (0, 3)
    }
    proposed, _ = configure(files)
    assert not proposed.ingest.group_table, "with --quick, a sample is compared"
    monkeypatch.setattr(configure_stage, "QUICK", THOROUGH)
    proposed, output = configure(files)
    found = re.search(r"(\d+) groups of 2 .*similar images contain (\d+) of 800 images", output)
    assert proposed.ingest.group_table and found and int(found[1]) > 390 and int(found[2]) > 780


def test_accepted_groups_stay_and_new_images_join_them(configure: Configure, workspace: Path) -> None:
    files, truth = exposures(16)
    new = {path for path in files if "/s6_" in path}
    _, output = configure({path: image for path, image in files.items() if path not in new})
    accept(output)
    table = Path(name_group_table("lamps"))
    renamed = {path: f"object {truth[path]}" for path in read_group_table(table)}
    odd = min(renamed)
    renamed[odd] = "decided by hand"
    table.write_text("path,group\n" + "".join(f"{path},{group}\n" for path, group in renamed.items()))
    before = table.read_bytes()
    rows = ingested(workspace)
    configure(files)
    assert table.read_bytes() == before, "the accepted table stays until the new one is accepted"
    groups = read_group_table(workspace / "params.proposed.groups.csv")
    assert {path: groups[path] for path in renamed} == renamed
    assert {path: groups[path] for path in new} == {path: f"object {truth[path]}" for path in new}
    accept(configure(files)[1])
    again = ingested(workspace).set_index("path")
    assert len(again) == len(files) and (again.loc[rows["path"], "split"].to_numpy() == rows["split"]).all()


def test_an_accepted_table_is_proposed_again(configure: Configure, workspace: Path) -> None:
    files, _ = exposures(16)
    accept(configure(files)[1])
    proposed, output = configure(files)
    assert proposed.ingest.group_table == name_group_table("lamps")
    assert "its rows are kept" in output and not Path("params.proposed.groups.csv").exists()


def test_an_existing_proposal_is_not_overwritten(configure: Configure, workspace: Path) -> None:
    Path("proposed.groups.csv").write_text("path,group\n")
    with pytest.raises(UserError, match="proposed.groups.csv exists; use another --output, or --replace"):
        configure(exposures(16)[0], "--output", "proposed.yaml")
    assert Path("proposed.groups.csv").read_text() == "path,group\n" and not Path("proposed.yaml").exists()


def write_source(folder: Path, count: int = 60) -> Path:
    for number in range(count):
        file = folder / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(view(number, 3)))
    return folder


def write_table(text: str) -> str:
    Path(FOLDER).mkdir(parents=True, exist_ok=True)
    Path(name_group_table("x")).write_text(text)
    return name_group_table("x")


def test_images_without_a_row_are_groups_of_their_own_and_counted(
    ingest: Ingest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{'ab'[n % 2]}/{n}.png,g{n // 3}\n" for n in range(54)) + "a/54.png,\n"
    folder = ingest(write_source(tmp_path / "d"), group_table=write_table("path,group\n" + rows + "a/99.png,gone\n"))
    assert "6 images have no row in data/splits/x.groups.csv (a/54.png, a/56.png, a/58.png and 3 more)" in (
        capsys.readouterr().out
    )
    found = pd.concat([read_manifest(folder), read_manifest(tmp_path / "sealed")]).set_index("path")["group"]
    assert [found[f"{'ab'[n % 2]}/{n}.png"] for n in range(54)] == [f"g{n // 3}" for n in range(54)]
    alone = {found[f"{'ab'[n % 2]}/{n}.png"] for n in range(54, 60)}
    assert len(alone) == 6 and not any(name.startswith("g") for name in alone)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "data/splits/x.groups.csv does not exist; `macula configure` writes such a table"),
        ("file,group\na/0.png,1\n", "data/splits/x.groups.csv has no column path; its columns must be path and group"),
        ("path,group\na/0.png,1\na/0.png,2\n", "names the groups 1 and 2 for a/0.png; keep one"),
    ],
)
def test_a_damaged_table_is_refused(text: str | None, message: str, ingest: Ingest, tmp_path: Path) -> None:
    name = name_group_table("x") if text is None else write_table(text)
    with pytest.raises(UserError, match=re.escape(message)):
        ingest(write_source(tmp_path / "d", 12), group_table=name)


def test_a_table_elsewhere_is_refused(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("path,group\n")
    with pytest.raises(UserError, match="groups.csv is not in the source; .*Tables of the project are in data/splits"):
        ingest(write_source(tmp_path / "d", 12), group_table="groups.csv")


def test_splits_by_other_groups_are_not_reused(ingest: Ingest, tmp_path: Path) -> None:
    source = write_source(tmp_path / "d")
    ingest(source)
    with pytest.raises(UserError, match="groups by picture, but the groups are now by table data/splits/x.groups.csv"):
        ingest(source, group_table=write_table("path,group\na/0.png,1\n"))


def test_ingest_depends_on_the_tables_of_the_project() -> None:
    assert FOLDER in GRAPH["ingest"]["deps"]


@pytest.mark.parametrize(("shift", "least"), [(1, 39), (2, 36)])
def test_shifted_views_of_an_object_are_one_component(shift: int, least: int) -> None:
    views = [view(number, copy, shift) for number in range(40) for copy in range(6)]
    small = [np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BOX)) for image in views]
    links = find_links(np.stack(small))
    assert links is not None and links.exist
    component = links.components().reshape(40, 6)
    whole = [len(set(row)) == 1 for row in component.tolist()]
    assert sum(whole) >= least and len(np.unique(component)) >= 40


def test_distinct_images_are_not_linked() -> None:
    small = [np.asarray(Image.fromarray(view(number, 3)).resize((32, 32))) for number in range(150)]
    links = find_links(np.stack(small))
    assert links is not None and not links.exist
    assert find_links(np.stack(small[:20])) is None
