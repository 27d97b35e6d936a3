"""Mask R-CNN (He et al. 2017) with a feature pyramid (Lin et al. 2017), based on torchvision."""

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from stages.networks.encoders import build_encoder
from stages.networks.network_config import NetworkConfig
from stages.tasks.instances import MAX_INSTANCES, MIN_SCORE

FEATURES = 128  # channels of the pyramid and the mask head; 256 in the paper, which is slow on two CPU cores
BOX_FEATURES = 1024  # as in torchvision
COARSEST = 5  # maximum number of pyramid levels
ANCHORS = (
    (8,),
    (16,),
    (32,),
    (64,),
    (128,),
)  # side in pixels by level, for objects such as cells in working images of about 256 pixels
RATIOS = (0.5, 1.0, 2.0)


class _Pyramid(nn.Module):
    """Feature pyramid over the encoder maps of stride 4 to 32, with a coarser map if they are fewer than `COARSEST`."""

    def __init__(self, contracting: nn.Module) -> None:
        super().__init__()
        from torchvision.ops import FeaturePyramidNetwork
        from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

        self.encoder = contracting
        strides: list[int] = contracting.strides  # type: ignore[assignment]
        widths: list[int] = contracting.widths  # type: ignore[assignment]
        self.used = [i for i, stride in enumerate(strides) if 4 <= stride <= 32]
        self.pyramid = FeaturePyramidNetwork(
            [widths[i] for i in self.used], FEATURES, LastLevelMaxPool() if len(self.used) < COARSEST else None
        )
        self.out_channels = FEATURES

    def forward(self, image_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.encoder(image_BCHW)
        return self.pyramid(OrderedDict((str(place), maps[i]) for place, i in enumerate(self.used)))


class DetectorAdapter(nn.Module):
    """Adapter of a torchvision detector that takes working images without further resizing.

    The images are normalized (see `Network`).
    In training: (image_BCHW, list of {boxes [M, 4], labels [M] from 0, masks [M, S, S]}) to a dict of losses.
    In evaluation: image_BCHW to a list of {boxes, labels, scores, masks [M, 1, 28, 28]}, in working pixels.
    Masks are present only if the detector predicts them.
    """

    def __init__(self, detector: nn.Module, masks: bool) -> None:
        super().__init__()
        self.detector, self.masks = detector, masks

    def forward(self, image_BCHW: torch.Tensor, targets: list[dict[str, torch.Tensor]] | None = None) -> Any:
        """Return the losses in training mode and the detected objects in evaluation mode."""
        images = list(image_BCHW)
        if self.training:
            assert targets is not None, "training requires targets"
            return self.detector(images, [_to_torchvision_target(t, self.masks, image_BCHW) for t in targets])
        return [{**detections, "labels": detections["labels"] - 1} for detections in self.detector(images)]


def enable_losses(network: nn.Module) -> None:
    """Make a network with a detector return losses, with all layers in evaluation mode.

    Only the modules that compute losses are set to training mode. Normalization, dropout and stochastic depth, of
    whatever type, keep their statistics and use no random numbers.
    """
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
    from torchvision.models.detection.roi_heads import RoIHeads
    from torchvision.models.detection.rpn import RegionProposalNetwork

    network.eval()
    for module in network.modules():
        if isinstance(module, DetectorAdapter | GeneralizedRCNN | RegionProposalNetwork | RoIHeads):
            module.training = True


def _to_torchvision_target(
    objects: dict[str, torch.Tensor], masks: bool, image_BCHW: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return targets with labels from 1 (0 is the background), without empty boxes, which augmentation can produce."""
    box_M4 = objects["boxes"]
    kept_M = (box_M4[:, 2] > box_M4[:, 0]) & (box_M4[:, 3] > box_M4[:, 1])
    target = {"boxes": box_M4[kept_M], "labels": objects["labels"][kept_M] + 1}
    if masks:
        empty = torch.zeros((0, *image_BCHW.shape[2:]), dtype=torch.uint8, device=box_M4.device)
        target["masks"] = objects["masks"][kept_M] if "masks" in objects else empty
    return target


class _IdentityTransform(nn.Module):
    """Replacement for torchvision's resizing and normalization, which `prepare` and `Network` already perform."""

    def forward(self, images: list[torch.Tensor], targets: Any = None) -> tuple[Any, Any]:
        from torchvision.models.detection.image_list import ImageList

        return ImageList(torch.stack(images), [(i.shape[1], i.shape[2]) for i in images]), targets

    def postprocess(self, found: Any, _sizes: Any, _originals: Any) -> Any:
        """Return detections unchanged: masks stay 28 x 28 and are pasted later, at the original image size."""
        return found


def _to_float32(_module: nn.Module, _inputs: Any, outputs: Any) -> Any:
    """Convert outputs to float32.

    Under autocast torchvision would compute boxes in bfloat16, with errors of half a pixel at coordinate 200.
    """
    if isinstance(outputs, dict):
        return type(outputs)((name, values.float()) for name, values in outputs.items())
    return type(outputs)(o.float() if isinstance(o, torch.Tensor) else [v.float() for v in o] for o in outputs)


def mask_rcnn(network_config: NetworkConfig) -> nn.Module:
    """Build a Mask R-CNN with `network_config.encoder`; without masks, a Faster R-CNN (Ren et al. 2015).

    Raises:
        UserError: the encoder is unknown or does not provide feature maps.
    """
    from torchvision.models.detection import FasterRCNN, MaskRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.ops import MultiScaleRoIAlign

    body = _Pyramid(build_encoder(network_config.encoder, network_config.channels))
    levels = len(body.used) + (len(body.used) < COARSEST)
    names = [str(i) for i in range(len(body.used))]
    classes = network_config.outputs + 1  # plus the background
    options: dict[str, Any] = {
        "box_predictor": FastRCNNPredictor(BOX_FEATURES, classes),
        "rpn_anchor_generator": AnchorGenerator(ANCHORS[:levels], (RATIOS,) * levels),
        "box_roi_pool": MultiScaleRoIAlign(names, 7, 2),
        "box_detections_per_img": MAX_INSTANCES,
        "box_score_thresh": MIN_SCORE,
        "rpn_pre_nms_top_n_train": 1000,
        "rpn_post_nms_top_n_train": 500,
        "rpn_pre_nms_top_n_test": 1000,
        "rpn_post_nms_top_n_test": 500,
        "rpn_batch_size_per_image": 128,
        "box_batch_size_per_image": 128,
    }
    if network_config.masks:
        detector = MaskRCNN(
            body,
            mask_roi_pool=MultiScaleRoIAlign(names, 14, 2),
            mask_head=MaskRCNNHeads(FEATURES, (FEATURES,) * 4, 1),
            mask_predictor=MaskRCNNPredictor(FEATURES, FEATURES, classes),
            **options,
        )
    else:
        detector = FasterRCNN(body, **options)
    detector.transform = _IdentityTransform()
    for part in (detector.backbone, detector.rpn.head, detector.roi_heads.box_predictor):
        part.register_forward_hook(_to_float32)
    return DetectorAdapter(detector, network_config.masks)
