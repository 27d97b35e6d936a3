"""Image files packed into tars: a version store keeps one file fast and 50,000 slowly."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path


def shard_name(arrival: int) -> str:
    """Name of the file of the images that came with an arrival: images that come later leave it as it is."""
    return f"images-{arrival}.tar"


def write_shard(file: Path, members: Iterable[tuple[str, bytes]]) -> list[int]:
    """Write (name, bytes) in order; returns where each member's bytes begin. Same members, same bytes."""
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with tarfile.open(file) as tar:
        return [member.offset_data for member in tar]


def read_member(file: Path, offset: int, length: int) -> bytes:
    """The bytes of one member, without looking at the others."""
    with file.open("rb") as shard:
        shard.seek(offset)
        return shard.read(length)
