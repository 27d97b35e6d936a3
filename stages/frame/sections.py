"""The sections of `params.yaml`: every key with its type, unit and range."""

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from stages.core.errors import did_you_mean
from stages.frame.expectations import LEFT_OUT, OFFERED, OWN

Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class Section(BaseModel):
    """A frozen section: unknown keys are errors, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Columns(Section):
    """Column names of a table of images; null, or an empty list, where the table has no such column."""

    path: Text
    """Path of the image, relative to `folder`."""
    folder: str
    """Where the paths begin, relative to the table's folder; empty: there."""
    label: Text | None
    """The class, taken as text: `007` stays `007`."""
    separator: str
    """What stands between several classes in a cell, for multilabel; empty: a cell is one class."""
    scalars: tuple[Text, ...]
    """Columns of numbers."""
    points: tuple[Text, ...]
    """Names of points: for `nose` the columns `nose_x` and `nose_y`, in pixels; empty cells: not visible."""
    group: Text | None
    """What must not be torn apart by the split: patient, animal, scene."""
    split: Text | None
    """The data's own split: train, val or test."""
    origin: Text | None
    """Where an image comes from: real, simulated, a site, a device."""


class Ingest(Section):
    """Where the images are and how they are labelled."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    """Name of the data set: a-z, 0-9, `_`, `-`. Names its file in data/splits."""
    source: Text
    """Folder, zip, tar or npz; relative to the project or absolute."""
    inside: str
    """Path inside the source of the folder, table (csv, parquet), npz or COCO file to read; empty: the source."""
    form: Literal[
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
    ]
    """How the labels are written; auto: as the files look, and said so."""
    images: str
    """Pattern of image paths, as `train/image/{key}.png`: {key} names the image, * is any text without a slash; used
    by masks, instances, dots and pairs."""
    targets: str
    """Pattern of the files that belong to an image, with the same {key}, and {label} where the path names the
    class; used as `images`."""
    values: dict[int, Text]
    """Value in a mask: class. Empty: 0 is background, any other value is foreground."""
    ignore: tuple[int, ...]
    """Values in a mask where the truth is unknown."""
    columns: Columns
    """Used when a table is read."""
    group: str
    """Regular expression searched in an image's path, its first parenthesis is the group; empty: every distinct
    picture is a group of its own."""
    block: Annotated[int, Field(ge=1)]
    """Images whose numbers, the last in their names, follow each other are kept together, so many at a time, as slices
    or frames of a film must be; and so are blocks that share a look-alike. Within a group, where groups are known; 1:
    none."""
    origin: str
    """Regular expression searched in an image's path, its first parenthesis is where the image comes from, as real or
    simulated, a site, a device, which the audit holds against each other; empty: not known."""
    max_rejected: Share
    """Share of the files that may be unreadable, 0 to 1; above it ingest fails."""
    max_megapixels: Annotated[float, Field(gt=0, le=178)]
    """Larger images are rejected, in 10^6 pixels; checked before decoding."""

    @field_validator("group", "origin")
    @classmethod
    def _one_parenthesis(cls, value: str) -> str:
        import re

        try:
            pattern = re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if value and pattern.groups < 1:
            raise ValueError("has no parenthesis; put one around the part that is meant, as `^(patient[0-9]+)_`")
        return value


class Split(Section):
    """Training, validation and test."""

    by: Literal["hash", "source"]
    """hash: by groups, stratified, kept in data/splits; source: the data's own train, val and test."""
    validation: Annotated[float, Field(gt=0, lt=1)]
    """Share of the images for validation, 0 to 1; used by hash."""
    test: Annotated[float, Field(gt=0, lt=1)]
    """Share of the images sealed for the test, 0 to 1; used by hash."""

    @model_validator(mode="after")
    def _leaves_training_data(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation {self.validation} + test {self.test} = {self.validation + self.test:g} leaves nothing to "
                "train on; they must add up to less than 1"
            )
        return self


class Expectation(Section):
    """A rule of your own; what is not one of these keys is an argument of the expectation, as `column`."""

    model_config = ConfigDict(extra="allow")

    expect: str
    """Name of one of Great Expectations' expectations, or of ours; where it is not given, that of the rule is it."""
    severity: Literal["blocking", "warning"] = "blocking"
    """What a broken rule is to the gate."""
    why: str = ""
    """Shown with the finding."""

    @property
    def arguments(self) -> dict[str, Any]:
        """What the expectation itself is given."""
        return dict(self.model_extra or {})

    @field_validator("expect")
    @classmethod
    def _known(cls, value: str) -> str:
        if value in LEFT_OUT:
            raise ValueError(f"is not offered: {LEFT_OUT[value]}")
        if value not in (*OFFERED, *OWN):
            raise ValueError(f"no such expectation; {did_you_mean(value, (*OFFERED, *OWN))}")
        return value

    @model_validator(mode="after")
    def _is_plain(self) -> "Expectation":
        try:
            json.dumps(self.arguments, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"an argument is no finite number, text, list or mapping: {error}") from None
        return self


class Checks(Section):
    """What the manifest must keep; a broken rule is a finding for the gate."""

    min_classes: Annotated[int, Field(ge=2)]
    """Number of classes, at least."""
    min_train_per_class: Annotated[int, Field(ge=1)]
    """Training images per class, at least."""
    min_validation_per_class: Annotated[int, Field(ge=1)]
    """Validation images per class, at least."""
    min_side: Annotated[int, Field(ge=1)]
    """Shorter side of an image, in pixels, at least."""
    max_aspect: Annotated[float, Field(ge=1)]
    """Longer side over shorter side, at most."""
    max_blank: Share
    """Share of images of a single grey level, 0 to 1, at most."""
    expectations: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")], Expectation]
    """Rules of your own, by a name that you give: docs/reference/checks.md."""

    @field_validator("expectations", mode="before")
    @classmethod
    def _named_by_their_expectation(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: {"expect": name, **given} if isinstance(given, dict) else given for name, given in value.items()}


class Audit(Section):
    """How hard the audits look."""

    permutations: Annotated[int, Field(ge=99, le=100_000)]
    """Shuffles behind a p-value; the smallest p is 1 / (permutations + 1)."""
    max_p: Annotated[float, Field(gt=0, lt=1)]
    """A confounder's p-value, at most, to be a finding."""
    min_skill: Share
    """A confounder's skill, or that of the one class which is told best, at least, to be a finding: 0 is chance, 1
    foretells every label."""
    content_blocks: bool
    """true: a content statistic (brightness, contrast, colour) that tells the label blocks; false: it warns."""
    alone: Annotated[float, Field(gt=0.5, le=1)]
    """AUC at which one statistic alone that tells one class from the others blocks; and skill (0 chance, 1 certain) at
    which the bytes of the files alone do."""
    max_images: Annotated[int, Field(ge=100)]
    """Images looked at by audits that cost more than a statistic each; larger sets are sampled, of each group some."""


class Gate(Section):
    """What may pass nevertheless."""

    waive: dict[str, Text]
    """Finding id: the reason why it is accepted. The report shows both."""


class Prepare(Section):
    """The pixels that training sees."""

    size: Annotated[int, Field(ge=8, le=2048)]
    """Working height and width in pixels."""
    channels: Annotated[int, Field(ge=1, le=256)]
    """1: grey; 3: colour; other numbers must be those of the images."""
    fit: Literal["stretch", "letterbox", "tile"]
    """stretch: resized to it, shape not kept; letterbox: resized, shape kept, black below or to the right; tile: cut
    into overlapping tiles of it, not resized (segmentation and image)."""
    overlap: Annotated[float, Field(ge=0, le=0.75)]
    """Of neighbouring tiles, as a share of the size."""
    parts: Literal["auto", "none", "foreground", "points"]
    """Articulated parts of the figures, for augmentation: found by the skeleton of what stands out from a plain ground,
    or along the tree of the annotated points; auto: points where `task.skeleton` is given, else none."""


class Augment(Section):
    """Random changes of the training images, on the training device."""

    preset: Literal["auto", "none", "light", "standard", "strong"]
    """How much: each augmentation has its amounts in each, and leaves out what does not suit task and data. auto:
    standard."""
    outside: Literal["auto", "zeros", "border", "reflection"]
    """What comes into view beyond the edge: black, the edge continued, or the image mirrored; auto: by task."""
    amounts: dict[Text, Any]
    """Instead of the preset's: name of an augmentation: its first amount, or all of them by name, or true (as in
    the preset, else as in standard), or off; checked by the augmentations themselves."""


class Network(Section):
    """The architecture."""

    name: Text
    """vgg11 vgg16 googlenet resnet18 resnet34 resnet50 timm/NAME: one answer an image; unet: one a pixel; mask_rcnn:
    instances."""
    encoder: Text
    """Of unet and mask_rcnn: plain (the U-Net's own; unet only) or any of the others."""
    norm: Literal["batch", "group", "none"]
    """Normalization after convolutions, where the architecture has one."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Share of features dropped before the last layer, 0 to 1."""
    feature_noise: Annotated[float, Field(ge=0, le=2)]
    """Deviation of the noise around 1 by which features before the last layer are multiplied in training."""
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)]
    """Share of images for which the last residual block is left out in training; earlier ones in proportion."""
    weights: Text
    """Where training begins: none (random), default (published weights of that name, downloaded), an address, or the
    name of a file in data/weights: of weights, or the model.pt of another run."""
    frozen_epochs: Annotated[int, Field(ge=0)]
    """Epochs at the start in which pretrained layers stay as they are."""
    pretrained_rate: Annotated[float, Field(gt=0, le=1)]
    """Learning rate of pretrained layers, as a share of `train.learning_rate`."""


def _rate(value: Any) -> Any:
    """One message where a union would give one for each of its types."""
    if value == "auto" or (isinstance(value, int | float) and 0 < value <= 10):
        return value
    raise ValueError("Input should be greater than 0 and less than or equal to 10, or auto")


class Train(Section):
    """The optimization."""

    epochs: Annotated[int, Field(ge=1)]
    """Passes over the training images."""
    patience: Annotated[int, Field(ge=0)]
    """Epochs without a better validation score after which training stops; 0: it never does."""
    batch_size: Annotated[int, Field(ge=2)]
    """Images that go through the network at once, on each device."""
    accumulate: Annotated[int, Field(ge=1)]
    """Batches whose gradients are averaged for one step; as one large batch, but for batch normalization."""
    optimizer: Text
    """adamw, adam, sgd with Nesterov momentum, rmsprop, lion, or timm/NAME: any other that timm has."""
    momentum: Annotated[float, Field(ge=0, lt=1)]
    """Of sgd and rmsprop; of the others the decay of the mean gradient, beta 1."""
    loss: Text
    """auto: the one nearest to the score; or one that the representation knows."""
    learning_rate: Annotated[float | Literal["auto"], BeforeValidator(_rate)]
    """The highest of the schedule; auto: by a range test before training (Smith 2017)."""
    schedule: Literal["one_cycle", "cosine", "step", "plateau", "constant"]
    """How the rate goes on behind the warm-up: see `stages.training.schedules`."""
    warmup: Annotated[float, Field(ge=0, lt=1)]
    """Share of all steps in which the rate rises to `learning_rate`."""
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    """Decoupled (adamw, lion) or L2 (adam, sgd, rmsprop) weight decay."""
    l1: Annotated[float, Field(ge=0, le=1)]
    """Pull of all weights towards 0, whatever their size: the gradient of l1 times the sum of their absolute values."""
    clip: Annotated[float, Field(ge=0)]
    """Longest gradient: longer ones are shortened to it; 0: none is."""
    average: Annotated[float, Field(ge=0, lt=1)]
    """Decay of an exponential moving average of the weights, which is judged and kept in their place; 0: none."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    """Share of the target spread over all classes."""
    class_weights: Literal["auto", "none", "balanced", "sampled"]
    """balanced: each class counts the same in the loss, however few images it has; sampled: images of rare classes are
    drawn more often, so that an epoch shows each class as often as any other; auto: balanced where the score counts
    classes alike and one is far more frequent than another."""
    not_finite: Literal["stop", "roll_back"]
    """When the loss is no number. stop: with the images of that batch kept; roll_back: go on from the beginning of the
    epoch with half the learning rate, at most five times."""
    checkpoint: Annotated[float, Field(ge=0)]
    """Seconds of training between two checkpoints, from which a killed training goes on."""
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    """Same seed, same device, same number of threads: same weights."""
    device: Literal["auto", "cpu", "cuda", "mps", "tpu"]
    """auto: the best this machine has."""
    devices: Annotated[int, Field(ge=1)]
    """Processes with a device each that share every batch's work, on this machine; under torchrun those it started."""
    precision: Literal["auto", "32-true", "bf16-mixed"]
    """Arithmetic of the network; auto: bf16-mixed where a trial shows it to be clearly faster."""
    layout: Literal["auto", "channels_first", "channels_last"]
    """Order of values in memory; auto: by the same trial."""
    compile: Literal["auto", "no", "yes"]
    """torch.compile, which needs a C++ compiler; auto: by the same trial on cuda, no elsewhere."""
    resident: Literal["auto", "no", "yes"]
    """All training images in the device's memory; auto: on cuda, where they take less than half of what is free."""

    @field_validator("optimizer")
    @classmethod
    def _is_known(cls, optimizer: str) -> str:
        known = ("adamw", "adam", "sgd", "rmsprop", "lion")
        if optimizer not in known and not optimizer.startswith("timm/"):
            raise ValueError(did_you_mean(optimizer, [*known, "timm/NAME"]))
        return optimizer


class Tracking(Section):
    """Who is told of a training, beside DVC."""

    mlflow: str
    """Tracking URI of MLflow, as http://HOST:5000 or sqlite:///mlflow.db; empty: it is not told."""


class Range(Section):
    """One dimension of the search: either low and high, or choices."""

    low: float | None = None
    """Smallest value."""
    high: float | None = None
    """Largest value."""
    log: bool = False
    """Search the logarithm."""
    steps: Annotated[int, Field(ge=2)] | None = None
    """How many values of it a grid tries; 3 where none are given."""
    choices: tuple[bool | int | float | str, ...] | None = None
    """The values to choose from."""

    def holds(self, value: Any) -> bool:
        """Whether a value lies within."""
        if self.choices is not None:
            return value in self.choices
        return self.low is not None and self.high is not None and self.low <= value <= self.high

    @model_validator(mode="after")
    def _either(self) -> "Range":
        if self.choices is not None:
            if self.low is not None or self.high is not None or not self.choices:
                raise ValueError("give either low and high, or a non-empty list of choices")
        elif self.low is None or self.high is None or self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}; or give choices")
        elif self.log and self.low <= 0:
            raise ValueError(f"log needs low above 0, not {self.low}")
        return self


_TUNABLE: dict[str, type[Section]] = {"train": Train, "network": Network, "augment": Augment}
_FIXED = (  # trials have epochs of their own; the others are no choices, or hold choices of their own
    "train.epochs",
    "train.seed",
    "train.device",
    "train.devices",
    "train.checkpoint",
    "train.not_finite",
    "augment.amounts",
)
_AMOUNTS = "augment.amounts."
TUNABLE = {
    f"{name}.{key}": field
    for name, section in _TUNABLE.items()
    for key, field in section.model_fields.items()
    if f"{name}.{key}" not in _FIXED
}
"""Dotted keys that `tune` may search over, beside `augment.amounts.NAME` and `augment.amounts.NAME.AMOUNT`."""


def _out_of_place(key: str, span: Range) -> list[str]:
    """What is wrong with searching `key` over `span`: an unknown key, or an end outside what the key allows."""
    if key.startswith(_AMOUNTS):
        return []  # which are known and how far they go is known where they are done
    if key not in TUNABLE:
        return [f"{key}: unknown key; {did_you_mean(key, TUNABLE)}"]
    field = TUNABLE[key]
    allowed: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
    problems = []
    for end in span.choices or (span.low, span.high):
        try:
            allowed.validate_python(end)
        except ValidationError as error:
            problems.append(f"{key}: {end!r}: {error.errors()[0]['msg'].removeprefix('Value error, ')}")
    return problems


class Tune(Section):
    """The search for better params of `train`, `network` and `augment`."""

    trials: Annotated[int, Field(ge=0)]
    """How many sets of values are tried; 0: no search."""
    epochs: Annotated[int, Field(ge=1)]
    """Passes over the training images per trial."""
    minutes: Annotated[float, Field(gt=0)] | None
    """After which no further round begins: what is found hangs on the machine's speed then; null: no such end."""
    sampler: Literal["tpe", "random", "grid"]
    """tpe (Bergstra et al. 2011), random, or grid: every combination of choices and steps."""
    together: Annotated[int, Field(ge=1)]
    """Trials of a round, proposed before any of them has ended: so many workers can be busy."""
    prune: bool
    """Stop a trial that after some epochs is worse than half of those of earlier rounds were."""
    finalists: Annotated[int, Field(ge=1)]
    """Best trials that are trained under further seeds, beside params.yaml as it stands, so that luck is not chosen."""
    repeats: Annotated[int, Field(ge=0)]
    """Further seeds of each finalist; the best mean wins."""
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    """Same seed, same trials."""
    space: dict[str, Range]
    """Dotted key of `train`, `network` or `augment`: its range."""

    @field_validator("space")
    @classmethod
    def _lies_within_what_can_be_tuned(cls, space: dict[str, Range]) -> dict[str, Range]:
        problems = [problem for key, span in space.items() for problem in _out_of_place(key, span)]
        if problems:
            raise ValueError("; ".join(problems))
        return space


class Task(Section):
    """What the network is to answer, and the one score that says how well."""

    name: Literal[
        "classification", "multilabel", "ordinal", "regression", "landmarks", "segmentation", "image", "instances"
    ]
    """classification: one class an image; multilabel: any number of classes; ordinal: a grade; regression: numbers;
    landmarks: named points; segmentation: a class a pixel; image: another image; instances: every single thing."""
    truth: Literal["auto", "label", "labels", "scalars", "count", "area", "points", "mask", "shapes", "image"]
    """What of the labels is asked: auto, the task's own; count or area, of things or of a mask, for regression."""
    score: Text
    """Picks the best epoch and the best trial, and is held against the objective."""
    classes: tuple[Text, ...]
    """Grades from the lowest to the highest, or the classes to be told apart in the order wanted; empty: as found."""
    flip_pairs: tuple[tuple[Text, Text], ...]
    """Points that change names in a mirrored image, as [[left_eye, right_eye]]."""
    skeleton: tuple[tuple[Text, Text], ...]
    """Points between which there is a part, as [[neck, nose]], from the trunk outwards; empty: those that lie near each
    other. Of a tree the longest part at its beginning stays, the others may turn (`augment.amounts.articulated`)."""
    units: dict[Text, Text]
    """Number that is asked: its unit, as people write it, as {weight: kg}; shown with every answer and score."""
    tolerance: Annotated[float, Field(gt=0)]
    """What still counts as right. landmarks: share of the image's diagonal; segmentation: pixels off a boundary."""


class Representation(Section):
    """In what form the network is taught the answer."""

    name: Literal[
        "auto",
        "class",
        "classes",
        "cumulative",
        "scalar",
        "density",
        "coordinates",
        "heatmap",
        "disc",
        "mask",
        "image",
        "boxes",
        "watershed",
    ]
    """auto: the task's first. ordinal: class, cumulative; regression: scalar, density, mask; landmarks: heatmap,
    coordinates, disc; instances: boxes, watershed."""
    radius: Annotated[float, Field(gt=0)]
    """Of a disc, or standard deviation of the blob of a heatmap or a density, in working pixels."""


class Objective(Section):
    """The target that the run is held against: one of the two, the other null."""

    at_least: float | None
    """Value of `task.score` to reach on validation data, where higher is better."""
    at_most: float | None
    """Value of `task.score` to stay below, where lower is better."""

    @model_validator(mode="after")
    def _one_of_two(self) -> "Objective":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give one of at_least and at_most, and null for the other")
        return self


class Evaluate(Section):
    """Scores on validation data."""

    resamples: Annotated[int, Field(ge=100, le=100_000)]
    """Bootstrap resamples behind an interval."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    """Coverage of the intervals."""
    calibration_bins: Annotated[int, Field(ge=2, le=100)]
    """Bins of the reliability curve."""
    worst: Annotated[int, Field(ge=0, le=500)]
    """How many of the worst errors are shown as images."""


class Export(Section):
    """Which variant of the model is shipped."""

    variants: tuple[Literal["int8", "bfloat16"], ...]
    """What is tried beside float32; bfloat16 where OpenVINO is installed."""
    engine: Literal["onnxruntime", "openvino"]
    """For which the fastest variant is chosen. A model that runs where both are installed takes the faster one."""
    max_drop: Annotated[float, Field(ge=0, le=1)]
    """How much lower a variant may score on validation images, the whole interval of it: of a score that is a share in
    points (.01 is one of a hundred), of others as a share of the score."""
    calibration: Annotated[int, Field(ge=8, le=10_000)]
    """Training images by which the ranges of int8 are set."""
    licence: str
    """Of the model, for its card; empty: not said."""


class Benchmark(Section):
    """Parity and speed of the exported model."""

    batches: Annotated[tuple[int, ...], Field(min_length=1)]
    """Batch sizes to time, in images."""
    threads: Annotated[int, Field(ge=1, le=256)]
    """Threads of onnxruntime and of torch."""
    seconds: Annotated[float, Field(gt=0, le=600)]
    """Timing per batch size and runtime."""
    max_difference: Annotated[float, Field(gt=0)]
    """Largest difference of an answer between torch and ONNX, in the answer's unit; above it the stage fails."""


class Params(Section):
    """All of `params.yaml`."""

    task: Task
    representation: Representation
    objective: Objective
    ingest: Ingest
    split: Split
    checks: Checks
    audit: Audit
    gate: Gate
    prepare: Prepare
    augment: Augment
    network: Network
    train: Train
    tracking: Tracking
    tune: Tune
    evaluate: Evaluate
    export: Export
    benchmark: Benchmark
