"""Project with a pipeline of seconds: its "training" writes a hand-made model, whose quality the data determine."""

import io
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from flows.git_commands import dvc, git
from flows.workspaces import AUTHOR

PROJECT = Path(__file__).parents[1]
DVC_YAML = """
stages:
  ingest:
    cmd: python -m tests.toy_project ingest ${ingest.source}
    deps:
      - ${ingest.source}
      - data/splits
    outs:
      - data/ingest
      - data/validate
      - data/params.resolved.yaml
  audit:
    cmd: python -m tests.toy_project audit ${ingest.source}
    deps:
      - data/ingest
      - ${ingest.source}
    outs:
      - data/audit
  train:
    cmd: python -m tests.toy_project train ${ingest.source}
    deps:
      - data/audit
      - ${ingest.source}
    outs:
      - data/export
      - data/evaluate
      - data/report
"""
PARAMS = """
task: {name: classification, score: accuracy}
ingest: {name: colours, source: SOURCE}
prepare: {size: 32, channels: 3}
network: {name: resnet18, weights: none}
evaluate: {resamples: 200}
benchmark: {seconds: 0.02}
"""


def create(root: Path, source: Path | str) -> Path:
    """Create a repository whose pipeline reads a source."""
    (root / "data/splits").mkdir(parents=True)
    files = {
        "dvc.yaml": DVC_YAML,
        "params.yaml": PARAMS.replace("SOURCE", str(source)),
        "data/.gitignore": "/raw\n/ingest\n/validate\n/audit\n/export\n/evaluate\n/report\n/params.resolved.yaml\n",
        "data/splits/.gitkeep": "",
        ".gitignore": "work/\n*.damaged\n",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    git("init", "--quiet", "--initial-branch=main", cwd=root)
    for key, value in AUTHOR.items():
        git("config", key, value, cwd=root)
    dvc("init", "--quiet", cwd=root)
    git("add", ".", cwd=root)
    git("commit", "--quiet", "--message", "project", cwd=root)
    return root


def write_batch(source: Path, correct: int, number: int = 0, note: str = "") -> None:
    """Add a file to a source that decides the next model.

    Args:
        source: folder of the images.
        correct: number of colours, 1 or 3, that the model trained on them recognizes.
        number: number of the batch; the last one counts.
        note: "confounded" for data that the audit stops, "slow" for a stage that takes a minute, "held" for one that
            ends when the file `TOY_HOLD` is removed, "warn" for a warning.
    """
    source.mkdir(parents=True, exist_ok=True)
    (source / f"batch-{number}.txt").write_text(f"{correct} {note}".strip())


def environment(project: Path, state: Path) -> dict[str, str]:
    """Return the environment of a flow of a toy project."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(PROJECT),
        "MACULA_STATE": str(state),
        "MACULA_REPOSITORY": str(project),
        "MACULA_CACHE": str(state / "cache"),
    }


def command(module: str, *words: str) -> list[str]:
    """Return the command of a flow."""
    return [sys.executable, "-m", module, *words]


def start(project: Path, state: Path, module: str, *words: str) -> subprocess.Popen[str]:
    """Start a flow of a toy project in a process of its own."""
    return subprocess.Popen(
        command(module, *words),
        cwd=project, env=environment(project, state), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def _png(colour: str) -> bytes:
    from tests.shipped import plain

    buffer = io.BytesIO()
    Image.fromarray(plain(colour)).save(buffer, "PNG")
    return buffer.getvalue()


def _ingest() -> None:
    import pandas as pd

    from stages.config.load import load
    from stages.config.resolved import as_yaml
    from stages.core.findings import Finding, write_findings
    from stages.dataset.annotations import Annotation
    from stages.dataset.manifest import MANIFEST_COLUMNS, write_manifest
    from stages.dataset.shards import shard_name, write_shard
    from tests.lines import DEFAULTS
    from tests.shipped import COLOURS

    folder = Path("data/ingest")
    folder.mkdir(parents=True)
    rows = pd.DataFrame([{n: DEFAULTS[kind] for n, kind in MANIFEST_COLUMNS.items()} for _ in range(36)])
    rows["label"] = [COLOURS[i % 3] for i in range(36)]
    rows["path"] = rows["group"] = [f"{label}/{i}.png" for i, label in enumerate(rows["label"])]
    rows["split"] = ["train"] * 6 + ["val"] * 30
    rows["annotation"] = [Annotation(labels=(label,)).to_json() for label in rows["label"]]
    rows["things"] = "{}"
    files = [_png(label) for label in rows["label"]]
    offsets = write_shard(folder / shard_name(1), ((f"{i}.png", data) for i, data in enumerate(files)))
    rows = rows.assign(offset=offsets, bytes=[len(d) for d in files], width=8, height=8, format="PNG", mode="RGB")
    write_manifest(rows.assign(target_bytes=0), folder)
    Path("data/splits/colours.json").write_text('{"grouped_by": "picture", "splits": {}}\n')
    Path("data/validate").mkdir()
    write_findings([Finding("checks/not_empty", "passed", "there are images")], Path("data/validate/findings.json"))
    Path("data/params.resolved.yaml").write_text(as_yaml(load(Path("params.yaml"))))


def _audit(note: str) -> None:
    from stages.core.findings import Finding, write_findings

    if note == "confounded":
        work = Path("work/audit")
        work.mkdir(parents=True, exist_ok=True)
        (work / "blocked.md").write_text(
            "The gate stopped the pipeline:\n\n- **confounder**: brightness predicts all\n"
        )
        sys.exit("error: the gate stopped the pipeline: confounder")
    Path("data/audit").mkdir()
    found = [Finding("outliers/dark", "warning", "12 images are dark")] if note == "warn" else []
    write_findings(found, Path("data/audit/findings.json"))


def _train(correct: int, note: str) -> None:
    import json
    import time

    from tests.shipped import colour_model

    if note == "slow":
        time.sleep(60)
    while note == "held" and Path(os.environ["TOY_HOLD"]).exists():
        time.sleep(0.1)
    for name in ("export", "evaluate", "report"):
        Path("data", name).mkdir()
    colour_model(Path("data/export/model.onnx"), channels=(0, 1, 2) if correct == 3 else (1, 0, 2))
    variant = {"name": "float32", "precision": "float32", "engine": "onnxruntime"}
    Path("data/export/variants.json").write_text(json.dumps({"shipped": "float32", "variants": [variant]}))
    goal = {"score": "accuracy", "at_least": 0.3, "at_most": None, "value": correct / 3}
    goal |= {"reached": True, "better_than_constant": True, "met": True}
    Path("data/evaluate/scores.json").write_text(json.dumps({"objective": goal}))
    Path("data/report/index.html").write_text("<title>report</title>")


if __name__ == "__main__":
    last = sorted(Path(sys.argv[2]).glob("batch-*.txt"))[-1].read_text().split()
    text = last[1] if len(last) > 1 else ""
    if sys.argv[1] == "ingest":
        _ingest()
    elif sys.argv[1] == "audit":
        _audit(text)
    else:
        _train(int(last[0]), text)
