"""torchvision, Lightning, fastai and Ultralytics train one network on one recipe, each as its documentation teaches.

Runs in an environment that has them and nothing of Macula (infra/locks/training-peers.txt), one of them a process:
`python -m benchmarks.training.library_trainers NAME RECIPE EVENTS`. What happens is told in lines of JSON to the file descriptor
EVENTS; `benchmarks.training.compare_training` holds the clock.
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
Say = Callable[..., None]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as all of them teach
LEAST_AREA = 0.5  # of an image, that a random crop keeps
PACKAGES = ("torch", "torchvision", "lightning", "fastai", "ultralytics", "numpy", "pillow")


def torchvision(recipe: Recipe, say: Say) -> None:
    """A plain loop: the transforms of "Getting started with transforms v2", the loop of "Training a classifier".

    In 16 bits with channels last, as "Automatic mixed precision" and "Channels last memory format" have them.
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
    judge = nn.CrossEntropyLoss()
    for _ in range(recipe["epochs"]):
        say("training")
        network.train()
        for images, labels in training:
            with arithmetic():
                loss = judge(network(images.to(memory_format=layout)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        say("trained")
        network.eval()
        right = total = 0
        with torch.no_grad(), arithmetic():
            for images, labels in validation:
                right += int((network(images.to(memory_format=layout)).argmax(dim=1) == labels).sum())
                total += len(labels)
        say("validated", score=right / total)


def lightning(recipe: Recipe, say: Say) -> None:
    """A `LightningModule` and the `Trainer` with its defaults, but for the bar."""
    from lightning import pytorch as pl
    from torch.nn import functional
    from torchmetrics.classification import MulticlassAccuracy

    class Classifier(pl.LightningModule):
        def __init__(self, steps: int) -> None:
            super().__init__()
            self.network, self.steps = resnet(recipe), steps
            self.right = MulticlassAccuracy(recipe["classes"], average="micro")

        def training_step(self, batch: Any, _: int) -> Any:
            images, labels = batch
            loss = functional.cross_entropy(self.network(images), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: Any, _: int) -> None:
            images, labels = batch
            self.right(self.network(images), labels)
            self.log("val_accuracy", self.right)

        def configure_optimizers(self) -> Any:
            optimizer, schedule = optimization(recipe, self.network, self.steps)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    class Told(pl.Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            say("training")

        def on_validation_start(self, trainer: Any, *_: Any) -> None:
            if not trainer.sanity_checking:
                say("trained")

        def on_validation_end(self, trainer: Any, *_: Any) -> None:
            if not trainer.sanity_checking:
                say("validated", score=float(trainer.callback_metrics["val_accuracy"]))

    pl.seed_everything(recipe["seed"], workers=True)
    training, validation = loaders(recipe)
    trainer = pl.Trainer(
        max_epochs=recipe["epochs"],
        accelerator="cpu",
        precision={32: "32-true", 16: "bf16-mixed"}[recipe["bits"]],
        callbacks=[Told()],
        enable_progress_bar=False,
    )
    trainer.fit(Classifier(len(training)), training, validation)


def fastai(recipe: Recipe, say: Say) -> None:
    """`ImageDataLoaders.from_folder` and a `Learner` that fits one cycle."""
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

    class Told(Callback):
        order = 100  # behind its recorder

        def before_train(self) -> None:
            say("training")

        def after_train(self) -> None:
            say("trained")

        def after_epoch(self) -> None:
            say("validated", score=float(self.learn.recorder.values[-1][-1]))

    set_seed(recipe["seed"])
    loaded = ImageDataLoaders.from_folder(
        recipe["data"],
        train="train",
        valid="val",
        item_tfms=[RandomResizedCrop(recipe["size"], min_scale=LEAST_AREA), FlipItem()],
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
            recipe["epochs"], recipe["rate"], wd=recipe["decay"], pct_start=recipe["warmup"], moms=moments, cbs=[Told()]
        )


def ultralytics(recipe: Recipe, say: Say) -> None:
    """`YOLO(...).train(...)` on its ResNet-18 classifier; its own augmentation switched off but for crop and flip."""
    from ultralytics import YOLO, settings

    settings.update({"sync": False})
    network_config = Path("yolo11-cls-resnet18.yaml")  # as its own of that name, without the published weights
    network_config.write_text(
        f"nc: {recipe['classes']}\n"
        "backbone:\n  - [-1, 1, TorchVision, [512, resnet18, null, True, 2]]\n"
        "head:\n  - [-1, 1, Classify, [nc]]\n"
    )
    model = YOLO(str(network_config), task="classify")
    model.add_callback("on_train_epoch_start", lambda _: say("training"))
    model.add_callback("on_train_epoch_end", lambda _: say("trained"))
    judged: list[float] = []

    def validated(trainer: Any) -> None:
        if len(judged) < recipe["epochs"]:  # behind the last epoch it judges the best once more
            judged.append(float(trainer.metrics["metrics/accuracy_top1"]))
            say("validated", score=judged[-1])

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
        scale=LEAST_AREA,
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
    """ResNet-18 with random weights."""
    from torchvision.models import resnet18

    return resnet18(weights=None, num_classes=recipe["classes"])


def loaders(recipe: Recipe) -> tuple[Any, Any]:
    """Training and validation images of torchvision and Lightning."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    size, folder = recipe["size"], Path(recipe["data"])
    finish = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, DEVIATION)]
    crop = v2.RandomResizedCrop((size, size), scale=(LEAST_AREA, 1.0), antialias=True)
    changed = v2.Compose([v2.ToImage(), crop, v2.RandomHorizontalFlip(), *finish])
    plain = v2.Compose([v2.ToImage(), v2.Resize((size, size), antialias=True), *finish])
    given: dict[str, Any] = {"batch_size": recipe["batch"], "num_workers": recipe["workers"]}
    given["persistent_workers"] = recipe["workers"] > 0
    training = DataLoader(ImageFolder(folder / "train", changed), shuffle=True, **given)
    return training, DataLoader(ImageFolder(folder / "val", plain), **given)


def optimization(recipe: Recipe, network: Any, steps: int) -> tuple[Any, Any]:
    """AdamW on one cycle."""
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


PEERS = {"torchvision": torchvision, "lightning": lightning, "fastai": fastai, "ultralytics": ultralytics}


def main() -> None:
    """Train, and tell."""
    name, recipe, events = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])

    def say(event: str, **more: Any) -> None:
        os.write(events, (json.dumps({"event": event, **more}) + "\n").encode())

    say("versions", versions={package: version(package) for package in PACKAGES})
    PEERS[name](recipe, say)


if __name__ == "__main__":
    main()
