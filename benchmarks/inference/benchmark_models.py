"""The files that `benchmarks.inference.compare_inference` compares, all of one set of weights: `python -m benchmarks.inference.benchmark_models`.

Networks have random weights, and normalizations that have seen the images: speed does not ask for a trained one, and
layers that pass something on make quantization earn its difference. `NAME FOLDER` writes Macula's files and the plain
export in Macula's environment, `peers NAME FOLDER` those of nncf and Ultralytics in theirs.
"""

import io
import json
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 16
"""Images of a batch; all of one size, as a batch of the shipped graph needs them."""
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

Array = np.ndarray[Any, Any]


def pixels(data: bytes, size: int) -> Array:
    """Bytes of a JPEG to float32 [3, size, size] in 0..1, as a program without Macula does it with Pillow."""
    from PIL import Image

    image = Image.open(io.BytesIO(data)).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(image, np.float32).transpose(2, 0, 1) / 255)


def whole_levels(shown_NCHW: Array) -> Array:
    """The same images as uint8 [N, H, W, C]."""
    return np.ascontiguousarray((shown_NCHW * 255).round().astype(np.uint8).transpose(0, 2, 3, 1))


def macula(name: str, folder: Path) -> dict[str, Any]:
    """Write the network as torch has it, Macula's files and the plain export; what it costs in FLOP, and parameters."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from stages.export import Shipped
    from stages.networks import NetworkConfig, build
    from stages.tasks.task_spec import TaskSpec

    torch.manual_seed(0)
    about = NETWORKS[name]
    size, task = about["size"], about["task"]
    labels = tuple(f"class {n}" for n in range(10 if task == "classification" else 3))
    network = build(NetworkConfig(about["name"], about["encoder"], 3, len(labels), "batch", 0.0, size)).eval()
    files = sorted((folder / "images").iterdir())
    shown = np.stack([pixels(file.read_bytes(), size) for file in files[:CALIBRATION]])
    _show(network, torch.from_numpy(shown))
    truth = "label" if task == "classification" else "mask"
    spec = TaskSpec(task, "classes", truth, labels, size=size)
    _shipped(network, spec, folder, shown)
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
        np.save(folder / "expected-whole.npy", Shipped(network, spec)(torch.from_numpy(whole_levels(shown[:ROWS]))))
    np.save(folder / "shown.npy", shown)
    parameters = sum(one.numel() for one in network.parameters())
    return {"flop": counter.get_total_flops(), "parameters": parameters, "size": size, "task": task}


def _show(network: Any, images: Any) -> None:
    """Let normalizations see images, without a step of training."""
    import torch

    network.train()
    with torch.no_grad():
        for _ in range(3):
            for batch in images.split(16):
                network(batch)
    network.eval()


def _shipped(network: Any, spec: Any, folder: Path, shown: Array) -> None:
    """Macula's float32 file and its int8 file with all layers quantized, both of them open to OpenVINO."""
    import onnx

    from stages.export import to_onnx
    from stages.quantization.int8 import Quantizer
    from stages.quantization.onnx_graph import front, simplify
    from stages.quantization.selection import write_with_probe

    exact, int8 = folder / "whole.onnx", folder / "whole-int8.onnx"
    to_onnx(network, spec, folder / "raw.onnx")
    simplify(folder / "raw.onnx", exact)
    Quantizer(exact, list(whole_levels(shown)), folder).write(int8)
    if (cut := front(onnx.load(exact))) is None:
        raise ValueError("the graph has no resize, before which it could be cut for OpenVINO")
    metadata = spec.as_json() | {
        "version": "benchmark",
        "preprocessing_output": cut[0],
        "preprocessing": b64encode(cut[1]).decode(),
    }
    write_with_probe(exact, metadata | {"precision": "float32", "openvino_precisions": ["bfloat16"]})
    write_with_probe(int8, metadata | {"precision": "int8", "openvino_precisions": ["int8"]})


def peers(folder: Path) -> dict[str, Any]:
    """Write int8 by nncf, and the export of Ultralytics' classifier with random weights."""
    import nncf
    import openvino

    shown = np.load(folder / "shown.npy")
    graph = openvino.Core().read_model(folder / "plain.onnx")
    data = nncf.Dataset([image[None] for image in shown])
    quantized = nncf.quantize(graph, data, preset=nncf.QuantizationPreset.MIXED, subset_size=len(shown))
    openvino.save_model(quantized, folder / "nncf.xml", compress_to_fp16=False)
    return {}


def yolo(folder: Path) -> dict[str, Any]:
    """Write Ultralytics' classifier, from its description, by its own export."""
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
    made = {"peers": peers, "yolo": yolo}.get(what, lambda folder: macula(what, folder))(place)
    print(json.dumps(made))
