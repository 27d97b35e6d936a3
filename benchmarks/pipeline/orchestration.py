"""Compare the flow with `dvc repro` and with bare stage commands: `python -m benchmarks.pipeline.orchestration`.

The pipeline of the demo with a tiny network runs in clones, in turn: every stage (`full`), and again without a change
(`no-op`). The flow uses a Prefect server on this machine, and in one case its own. `--earlier` adds the flow of another
commit in a clone of its own.
"""

import argparse
import json
import os
import resource
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.result_pages import add_run_arguments, output_folder, replace_block
from flows.api import healthy
from stages.config.edit import edited

PAGE = "orchestration.md"
CHANGES = {
    "network": {"name": "timm/test_resnet"},
    "train": {"epochs": 1, "device": "cpu", "precision": "32-true"},
    "tune": {"trials": 0},
    "export": {"variants": []},
    "objective": {"at_least": 0.0},
}
"""Changes of params.yaml after which the stages take seconds."""
STARTUP = 180
ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure all variants in turn, write orchestration.json and the table of its page; return the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline.orchestration", description=__doc__)
    parser.add_argument("--earlier", default="", help="commit whose flow is measured as well")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds")
    add_run_arguments(parser)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="orchestration-") as name, _server(Path(name)) as url:
        commits = {"": "HEAD"} | ({"earlier ": asked.earlier} if asked.earlier else {})
        runs = [
            run
            for number in range(1 if asked.tiny else asked.rounds)
            for run in _round(Path(name) / str(number), commits, url, tiny=asked.tiny)
        ]
    output = output_folder(asked.output, asked.tiny)
    file = output / "orchestration.json"
    file.write_text(json.dumps(runs, indent=1) + "\n")
    page = output / PAGE
    if page.exists():
        page.write_text(replace_block(page.read_text(), "orchestration", table(runs)))
    print(table(runs))
    return file


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Tabulate the median of each variant, and its ratio to `dvc repro` in the same round, in Markdown."""
    lines = [
        "| run | stages | seconds | CPU seconds | seconds more per stage than dvc repro |",
        "|---|---:|---:|---:|---:|",
    ]
    for case in dict.fromkeys((run["variant"], run["kind"]) for run in runs):
        own = [run for run in runs if (run["variant"], run["kind"]) == case]
        base = {run["round"]: run for run in runs if (run["variant"], run["kind"]) == ("dvc repro", case[1])}
        more = [(run["seconds"] - base[run["round"]]["seconds"]) / run["stages"] for run in own if run["round"] in base]
        difference = f"{_median(more):+.2f}" if more and case[0] != "dvc repro" else ""
        seconds, cpu = (_median([run[key] for run in own]) for key in ("seconds", "cpu_seconds"))
        lines.append(f"| {case[0]}, {case[1]} | {own[0]['stages']} | {seconds:.1f} | {cpu:.1f} | {difference} |")
    return "\n".join(lines)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _round(folder: Path, commits: Mapping[str, str], url: str, *, tiny: bool) -> Iterator[dict[str, Any]]:
    """Yield the runs of all variants in clones of their own, each full and then without a change."""
    number = int(folder.name)
    for prefix, commit in commits.items():
        flow = [sys.executable, "-m", "flows.pipeline"]
        variants: dict[str, tuple[list[list[str]], dict[str, str]]] = {
            f"{prefix}flow": ([flow], {"PREFECT_API_URL": url}),
        }
        if not prefix:
            repro = [sys.executable, "-m", "dvc", "repro"]
            variants = {"bare commands": (_stage_commands(ROOT), {}), "dvc repro": ([repro], {})} | variants
        for variant, (commands, extra) in variants.items():
            clone = _clone(folder / variant.replace(" ", "-"), commit)
            kinds = ["full"] if variant == "bare commands" else ["full", "no-op", "no-op, own server"]
            for kind in kinds[: 1 if tiny else None]:
                if kind == "no-op, own server" and "flow" not in variant:
                    continue
                env = {} if kind == "no-op, own server" else extra
                used = _measure(commands, clone, _environment(folder, env))
                yield {"round": number, "variant": variant, "kind": kind, "stages": len(_stage_commands(clone)), **used}
                print(variant, kind, used, flush=True)
            shutil.rmtree(clone)


def _clone(folder: Path, commit: str) -> Path:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "checkout", "--quiet", "--detach", commit], cwd=folder, check=True)
    params = folder / "params.yaml"
    params.write_text(edited(params.read_text(), [CHANGES], "the benchmark"))
    return folder


def _stage_commands(root: Path) -> list[list[str]]:
    """Return the commands of the stages in an order in which their inputs exist."""
    commands = []
    for file, folder in (("data/dvc.yaml", "data"), ("dvc.yaml", ".")):
        stages = YAML(typ="safe").load((root / file).read_text())["stages"]
        for stage in stages.values():
            words = shlex.split(stage["cmd"].replace("${ingest.source}", "data/raw/digits"))
            assert folder == "." or stage.get("wdir") == "..", "stages run in the folder of the project"
            commands.append([sys.executable, *words[1:]])
    return commands


def _environment(folder: Path, extra: Mapping[str, str]) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {
        key: value for key, value in os.environ.items() if key not in ("PREFECT_API_URL", "PYTHONDONTWRITEBYTECODE")
    }
    return {**kept, "PATH": path, "OMP_NUM_THREADS": "1", "PREFECT_HOME": str(folder.parent / "prefect"), **extra}


def _measure(commands: Sequence[Sequence[str]], cwd: Path, env: Mapping[str, str]) -> dict[str, float]:
    """Run commands one after another and return the seconds and the processor seconds of their processes.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in commands:
        subprocess.run(command, cwd=cwd, env=env, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - began, "cpu_seconds": cpu}


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """Run a Prefect server on a free port; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    env = _environment(folder / "0", {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"})
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + STARTUP
            while not healthy(url):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"the Prefect server did not start: {(folder / 'server.log').read_text()[-2000:]}"
                    )
                time.sleep(0.5)
            yield url
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
