"""Images a second of what looks at every image: Macula's description of a file beside its peers, on the same JPEGs.

Everybody has one core and takes turns, round by round; each is compared with cleanvision of the same round, by
processor time, since these machines are shared. `describe` is all that ingest finds out of a file: decoding, thirty
statistics, EXIF, two perceptual hashes, a thumbnail and the digest of the pixels. `line` is the three stages ingest,
validate and audit, each as `dvc repro` starts it, imports and child processes included.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.audits.audit_competitors import Peers
from benchmarks.pipeline import dataset_scaling as scale
from stages.config.load import check, read
from stages.config.resolved import RESOLVED, as_yaml

ROOT = Path(__file__).parents[2]
PYTHON = Path(".venv-audit-peers/bin/python")
COUNT, WIDTH, HEIGHT = 1000, 400, 300
PEERS = ("cleanvision", "deepchecks properties", "imagededup")
REFERENCE = "cleanvision"
PHOTOS = {"clothing10": "400 to 888 pixels", "bccd": "640x480"}
WHERE = 400  # images whose description is taken apart


def measured(data: Path | None, rounds: int, count: int = COUNT) -> dict[str, Any]:
    """Rates by kind of JPEGs and contestant; where the time of `describe` goes."""
    found: dict[str, Any] = {"rounds": rounds, "load": os.getloadavg()[0], "cores": len(os.sched_getaffinity(0))}
    with tempfile.TemporaryDirectory() as name, one_core():
        for kind, folder in _folders(Path(name), data, count).items():
            found[kind] = _compared(folder, rounds) | {"where": json.loads(_ours("where", folder))}
            found[kind]["line"] = _line(folder)
            print(kind, found[kind], flush=True)
            shutil.rmtree(folder)
    return found


class one_core:  # noqa: N801
    """Within it, this process and those that it starts share one core."""

    def __enter__(self) -> None:
        self._before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(self._before)})

    def __exit__(self, *_: object) -> None:
        os.sched_setaffinity(0, self._before)


def _folders(at: Path, data: Path | None, count: int) -> dict[str, Path]:
    scale.WIDTH, scale.HEIGHT = WIDTH, HEIGHT
    made = {f"{count} made, {WIDTH}x{HEIGHT}": [scale.picture(number) for number in range(count)]}
    for name, size in PHOTOS.items():
        if data and (data / f"{name}.zip").exists():
            with zipfile.ZipFile(data / f"{name}.zip") as archive:
                files = [n for n in archive.namelist() if n.lower().endswith((".jpg", ".jpeg"))]
                made[f"{len(files)} of {name}, {size}"] = [archive.read(n) for n in files]
    for kind, files in made.items():
        folder = at / kind
        told = []
        for number, content in enumerate(files):
            path = f"c{number % 10}/{number}.jpg"
            (folder / "images" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "images" / path).write_bytes(content)
            told.append({"path": path, "label": f"c{number % 10}", "split": "train"})
        (folder / "case.json").write_text(json.dumps(told))
    return {kind: at / kind for kind in made}


def _compared(folder: Path, rounds: int) -> dict[str, Any]:
    count = len(json.loads((folder / "case.json").read_text()))
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with Peers(PYTHON.absolute()) as peers, tempfile.TemporaryDirectory() as name:
        peers.ask(PEERS, _some(folder, Path(name)))  # imports are not timed
        for turn in range(rounds):
            names = ["macula", *PEERS]
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                if name == "macula":
                    times[name].append(tuple(json.loads(_ours("time", folder))))
                    continue
                answer = peers.ask([name], folder)[name]
                if "error" in answer:
                    raise SystemExit(f"{name}: {answer['error']}")
                times[name].append((answer["seconds"], answer["cpu_seconds"]))
    reference = [cpu for _, cpu in times[REFERENCE]]
    rates = {}
    for name, those in times.items():
        ratios = [other / cpu for other, (_, cpu) in zip(reference, those, strict=True)]
        rates[name] = {
            "images_per_second": count / statistics.median(wall for wall, _ in those),
            "images_per_cpu_second": count / statistics.median(cpu for _, cpu in those),
            "ratio": statistics.median(ratios),
            "ratio_low": min(ratios),
            "ratio_high": max(ratios),
        }
    return {"images": count, "rates": rates}


def _some(folder: Path, at: Path, count: int = 20) -> Path:
    """The first few of the images, elsewhere."""
    told = json.loads((folder / "case.json").read_text())[:count]
    for one in told:
        (at / "images" / one["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "images" / one["path"], at / "images" / one["path"])
    (at / "case.json").write_text(json.dumps(told))
    return at


def _ours(what: str, folder: Path) -> str:
    done = [sys.executable, "-m", "benchmarks.audits.audit_speed", what, str(folder)]
    return subprocess.run(done, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def _line(folder: Path) -> dict[str, Any]:
    """Processor seconds and seconds of the three stages, once."""
    with tempfile.TemporaryDirectory() as name:
        at, used = Path(name), {}
        (at / "splits").mkdir()
        params = read(ROOT / "params.yaml")
        params["ingest"] = {"name": "speed", "source": str(folder / "images")}
        (at / RESOLVED).parent.mkdir()
        (at / RESOLVED).write_text(as_yaml(check(params)))
        stages = {
            "ingest": (str(folder / "images"), "splits", "sealed", "ingested"),
            "validate": ("ingested", "validated"),
            "audit": ("ingested", "audited"),
        }
        for stage, paths in stages.items():
            before, began = _children(), time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", f"stages.{stage}", *paths],
                check=True,
                cwd=at,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            used[stage] = {"seconds": time.perf_counter() - began, "cpu_seconds": _children() - before}
    return used


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _time(folder: Path) -> tuple[float, float]:
    """Seconds and processor seconds of describing all files, in this process."""
    from stages.core.memory import keep_freed_memory
    from stages.images.image_metadata import described

    keep_freed_memory()  # as the processes do in which ingest decodes
    files = [folder / "images" / one["path"] for one in json.loads((folder / "case.json").read_text())]
    described(files[0].read_bytes(), max_megapixels=100)
    began, before = time.perf_counter(), time.process_time()
    for file in files:
        described(file.read_bytes(), max_megapixels=100)
    return time.perf_counter() - began, time.process_time() - before


def _where(folder: Path) -> dict[str, float]:
    """Milliseconds an image of the parts of a description, one by one; they overlap in nothing but grey levels."""
    from hashlib import sha256

    from stages.core.memory import keep_freed_memory
    from stages.images import image_statistics
    from stages.images.decode import read
    from stages.images.image_metadata import described

    keep_freed_memory()
    spent: dict[str, float] = defaultdict(float)

    def timed(part: str, function: Callable[..., Any], *given: Any) -> Any:
        began = time.process_time()
        answer = function(*given)
        spent[part] += time.process_time() - began
        return answer

    files = [folder / "images" / one["path"] for one in json.loads((folder / "case.json").read_text())][:WHERE]
    for file in files:
        data = file.read_bytes()
        timed("all", described, data, 100)
        picture = timed("decoding, EXIF", read, data, 100)
        colour = Image.fromarray(picture.image)
        grey = colour.convert("L")
        counts = np.array(grey.histogram())
        timed("histograms of three channels", colour.histogram)
        timed("perceptual hashes", image_statistics._perceptual_hashes, grey)
        timed("sharpness", image_statistics._sharpness, grey)
        rim = timed("border", lambda grey: image_statistics._rim(np.asarray(grey)).std(), grey)
        timed(
            "foreground, entropy",
            lambda counts, rim: (image_statistics._foreground(counts, rim), image_statistics._entropy(counts)),
            counts,
            rim,
        )
        timed("thumbnail", image_statistics._thumbnail, colour)
        timed("digest of the pixels", lambda image: sha256(image.tobytes()).hexdigest(), picture.image)
    milliseconds = {part: 1000 * seconds / len(files) for part, seconds in spent.items()}
    whole = milliseconds.pop("all")
    rest = {"grey, moments, the rest": whole - sum(milliseconds.values())}
    return {"all": whole} | dict(sorted((milliseconds | rest).items(), key=lambda one: -one[1]))


if __name__ == "__main__":
    what, folder = sys.argv[1], Path(sys.argv[2])
    print(json.dumps(_time(folder) if what == "time" else _where(folder)))
