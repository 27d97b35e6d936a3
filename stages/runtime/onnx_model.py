"""An ONNX model made by `export`: file bytes in, answers out."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.config.aliases import renamed_metadata
from stages.core.errors import UserError
from stages.core.memory import freed_memory_given_back
from stages.images.decode import MAX_MEGAPIXELS, Admit, Unreadable, admit_all, decode_image, to_channels
from stages.images.geometry import crop_tile, placements
from stages.runtime.engine_selection import APART, chosen
from stages.runtime.engines import OnnxRuntime, session_of
from stages.runtime.model_validation import refuse_malicious
from stages.tasks.postprocessing import decode, stitched
from stages.tasks.task_spec import task_spec_of

REQUIRED = ("task", "representation", "labels", "channels", "version")
TILES_AT_ONCE = 4

TYPES = {"tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(float)": "float32", "tensor(int64)": "int64"}

Array = np.ndarray[Any, Any]


class Model:
    """A session and what the file says of itself."""

    def __init__(self, file: Path, threads: int = 0, engine: str = "auto", precision: str = "") -> None:
        """Open a model and see that it answers here as where it was measured.

        Args:
            file: an ONNX file written by `export`.
            threads: of one call; 0: all cores.
            engine: auto, onnxruntime or openvino; auto takes OpenVINO where it is installed, `export` found that it
                keeps the score, and it is clearly faster on this machine.
            precision: of OpenVINO, so that two that are opened answer the same; '' takes the fastest that is allowed.

        Raises:
            UserError: the file is missing, damaged, malicious, or no model of Macula; or its answers differ here.
        """
        if not file.is_file():
            raise UserError(f"model: {file} does not exist; `dvc repro` writes data/export/model.onnx")
        refuse_malicious(file)
        try:
            with freed_memory_given_back():
                session = session_of(file, threads)
        except Exception as error:  # onnxruntime raises a type of its own for each way a file can be damaged
            raise UserError(f"model: {file} cannot be opened by onnxruntime: {error}") from error
        self.metadata = _metadata(session.get_modelmeta().custom_metadata_map, file)
        self.spec = task_spec_of(self.metadata)
        self.names = [output.name for output in session.get_outputs()]
        self.signature = tuple(
            [(one.name, TYPES[one.type], [n if isinstance(n, int) else -1 for n in one.shape]) for one in several]
            for several in (session.get_inputs(), session.get_outputs())
        )
        """Name, type of numpy and shape (-1: free) of the graph's inputs, and of its outputs."""
        first = OnnxRuntime(session, self.metadata.get("precision", "float32"))
        self.engine = chosen(first, engine, file, self.metadata, self.spec, threads, precision)

    def decode_file(self, data: bytes, max_megapixels: float = MAX_MEGAPIXELS, admit: Admit = admit_all) -> Array:
        """Bytes of an image file to the uint8 or uint16 [H, W, C] that the graph takes; raises `reading.Unreadable`."""

        def suits(pixels: int, channels: int, bits: int) -> None:
            if bits:
                self._refuse_other(channels, bits)
            admit(pixels, channels, bits)

        image = decode_image(data, max_megapixels, suits).image
        self._refuse_other(1 if image.ndim == 2 else image.shape[2], image.dtype.itemsize * 8)
        return to_channels(image, self.spec.channels)

    def _refuse_other(self, channels: int, bits: int) -> None:
        if bits != self.spec.depth:
            raise Unreadable(f"has {bits} bits a value; the model takes {self.spec.depth}")
        if channels != self.spec.channels and {channels, self.spec.channels} != {1, 3}:
            raise Unreadable(f"has {channels} channels; the model takes {self.spec.channels}")

    def run(self, images: Sequence[Array]) -> dict[str, Array]:
        """Run the graph on images [H, W, C] of one size; its outputs by name, batch first where it takes a batch."""
        given = self.engine.run(np.stack(images))
        return dict(zip(self.names, given, strict=True))

    def outputs(self, image: Array) -> dict[str, Array]:
        """Return the graph's outputs for one image [H, W, C], without the batch axis.

        A model that was trained on tiles is run on overlapping tiles of images larger than the working size.
        """
        if self.spec.fit != "tile":
            return self._single(self.run([image])) | {"size": np.array(image.shape[:2])}
        placed = placements(image.shape[0], image.shape[1], "tile", self.spec.size, self.spec.overlap)
        tiles = [crop_tile(image, frame, self.spec.size) for frame in placed]
        parts: list[dict[str, Array]] = []
        for start in range(0, len(tiles), TILES_AT_ONCE):
            batch = self.run(tiles[start : start + TILES_AT_ONCE])
            parts += [
                {name: values[i] for name, values in batch.items()} for i in range(len(next(iter(batch.values()))))
            ]
        return stitched(parts, placed)

    def _single(self, outputs: dict[str, Array]) -> dict[str, Array]:
        if self.spec.representation == "boxes":  # one image a call: its axes are those of the instances
            return outputs
        return {name: values[0] for name, values in outputs.items()}

    @property
    def batches(self) -> bool:
        """Whether one call takes several images of one size."""
        return self.spec.representation != "boxes" and self.spec.fit != "tile"

    def answers(self, images: Sequence[Array]) -> list[Any]:
        """The task's answers for images [H, W, C] of one size, in one call where `batches`."""
        if not self.batches or len(images) == 1:
            return [self.answer(image) for image in images]
        size = np.array(images[0].shape[:2])
        batch = self.run(images)
        return [
            decode({name: values[i] for name, values in batch.items()} | {"size": size}, self.spec)
            for i in range(len(images))
        ]

    def answer(self, image: Array) -> Any:
        """The task's answer for one image [H, W, C]."""
        return decode(self.outputs(image), self.spec)

    def answer_file(self, data: bytes) -> Any:
        """The task's answer for the bytes of one image file; raises `reading.Unreadable`."""
        return self.answer(self.decode_file(data))


def digest_of(file: Path) -> str:
    """SHA-256 of a file; of one that is missing '', which opening it tells better."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def shipped(exported: Path, threads: int = 0) -> Model:
    """`model.onnx` of a folder that `export` wrote, run as it was chosen: by that engine and in that precision.

    Raises:
        UserError: as `Model`.
    """
    told = json.loads((exported / "variants.json").read_text())
    variant = next(one for one in told["variants"] if one["name"] == told["shipped"])
    precision = variant["precision"] if variant["engine"] == "openvino" else ""
    return Model(exported / "model.onnx", threads, variant["engine"], precision)


def _metadata(stored: dict[str, str], file: Path) -> dict[str, Any]:
    """What `export` put in; what others added later is left out where it is no JSON."""
    missing = [key for key in REQUIRED if key not in stored]
    if missing:
        raise UserError(f"model: {file} says nothing of its {', '.join(missing)}; it was not written by `export`")
    known = {}
    for key, value in stored.items():
        try:
            known[key] = json.loads(value)
        except ValueError:
            if key in REQUIRED:
                raise UserError(f"model: {file}: its metadata {key} is no JSON: {value[:80]!r}") from None
    if known.get("precision", "float32") not in APART:
        raise UserError(f"model: {file} says its precision is {known['precision']!r}; known: {', '.join(APART)}")
    current, notices = renamed_metadata(known)
    if notices:
        logging.getLogger(__name__).warning("%s: metadata of an older version: %s", file, "; ".join(notices))
    return current
