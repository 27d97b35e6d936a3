"""Tables of `compare_inference`, which writes only the page if it runs without `--data`."""

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.inference.benchmark_models import ROWS
from benchmarks.inference.inference_competitors import EAGER

Cell = dict[str, Any]
COLUMNS = [("network", 1), ("network", ROWS), ("whole", 1), ("whole", ROWS)]
NAMES = {"network": "network", "whole": "end to end"}
HEAD = """# Inference on a CPU, compared with other runtimes

Made by `make bench-inference ARGUMENTS="--data FOLDER"` from [inference.json](inference.json). The weights (random
ones, since speed does not depend on them) and the JPEGs are the same for all; batches of 1 and 16. *Network* is from
pixels of the working size to the network's output; *end to end* is from the bytes of JPEGs to the prediction, including
decoding and resizing. All decode with Pillow. Macula is `stages.runtime.Model` on its own files. The others are used as
in their documentation: float images resized by Pillow, the network alone exported by `torch.onnx.export` where a file
is needed, and a session with default options. nncf quantizes with the same calibration images as Macula.

The competitors run in processes of their own and take turns. Ratios are within one round: median, lowest to highest.
With one thread, milliseconds are processor time, which other work on the machine affects least; with two threads, they
are wall-clock time. *Difference* is the largest difference from torch in eager mode, in probability. Memory is the peak
of a process after all batches, including those of {rows} images.
"""
PEAKS = f"""## Share of the machine's peak

The peak is the faster product of two large matrices by torch and by OpenVINO, with one thread, in processor time. A
multiplication and an addition of the network count as two FLOP, without savings of fast convolutions. Shares are for
batches of {ROWS}, network alone, one thread. bf16 and int8 are compared with the peak of their own arithmetic.
"""
START = """## Start and memory, ResNet-18

A new process in the environment in which a model is deployed, one thread, one JPEG; medians of the runs, memory after
the first prediction. *Further predictions* are in processor time. *Proportional* divides memory that several processes
share among them (PSS).

| | start to prediction, s | processor time, s | resident, MB | proportional, MB | peak, MB | further predictions, ms |
|---|---|---|---|---|---|---|"""
DECODERS = """## Decoders

Processor milliseconds for one JPEG with one thread; in brackets the largest difference from Pillow's pixels in grey
levels, if there is one.
"""
SCALES = """
Decoding and resizing to 224 x 224 px by Pillow, at full size or reduced by libjpeg (`draft`); in brackets the largest
difference of the resized image, in grey levels.
"""


def page(found: Cell) -> str:
    """Return the page in Markdown; `found` is the content of inference.json."""
    parts = [HEAD.format(rows=ROWS)]
    for name, cell in found.get("networks", {}).items():
        parts.append(f"## {name}\n\n{_describe(cell)}\n")
        parts += [_comparison(cell["threads"][count], int(count)) for count in sorted(cell["threads"])]
    if "peak" in found:
        parts.append(_peaks(found["networks"], found["peak"]))
    if "start" in found:
        parts.append(_start(found["start"]))
    if "decoders" in found:
        parts.append(_decoders(found["decoders"]))
    return "\n".join(parts)


def _describe(cell: Cell) -> str:
    height, width = cell["image"]
    machine = cell["machine"]
    return (
        f"{cell['parameters'] / 1e6:.1f} million parameters, {cell['flop'] / 1e9:.2f} GFLOP per image, JPEGs of "
        f"{width} x {height} pixels; {machine['processor']}, {machine['cores']} cores, load {machine['load']:.1f} "
        "at the end."
    )


def _comparison(cell: Cell, threads: int) -> str:
    """Return the table for one number of threads."""
    clock = "cpu" if threads == 1 else "wall"
    names = [f"{NAMES[what]}, {count}" for what, count in COLUMNS]
    unit = "ms · speed relative to torch eager"
    lines = [
        f"**{threads} thread{'s' * (threads > 1)}**, {unit}",
        "",
        f"| | {' | '.join(names)} | difference | memory, MB |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    for name, seen in cell.items():
        cells = [_column(seen["rounds"], cell[EAGER]["rounds"], f"{what} {count}", clock) for what, count in COLUMNS]
        off = "" if seen["difference"] is None else f"{seen['difference']:.1g}"
        lines.append(f"| {name} | {' | '.join(cells)} | {off} | {seen['most']:.0f} |")
    return "\n".join([*lines, ""])


def _column(own: list[Cell], eager: list[Cell], job: str, clock: str) -> str:
    milliseconds = [1000 * turn[job][clock] for turn in own]
    ratios = [theirs[job][clock] / turn[job][clock] for turn, theirs in zip(own, eager, strict=True)]
    return f"{statistics.median(milliseconds):.3g} · {_spread(ratios)}"


def _spread(values: list[float]) -> str:
    """Format the median, the lowest and the highest value."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _peaks(networks: dict[str, Cell], peak: dict[str, dict[str, float]]) -> str:
    """Return the table of the shares of the machine's peak."""
    best = {bits: max(by.get(bits, 0.0) for by in peak.values()) for bits in ("32", "16", "8")}
    rates = ", ".join(f"{name} {' / '.join(f'{rate:.0f}' for rate in by.values())}" for name, by in peak.items())
    lines = [
        PEAKS,
        f"GFLOP/s in 32 bits / bf16 / int8: {rates}.",
        "",
        f"| | {' | '.join(networks)} |",
        "|---" * (len(networks) + 1) + "|",
    ]
    races = [(cell["flop"], cell["threads"]["1"]) for cell in networks.values() if "1" in cell["threads"]]
    for name in (name for name in races[0][1] if not name.startswith("ultralytics")):
        bits = "16" if "bf16" in name else "8" if "int8" in name else "32"
        shares = [ROWS * flop / _seconds(race[name]["rounds"]) / 1e9 / best[bits] for flop, race in races]
        lines.append(f"| {name} | {' | '.join(f'{share:.0%}' for share in shares)} |")
    return "\n".join([*lines, ""])


def _seconds(rounds: list[Cell]) -> float:
    return statistics.median(turn[f"network {ROWS}"]["cpu"] for turn in rounds)


def _start(variants: dict[str, Cell]) -> str:
    """Return the tables of a new process's time and memory."""
    lines = START.splitlines()
    for variant, one in variants.items():
        if "error" in one:
            lines.append(f"| {variant} | {one['error']} | | | | | |")
            continue
        last = one["steps"][-1]
        lines.append(
            f"| {variant} | {one['wall']:.2f} ({one['least']:.2f} to {one['most']:.2f}) | {one['cpu']:.2f} | "
            f"{last['rss']:.0f} | {last['pss']:.0f} | {last['most']:.0f} | {1000 * one['again']:.1f} |"
        )
    first = next(iter(variants.values()))
    int8 = variants["int8"]
    lines += ["", "| step | default: processor time in s, resident MB | int8 |", "|---|---|---|"]
    cells: Callable[[Cell], str] = lambda step: f"{step['cpu']:.3f}, {step['rss']:.0f}"  # noqa: E731
    lines += [f"| {a['name']} | {cells(a)} | {cells(b)} |" for a, b in zip(first["steps"], int8["steps"], strict=True)]
    return "\n".join([*lines, ""])


def _decoders(sets: dict[str, Cell]) -> str:
    """Return the tables of the decoders."""
    names = list(next(iter(sets.values()))["decoders"])
    columns = [f"{name}: {one['megapixels']:.2g} Mpx, {one['kilobytes']:.0f} kB" for name, one in sets.items()]
    lines = [
        DECODERS,
        f"| | {' | '.join(columns)} |",
        "|---" * (len(sets) + 1) + "|",
    ]
    lines += [f"| {name} | {' | '.join(_decoded(one['decoders'][name]) for one in sets.values())} |" for name in names]
    lines += [
        SCALES,
        f"| decoded at | {' | '.join(sets)} |",
        "|---" * (len(sets) + 1) + "|",
    ]
    scales = list(next(iter(sets.values()))["working"])
    lines += [f"| {name} | {' | '.join(_decoded(one['working'][name]) for one in sets.values())} |" for name in scales]
    return "\n".join([*lines, ""])


def _decoded(cell: Cell) -> str:
    off = cell["difference"]["most"]
    return f"{statistics.median(cell['milliseconds']):.3g}{f' ({off:.0f})' if off else ''}"
