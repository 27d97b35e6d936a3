"""Write the models that `compare_inference` compares; the files of a network have the same weights.

The networks have random weights, and normalizations whose statistics come from the images. Speed does not depend on
trained weights, but layers that pass on signals are needed for a realistic quantization error. With the arguments
`NAME FOLDER`, the module runs in Macula's environment and writes Macula's files and the plain export. With `libraries
FOLDER` or `yolo FOLDER`, it runs in the environment of nncf and Ultralytics and writes their files.
"""

import io
import json
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 16
"""Number of images in a batch; all have one size, as the shipped graph requires."""
CALIBRATION = 48
YOLO = "yolo11n-cls"
NETWORKS: dict[str, dict[str, Any]] = {
    "ResNet-18, 224 px": {"name": "resnet18", "encoder": "plain", "size": 224, "task": "classification"},
    "MobileNetV3-Large, 224 px": {
        "name": "timm/mobilenetv3_large_100",
        "encoder": "plain",
        "size": 224,
        "task": "classification",
    },
    "U-Net on ResNet-18, 256 px": {"name": "unet", "encoder": "resnet18", "size": 256, "task": "segmentation"},
}
TINY_NETWORK = "ResNet-18, 64 px"
TINY = {TINY_NETWORK: {"name": "resnet18", "encoder": "plain", "size": 64, "task": "classification"}}

Array = np.ndarray[Any, Any]


def to_pixels(data: bytes, size: int) -> Array:
    """Decode a JPEG to float32 [3, size, size] in 0..1 with Pillow, as a program without Macula would."""
    from PIL import Image

    image = Image.open(io.BytesIO(data)).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(image, np.float32).transpose(2, 0, 1) / 255)


def to_uint8(shown_NCHW: Array) -> Array:
    """Convert images from float32 [N, C, H, W] in 0..1 to uint8 [N, H, W, C]."""
    return np.ascontiguousarray((shown_NCHW * 255).round().astype(np.uint8).transpose(0, 2, 3, 1))


def macula(name: str, folder: Path) -> dict[str, Any]:
    """Write a network's torch file, Macula's model files, the plain export, the images and the expected outputs.

    Args:
        name: a key of `NETWORKS`, or `TINY_NETWORK`.
        folder: folder with the images, which receives the files.

    Returns:
        FLOP per image, number of parameters, size in pixels, and task.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from stages.export import ExportedModel
    from stages.networks import NetworkConfig, build
    from stages.tasks.task_spec import TaskSpec

    torch.manual_seed(0)
    about = (NETWORKS | TINY)[name]
    size, task = about["size"], about["task"]
    labels = tuple(f"class {n}" for n in range(10 if task == "classification" else 3))
    network = build(NetworkConfig(about["name"], about["encoder"], 3, len(labels), "batch", 0.0, size)).eval()
    files = sorted((folder / "images").iterdir())
    shown = np.stack([to_pixels(file.read_bytes(), size) for file in files[:CALIBRATION]])
    _set_normalization(network, torch.from_numpy(shown))
    truth = "label" if task == "classification" else "mask"
    spec = TaskSpec(task, "classes", truth, labels, size=size)
    _write_shipped(network, spec, folder, shown)
    torch.save(network, folder / "network.pt")
    x = torch.from_numpy(shown[:ROWS])
    torch.onnx.export(
        network,
        (x,),
        str(folder / "plain.onnx"),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("N", min=1, max=1024)},),
        external_data=False,
        verbose=False,
    )
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x[:1])
    with torch.no_grad():
        np.save(folder / "expected.npy", network(x).numpy())
        np.save(folder / "expected-whole.npy", ExportedModel(network, spec)(torch.from_numpy(to_uint8(shown[:ROWS]))))
    np.save(folder / "shown.npy", shown)
    parameters = sum(one.numel() for one in network.parameters())
    return {"flop": counter.get_total_flops(), "parameters": parameters, "size": size, "task": task}


def _set_normalization(network: Any, images: Any) -> None:
    """Update the statistics of the normalizations with images [N, C, H, W], without a training step."""
    import torch

    network.train()
    with torch.no_grad():
        for _ in range(3):
            for batch in images.split(16):
                network(batch)
    network.eval()


def _write_shipped(network: Any, spec: Any, folder: Path, shown: Array) -> None:
    """Write Macula's float32 file and its int8 file with all layers quantized; both can be run by OpenVINO."""
    import onnx

    from stages.export import to_onnx
    from stages.quantization.int8 import Quantizer
    from stages.quantization.onnx_graph import extract_preprocessing, simplify
    from stages.quantization.selection import write_metadata_with_probe

    exact, int8 = folder / "whole.onnx", folder / "whole-int8.onnx"
    to_onnx(network, spec, folder / "raw.onnx")
    simplify(folder / "raw.onnx", exact)
    Quantizer(exact, list(to_uint8(shown)), folder).write(int8)
    if (cut := extract_preprocessing(onnx.load(exact))) is None:
        raise ValueError(f"{exact}: the graph has no resize operator at which it can be cut for OpenVINO")
    metadata = spec.as_json() | {"version": "benchmark", "preprocessing_output": cut[0]}
    metadata["preprocessing"] = b64encode(cut[1]).decode()
    write_metadata_with_probe(exact, metadata | {"precision": "float32", "openvino_precisions": ["bfloat16"]})
    write_metadata_with_probe(int8, metadata | {"precision": "int8", "openvino_precisions": ["int8"]})


def libraries(folder: Path) -> dict[str, Any]:
    """Quantize `plain.onnx` to int8 with nncf and write `nncf.xml`; return an empty dict."""
    import nncf
    import openvino

    shown = np.load(folder / "shown.npy")
    graph = openvino.Core().read_model(folder / "plain.onnx")
    data = nncf.Dataset([image[None] for image in shown])
    quantized = nncf.quantize(graph, data, preset=nncf.QuantizationPreset.MIXED, subset_size=len(shown))
    openvino.save_model(quantized, folder / "nncf.xml", compress_to_fp16=False)
    return {}


def yolo(folder: Path) -> dict[str, Any]:
    """Write Ultralytics' classifier with random weights by its own export.

    Returns:
        FLOP per image and number of parameters.
    """
    import torch
    import ultralytics as package
    from torch.utils.flop_counter import FlopCounterMode

    network = package.YOLO(f"{YOLO}.yaml", task="classify")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.model.eval()(torch.zeros(1, 3, 224, 224))
    made = network.export(format="onnx", imgsz=224, dynamic=True, simplify=False, verbose=False)
    Path(made).rename(folder / "yolo.onnx")
    return {"flop": counter.get_total_flops(), "parameters": sum(one.numel() for one in network.model.parameters())}


if __name__ == "__main__":
    what, place = sys.argv[1], Path(sys.argv[2])
    writers: dict[str, Callable[[Path], dict[str, Any]]] = {"libraries": libraries, "yolo": yolo}
    print(json.dumps(writers[what](place) if what in writers else macula(what, place)))
