"""Batches of images to score: which are new, which batch is unfinished, and which wait for the drift test.

The state folder contains one folder per source and output: `scored.jsonl` with the size and tag of each scored file,
`batch.json` with the unfinished batch, and `waiting.json` with the results that were not yet compared with the
reference. Each step may be repeated after a crash.
"""

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows import source_listing, state
from flows.remote_files import is_remote
from flows.source_listing import Listing
from stages.core.errors import UserError
from stages.core.path_parts import IMAGE_SUFFIXES, suffix_of

ROWS = "predictions.jsonl"
DRIFT = "drift.json"


@dataclass(frozen=True)
class Batch:
    """Images that one call of `predict` predicts."""

    name: str
    """Time and digest; name of the folder of its results."""
    model: str
    """SHA-256 of the model file."""
    files: Listing
    again: bool
    """Whether images that were scored before are among them on request."""


@dataclass(frozen=True)
class Waiting:
    """Results that wait until there are enough images to compare with the reference."""

    name: str
    model: str
    """SHA-256 of the model file."""
    images: int


class Store:
    """State and results of one source and output."""

    def __init__(self, source: str, output: Path) -> None:
        """Open the state; folders are created when something is written.

        Raises:
            UserError: the results would be among the images of the source.
        """
        self.source = source if is_remote(source) else str(Path(source.removeprefix("file://")).absolute())
        self.output = output.absolute()
        if not is_remote(source) and self.output.resolve().is_relative_to(Path(self.source).resolve()):
            raise UserError(f"output {output} is inside the source {source}; name a folder outside of it")
        self.key = hashlib.sha256(json.dumps([self.source, str(self.output)]).encode()).hexdigest()[:12]
        self.folder = state.folder() / "score" / self.key
        self.work, self.copy = self.folder / "batch", self.folder / "copy"

    def scored(self) -> Listing:
        """Return size and tag of the files that were scored."""
        found: Listing = {}
        with suppress(FileNotFoundError):
            for line in (self.folder / "scored.jsonl").read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):  # the last line of a killed run; its batch is finished again
                    name, size, tag = json.loads(line)
                    found[name] = (size, tag)
        return found

    def unfinished(self, files: Listing, model: str) -> Batch | None:
        """Return the batch that a killed run left; None, and its rows are discarded, if it cannot be resumed.

        Args:
            files: listing of the source.
            model: SHA-256 of the model file.
        """
        known = _read_json(self.folder / "batch.json")
        if known is None:
            return None
        entries = {name: (size, tag) for name, (size, tag) in known["files"].items()}
        batch = Batch(known["name"], known["model"], entries, known["again"])
        same = batch.model == model and all(files.get(name) == entry for name, entry in entries.items())
        if same or self.results(batch).is_dir():
            return batch
        self.discard()
        return None

    def start(self, files: Listing, model: str, again: bool) -> Batch:
        """Record a new batch and return it.

        Args:
            files: files of the batch.
            model: SHA-256 of the model file.
            again: whether images that were scored before are among them on request.
        """
        self.discard()
        digest = source_listing.digest(files)[:6]
        batch = Batch(f"{datetime.now(UTC):%Y-%m-%dT%H%M%S.%fZ}-{digest}", model, files, again)
        _write_json(self.folder / "batch.json", asdict(batch))
        return batch

    def results(self, batch: Batch | Waiting) -> Path:
        """Return the folder of the results of a batch, which exists once they are complete."""
        return self.output / batch.name

    def prepare(self, batch: Batch) -> tuple[Path, str]:
        """Make the files of a batch available; return the folder to run `predict` in, and its argument.

        Raises:
            UserError: see `source_listing.mirror`; or the disk is full.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        if is_remote(self.source):
            copied = source_listing.mirror(self.source, self.copy, batch.files)
            return (copied, ".") if copied.is_dir() else (copied.parent, copied.name)
        if Path(self.source).is_file():
            return Path(self.source).parent, Path(self.source).name
        images = self.work / "images"
        try:
            for name in batch.files:
                link = images / name
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.is_symlink():
                    link.symlink_to(Path(self.source, name))
        except OSError as error:
            raise UserError(f"{error.filename} cannot be created: {error.strerror}") from error
        return images, "."

    def finish(self, batch: Batch) -> Waiting:
        """Move the rows of a batch to its results and record its files as scored.

        Raises:
            UserError: the results cannot be written.
        """
        results = self.results(batch)
        if not results.is_dir():
            try:
                _move(self.work / ROWS, results)
            except OSError as error:
                raise UserError(f"{results} cannot be written: {error.strerror}") from error
        images = _count_lines(results / ROWS)
        waiting = [one for one in self.waiting() if one.name != batch.name]
        done = Waiting(batch.name, batch.model, images)
        _write_json(self.folder / "waiting.json", [asdict(one) for one in [*waiting, done]])
        with (self.folder / "scored.jsonl").open("a", encoding="utf-8") as record:
            record.write("\n" + "".join(json.dumps([name, *entry]) + "\n" for name, entry in batch.files.items()))
        (self.folder / "batch.json").unlink()
        return done

    def waiting(self) -> list[Waiting]:
        """Return the results that were not yet compared with the reference."""
        return [Waiting(**one) for one in _read_json(self.folder / "waiting.json") or []]

    def compared(self) -> None:
        """Record that no results wait any more."""
        _write_json(self.folder / "waiting.json", [])

    def discard(self) -> None:
        """Remove the files of an unfinished or finished batch from the state folder."""
        (self.folder / "batch.json").unlink(missing_ok=True)
        self.clean()

    def clean(self) -> None:
        """Remove copies and links of images."""
        for folder in (self.work, self.copy):
            shutil.rmtree(folder, ignore_errors=True)
        self.copy.with_name(f"{self.copy.name}.jsonl").unlink(missing_ok=True)


def new_files(source: str, files: Listing, scored: Listing) -> Listing:
    """Return the images of a source that were not scored with their current size and tag.

    Args:
        source: source of the listing.
        files: listing of the source; an archive counts as a whole.
        scored: size and tag of the scored files.
    """
    single = source_listing.is_single_file(source, files)
    images = {name: entry for name, entry in files.items() if single or suffix_of(name).lower() in IMAGE_SUFFIXES}
    return {name: entry for name, entry in images.items() if scored.get(name) != entry}


def _move(rows: Path, results: Path) -> None:
    """Create the folder of results with its rows; the folder is complete or absent, also on another file system."""
    draft = results.with_name(f".{results.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    shutil.move(rows, draft / ROWS)
    for name in ("files", "overlays"):
        if (rows.parent / name).is_dir():
            shutil.move(rows.parent / name, draft / name)
    draft.replace(results)


def _count_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.new")
    draft.write_text(json.dumps(value), encoding="utf-8")
    draft.replace(file)


def write_outcome(store: Store, outcome: dict[str, Any]) -> None:
    """Write the outcome of a run as `outcome.json` into the state folder of its source and output."""
    _write_json(store.folder / "outcome.json", outcome | {"ended": datetime.now(UTC).isoformat(timespec="seconds")})
