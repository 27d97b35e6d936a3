"""Image files packed into tar shards, since DVC handles one file faster than 50,000."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path


def shard_name(arrival: int) -> str:
    """Return the shard file name of an arrival; later arrivals do not change the shard."""
    return f"images-{arrival}.tar"


def write_shard(file: Path, members: Iterable[tuple[str, bytes]]) -> list[int]:
    """Write members (name, bytes) to a tar file in order; its content depends on the members only.

    Returns:
        The offset of the bytes of each member in the file.
    """
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with tarfile.open(file) as tar:
        return [member.offset_data for member in tar]


def read_member(file: Path, offset: int, length: int) -> bytes:
    """Read one member by its offset.

    Args:
        file: the shard.
        offset: offset of the member in the file, bytes.
        length: length of the member, bytes.
    """
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)
