"""Params of the data: importing, splitting, checking, auditing and preparing it."""

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator

from stages.config.expectation_names import LEFT_OUT, OFFERED, OWN
from stages.config.schema_base import Section, Share, Text, Unit
from stages.core.errors import did_you_mean


class Columns(Section):
    """Column names of a table of images; null or an empty list where the table has no such column."""

    path: Text = "path"
    """Column of the image's path, relative to `folder`."""
    folder: str = ""
    """Folder that the paths are relative to, itself relative to the table's folder; empty: the table's folder."""
    label: Text | None = "label"
    """Column of the class, read as text: `007` stays `007`."""
    separator: str = ""
    """Separator between several classes in one cell, for multilabel; empty: a cell is one class."""
    scalars: tuple[Text, ...] = ()
    """Columns of numbers to predict."""
    points: tuple[Text, ...] = ()
    """Names of points: `nose` has the columns `nose_x` and `nose_y`, in pixels; empty cells: not visible."""
    group: Text | None = None
    """Column of the group that a split must not separate: patient, animal, scene."""
    split: Text | None = None
    """Column of the data's own split: train, val or test."""
    origin: Text | None = None
    """Column of the image's origin: real, simulated, a site, a device."""


class Ingest(Section):
    """Location of the images, and the format of their labels."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    """Name of the data set: a-z, 0-9, `_`, `-`. The split is stored in data/splits under this name."""
    source: Text
    """Folder, zip, tar or npz; relative to the project or absolute."""
    inside: str = ""
    """Path inside the source of the folder, table (csv, parquet), npz or COCO file to read; empty: the source."""
    format: Literal[
        "auto",
        "folders",
        "table",
        "arrays",
        "masks",
        "instances",
        "dots",
        "pairs",
        "coco",
        "voc",
        "yolo",
        "deeplabcut",
        "names",
    ] = "auto"
    """Format of the labels; auto: detected from the files, and printed."""
    files: tuple[Text, ...] = ()
    """Patterns of the images to use, in any format, relative to `source`: `2024/**`, or `!**/thumbs/**`, where `!`
    excludes. * matches text without a slash, ** any text, **/ any folders; the last pattern that matches decides. The
    other images are not used, as if they were not there. Empty: all images."""
    images: str = ""
    """Pattern of image paths, such as `train/image/{key}.png`: {key} names the image, * matches any text without a
    slash; other names in braces identify the image as well, as in `{patient}/images/{key}.png`. Used by masks,
    instances, dots and pairs."""
    targets: str = ""
    """Pattern of the files that belong to an image, with the same {key} and other names in braces, and {label} where
    the path names the class; used by the same formats as `images`. In the format folders: files beside the images, such
    as masks, that are not used: those of the images that `images` matches, or, without {key}, all that match. In that
    format without `targets`, {label} in `images` is the folder of the class and {group} that of the group, as in
    `*/{group}/{label}/**`. In the format coco, if `inside` names no file: the COCO files that are read as one, such as
    `annotations/instances_*.json`."""
    mask_values: dict[int, Text] = Field(default_factory=dict)
    """Class of each value in a mask; a blurred mask of two levels, such as a JPEG, has 0 and 255. Empty: 0 is
    background, every other value is foreground."""
    ignore_values: tuple[int, ...] = ()
    """Values in a mask where the class is unknown: excluded from loss and scores. In the format instances: values that
    are not objects."""
    overlaps: Literal["reject", "combine"] = "reject"
    """Pixels of several classes, in masks where `targets` contains {label} or, for the task segmentation, in the
    objects of the formats coco, voc and yolo. combine: the pixel has all of these classes, as the combination
    `membrane + mitochondrion`, and scores are computed for each class. reject: an image whose masks overlap is
    rejected; a pixel of several objects has the class of the last one, and the number of such pixels is printed."""
    unlabelled: Literal["reject", "empty", "skip"] = "reject"
    """Images without a label file or entry in the formats yolo, voc, coco, masks, instances and dots. reject: listed as
    rejected, which counts for `max_rejected`; empty: images without objects, as YOLO defines them; skip: not used,
    as in a data set that is labelled in part."""
    crowd: Literal["ignore", "objects"] = "ignore"
    """Objects that the source marks as `iscrowd` (coco) or `difficult` (voc). ignore: excluded from training and
    scoring; objects: like all others, for tools that set `iscrowd` for every mask."""
    columns: Columns = Columns()
    """Columns of a table; used where a table is read."""
    group_table: str = ""
    """Path in `source` of a table (csv, parquet) that names the group of every image, such as `metadata.csv` beside
    images and masks; `columns.path` and `columns.group` name its columns. In the format table, the table of the labels
    has them. Or a table in data/splits with the columns path and group, such as `data/splits/flowers.groups.csv`, which
    `configure` writes if images form groups only by their similarity; images without a row keep the group that they
    have otherwise. Empty: none."""
    coco_group: str = ""
    """Key of the images in a COCO file whose value is the group, such as `location`, `seq_id` or `video_id`. Empty:
    none."""
    group_regex: str = ""
    """Regular expression searched in an image's path; the match of its first parentheses is the group. Empty: every
    distinct image is its own group."""
    name_regex: str = ""
    """Regular expression searched in an image's path, for the format names: `(?P<label>...)` is the class, and any
    other named group a number to predict, as in `(?P<weight>[0-9]+)g`; the names group, split and origin have the same
    meaning as the columns of a table."""
    sequence_block: Annotated[int, Field(ge=1), Unit("images")] = 1
    """Number of consecutive images (by the last number in the name: slices, video frames) that the split keeps
    together. If no number is used twice, blocks follow the counter across folders and prefixes; otherwise each folder
    and prefix has its own. Blocks that share a near-duplicate form one group; where groups are known, blocks lie within
    them. 1: no blocks."""
    session_gap: Annotated[float, Field(ge=0), Unit("minutes")] = 0.0
    """Images whose EXIF capture times follow one another without a longer gap are one session, which the split keeps
    together. Files without a capture time have the time of their last change instead. Used for images whose group is
    not known otherwise; images without any time remain groups of their own, and are counted. 0: no sessions."""
    origin_regex: str = ""
    """Regular expression searched in an image's path; the match of its first parentheses is the image's origin (real or
    simulated, a site, a device). The audit compares origins. Empty: unknown."""
    max_rejected: Annotated[Share, Unit("share of files")] = 0.01
    """Largest share of files that may be rejected, such as unreadable ones; above it, ingest fails."""
    max_megapixels: Annotated[float, Field(gt=0, le=178), Unit("10^6 pixels")] = 100.0
    """Size above which an image is rejected, checked before decoding."""

    @field_validator("name_regex")
    @classmethod
    def _names_a_label(cls, value: str) -> str:
        try:
            names = set(re.compile(value).groupindex)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if value and not names - {"group", "split", "origin"}:
            raise ValueError(
                "names nothing to predict; put (?P<label>...) around the class, or (?P<NAME>...) around a number, as "
                "in `^(?P<label>[a-z]+)_` or `_(?P<weight>[0-9]+)g`"
            )
        return value

    @field_validator("group_regex", "origin_regex")
    @classmethod
    def _has_a_parenthesis(cls, value: str) -> str:
        try:
            pattern = re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if value and pattern.groups < 1:
            raise ValueError("has no parentheses; put them around the part to extract, as in `^(patient[0-9]+)_`")
        return value


class Split(Section):
    """Division of the images into training, validation and test."""

    by: Literal["hash", "source"] = "hash"
    """hash: by groups, stratified, stored in data/splits; source: the data's own train, val and test."""
    validation: Annotated[float, Field(gt=0, lt=1), Unit("share of images")] = 0.15
    """Share of the images for validation; used by hash."""
    test: Annotated[float, Field(gt=0, lt=1), Unit("share of images")] = 0.15
    """Share of the images sealed for the test; used by hash."""

    guard: Annotated[int, Field(ge=0), Unit("images")] = 0
    """Training images whose number differs by at most this from that of a validation or test image of the same series
    are left out, and listed in `unused.csv`. Used by hash with `ingest.sequence_block`, since images at the borders of
    blocks are similar. 0: none."""

    @model_validator(mode="after")
    def _leaves_training_data(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation {self.validation} + test {self.test} = {self.validation + self.test:g} leaves no "
                "training images; the sum must be less than 1"
            )
        return self


class Expectation(Section):
    """User-defined rule; every other key is an argument of the expectation, such as `column`."""

    model_config = ConfigDict(extra="allow")

    expect: str
    """Name of an expectation of Great Expectations or of Macula; default: the name of the rule."""
    severity: Literal["blocking", "warning"] = "blocking"
    """Severity of the finding when the rule is broken."""
    why: str = ""
    """Reason, shown with the finding."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the expectation."""
        return dict(self.model_extra or {})

    @field_validator("expect")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value in LEFT_OUT:
            raise ValueError(f"is not offered: {LEFT_OUT[value]}")
        if value not in (*OFFERED, *OWN):
            raise ValueError(f"no such expectation; {did_you_mean(value, (*OFFERED, *OWN))}")
        return value

    @model_validator(mode="after")
    def _has_plain_arguments(self) -> "Expectation":
        for name, value in self.arguments.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError):
                raise ValueError(
                    f"{name}: {str(value)!r} is not a finite number, text, true, false, null, or a list or mapping of "
                    "these; put quotes around text such as a date"
                ) from None
        return self


class Checks(Section):
    """Rules that the manifest must meet; a broken rule is a finding for the gate."""

    min_classes: Annotated[int, Field(ge=2), Unit("classes")] = 2
    """Smallest number of classes."""
    min_train_per_class: Annotated[int, Field(ge=1), Unit("images")] = 10
    """Smallest number of training images per class."""
    min_validation_per_class: Annotated[int, Field(ge=1), Unit("images")] = 3
    """Smallest number of validation images per class."""
    min_side: Annotated[int, Field(ge=1), Unit("pixels")] = 8
    """Smallest length of an image's shorter side."""
    max_aspect: Annotated[float, Field(ge=1)] = 10.0
    """Largest aspect ratio: longer over shorter side."""
    max_blank: Annotated[Share, Unit("share of images")] = 0.0
    """Largest share of images that have a single grey level."""
    expectations: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")], Expectation] = Field(
        default_factory=dict
    )
    """User-defined rules by name, as {name: {expect: ..., column: ..., severity: ..., why: ...}}:
    docs/reference/checks.md."""

    @field_validator("expectations", mode="before")
    @classmethod
    def _are_named_by_their_expectation(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: {"expect": name, **given} if isinstance(given, dict) else given for name, given in value.items()}


class Audit(Section):
    """Thresholds and effort of the audits."""

    permutations: Annotated[int, Field(ge=99, le=100_000)] = 499
    """Number of permutations from which a p-value is computed; the smallest p-value is 1 / (permutations + 1)."""
    max_p: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Largest p-value at which a confounder is reported."""
    min_skill: Share = 0.2
    """Smallest skill at which a confounder is reported, over all classes or for the class it predicts best: 0 is
    chance, 1 is a perfect prediction of the label."""
    block_on_content: bool = False
    """true: a content statistic (brightness, contrast, colour) that predicts the label blocks; false: it warns."""
    blocking_auc: Annotated[float, Field(gt=0.5, le=1)] = 0.95
    """AUC at which a single statistic that separates one class from the others blocks; also the skill (0 chance, 1
    perfect) at which the bytes of the files alone block."""
    max_images: Annotated[int, Field(ge=100), Unit("images")] = 5000
    """Number of images examined by audits that cost more than a statistic; larger sets are sampled by group."""


class Gate(Section):
    """Findings that do not stop the pipeline."""

    waive: dict[str, Text] = Field(default_factory=dict)
    """Reason for accepting a finding, by finding id. The report shows both."""


def _white(value: Any) -> Any:
    """Check a white level, with one message instead of one for each type of the union."""
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 255 <= value <= 65535):
        return value
    raise ValueError("Input should be a whole number from 255 to 65535, or auto")


class Prepare(Section):
    """Pixels that the network is trained on."""

    size: Annotated[int, Field(ge=8, le=2048), Unit("pixels")] = 32
    """Working height and width."""
    channels: Annotated[int, Field(ge=1, le=256)] = 1
    """Number of channels. 1: grey; 3: colour; another number must be that of the images."""
    fit: Literal["stretch", "letterbox", "tile"] = "stretch"
    """stretch: resized without keeping the aspect ratio; letterbox: resized with the aspect ratio kept, black below or
    to the right; tile: cut into overlapping tiles, not resized (segmentation and image)."""
    white: Annotated[
        int | Literal["auto"], BeforeValidator(_white), Field(json_schema_extra={"range": "255..65535, or auto"})
    ] = "auto"
    """Level of 16-bit images that is scaled to 1. auto: the smallest of 255, 511, 1023, ... 65535 that at most 0.01 %
    of the pixels of the training images exceed, such as 4095 for a camera of 12 bits; 65535 for images as targets.
    Images of 8 bits are divided by 255."""
    overlap: Annotated[float, Field(ge=0, le=0.75), Unit("share of size")] = 0.25
    """Overlap of neighbouring tiles."""
    articulated_parts: Literal["auto", "none", "foreground", "points"] = "auto"
    """Articulated parts for the augmentation `articulated`. foreground: from the skeleton of the foreground on a plain
    background; points: along the tree of the annotated points; auto: points where `task.skeleton` is given, else
    none."""
