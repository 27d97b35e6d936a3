"""Find settings that have no effect in a training, and the values that are used in their place."""

from collections.abc import Iterator

from stages.config.schema_training import Network
from stages.core.plurals import quantity
from stages.networks.pretrained import WITH_ENCODER
from stages.training.losses import CLASS_LOSSES
from stages.training.optimizers import uses_momentum
from stages.training.training_plan import ResolvedParam, TrainingPlan

NO_EFFECT = "without effect: "


def unused_settings(plan: TrainingPlan) -> list[ResolvedParam]:
    """Return the settings of a plan that have no effect, each with the value that switches it off and the reason.

    A key that is not set at all is not listed, unless its default would have an effect in other trainings.

    Raises:
        UserError: the optimizer is unknown.
    """
    return [ResolvedParam(key, value, NO_EFFECT + why) for key, value, why in (*_of_train(plan), *_of_network(plan))]


def _of_train(plan: TrainingPlan) -> Iterator[tuple[str, object, str]]:
    train = plan.train
    if plan.loss not in CLASS_LOSSES:
        if train.label_smoothing:
            yield "train.label_smoothing", 0.0, f"the loss {plan.loss} has no target that can be smoothed"
        if train.class_weights == "balanced" and plan.loss == "dice":
            yield "train.class_weights", "none", "the loss dice gives every class the same weight, whatever its area"
    if not uses_momentum(train.optimizer):
        yield "train.momentum", 0.0, f"{train.optimizer} keeps no mean gradient"
    if train.members != "auto" and not train.folds:
        yield "train.members", "auto", "train.folds is 0, so there is one network"
    if train.patience >= train.epochs:
        yield "train.patience", 0, f"training ends after {quantity(train.epochs, 'epoch')}"


def _of_network(plan: TrainingPlan) -> Iterator[tuple[str, object, str]]:
    config, default = plan.network_config, Network()
    if config.dropout and config.name == "mask_rcnn":
        yield "network.dropout", 0.0, "mask_rcnn has no dropout"
    if config.encoder != default.encoder and config.name not in WITH_ENCODER:
        yield "network.encoder", default.encoder, f"{config.name} has no separate encoder"
    if plan.weights == "none":
        for key in ("frozen_epochs", "pretrained_lr_factor", "first_layer_lr_factor"):
            if getattr(plan.network, key) != getattr(default, key):
                yield f"network.{key}", getattr(default, key), "there are no pretrained layers"
        if plan.network.pretrained_norms == "frozen":
            yield "network.pretrained_norms", "trained", "there are no pretrained layers"
