"""Load an ONNX model written by `export` and predict from image bytes."""

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
from stages.core.plurals import quantity
from stages.core.shapes import Array, Integer
from stages.images.decode import MAX_MEGAPIXELS, Admit, DecodedImage, Unreadable, admit_all, decode_image, to_channels
from stages.images.geometry import crop_tile, placements
from stages.runtime.engine_selection import PROBE_TOLERANCE, select_engine
from stages.runtime.engines import OnnxRuntime, create_session
from stages.runtime.model_validation import refuse_malicious
from stages.tasks.postprocessing import decode, stitched
from stages.tasks.task_spec import task_spec_of

REQUIRED = ("task", "representation", "labels", "channels", "version")
TILES_PER_CALL = 4

TYPES = {"tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(float)": "float32", "tensor(int64)": "int64"}


class Model:
    """An exported model: inference session, metadata and task specification."""

    def __init__(self, file: Path, threads: int = 0, engine: str = "auto", precision: str = "") -> None:
        """Open a model and check that its outputs on this machine agree with those at export.

        Args:
            file: an ONNX file written by `export`.
            threads: threads per call; 0 for all cores.
            engine: auto, onnxruntime or openvino; auto selects OpenVINO if it is installed, `export`
                accepted it for this file, its outputs agree, and it is clearly faster on this machine.
            precision: precision of OpenVINO, to open a model twice with identical outputs; '' for any that `export`
                accepted.

        Raises:
            UserError: the file is missing, damaged, malicious or not written by `export`; its outputs differ on this
                machine; or the engine is unknown or not available.
            RuntimeError: see `OpenVino`.
        """
        if not file.is_file():
            raise UserError(f"model: {file} does not exist; `dvc repro` writes data/export/model.onnx")
        refuse_malicious(file)
        try:
            with freed_memory_given_back():
                session = create_session(file, threads)
        except Exception as error:  # onnxruntime's exceptions have no common base class
            raise UserError(f"model: {file} cannot be opened by onnxruntime: {error}") from error
        self.metadata = _metadata(session.get_modelmeta().custom_metadata_map, file)
        self.spec = task_spec_of(self.metadata)
        self.names = [output.name for output in session.get_outputs()]
        self.signature = tuple(
            [
                (value.name, TYPES[value.type], [n if isinstance(n, int) else -1 for n in value.shape])
                for value in values
            ]
            for values in (session.get_inputs(), session.get_outputs())
        )
        """(inputs, outputs) of the graph, each as name, numpy type and shape (-1 for a free axis)."""
        first = OnnxRuntime(session, self.metadata.get("precision", "float32"))
        self.engine = select_engine(first, engine, file, self.metadata, self.spec, threads, precision)

    def decode_file(
        self, data: bytes, max_megapixels: float = MAX_MEGAPIXELS, admit: Admit = admit_all
    ) -> Integer[Array, "H W {self.spec.channels}"]:
        """Decode an image file to the pixels that the graph requires.

        Args:
            data: bytes of the file.
            max_megapixels: largest accepted image size in megapixels.
            admit: called with (pixels, channels, bits) before the pixels are decoded, see `Admit`; raises to refuse
                the image.

        Returns:
            uint8 or uint16 pixels.

        Raises:
            Unreadable: see `decode_image`; or the bit depth differs from that of the model, or the channels do and are
                not converted (only 1 to 3 or 3 to 1).
            NotAdmitted: `admit` refused the image.
        """
        return self.to_input(self.decode_picture(data, max_megapixels, admit))

    def decode_picture(
        self, data: bytes, max_megapixels: float = MAX_MEGAPIXELS, admit: Admit = admit_all
    ) -> DecodedImage:
        """Decode an image file as ingest does, to its own number of channels.

        Args:
            data: see `decode_file`, which also lists the exceptions.
            max_megapixels: see `decode_file`.
            admit: see `decode_file`.
        """

        def check_and_admit(pixels: int, channels: int, bits: int) -> None:
            if bits:
                self._check_format(channels, bits)
            admit(pixels, channels, bits)

        return decode_image(data, max_megapixels, check_and_admit)

    def to_input(self, picture: DecodedImage) -> Integer[Array, "H W {self.spec.channels}"]:
        """Return the pixels that the graph requires; raise Unreadable as `decode_file` does."""
        image = picture.image
        self._check_format(1 if image.ndim == 2 else image.shape[2], image.dtype.itemsize * 8)
        return to_channels(image, self.spec.channels)

    def _check_format(self, channels: int, bits: int) -> None:
        if bits != self.spec.depth:
            raise Unreadable(f"has {bits} bits per value; the model requires {self.spec.depth}")
        if channels != self.spec.channels and {channels, self.spec.channels} != {1, 3}:
            raise Unreadable(f"has {quantity(channels, 'channel')}; the model requires {self.spec.channels}")

    def run(self, images: Sequence[Integer[Array, "H W C"]]) -> dict[str, Array]:
        """Run the graph on images of equal size.

        Returns:
            Outputs by name, with a leading batch axis except for the representation `boxes`.
        """
        values = self.engine.run(np.stack(images))
        return dict(zip(self.names, values, strict=True))

    def outputs(self, image: Integer[Array, "H W C"]) -> dict[str, Array]:
        """Return the graph's outputs for one image, without the batch axis.

        A model trained on tiles runs on overlapping tiles, and their outputs are merged. Without tiles, `size` (height
        and width of the image, pixels) is added.
        """
        if self.spec.fit != "tile":
            return self._single(self.run([image])) | {"size": np.array(image.shape[:2])}
        placed = placements(image.shape[0], image.shape[1], "tile", self.spec.size, self.spec.overlap)
        tiles = [crop_tile(image, frame, self.spec.size) for frame in placed]
        parts: list[dict[str, Array]] = []
        for start in range(0, len(tiles), TILES_PER_CALL):
            batch = self.run(tiles[start : start + TILES_PER_CALL])
            parts += [
                {name: values[i] for name, values in batch.items()} for i in range(len(next(iter(batch.values()))))
            ]
        return stitched(parts, placed)

    def _single(self, outputs: dict[str, Array]) -> dict[str, Array]:
        if self.spec.representation == "boxes":  # no batch axis: the first axis is that of the instances
            return outputs
        return {name: values[0] for name, values in outputs.items()}

    @property
    def batches(self) -> bool:
        """True if one call predicts several images of equal size."""
        return self.spec.representation != "boxes" and self.spec.fit != "tile"

    def predict_batch(self, images: Sequence[Integer[Array, "H W C"]]) -> list[Any]:
        """Return the predictions for images of equal size, computed in one call if `batches`."""
        if not self.batches or len(images) == 1:
            return [self.predict(image) for image in images]
        size = np.array(images[0].shape[:2])
        batch = self.run(images)
        return [
            decode({name: values[i] for name, values in batch.items()} | {"size": size}, self.spec)
            for i in range(len(images))
        ]

    def predict(self, image: Integer[Array, "H W C"]) -> Any:
        """Return the prediction for one image."""
        return decode(self.outputs(image), self.spec)

    def predict_file(self, data: bytes) -> Any:
        """Return the prediction for the bytes of one image file.

        Raises:
            Unreadable: see `decode_file`.
        """
        return self.predict(self.decode_file(data))


def compute_digest(file: Path) -> str:
    """Return the SHA-256 of a file in hex; empty if it cannot be read, since opening the model reports the reason."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def open_shipped_model(exported: Path, threads: int = 0) -> Model:
    """Open `model.onnx` of an output folder of `export` with the engine and precision that were selected there.

    Args:
        exported: output folder of `export`.
        threads: threads per call; 0 for all cores.

    Raises:
        UserError, RuntimeError: see `Model`.
        OSError: `variants.json` cannot be read.
    """
    summary = json.loads((exported / "variants.json").read_text())
    variant = next(v for v in summary["variants"] if v["name"] == summary["shipped"])
    precision = variant["precision"] if variant["engine"] == "openvino" else ""
    return Model(exported / "model.onnx", threads, variant["engine"], precision)


def _metadata(stored: dict[str, str], file: Path) -> dict[str, Any]:
    """Return the metadata that `export` wrote, under their current names.

    Values that other programs added are left out if they are not JSON.
    """
    missing = [key for key in REQUIRED if key not in stored]
    if missing:
        raise UserError(f"model: the metadata of {file} lack {', '.join(missing)}; use a file that `export` wrote")
    known = {}
    for key, value in stored.items():
        try:
            known[key] = json.loads(value)
        except ValueError:
            if key in REQUIRED:
                raise UserError(
                    f"model: {file}: metadata {key} is not JSON: {value[:80]!r}; export the model again"
                ) from None
    if known.get("precision", "float32") not in PROBE_TOLERANCE:
        raise UserError(
            f"model: {file} has the unknown precision {known['precision']!r}; known: {', '.join(PROBE_TOLERANCE)}"
        )
    current, notices = renamed_metadata(known)
    if notices:
        logging.getLogger(__name__).warning("%s: metadata of an older version: %s", file, "; ".join(notices))
    return current
