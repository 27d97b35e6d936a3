"""Tests of the zoo of layouts: the folders are reproducible, and the scorer detects wrong proposals."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.layouts import propose_layouts
from benchmarks.layouts.layout_outcomes import Outcome
from benchmarks.layouts.layout_scores import ASKED, REFUSED, RIGHT, SCORES, WRONG, score_layout
from benchmarks.layouts.zoo import ZOO
from stages.config.load import check
from stages.dataset.annotations import Annotation

STANDING = "  ingest.group_regex, ingest.sequence_block: which images are related (by patient, scene or video)?"
TITLE = "Questions that only you can answer"


def fabrics(by: str = "", lines: tuple[str, ...] = (), left_out: int = 0, **changes: Any) -> Outcome:
    """Return an outcome of fabrics_from_two_sides with groups by a pattern; every other group is for validation."""
    source = ZOO["fabrics_from_two_sides"].build()
    paths = list(source.truth)[left_out:]
    groups = [found[1] if by and (found := re.search(by, path)) else path for path in paths]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    rows = [
        {
            "path": path,
            "group": group,
            "split": ("train", "val")[numbers[group] % 2],
            "annotation": Annotation(labels=(path.split("/", maxsplit=1)[0],)).to_json(),
        }
        for path, group in zip(paths, groups, strict=True)
    ]
    ingest = {"name": "zoo", "source": "source", "format": "folders", "group_regex": by, **changes}
    return Outcome(params=check({"ingest": ingest}), lines=lines, manifest=pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("outcome", "score", "reason"),
    [
        (fabrics(r"fabric(\d+)"), RIGHT, ""),
        (fabrics(), WRONG, "related to training images"),
        (fabrics(lines=(TITLE, STANDING)), WRONG, "related to training images"),
        (fabrics(lines=(TITLE, r"  group_regex: `fabric(\d+)_` may identify related images")), ASKED, "related"),
        (fabrics(lines=(TITLE, r"  group_regex: `lamp(.)` may identify related images")), WRONG, "related"),
        (fabrics(r"lamp(.)"), WRONG, "2 groups merge unrelated images"),
        (fabrics(r"fabric(\d+)", left_out=2), WRONG, "2 of 60 images are left out"),
        (fabrics(r"fabric(\d+)", ("Not read", "  2 images (good/fabric00_lampA.png)"), 2), ASKED, "left out"),
        (fabrics(r"fabric(\d+)", max_rejected=0.2), WRONG, "raises ingest.max_rejected to 0.2"),
        (fabrics(r"fabric(\d+)", format="arrays"), WRONG, "format arrays is not folders"),
        (Outcome(refusal="source contains no labelled images"), REFUSED, "no labelled images"),
    ],
)
def test_faults_of_a_proposal_are_scored(outcome: Outcome, score: str, reason: str) -> None:
    found = score_layout(ZOO["fabrics_from_two_sides"], outcome)
    assert found.score == score and reason in "; ".join(found.reasons)


def test_proposal_for_an_unsupported_layout_is_wrong_and_a_refusal_needs_its_reason() -> None:
    proposed = Outcome(params=check({"ingest": {"name": "zoo", "source": "source"}}))
    assert score_layout(ZOO["captions_of_photos"], proposed).score == WRONG
    assert score_layout(ZOO["medical_files_only"], Outcome(refusal="a.dcm is a DICOM file")).score == RIGHT
    assert score_layout(ZOO["medical_files_only"], Outcome(refusal="no images")).score == REFUSED


def test_wrong_labels_and_files_that_are_not_images_are_scored_wrong() -> None:
    layout = ZOO["image_and_mask_of_one_name"]
    rows = pd.DataFrame([{"path": path, "group": path, "split": "train"} for path in layout.build().files])
    rows["annotation"] = Annotation(labels=("crack",)).to_json()
    params = check({"ingest": {"name": "zoo", "source": "source", "format": "folders"}})
    reasons = "; ".join(score_layout(layout, Outcome(params=params, manifest=rows)).reasons)
    assert "42 files are not images of the data set" in reasons and "task classification" in reasons


def test_zoo_has_many_layouts_of_all_domains_with_an_answer() -> None:
    assert len(ZOO) >= 100 and len({layout.domain for layout in ZOO.values()}) >= 9
    for layout in ZOO.values():
        assert layout.description and (layout.answer.tasks or layout.answer.refusal), layout.name
        assert layout.answer.in_words(), layout.name


@pytest.mark.parametrize("name", [*ZOO][::12])
def test_layouts_are_reproducible_and_their_truth_names_their_files(name: str) -> None:
    first, second = ZOO[name].build(), ZOO[name].build()
    assert first.files == second.files and first.truth == second.truth
    assert first.truth.keys() <= first.files.keys()


def test_a_tiny_run_writes_the_score_of_every_layout(tmp_path: Path) -> None:
    file = propose_layouts.main(["--tiny", "--output", str(tmp_path)])
    found = json.loads(file.read_text())
    assert [row["layout"] for row in found["layouts"]] == list(propose_layouts.TINY)
    assert {row["score"] for row in found["layouts"]} <= set(SCORES) and found["cpu_seconds"] > 0
    scores = {row["layout"]: row["score"] for row in found["layouts"]}
    assert scores["labelme"] == scores["empty_folder"] == RIGHT
    page = (tmp_path / "layouts.md").read_text()
    assert "## Labelling tools" in page and page.count("\n| `") == len(propose_layouts.TINY)
