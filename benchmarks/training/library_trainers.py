"""Train one network with torchvision, Lightning, fastai or Ultralytics, as in the documentation of each.

Runs in an environment of these libraries without Macula (infra/locks/training-peers.txt), one library per process:
`python -m benchmarks.training.library_trainers NAME RECIPE EVENTS`. Events are lines of JSON on the file descriptor
EVENTS; `benchmarks.training.compare_training` measures the time.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

Recipe = dict[str, Any]
Send = Callable[..., None]
"""Function that sends an event, with its name and further values."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as in all their documentation
MIN_AREA = 0.5  # smallest share of an image that a random crop keeps
PACKAGES = ("torch", "torchvision", "lightning", "fastai", "ultralytics", "numpy", "pillow")


def torchvision(recipe: Recipe, send: Send) -> None:
    """Train in a plain loop, with the transforms of "Getting started with transforms v2" and "Training a classifier".

    With 16 bits, the network uses channels last, as in "Automatic mixed precision" and "Channels last memory format".
    """
    import torch
    from torch import nn

    torch.manual_seed(recipe["seed"])
    training, validation = loaders(recipe)
    network = resnet(recipe)
    layout = torch.channels_last if recipe["bits"] == 16 else torch.contiguous_format
    network = network.to(memory_format=layout)
    arithmetic = partial(torch.autocast, "cpu", dtype=torch.bfloat16, enabled=recipe["bits"] == 16)
    optimizer, schedule = optimization(recipe, network, len(training))
    criterion = nn.CrossEntropyLoss()
    for _ in range(recipe["epochs"]):
        send("training")
        network.train()
        for images, labels in training:
            with arithmetic():
                loss = criterion(network(images.to(memory_format=layout)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        send("trained")
        network.eval()
        correct = total = 0
        with torch.no_grad(), arithmetic():
            for images, labels in validation:
                correct += int((network(images.to(memory_format=layout)).argmax(dim=1) == labels).sum())
                total += len(labels)
        send("validated", score=correct / total)


def lightning(recipe: Recipe, send: Send) -> None:
    """Train a `LightningModule` by a `Trainer` with default settings except for the recipe and the progress bar."""
    from lightning import pytorch as pl
    from torch.nn import functional
    from torchmetrics.classification import MulticlassAccuracy

    class Classifier(pl.LightningModule):  # type: ignore[misc]
        def __init__(self, steps: int) -> None:
            super().__init__()
            self.network, self.steps = resnet(recipe), steps
            self.accuracy = MulticlassAccuracy(recipe["classes"], average="micro")

        def training_step(self, batch: Any, _: int) -> Any:
            images, labels = batch
            loss = functional.cross_entropy(self.network(images), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: Any, _: int) -> None:
            images, labels = batch
            self.accuracy(self.network(images), labels)
            self.log("val_accuracy", self.accuracy)

        def configure_optimizers(self) -> Any:
            optimizer, schedule = optimization(recipe, self.network, self.steps)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    class EventCallback(pl.Callback):  # type: ignore[misc]
        def on_train_epoch_start(self, *_: Any) -> None:
            send("training")

        def on_validation_start(self, trainer: Any, *_: Any) -> None:
            if not trainer.sanity_checking:
                send("trained")

        def on_validation_end(self, trainer: Any, *_: Any) -> None:
            if not trainer.sanity_checking:
                send("validated", score=float(trainer.callback_metrics["val_accuracy"]))

    pl.seed_everything(recipe["seed"], workers=True)
    training, validation = loaders(recipe)
    trainer = pl.Trainer(
        max_epochs=recipe["epochs"],
        accelerator="cpu",
        precision={32: "32-true", 16: "bf16-mixed"}[recipe["bits"]],
        callbacks=[EventCallback()],
        enable_progress_bar=False,
    )
    trainer.fit(Classifier(len(training)), training, validation)


def fastai(recipe: Recipe, send: Send) -> None:
    """Train with `ImageDataLoaders.from_folder` and a `Learner` that fits one cycle."""
    from fastai.vision.all import (
        Adam,
        Callback,
        CrossEntropyLossFlat,
        FlipItem,
        ImageDataLoaders,
        Learner,
        Normalize,
        RandomResizedCrop,
        accuracy,
        set_seed,
    )

    class EventCallback(Callback):  # type: ignore[misc]
        order = 100  # after the recorder of fastai

        def before_train(self) -> None:
            send("training")

        def after_train(self) -> None:
            send("trained")

        def after_epoch(self) -> None:
            send("validated", score=float(self.learn.recorder.values[-1][-1]))

    set_seed(recipe["seed"])
    loaded = ImageDataLoaders.from_folder(
        recipe["data"],
        train="train",
        valid="val",
        item_tfms=[RandomResizedCrop(recipe["size"], min_scale=MIN_AREA), FlipItem()],
        batch_tfms=[Normalize.from_stats(MEAN, DEVIATION)],
        bs=recipe["batch"],
        num_workers=recipe["workers"],
    )
    learner = Learner(
        loaded,
        resnet(recipe),
        loss_func=CrossEntropyLossFlat(),
        opt_func=partial(Adam, decouple_wd=True, eps=1e-8),
        metrics=accuracy,
        path=Path.cwd(),
    )
    moments = (0.9, 0.9, 0.9)
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(
            recipe["epochs"],
            recipe["rate"],
            wd=recipe["decay"],
            pct_start=recipe["warmup"],
            moms=moments,
            cbs=[EventCallback()],
        )


def ultralytics(recipe: Recipe, send: Send) -> None:
    """Train Ultralytics' ResNet-18 classifier by `YOLO(...).train(...)`, with crop and flip only."""
    from ultralytics import YOLO, settings

    settings.update({"sync": False})
    network_file = Path("yolo11-cls-resnet18.yaml")  # like the file of Ultralytics, without published weights
    network_file.write_text(
        f"nc: {recipe['classes']}\n"
        "backbone:\n  - [-1, 1, TorchVision, [512, resnet18, null, True, 2]]\n"
        "head:\n  - [-1, 1, Classify, [nc]]\n"
    )
    model = YOLO(str(network_file), task="classify")
    model.add_callback("on_train_epoch_start", lambda _: send("training"))
    model.add_callback("on_train_epoch_end", lambda _: send("trained"))
    scores: list[float] = []

    def validated(trainer: Any) -> None:
        if len(scores) < recipe["epochs"]:  # after the last epoch, Ultralytics validates the best one again
            scores.append(float(trainer.metrics["metrics/accuracy_top1"]))
            send("validated", score=scores[-1])

    model.add_callback("on_fit_epoch_end", validated)
    model.train(
        data=recipe["data"],
        epochs=recipe["epochs"],
        imgsz=recipe["size"],
        batch=recipe["batch"],
        nbs=recipe["batch"],
        workers=recipe["workers"],
        device="cpu",
        seed=recipe["seed"],
        optimizer="AdamW",
        lr0=recipe["rate"],
        lrf=1e-4,
        cos_lr=True,
        momentum=0.9,
        weight_decay=recipe["decay"],
        warmup_epochs=recipe["warmup"] * recipe["epochs"],
        warmup_momentum=0.9,
        warmup_bias_lr=0.0,
        amp=False,
        pretrained=False,
        scale=MIN_AREA,
        fliplr=0.5,
        auto_augment=None,
        erasing=0.0,
        hsv_h=0.0,
        hsv_s=0.0,
        hsv_v=0.0,
        plots=False,
        project=str(Path.cwd()),
    )


def resnet(recipe: Recipe) -> Any:
    """Return ResNet-18 with random weights."""
    from torchvision.models import resnet18

    return resnet18(weights=None, num_classes=recipe["classes"])


def loaders(recipe: Recipe) -> tuple[Any, Any]:
    """Return the loaders of training and validation images for torchvision and Lightning."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    size, folder = recipe["size"], Path(recipe["data"])
    finish = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, DEVIATION)]
    crop = v2.RandomResizedCrop((size, size), scale=(MIN_AREA, 1.0), antialias=True)
    changed = v2.Compose([v2.ToImage(), crop, v2.RandomHorizontalFlip(), *finish])
    plain = v2.Compose([v2.ToImage(), v2.Resize((size, size), antialias=True), *finish])
    given: dict[str, Any] = {"batch_size": recipe["batch"], "num_workers": recipe["workers"]}
    given["persistent_workers"] = recipe["workers"] > 0
    training = DataLoader(ImageFolder(folder / "train", changed), shuffle=True, **given)
    return training, DataLoader(ImageFolder(folder / "val", plain), **given)


def optimization(recipe: Recipe, network: Any, steps: int) -> tuple[Any, Any]:
    """Return AdamW and a one-cycle schedule.

    Args:
        recipe: settings of the training.
        network: network to train.
        steps: number of steps per epoch.
    """
    import torch

    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe["rate"], weight_decay=recipe["decay"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        recipe["rate"],
        total_steps=recipe["epochs"] * steps + 1,
        pct_start=recipe["warmup"],
        cycle_momentum=False,
    )
    return optimizer, schedule


LIBRARIES = {"torchvision": torchvision, "lightning": lightning, "fastai": fastai, "ultralytics": ultralytics}


def main() -> None:
    """Train with one library and send events."""
    name, recipe, events = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])

    def send(event: str, **more: Any) -> None:
        os.write(events, (json.dumps({"event": event, **more}) + "\n").encode())

    send("versions", versions={package: version(package) for package in PACKAGES})
    LIBRARIES[name](recipe, send)


if __name__ == "__main__":
    main()
