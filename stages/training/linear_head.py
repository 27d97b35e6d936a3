"""Initialization of the last layer by ridge regression on the features of the layer before it.

A random last layer sends random gradients into pretrained layers and distorts their features before it is trained
itself (Kumar et al. 2022, "Fine-tuning can distort pretrained features and underperform out-of-distribution").

Axes: N images, F features, D outputs.
"""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import nn

from stages.core.shapes import Array, Float, Shaped
from stages.networks import build
from stages.networks.surgery import Network
from stages.probes.cross_validation import out_of_fold_numbers, out_of_fold_temperature
from stages.probes.ridge import ridge
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_spec import TaskSpec
from stages.training.batch_loader import unaugmented_batches
from stages.training.training_plan import TrainingData, TrainingPlan

REPRESENTATIONS_WITH_LINEAR_HEAD = ("class", "classes", "cumulative", "scalar")
"""Representations with one vector per image whose targets are linear in the raw outputs, or 0 or 1."""
MAX_IMAGES = 5000
"""Number of training images of which the regression is fitted; of more, evenly spaced ones."""
BATCH = 32


def last_linear_layer(network: Network, outputs: int) -> nn.Linear | None:
    """Return the last layer of a network if it is linear and has `outputs` outputs, otherwise None."""
    leaves = [module for module in network.body.modules() if next(module.parameters(recurse=False), None) is not None]
    last = leaves[-1] if leaves else None
    return last if isinstance(last, nn.Linear) and last.out_features == outputs else None


def head_problem(plan: TrainingPlan) -> str:
    """Return why the last layer of a plan cannot be initialized by ridge regression; empty if it can."""
    representation = plan.data.spec.representation
    if representation not in REPRESENTATIONS_WITH_LINEAR_HEAD:
        return f"the representation {representation} has other outputs than one number per class or value"
    if last_linear_layer(build(plan.network_config), plan.network_config.outputs) is None:
        return f"the last layer of {plan.network_config.name} is not a linear layer"
    return ""


def initialize_last_layer(network: Network, data: TrainingData, device: torch.device) -> None:
    """Set the weights of the last layer to those of a ridge regression on the features of unaugmented images, in place.

    The raw outputs are log-odds where the task has classes: their scale minimizes the log loss of out-of-fold
    predictions.

    Args:
        network: network on `device` whose last layer is linear (see `last_linear_layer`).
        data: training images and targets of one of `REPRESENTATIONS_WITH_LINEAR_HEAD`.
        device: device of the network.
    """
    spec = data.spec
    last = last_linear_layer(network, REPRESENTATIONS[spec.representation].outputs(spec))
    assert last is not None, "head_problem excludes other networks"
    store = data.train_set
    if len(store) > MAX_IMAGES:
        store = store.select(np.linspace(0, len(store) - 1, MAX_IMAGES).round().astype(int))
    features: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].float().cpu()))
    network.eval()
    try:
        with torch.inference_mode():
            for batch in unaugmented_batches(store, spec, BATCH, device):
                network(batch.image_BCHW)
    finally:
        hook.remove()
    x_NF = torch.cat(features).numpy()
    coefficient_DF, level_D = _fit(x_NF, np.asarray(store.target), store.rows["group"].to_numpy(), spec)
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(coefficient_DF))
        last.bias.copy_(torch.from_numpy(level_D))


def _fit(
    x_NF: Float[Array, "N F"], target: Shaped[Array, "N ..."], groups_N: Shaped[Array, " N"], spec: TaskSpec
) -> tuple[Float[Array, "D F"], Float[Array, " D"]]:
    """Return weights and biases of the last layer.

    Args:
        x_NF: features.
        target: class indices [N], 0/1 per class [N, K], or numbers [N, S].
        groups_N: group of each image, for out-of-fold predictions.
        spec: the task.
    """
    if spec.representation == "class":
        target_ND = np.eye(len(spec.labels))[target]
        centre, scale = 0.0, out_of_fold_temperature(x_NF, target_ND, groups_N)
    elif spec.representation == "scalar":
        target_ND, centre, scale = (target - np.array(spec.mean)) / np.array(spec.deviation), 0.0, 1.0
    else:
        steps = np.arange(len(spec.labels) - 1)
        target_ND = (target[:, None] > steps if spec.representation == "cumulative" else target).astype(float)
        centre, scale = 0.5, _scale_of_log_odds(x_NF, target_ND, groups_N)
    fitted = ridge(x_NF, target_ND)
    coefficient_FD = fitted.coefficient_FK / fitted.spread_F[:, None]
    level_D = fitted.level_K - fitted.centre_F @ coefficient_FD
    return (coefficient_FD * scale).T, (level_D - centre) * scale


def _scale_of_log_odds(
    x_NF: Float[Array, "N F"], target_ND: Float[Array, "N D"], groups_N: Shaped[Array, " N"]
) -> float:
    """Return the factor of (prediction - 1/2) that minimizes the binary log loss of out-of-fold predictions.

    With a single group, it is 4, the slope of the log-odds at 1/2.
    """
    if len(np.unique(groups_N)) < 2:
        return 4.0
    above_ND = out_of_fold_numbers(x_NF, target_ND, groups_N) - 0.5
    sign_ND = 2 * target_ND - 1

    def loss(logarithm: float) -> float:
        return float(np.logaddexp(0, -np.exp(logarithm) * sign_ND * above_ND).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 7), method="bounded").x))
