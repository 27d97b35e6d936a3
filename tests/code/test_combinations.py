"""Tests of params that contradict each other: the check reports them before the first stage, without heavy imports."""

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from timm import list_models, optim

from stages.augmentations.augmentation_registry import AUGMENTATIONS
from stages.config.load import check
from stages.config.registry_names import (
    AUGMENTATION_NAMES,
    ENCODER_NAMES,
    FORMAT_LABELS,
    NETWORK_OUTPUTS,
    REPRESENTATION_NAMES,
    TARGET_LABELS,
    TASK_NAMES,
    timm_networks,
    timm_optimizers,
)
from stages.config.schema_data import Ingest
from stages.config.schema_task import Task
from stages.core.errors import UserError, did_you_mean
from stages.importers import IMPORTERS
from stages.networks.encoders import ENCODERS
from stages.networks.network_registry import NETWORKS
from stages.tasks import TASKS
from stages.tasks.representations import REPRESENTATIONS

DATA = {"name": "a", "source": "b"}
SEGMENTATION = {"task": {"name": "segmentation", "score": "dice"}, "network": {"name": "unet"}}
REGRESSION = {"task": {"name": "regression", "score": "r2"}}
LANDMARKS = {"task": {"name": "landmarks", "score": "pck"}, "network": {"name": "unet"}}
INSTANCES = {
    "task": {"name": "instances", "score": "average_precision"},
    "network": {"name": "mask_rcnn"},
    "prepare": {"fit": "letterbox"},
}
EARLY = {"train": {"epochs": 12, "early_size": 32, "early_epochs": 2}, "prepare": {"size": 64}}
POINTS = {"format": "table", "columns": {"label": None, "points": ["nose", "tail"]}}
GRID = {"sampler": "grid", "trials": 3, "space": {"train.learning_rate": {"low": 0.1, "high": 0.2, "steps": 9}}}


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """Return nested values of which later ones replace earlier ones."""
    result: dict[str, Any] = {"ingest": dict(DATA)}
    for part in parts:
        for section, values in part.items():
            result[section] = result.get(section, {}) | values
    return result


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"network": {"name": "resnet19"}}, "network.name: resnet19 is unknown; did you mean `resnet18`?"),
        ({"network": {"name": "ResNet-18"}}, "did you mean `resnet18`?"),
        ({"network": {"name": "timm/resnet19"}}, "timm/resnet19: timm has no such network; did you mean"),
        ({"network": {"name": "unet"}}, "network.name: unet has one output per pixel, but representation class"),
        ({"network": {"name": "mask_rcnn"}}, "network.name: mask_rcnn has boxes as outputs"),
        (merged(SEGMENTATION, {"network": {"name": "resnet18"}}), "network.name: resnet18 has one output per image"),
        (merged(SEGMENTATION, {"network": {"encoder": "resnet81"}}), "network.encoder: resnet81 is unknown"),
        (merged(SEGMENTATION, {"network": {"encoder": "timm/vitt"}}), "network.encoder: timm/vitt: timm has no"),
        (merged(INSTANCES, {"network": {"name": "unet"}}), "requires boxes as outputs; use mask_rcnn"),
        (merged(INSTANCES, {"prepare": {"fit": "stretch"}}), "prepare.fit: stretch does not support representation"),
        ({"prepare": {"fit": "tile"}}, "prepare.fit: tile supports only the tasks segmentation and image"),
        (merged(REGRESSION, {"train": {"class_weights": "balanced"}}), "balanced requires classes in the loss"),
        (merged(REGRESSION, {"train": {"class_weights": "sampled"}}), "sampled requires one class per image"),
        (merged(SEGMENTATION, {"train": {"class_weights": "sampled"}}), "sampled requires one class per image"),
        (merged(LANDMARKS, {"train": {"class_weights": "balanced"}}), "balanced requires classes in the loss"),
        (
            {"train": {"foreground_share": 0.3}},
            "train.foreground_share: 0.3 requires a label for each pixel, which repr",
        ),
        (
            merged(EARLY, {"train": {"early_size": 0}}),
            "train.early_epochs: 2, but train.early_size is 0; set both, or set",
        ),
        (merged(EARLY, {"train": {"early_epochs": 0}}), "train.early_size: 32, but train.early_epochs is 0; set both"),
        (
            merged(EARLY, {"train": {"early_epochs": 12}}),
            "early_epochs: 12 of train.epochs: 12 leaves no epoch with im",
        ),
        (
            merged(EARLY, {"train": {"early_size": 31}}),
            "train.early_size: 31 must be at least 32 and smaller than prep",
        ),
        (merged(EARLY, {"train": {"early_size": 64}}), "smaller than prepare.size: 64; use 32 to 63"),
        (merged(EARLY, {"prepare": {"size": 32}}), "smaller than prepare.size: 32; use 0, and train.early_epochs: 0"),
        (merged(EARLY, SEGMENTATION), "train.early_size: 32 requires classes or numbers of the whole image as targets"),
        (merged(EARLY, LANDMARKS), "not the representation heatmap, whose targets have positions; use 0"),
        ({"train": {"loss": "huber"}}, "train.loss: huber is not a loss of representation class; known: cross_entropy"),
        ({"train": {"loss": "crossentropy"}}, "did you mean `cross_entropy`?"),
        ({"train": {"optimizer": "timm/nadamwx"}}, "train.optimizer: timm/nadamwx is unknown; did you mean"),
        ({"train": {"optimizer": "AdamW"}}, "train.optimizer: 'AdamW': did you mean `adamw`?"),
        ({"task": {"score": "dice"}}, "task.score: dice is not a score of task classification; known: balanced_acc"),
        ({"task": {"target": "points"}}, "task.target: points is not a target of task classification"),
        ({"task": {"classes": ["a", "b", "a"]}}, "task.classes: a is listed more than once"),
        ({"task": {"units": {"weight": "kg"}}}, "task classification predicts no numbers"),
        ({"representation": {"name": "boxes"}}, "representation.name: boxes does not support task classification"),
        ({"network": {"feature_noise": 0.1, "name": "timm/resnet18"}}, "network.feature_noise: 0.1, but timm/resnet18"),
        (merged(INSTANCES, {"network": {"feature_noise": 0.1}}), "but mask_rcnn does not support it; use 0"),
        ({"network": {"stochastic_depth": 0.1, "name": "vgg11"}}, "vgg11 has no residual blocks; use a resnet, or 0"),
        (
            merged(SEGMENTATION, {"network": {"stochastic_depth": 0.1, "encoder": "plain"}}),
            "plain has no residual blocks",
        ),
        (merged(SEGMENTATION, {"network": {"weights": "default", "encoder": "plain"}}), "no published weights"),
        ({"prepare": {"articulated_parts": "points"}}, "prepare.articulated_parts: points: the task classification"),
        ({"augment": {"amounts": {"Elastik": 1}}}, "augment.amounts.Elastik: unknown augmentation; did you mean `ela"),
        ({"tune": {"space": {"augment.amounts.hew": {"low": 0, "high": 1}}}}, "augment.amounts.hew: unknown augment"),
        ({"tune": {"space": {"network.name": {"choices": ["resnet19", "unet"]}}}}, "network.name: resnet19 is unknown"),
        ({"tune": {"space": {"train.optimizer": {"choices": ["AdamW"]}}}}, "'AdamW': did you mean `adamw`?"),
        ({"tune": GRID}, "tune.trials: 3, but the grid has 9 combinations (9 values of train.learning_rate)"),
        (merged(SEGMENTATION, {"ingest": {"format": "folders"}}), "but ingest.format: folders gives labels"),
        (
            merged(REGRESSION, {"ingest": {"format": "folders"}}),
            "requires labels of the kind scalars or mask or shapes",
        ),
        ({"ingest": DATA | {"format": "voc"}}, "requires labels of the kind labels, but ingest.format: voc gives"),
        (
            merged(REGRESSION, {"task": {"target": "area"}, "ingest": {"format": "voc"}}),
            "task.target: area requires labels of the kind mask or shapes, but ingest.format: voc gives boxes",
        ),
        ({"ingest": DATA | POINTS}, "ingest.format: table gives points; change ingest.columns or the section task"),
        (merged(SEGMENTATION, {"ingest": {"format": "masks"}}), "both must contain {key} in place of the image name"),
        (
            merged(LANDMARKS, {"ingest": POINTS, "task": {"flip_pairs": [["nose", "Tale"]]}}),
            "task.flip_pairs: Tale is not a point; did you mean `tail`?",
        ),
        (
            merged(LANDMARKS, {"task": {"skeleton": [["a", "b"], ["b", "c"], ["c", "a"]]}}),
            "is its own ancestor; remove one pair of the cycle",
        ),
        (
            merged(LANDMARKS, {"task": {"skeleton": [["a", "b"], ["c", "b"]]}}),
            "task.skeleton: b has the parents a and c",
        ),
        (
            merged(
                REGRESSION,
                {"ingest": {"format": "table", "columns": {"scalars": ["kg"]}}, "task": {"units": {"KG": "kg"}}},
            ),
            "task.units: KG is not a number of this task; did you mean `kg`?",
        ),
    ],
)
def test_contradicting_params_are_refused_before_the_first_stage(params: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check(merged(params))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "params",
    [
        {},
        SEGMENTATION,
        merged(SEGMENTATION, {"train": {"foreground_share": 0.3}}),
        EARLY,
        merged(EARLY, REGRESSION),
        INSTANCES,
        LANDMARKS,
        merged(REGRESSION, {"train": {"class_weights": "auto"}}),
        merged(REGRESSION, {"task": {"target": "count"}, "ingest": {"format": "voc"}}),
        merged(SEGMENTATION, {"network": {"encoder": "timm/resnet18"}}),
        merged(LANDMARKS, {"ingest": POINTS, "task": {"skeleton": [["nose", "tail"]]}}),
        merged(
            SEGMENTATION,
            {"network": {"name": "resnet18"}, "tune": {"space": {"network.name": {"choices": ["resnet18", "unet"]}}}},
        ),
        {"tune": GRID | {"trials": 10}},
        {"tune": GRID | {"trials": 0}},
        {"train": {"optimizer": "timm/nadamw"}, "network": {"name": "timm/resnet18.a1_in1k"}},
    ],
    ids=str,
)
def test_params_that_go_together_are_accepted(params: dict[str, Any]) -> None:
    check(merged(params))


def test_all_contradictions_are_reported_at_once() -> None:
    params = {"network": {"name": "resnet19"}, "train": {"loss": "dice"}, "augment": {"amounts": {"x": 1}}}
    with pytest.raises(UserError, match="3 mistakes in params"):
        check(merged(params))


def test_the_listed_names_are_those_of_the_registries() -> None:
    assert {name: (set(t.targets), t.scores) for name, t in TASK_NAMES.items()} == {
        name: (set(task.TRUTHS), tuple(task.SCORES)) for name, task in TASKS.items()
    }
    assert {name: (r.tasks, r.output, r.losses) for name, r in REPRESENTATION_NAMES.items()} == {
        name: (kind.tasks, kind.gives, kind.losses) for name, kind in REPRESENTATIONS.items()
    }
    assert {name: one.gives for name, one in NETWORKS.items()} == NETWORK_OUTPUTS
    assert tuple(ENCODERS) == ENCODER_NAMES and tuple(AUGMENTATIONS) == AUGMENTATION_NAMES
    assert {"table", *FORMAT_LABELS} == set(IMPORTERS)
    assert {"auto", *IMPORTERS} == set(cast(Any, Ingest.model_fields["format"].annotation).__args__)
    assert {"auto", *TARGET_LABELS} == set(cast(Any, Task.model_fields["target"].annotation).__args__)


def test_class_weights_are_supported_where_targets_are_classes() -> None:
    for name, kind in REPRESENTATIONS.items():
        weights = REPRESENTATION_NAMES[name].weights
        assert ("sampled" in weights) == (kind.stores == "index")
        assert ("balanced" in weights) == (kind.stores in ("index", "labels") or name == "classes")


def test_networks_and_optimizers_of_timm_are_listed_without_importing_it() -> None:
    assert timm_networks() == set(list_models())
    assert timm_optimizers() == set(optim.list_optimizers())  # type: ignore[attr-defined]


def test_the_check_imports_neither_torch_nor_timm_nor_numpy(root: Path) -> None:
    program = (
        "import sys; from stages.config.load import check\n"
        "check({'ingest': {'name': 'a', 'source': 'b'}, 'network': {'name': 'timm/resnet18'}})\n"
        "print(sorted({'torch', 'timm', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("word", "known", "closest"),
    [
        ("adamW", ["adam", "adamw", "sgd"], "adamw"),
        ("RESNET_18", ["resnet34", "resnet18"], "resnet18"),
        ("balanced accuracy", ["accuracy", "balanced_accuracy"], "balanced_accuracy"),
        ("Learning-Rate", ["learning_rate"], "learning_rate"),
    ],
)
def test_suggestions_ignore_case_hyphens_and_underscores(word: str, known: list[str], closest: str) -> None:
    assert did_you_mean(word, known) == f"did you mean `{closest}`?"
