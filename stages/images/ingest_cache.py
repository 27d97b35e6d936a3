"""What was found out of images is remembered, so that an ingest decodes only those that are new."""

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
"""Outside the outputs, which are deleted before a stage runs."""
CODE_FILES = (image_metadata, decode, image_statistics)
PACKAGES = ("numpy", "pillow", "scipy", "tifffile")


class IngestCache:
    """What the last ingest of a data set knew of its images, by the digest of their bytes."""

    def __init__(self, name: str) -> None:
        self._file = CACHE_FOLDER / f"{name}.parquet"
        self._table: pa.Table = pa.table({"content": pa.array([], pa.string())})
        if self._file.exists():
            try:
                known = pq.read_table(self._file)
            except (OSError, pa.ArrowException) as error:
                print(f"ingest: {self._file} cannot be read ({error}); every image is decoded anew", flush=True)
            else:
                if (known.schema.metadata or {}).get(b"code") == _code():
                    self._table = known
        self._row = {content: i for i, content in enumerate(self._table["content"].to_pylist())}

    def get(self, content: str, max_megapixels: float) -> dict[str, Any] | None:
        """What `described` answers; None where that must be asked."""
        if content not in self._row:
            return None
        (row,) = self._table.slice(self._row[content], 1).drop_columns("content").to_pylist()
        return row if row["width"] * row["height"] <= max_megapixels * 1e6 else None

    def save(self, rows: pd.DataFrame) -> None:
        """Remember what these rows of ingest say of images, and no others; whole or not at all."""
        table = pa.Table.from_pandas(rows[["content", *DESCRIPTION_KEYS]], preserve_index=False)
        part = self._file.with_name(self._file.name + ".part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.replace_schema_metadata({"code": _code()}), part)
            part.rename(self._file)
        except OSError as error:  # what is lost is time, at the next ingest
            print(f"ingest: {self._file} is not written ({error}); every image is decoded anew next time", flush=True)


def _code() -> bytes:
    """What an answer depends on beside the image: another code or package may describe it otherwise."""
    digest = hashlib.sha256()
    for module in CODE_FILES:  # an edit of comments or docstrings changes no description
        digest.update(parse(Path(str(module.__file__)).read_bytes()).digest.encode())
    digest.update(repr([metadata.version(package) for package in PACKAGES]).encode())
    return digest.hexdigest().encode()
