"""Run Macula's audits on a data set with injected faults, and other libraries on the same files.

A result has `alarms` (pairs of an id and its severity), `sets` (by id, groups of images reported as duplicates),
`images` (by id, single images that are reported), `figures` (by id, numbers by name) and `seconds`: processor
time of Macula, but wall-clock time of another library, which also has `cpu_seconds`, and `error` if it failed.
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

from benchmarks.audits.fault_sample import FaultSample, encode
from benchmarks.audits.injected_faults import FaultyDataset
from stages.audits import AUDITS
from stages.audits.audit_data import AuditData
from stages.checks.check_data import CheckData
from stages.checks.contract import contract
from stages.checks.results import interpret
from stages.checks.suite import run_suite
from stages.config import load as params
from stages.config.schema import Params
from stages.core.findings import Finding, Severity
from stages.dataset.annotations import Annotation
from stages.dataset.manifest import MANIFEST_COLUMNS, SEALED_INDEX
from stages.dataset.shards import shard_name, write_shard
from stages.images.image_metadata import describe_image
from stages.probes.confident_learning import find_label_errors
from stages.probes.cross_validation import out_of_fold_probabilities

Result = dict[str, Any]
Array = np.ndarray[Any, Any]
PATH = re.compile(r"^(.+?\.(?:jpg|png)) \(")
ALARMING = ("warning", "blocking")
LABEL_ERRORS = "label_errors/classes"
PYTHON = Path(".venv-audit-peers/bin/python")


def default_params() -> Params:
    """Return the params of this project's `params.yaml`."""
    return params.load(Path("params.yaml"))


def ingest_samples(data: FaultyDataset, folder: Path) -> tuple[pd.DataFrame, dict[str, bytes]]:
    """Write the shards that ingest would write for a data set, and return the manifest.

    Args:
        data: the data set.
        folder: folder for the shards.

    Returns:
        The manifest, and the files' bytes by path.
    """
    files = {sample.path: encode(sample) for sample in data.samples}
    rows = pd.DataFrame([_manifest_row(sample, files[sample.path]) for sample in data.samples])
    rows = rows.sort_values("path", ignore_index=True)
    for arrival, group in rows.groupby("arrival"):
        offsets = write_shard(folder / shard_name(arrival), ((path, files[path]) for path in group["path"]))
        rows.loc[group.index, "offset"] = offsets
    return rows[list(MANIFEST_COLUMNS)].astype(MANIFEST_COLUMNS), files


def _manifest_row(sample: FaultSample, data: bytes) -> dict[str, Any]:
    described_image = _describe(data)
    return {
        **described_image,
        "path": sample.path,
        "label": sample.label,
        "group": described_image["pixels"],
        "split": sample.split,
        "origin": sample.origin,
        "arrival": sample.arrival,
        "content": f"{abs(hash(data)):016x}"[:16],
        "bytes": len(data),
        "bytes_per_pixel": len(data) / (described_image["height"] * described_image["width"]),
        "has_file": True,
        "annotation": Annotation(labels=(sample.label,)).to_json(),
        "target_content": "",
        "target_pixels": "",
        "things": "{}",
        "offset": 0,
        "target_offset": 0,
        "target_bytes": 0,
    }


@lru_cache(maxsize=40_000)
def _describe(data: bytes) -> dict[str, Any]:
    """Return the metadata of an image; cached, because unchanged files recur with each strength of a fault."""
    return describe_image(data, max_megapixels=np.inf)


def audit_input(rows: pd.DataFrame, folder: Path) -> AuditData:
    """Return the input of the audits, without a sealed test.

    Args:
        rows: the manifest.
        folder: folder of the shards.
    """
    return AuditData(rows, pd.DataFrame({name: pd.Series(dtype=str) for name in SEALED_INDEX}), folder)


def run_audits(data: AuditData, names: Iterable[str], given: Params) -> Result:
    """Run audits by name and summarize their findings.

    Args:
        data: input of the audits.
        names: names in `AUDITS`, or `checks` for the rules of the validate stage.
        given: the params.

    Returns:
        The result, as described in the module's docstring.
    """
    began = time.process_time()
    findings: list[Finding] = []
    for name in names:
        findings += _check_rules(data, given) if name == "checks" else AUDITS[name](data, given.audit)
    result: Result = {"alarms": [], "sets": {}, "images": {}, "figures": {}, "seconds": time.process_time() - began}
    for finding in findings:
        result["alarms"].append([finding.id, finding.severity])
        texts = (value for value in finding.evidence.values() if isinstance(value, list) and value)
        lists = [value for value in texts if not isinstance(np.ravel(value[0])[0], float)]  # not those of figures
        sets = [[_path(text) for text in entry] for value in lists for entry in value if isinstance(entry, list)]
        if sets:
            result["sets"][finding.id] = result["sets"].get(finding.id, []) + sets
        listed = [_path(text) for value in lists for text in value if isinstance(text, str) and PATH.match(text)]
        result["images"][finding.id] = list(dict.fromkeys([*finding.images, *listed]))
        result["figures"][finding.id] = {k: v for k, v in finding.evidence.items() if isinstance(v, int | float)}
        if finding.id == LABEL_ERRORS:
            result["images"][LABEL_ERRORS] = _most_doubtful(data)
    return result


def _check_rules(data: AuditData, given: Params) -> list[Finding]:
    checked = CheckData(data.rows, data.folder)
    rules = contract(given.checks, checked.kinds)
    results = interpret(rules, run_suite(checked, rules), checked.frame)
    return [Finding(r.id, cast(Severity, r.severity), r.message, {}, list(r.images)) for r in results]


def _most_doubtful(data: AuditData) -> list[str]:
    """Return the paths of all images that the label audit reports, most certain first; the finding lists only 24."""
    _, codes = np.unique(data.rows["label"].to_numpy(str), return_inverse=True)
    doubted = find_label_errors(out_of_fold(data)[0], codes)
    return [data.rows["path"].iloc[i] for i in doubted.most_certain(most=doubted.count)]


def _path(text: str) -> str:
    found = PATH.match(text)
    return found.group(1) if found else text


class LibraryProcess:
    """Process that runs the other libraries in their own environment."""

    def __init__(self, python: Path) -> None:
        command = [str(python), "-m", "benchmarks.audits.audit_libraries"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions: dict[str, str] = self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: the process of the other libraries ended with status {self._process.wait()}")
        return json.loads(line)

    def run(self, names: Iterable[str], folder: Path) -> dict[str, Result]:
        """Return the libraries' results for a data set.

        Args:
            names: names in `audit_libraries.LIBRARIES`.
            folder: folder that `write_case` wrote.

        Raises:
            SystemExit: the process of the libraries ended during the request.
        """
        assert self._process.stdin is not None
        print(json.dumps({"names": list(names), "folder": str(folder)}), file=self._process.stdin, flush=True)
        return self._read()

    def __enter__(self) -> "LibraryProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def arrival_order(rows: pd.DataFrame) -> Array:
    """Return the row indices [N] by arrival: older before newer, then training before validation, else shuffled."""
    shuffled = rows["path"].str.extract(r"(\d+)\.\w+$")[0]
    return np.lexsort((shuffled.to_numpy(str), rows["split"].to_numpy(str), rows["arrival"].to_numpy()))


def out_of_fold(data: AuditData) -> tuple[Array, Array]:
    """Return the out-of-fold probabilities [N, K], with classes sorted by name, and the features [N, F]."""
    rows = data.rows
    labels, groups = rows["label"].to_numpy(str), rows["group"].to_numpy(str)
    used = data.probe_features(np.ones(len(rows), bool), (labels[:, None] == np.unique(labels)).astype(float))
    p_NK = out_of_fold_probabilities(used.features_NF, labels, groups, used.standardized)[1]
    return p_NK, used.features_NF


def write_case(rows: pd.DataFrame, files: dict[str, bytes], folder: Path, *arrays: Array) -> None:
    """Write a data set for the other libraries: images, `case.json` with paths, labels and splits, and npy files.

    Args:
        rows: the manifest, in the order in which the libraries get the images.
        files: the files' bytes by path.
        folder: the folder to write to.
        *arrays: the two arrays of `out_of_fold` in the order of `rows`, or none.
    """
    for path, data in files.items():
        (folder / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / path).write_bytes(data)
    (folder / "case.json").write_text(rows[["path", "label", "split"]].to_json(orient="records"))
    for name, array in zip(("probabilities", "features"), arrays, strict=False):
        np.save(folder / f"{name}.npy", array)
