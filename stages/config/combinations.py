"""Combinations of params that a later stage refuses whatever the images are: reported before the first stage.

The functions `*_problem` return the problem in words, or an empty text; the stages that use the names call them too.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, product
from typing import Any

from stages.config.overlay import overlay
from stages.config.registry_names import (
    AUGMENTATION_NAMES,
    ENCODER_NAMES,
    FIRST_REPRESENTATION,
    FORMAT_LABELS,
    NETWORK_OUTPUTS,
    REPRESENTATION_NAMES,
    TARGET_LABELS,
    TASK_NAMES,
    WITH_ENCODER,
    OutputKind,
    timm_networks,
    timm_optimizers,
)
from stages.config.schema import Params
from stages.config.schema_data import Ingest, Split
from stages.config.schema_search import Range
from stages.config.schema_training import Network, Train
from stages.core.errors import did_you_mean

OUTPUTS_IN_WORDS: dict[OutputKind, str] = {
    "vector": "one output per image",
    "map": "one output per pixel",
    "boxes": "boxes as outputs",
}
SUITABLE_NETWORKS: dict[OutputKind, str] = {
    "vector": "resnet18, vgg16, googlenet or timm/NAME",
    "map": "unet",
    "boxes": "mask_rcnn",
}
EARLY_SIZE_REPRESENTATIONS = ("class", "classes", "cumulative", "scalar")
MIN_EARLY_SIZE = 32  # pixels; most networks reduce images 32 times
MAX_VARIANTS = 200  # combinations of searched values that are tried
PATTERN_FORMATS = ("instances", "masks", "dots", "pairs")


def combination_problems(params: Params) -> list[str]:
    """Return the problems of params whose sections are valid by themselves, each on one line with its key."""
    task = params.task
    problems = [
        score_problem(task.name, task.score),
        representation_problem(task.name, params.representation.name),
        target_problem(task.name, task.target),
        class_list_problem(task.classes) if TASK_NAMES[task.name].has_classes else "",
    ]
    if not any(problems):
        representation = selected_representation(task.name, params.representation.name)
        problems += [
            _label_problem(task.name, task.target, params.ingest),
            *_point_problems(params),
            _unit_problem(params),
            fit_problem(task.name, representation, params.prepare.fit),
            parts_problem(task.name, params.prepare.articulated_parts),
            names_problem(params.ingest),
            pattern_problem(params.ingest) if params.ingest.format in PATTERN_FORMATS else "",
            *_training_problems(params, task.name, representation),
        ]
    problems += [*_augmentation_problems(params), _grid_problem(params), guard_problem(params.ingest, params.split)]
    return [problem for problem in problems if problem]


def _augmentation_problems(params: Params) -> Iterator[str]:
    """Yield which augmentations of `augment.amounts` and `tune.space` are unknown."""
    prefix = "augment.amounts."
    searched = [key for key in params.tune.space if key.startswith(prefix)] if params.tune.trials else []
    named = {f"{prefix}{name}": name for name in params.augment.amounts}
    named |= {f"tune.space: {key}": key.removeprefix(prefix).partition(".")[0] for key in searched}
    for key, name in named.items():
        if name not in AUGMENTATION_NAMES:
            yield f"{key}: unknown augmentation; {did_you_mean(name, AUGMENTATION_NAMES)}"


def _grid_problem(params: Params) -> str:
    if params.tune.sampler != "grid":
        return ""
    from stages.config.search_grid import grid_problem  # imports numpy

    return grid_problem(params.tune)


def score_problem(task: str, score: str) -> str:
    """Return why a task has no such score."""
    known = TASK_NAMES[task].scores
    return "" if score in known else f"task.score: {score} is not a score of task {task}; {_suggestion(score, known)}"


def target_problem(task: str, target: str) -> str:
    """Return why a task has no such target."""
    known = ("auto", *TASK_NAMES[task].targets)
    if target in known:
        return ""
    return f"task.target: {target} is not a target of task {task}; known: {', '.join(known)}"


def representation_problem(task: str, name: str) -> str:
    """Return why a representation does not support a task."""
    supported = _supporting(task)
    if name in ("auto", *supported):
        return ""
    return f"representation.name: {name} does not support task {task}; known: {', '.join(supported)}"


def selected_representation(task: str, name: str) -> str:
    """Return the representation that `representation.name` selects for a task that it supports."""
    return name if name != "auto" else FIRST_REPRESENTATION.get(task, _supporting(task)[0])


def _supporting(task: str) -> list[str]:
    return [name for name, one in REPRESENTATION_NAMES.items() if task in one.tasks]


def class_list_problem(classes: Sequence[str]) -> str:
    """Return which class `task.classes` lists more than once."""
    repeated = next((name for name in classes if list(classes).count(name) > 1), "")
    return f"task.classes: {repeated} is listed more than once; list each class once" if repeated else ""


def fit_problem(task: str, representation: str, fit: str) -> str:
    """Return why a task or representation does not support `prepare.fit`.

    Args:
        task: name of the task.
        representation: name of the representation.
        fit: value of `prepare.fit`.
    """
    if fit == "tile" and task not in ("segmentation", "image"):
        return (
            f"prepare.fit: tile supports only the tasks segmentation and image, not {task}, whose prediction "
            "for an image cannot be combined from those for its tiles; use letterbox or stretch (boxes: letterbox)"
        )
    if representation == "boxes" and fit != "letterbox":
        return (
            f"prepare.fit: {fit} does not support representation boxes; use letterbox, which preserves the aspect ratio"
        )
    return ""


def parts_problem(task: str, parts: str) -> str:
    """Return why a task does not support `prepare.articulated_parts`."""
    if parts != "points" or task == "landmarks":
        return ""
    return f"prepare.articulated_parts: points: the task {task} has no points; use foreground or none"


def pattern_problem(ingest: Ingest) -> str:
    """Return what `ingest.images` and `ingest.targets` lack."""
    if "{key}" in ingest.images and "{key}" in ingest.targets:
        return ""
    return (
        f"ingest.images is {ingest.images!r} and ingest.targets is {ingest.targets!r}; both must contain {{key}} "
        "in place of the image name, for example images/{key}.png and masks/{key}.png"
    )


def guard_problem(ingest: Ingest, split: Split) -> str:
    """Return that `split.guard` has no effect, because there are no blocks of consecutive images."""
    if not split.guard or (split.by == "hash" and ingest.sequence_block > 1):
        return ""
    return (
        f"split.guard is {split.guard}, but leaves out images at the borders of blocks only, which require split.by: "
        "hash and an ingest.sequence_block of at least 2; set them, or set split.guard to 0"
    )


def names_problem(ingest: Ingest) -> str:
    """Return that `ingest.name_regex` is missing, or has no effect."""
    if (ingest.format == "names") == bool(ingest.name_regex):
        return ""
    if ingest.name_regex:
        return f"ingest.name_regex is set, but ingest.format is {ingest.format}; set it to names, or remove name_regex"
    return (
        "ingest.format: names requires ingest.name_regex, a regular expression with the named group label, or with the "
        "name of a number, as in `(?P<label>[a-z]+)_[0-9]+`"
    )


def _label_problem(task: str, target: str, ingest: Ingest) -> str:
    """Return why the label format cannot contain the target of the task."""
    columns = ingest.columns
    of_table = [kind for kind in ("scalars", "points") if getattr(columns, kind)] + (
        ["labels"] if columns.label is not None else []
    )
    given = of_table if ingest.format == "table" else FORMAT_LABELS.get(ingest.format)
    targets = TASK_NAMES[task].targets if target == "auto" else (target,)
    required = list(dict.fromkeys(kind for one in targets for kind in TARGET_LABELS[one]))
    if given is None or set(given) & set(required):
        return ""
    key = f"task.target: {target}" if target != "auto" else f"task.name: {task}"
    change = "ingest.columns" if ingest.format == "table" else "ingest.format"
    return (
        f"{key} requires labels of the kind {' or '.join(required)}, but ingest.format: {ingest.format} gives "
        f"{' or '.join(given) or 'none'}; change {change} or the section task"
    )


def _point_problems(params: Params) -> Iterator[str]:
    """Yield problems of the names of points, which are known where a table defines them, and of the skeleton."""
    if params.task.name != "landmarks":
        return
    pairs = {"flip_pairs": params.task.flip_pairs, "skeleton": params.task.skeleton}
    if params.ingest.format == "table":
        known = params.ingest.columns.points
        for key, of_key in pairs.items():
            for name in dict.fromkeys(name for pair in of_key for name in pair if name not in known):
                yield f"task.{key}: {name} is not a point; {did_you_mean(name, known)}"
    if params.prepare.articulated_parts in ("auto", "points") and (found := skeleton_problem(params.task.skeleton)):
        yield f"task.skeleton: {found}"


def skeleton_problem(pairs: Iterable[tuple[str, str]]) -> str:
    """Return why pairs of parent and child do not form trees: a child with two parents, or a cycle."""
    above: dict[str, str] = {}
    for parent, child in pairs:
        if child in above:
            return f"{child} has the parents {above[child]} and {parent}; only one is allowed"
        above[child] = parent
    for point in above:
        root = point
        for _ in above:
            root = above.get(root, root)
        if root in above:
            return f"{root} is its own ancestor; remove one pair of the cycle"
    return ""


def _unit_problem(params: Params) -> str:
    """Return which unit belongs to no predicted number; the numbers are known where a table defines them."""
    task, ingest = params.task, params.ingest
    if task.units and task.name != "regression":
        return unit_problem(task.name, task.units, ())
    known = ingest.columns.scalars
    is_known = ingest.format == "table" and task.target in ("auto", "scalars")
    return unit_problem(task.name, task.units, known) if is_known else ""


def unit_problem(task: str, units: Iterable[str], numbers: Sequence[str]) -> str:
    """Return which unit belongs to no predicted number.

    Args:
        task: name of the task.
        units: numbers that have a unit.
        numbers: predicted numbers.
    """
    unknown = next((name for name in units if name not in numbers), "")
    if unknown and not numbers:
        return f"task.units: {unknown} has a unit, but task {task} predicts no numbers; leave task.units empty"
    if unknown:
        return f"task.units: {unknown} is not a number of this task; {did_you_mean(unknown, numbers)}"
    return ""


def _training_problems(params: Params, task: str, representation: str) -> list[str]:
    """Return the problems of the sections network and train; of searched values, those that every combination has."""
    space = params.tune.space if params.tune.trials else {}
    of_training = {key: _values(span) for key, span in space.items() if key.startswith(("network.", "train."))}
    sections = {"network": params.network, "train": params.train}
    first: list[str] = []
    for values in islice(product(*of_training.values()), MAX_VARIANTS):
        changed: Any = overlay(sections, dict(zip(of_training, values, strict=True)))
        problems = [
            *network_problems(changed["network"], task, representation),
            *_train_problems(changed["train"], task, representation, params.prepare.size),
        ]
        if not any(problems):
            return []
        first = first or problems
    return first


def _values(span: Range) -> tuple[Any, ...]:
    return span.choices or (span.low, span.high)


def _train_problems(train: Train, task: str, representation: str, size: int) -> Iterator[str]:
    yield loss_problem(representation, train.loss)
    yield class_weights_problem(task, representation, train.class_weights)
    yield foreground_problem(task, representation, train.foreground_share)
    yield early_size_problem(train, representation, size)
    yield members_problem(representation, train.folds, train.members)
    known = timm_optimizers()
    if train.optimizer.startswith("timm/") and known and train.optimizer.removeprefix("timm/") not in known:
        names = [f"timm/{name}" for name in sorted(known)]
        yield f"train.optimizer: {train.optimizer} is unknown; {did_you_mean(train.optimizer, names)}"


def loss_problem(representation: str, loss: str) -> str:
    """Return why a representation has no such loss."""
    known = REPRESENTATION_NAMES[representation].losses
    if loss in ("auto", *known):
        return ""
    return f"train.loss: {loss} is not a loss of representation {representation}; {_suggestion(loss, known)}"


def class_weights_problem(task: str, representation: str, weights: str) -> str:
    """Return why a representation does not support `train.class_weights`.

    Args:
        task: name of the task.
        representation: name of the representation.
        weights: value of `train.class_weights`.
    """
    if weights in ("auto", "none", *REPRESENTATION_NAMES[representation].weights):
        return ""
    if weights == "sampled":
        return f"train.class_weights: sampled requires one class per image, which task {task} does not have; use none"
    return (
        f"train.class_weights: balanced requires classes in the loss, which representation {representation} of task "
        f"{task} does not have; use none"
    )


def foreground_problem(task: str, representation: str, share: float) -> str:
    """Return why a representation does not support `train.foreground_share`.

    Args:
        task: name of the task.
        representation: name of the representation.
        share: value of `train.foreground_share`.
    """
    if not share or representation == "mask":
        return ""
    return (
        f"train.foreground_share: {share:g} requires a label for each pixel, which representation {representation} of "
        f"task {task} does not have; use 0"
    )


def early_size_problem(train: Train, representation: str, size: int) -> str:
    """Return why `train.early_size` and `train.early_epochs` contradict each other or other params.

    Args:
        train: section `train`.
        representation: name of the representation.
        size: value of `prepare.size`.
    """
    early, epochs = train.early_size, train.early_epochs
    if not early and not epochs:
        return ""
    if not early or not epochs:
        given, other = ("early_size", "early_epochs") if early else ("early_epochs", "early_size")
        return f"train.{given}: {early or epochs}, but train.{other} is 0; set both, or set train.{given} to 0"
    if representation not in EARLY_SIZE_REPRESENTATIONS:
        return (
            f"train.early_size: {early} requires classes or numbers of the whole image as targets, not the "
            f"representation {representation}, whose targets have positions; use 0, and train.early_epochs: 0"
        )
    if not MIN_EARLY_SIZE <= early < size:
        allowed = f"{MIN_EARLY_SIZE} to {size - 1}" if size > MIN_EARLY_SIZE else "0, and train.early_epochs: 0"
        return (
            f"train.early_size: {early} must be at least {MIN_EARLY_SIZE} and smaller than prepare.size: {size}; "
            f"use {allowed}"
        )
    if epochs >= train.epochs:
        return (
            f"train.early_epochs: {epochs} of train.epochs: {train.epochs} leaves no epoch with images of "
            "prepare.size; lower train.early_epochs"
        )
    return ""


def members_problem(representation: str, folds: int, members: str) -> str:
    """Return why a representation does not support `train.members`.

    Args:
        representation: name of the representation.
        folds: value of `train.folds`.
        members: value of `train.members`.
    """
    if not folds or members != "ensemble" or representation != "boxes":
        return ""
    return (
        "train.members: ensemble does not support representation boxes, because the lists of boxes of several networks "
        "cannot be averaged; use average, or set train.folds to 0"
    )


def network_problems(network: Network, task: str, representation: str) -> Iterator[str]:
    """Yield why a network is unknown, does not suit the task, or does not support another key of its section.

    Args:
        network: section `network`.
        task: name of the task.
        representation: name of the representation.
    """
    name, is_timm = network.name, network.name.startswith("timm/")
    if unknown := name_problem("network.name", name, NETWORK_OUTPUTS):
        yield unknown
        return
    yield output_problem(name, task, representation)
    encoder = network.encoder if name in WITH_ENCODER else ""
    if encoder:
        yield name_problem("network.encoder", encoder, ENCODER_NAMES)
    if network.feature_noise and (is_timm or name == "mask_rcnn"):
        instead = "use 0, or network.dropout" if is_timm else "use 0"
        yield f"network.feature_noise: {network.feature_noise:g}, but {name} does not support it; {instead}"
    residual = (encoder or name).startswith("resnet") or name.startswith("efficientnet_lite")
    if network.stochastic_depth and not is_timm and not residual:
        yield (
            f"network.stochastic_depth: {network.stochastic_depth:g}, but {encoder or name} has no residual blocks; "
            "use a resnet, or 0"
        )
    if network.weights == "default" and encoder == "plain":
        yield "network.weights: default, but there are no published weights of the plain encoder; use none or a file"


def output_problem(name: str, task: str, representation: str) -> str:
    """Return why the output of a network is not that which the representation requires.

    Args:
        name: name of the network.
        task: name of the task.
        representation: name of the representation.
    """
    has, needed = NETWORK_OUTPUTS.get(name, "vector"), REPRESENTATION_NAMES[representation].output
    if has == needed:
        return ""
    return (
        f"network.name: {name} has {OUTPUTS_IN_WORDS[has]}, but representation {representation} of task {task} "
        f"requires {OUTPUTS_IN_WORDS[needed]}; use {SUITABLE_NETWORKS[needed]}"
    )


def name_problem(key: str, name: str, known: Iterable[str]) -> str:
    """Return why a network or encoder is unknown; networks of timm are known where it is installed.

    Args:
        key: params key that names it.
        name: name of the network.
        known: names besides `timm/NAME`.
    """
    if not name.startswith("timm/"):
        return "" if name in known else f"{key}: {name} is unknown; {did_you_mean(name, [*known, 'timm/NAME'])}"
    networks, bare = timm_networks(), name.removeprefix("timm/").partition(".")[0]
    if not networks or bare in networks:
        return ""
    close = did_you_mean(bare, networks)
    hint = close if close.startswith("did") else f"timm provides {len(networks):,} networks: timm.list_models()"
    return f"{key}: {name}: timm has no such network; {hint}"


def _suggestion(name: str, known: Sequence[str]) -> str:
    """Return the closest name if there is one, and all known names."""
    close = did_you_mean(name, known)
    return f"{close} Known: {', '.join(known)}" if close.startswith("did") else close
