"""Macula's audits asked about a planted case, and the peers asked about the same files.

An answer has `alarms`, pairs of an id and its severity; `sets` by id, pictures said to be copies of each other;
`images` by id, single ones named; `figures` by id, numbers; and `seconds` of processor time.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from benchmarks.audits.injected_faults import Case, Shot, written
from stages.audits import AUDITS
from stages.audits.audit_data import Subject
from stages.checks.check_data import CheckData
from stages.checks.contract import contract
from stages.checks.results import interpret
from stages.checks.suite import run_suite
from stages.config import load as params
from stages.config.load import Params
from stages.core.findings import Finding, Severity
from stages.dataset.annotations import Annotation
from stages.dataset.manifest import COLUMNS, SEALED_INDEX
from stages.dataset.shards import shard, write_shard
from stages.images.image_metadata import described
from stages.probes.confident_learning import doubt
from stages.probes.cross_validation import probabilities

Answer = dict[str, Any]
PATH = re.compile(r"^(.+?\.(?:jpg|png)) \(")
ALARMING = ("warning", "blocking")


def settings() -> Params:
    """The params of the project as they are delivered."""
    return params.check(YAML(typ="safe", pure=True).load(Path("params.yaml").read_text(encoding="utf-8")))


def ingested(case: Case, folder: Path) -> tuple[pd.DataFrame, dict[str, bytes]]:
    """The manifest that ingest would write of a case, its shards in `folder`; and the bytes of the files by path."""
    files = {shot.path: written(shot) for shot in case.shots}
    rows = pd.DataFrame([_row(shot, files[shot.path]) for shot in case.shots]).sort_values("path", ignore_index=True)
    for arrival, those in rows.groupby("arrival"):
        offsets = write_shard(folder / shard(arrival), ((path, files[path]) for path in those["path"]))
        rows.loc[those.index, "offset"] = offsets
    return rows[list(COLUMNS)].astype(COLUMNS), files


def _row(shot: Shot, data: bytes) -> dict[str, Any]:
    seen = _described(data)
    return {
        **seen,
        "path": shot.path,
        "label": shot.label,
        "group": seen["pixels"],
        "split": shot.split,
        "origin": shot.origin,
        "arrival": shot.arrival,
        "content": f"{abs(hash(data)):016x}"[:16],
        "bytes": len(data),
        "bytes_per_pixel": len(data) / (seen["height"] * seen["width"]),
        "has_file": True,
        "annotation": Annotation(labels=(shot.label,)).to_json(),
        "target_content": "",
        "target_pixels": "",
        "things": "{}",
        "offset": 0,
        "target_offset": 0,
        "target_bytes": 0,
    }


@lru_cache(maxsize=40_000)
def _described(data: bytes) -> dict[str, Any]:
    """Files that a fault leaves alone come again with every strength of it."""
    return described(data, max_megapixels=np.inf)


def subject(rows: pd.DataFrame, folder: Path) -> Subject:
    """What the audits are given; no test is sealed."""
    return Subject(rows, pd.DataFrame({name: pd.Series(dtype=str) for name in SEALED_INDEX}), folder)


def macula(subject: Subject, asked: Iterable[str], given: Params) -> Answer:
    """The answer of the audits of these names; `checks` stands for the rules of validate."""
    began = time.process_time()
    findings: list[Finding] = []
    for name in asked:
        if name == "checks":
            data = CheckData(subject.rows, subject.folder)
            rules = contract(given.checks, data.kinds)
            results = interpret(rules, run_suite(data, rules), data.frame)
            findings += [Finding(r.id, cast(Severity, r.severity), r.message, {}, list(r.images)) for r in results]
        else:
            findings += AUDITS[name](subject, given.audit)
    answer: Answer = {"alarms": [], "sets": {}, "images": {}, "figures": {}, "seconds": time.process_time() - began}
    for finding in findings:
        answer["alarms"].append([finding.id, finding.severity])
        told = [value for value in finding.evidence.values() if isinstance(value, list) and value]
        sets = [[_path(text) for text in one] for value in told for one in value if isinstance(one, list)]
        if sets:
            answer["sets"][finding.id] = answer["sets"].get(finding.id, []) + sets
        listed = [_path(t) for value in told for t in value if isinstance(t, str) and PATH.match(t)]
        answer["images"][finding.id] = list(dict.fromkeys([*finding.images, *listed]))
        answer["figures"][finding.id] = {k: v for k, v in finding.evidence.items() if isinstance(v, int | float)}
        if finding.id == "label_errors/classes":
            answer["images"]["label_errors/classes"] = _surest(subject)
    return answer


def _surest(looked_at: Subject) -> list[str]:
    """As many images as the audit of labels says are wrong, the surest; in its finding it names 24 at most."""
    _, codes = np.unique(looked_at.rows["label"].to_numpy(str), return_inverse=True)
    told = doubt(out_of_fold(looked_at)[0], codes)
    return [looked_at.rows["path"].iloc[i] for i in told.surest(most=told.count)]


def _path(text: str) -> str:
    found = PATH.match(text)
    return found.group(1) if found else text


class Peers:
    """The process of the peers, in an environment of their own."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.audits.audit_libraries"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.versions: dict[str, str] = self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of the peers ended with status {self._process.wait()}")
        return json.loads(line)

    def ask(self, names: Iterable[str], folder: Path) -> dict[str, Answer]:
        """Their answers about the case that `lay_out` wrote to a folder."""
        assert self._process.stdin is not None
        print(json.dumps({"names": list(names), "folder": str(folder)}), file=self._process.stdin, flush=True)
        return self._read()

    def __enter__(self) -> "Peers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def by_arrival(rows: pd.DataFrame) -> np.ndarray[Any, Any]:
    """[N] places of the rows: older before newer, training before validation, else in no order."""
    mixed = rows["path"].str.extract(r"(\d+)\.\w+$")[0]
    return np.lexsort((mixed.to_numpy(str), rows["split"].to_numpy(str), rows["arrival"].to_numpy()))


def out_of_fold(looked_at: Subject) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What the audit of labels believes: probabilities [N, K] of the classes by name, and features [N, F]."""
    rows = looked_at.rows
    return probabilities(looked_at.features, rows["label"].to_numpy(str), rows["group"].to_numpy(str))[
        1
    ], looked_at.features


def lay_out(rows: pd.DataFrame, files: dict[str, bytes], folder: Path, *arrays: np.ndarray[Any, Any]) -> None:
    """A case as files: the images; `case.json` with their labels and splits; and what `out_of_fold` gave, if it did."""
    for path, data in files.items():
        (folder / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / path).write_bytes(data)
    (folder / "case.json").write_text(rows[["path", "label", "split"]].to_json(orient="records"))
    for name, array in zip(("probabilities", "features"), arrays, strict=False):
        np.save(folder / f"{name}.npy", array)
