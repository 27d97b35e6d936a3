"""Cache of image descriptions, so that ingest decodes only new images."""

import hashlib
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.source_digest import parse
from stages.images import decode, image_metadata, image_statistics
from stages.images.image_metadata import DESCRIPTION_KEYS

CACHE_FOLDER = Path("work/ingest")
"""Folder of the cache, outside the outputs, which DVC deletes before it runs a stage."""
DESCRIBING_MODULES = (image_metadata, decode, image_statistics)
PACKAGES = ("numpy", "pillow", "scipy", "tifffile")


class IngestCache:
    """Image descriptions of the last ingest of a data set, by digest of the file."""

    def __init__(self, name: str) -> None:
        self._file = CACHE_FOLDER / f"{name}.parquet"
        self._table: pa.Table = pa.table({"content": pa.array([], pa.string())})
        if self._file.exists():
            try:
                known = pq.read_table(self._file)
            except (OSError, pa.ArrowException) as error:
                print(f"ingest: {self._file} cannot be read ({error}); every image is decoded again", flush=True)
            else:
                if (known.schema.metadata or {}).get(b"code") == _code():
                    self._table = known
        self._row = {content: i for i, content in enumerate(self._table["content"].to_pylist())}

    def get(self, content: str, max_megapixels: float) -> dict[str, Any] | None:
        """Return the result of `describe_image` for a digest; None if it is not cached or the image is too large.

        Args:
            content: digest of the file.
            max_megapixels: maximum size of the image, 10^6 pixels.
        """
        if content not in self._row:
            return None
        (row,) = self._table.slice(self._row[content], 1).drop_columns("content").to_pylist()
        return row if row["width"] * row["height"] <= max_megapixels * 1e6 else None

    def save(self, rows: pd.DataFrame) -> None:
        """Replace the cache with these rows; if it cannot be written, print the reason and leave the file unchanged."""
        table = pa.Table.from_pandas(rows[["content", *DESCRIPTION_KEYS]], preserve_index=False)
        part = self._file.with_name(self._file.name + ".part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.replace_schema_metadata({"code": _code()}), part)
            part.rename(self._file)
        except OSError as error:  # only costs time at the next ingest
            print(
                f"ingest: {self._file} cannot be written ({error}); every image is decoded again next time", flush=True
            )


def _code() -> bytes:
    """Return a digest of the code and packages that the descriptions depend on."""
    digest = hashlib.sha256()
    for module in DESCRIBING_MODULES:  # digest without comments and docstrings
        digest.update(parse(Path(str(module.__file__)).read_bytes()).digest.encode())
    digest.update(repr([metadata.version(package) for package in PACKAGES]).encode())
    return digest.hexdigest().encode()
