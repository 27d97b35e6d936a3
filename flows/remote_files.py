"""List and fetch the objects of a bucket, or of another file system of fsspec, and retry after temporary errors."""

import errno
import random
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from stages.core.errors import UserError

ATTEMPTS = 5
FIRST_PAUSE = 0.5  # seconds before the second attempt; doubled before each further one
CONNECT_SECONDS, READ_SECONDS = 10, 60  # time limits of one request
REMOTE = re.compile(r"(?!file://)[A-Za-z][A-Za-z0-9+.-]+://")
TAGS = ("ETag", "etag", "md5", "mtime", "LastModified", "updated", "created")
"""Keys under which the file systems of fsspec state what changes with the content of a file, the best first."""
LOCAL_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR)
CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "ProfileNotFound")
"""Exceptions of botocore that a second attempt cannot avoid."""

Result = TypeVar("Result")


def is_remote(url: str) -> bool:
    """Return whether a source is a URL of a store, and not a local path.

    >>> is_remote("s3://photos/new"), is_remote("data/raw"), is_remote("file:///data")
    (True, False, False)
    """
    return REMOTE.match(url) is not None


def list_objects(url: str) -> dict[str, tuple[int, str]]:
    """Return size and tag of each object below a URL, by its path below the URL, or of the object at the URL.

    Raises:
        UserError: the store refuses the request, does not respond, or has no such bucket.
    """
    files, root = _open(url)
    if retried(partial(_is_object, files, root), url):
        return {PurePosixPath(root).name: _entry(retried(partial(files.info, root), url))}
    found = retried(partial(_find, files, root), url)
    names = {path: path.removeprefix(root).removeprefix("/") for path in found}
    return {name: _entry(found[path]) for path, name in names.items() if name}


def fetcher(url: str) -> Callable[[str, Path], None]:
    """Return a function that downloads the object with a path below the URL to a local file, in one attempt.

    Raises:
        UserError: see `list_objects`.
    """
    files, root = _open(url)
    single = retried(partial(_is_object, files, root), url)
    return lambda name, target: files.get_file(root if single else f"{root}/{name}", str(target))


def _is_object(files: Any, root: str) -> bool:
    """Return whether a path is one object, and not a bucket, a prefix or absent."""
    if "/" not in root.strip("/"):
        return False
    try:
        return bool(files.info(root)["type"] == "file")
    except FileNotFoundError:
        return False


def _find(files: Any, root: str) -> dict[str, dict[str, Any]]:
    files.invalidate_cache()
    found: dict[str, dict[str, Any]] = files.find(root, detail=True)
    # Consoles mark folders by empty objects whose names end with a slash.
    return {path: about for path, about in found.items() if about.get("type") == "file" and not path.endswith("/")}


def _entry(about: dict[str, Any]) -> tuple[int, str]:
    tag = next((str(about[key]) for key in TAGS if about.get(key)), "")
    return int(about["size"] or 0), tag.strip('"')


def _open(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it."""
    from fsspec.core import url_to_fs

    limits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS, "retries": {"total_max_attempts": 1}}
    own = {"config_kwargs": limits, "use_listings_cache": False} if url.startswith("s3://") else {}
    try:
        files, root = url_to_fs(url, skip_instance_cache=True, **own)
    except (ImportError, ValueError) as error:
        raise UserError(f"{shown(url)} cannot be opened: {error}") from error
    if own:
        files.retries = 1  # `retried` is the only place that retries
    return files, str(root).rstrip("/")


def retried(action: Callable[[], Result], name: str) -> Result:
    """Call a function again after errors of the network or the store, with growing pauses.

    Raises:
        UserError: the last attempt failed, or a further one cannot help.
    """
    for attempt in range(ATTEMPTS):
        try:
            return action()
        except Exception as error:  # botocore's and aiohttp's exceptions have no common base class
            if not _is_temporary(error):
                raise UserError(f"{shown(name)} cannot be read: {_reason(error)}") from error
            if attempt == ATTEMPTS - 1:
                raise UserError(
                    f"{shown(name)} cannot be read after {ATTEMPTS} attempts: {_reason(error)}; check the store and "
                    "the network, and run again"
                ) from error
            time.sleep(FIRST_PAUSE * 2**attempt * random.uniform(1, 1.5))  # noqa: S311
    raise AssertionError("the last attempt returns or raises")


def _is_temporary(error: Exception) -> bool:
    if isinstance(error, FileNotFoundError | PermissionError):
        return False
    if isinstance(error, OSError):
        return error.errno not in LOCAL_FAILURES
    known = type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore", "aiohttp")
    return known and type(error).__name__ not in CREDENTIALS


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")


def shown(url: str) -> str:
    """Return a URL without user name and password.

    >>> shown("https://me:key@host/x")
    'https://host/x'
    """
    return re.sub(r"//[^/@]*@", "//", url)
