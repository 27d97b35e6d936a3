"""The page of `benchmarks.inference.compare_inference`: `python -m benchmarks.inference.compare_inference` without arguments writes it anew."""

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.inference.benchmark_models import ROWS
from benchmarks.inference.inference_competitors import EAGER

Cell = dict[str, Any]
COLUMNS = [("network", 1), ("network", ROWS), ("whole", 1), ("whole", ROWS)]
HEAD = """# Inference on a CPU, beside others

`make bench-inference ARGUMENTS="--data FOLDER"`; all that was seen is in [inference.json](inference.json), this page is
made of it. The same weights (random ones: speed does not ask for more), the same JPEGs, batches of 1 and 16. *Network*
is from pixels at working size to the network's output; *whole* is from the bytes of JPEGs to the answer, decoding and
resizing included. Everybody decodes with Pillow. Macula is `stages.runtime.Model` on its own files; the others are
used as their documentation teaches: float images resized by Pillow, the network alone exported by `torch.onnx.export`
where a file is needed, a session as it comes. nncf quantizes with the same calibration images as Macula.

Contestants take turns in processes of their own, and ratios are of one round: median, and lowest to highest. With one
thread milliseconds are those of the processor, which other work on the machine changes least; with two they are those
of the clock. *Difference* is the largest one from torch eager, in probability. Memory is the most a process had after
all batches, those of {rows} images among them.
"""
PEAKS = f"""## Share of the machine's peak

The peak is the faster product of two large matrices by torch and by OpenVINO, one thread, by the processor's seconds.
FLOP are two for each product and sum of the network, without what a fast convolution saves: shares are of batches of
{ROWS}, network alone, one thread. bf16 and int8 are held against the peak of their own arithmetic.
"""
START = """## Start and memory, ResNet-18

A new process in the environment a model is deployed in, one thread, one JPEG; medians of its runs, MB after the first
answer. *Further answers* are by the processor. *Share* counts memory that several processes share in parts (PSS).

| | start to answer, s | by the processor, s | resident, MB | share, MB | most, MB | further answers, ms |
|---|---|---|---|---|---|---|"""
DECODERS = """## Decoders

Milliseconds of the processor for one JPEG, one thread; in brackets the largest difference from Pillow's pixels in grey
levels, where there is one.
"""
SCALES = """
Decoding and resizing to 224 x 224 px by Pillow, whole or with libjpeg's own halving (`draft`); in brackets the largest
difference of the working image, in grey levels.
"""


def page(found: Cell) -> str:
    """Markdown."""
    parts = [HEAD.format(rows=ROWS)]
    for name, cell in found.get("networks", {}).items():
        parts.append(f"## {name}\n\n{_described(cell)}\n")
        parts += [_race(cell["threads"][count], int(count)) for count in sorted(cell["threads"])]
    if "peak" in found:
        parts.append(_peaks(found["networks"], found["peak"]))
    if "start" in found:
        parts.append(_start(found["start"]))
    if "decoders" in found:
        parts.append(_decoders(found["decoders"]))
    return "\n".join(parts)


def _described(cell: Cell) -> str:
    height, width = cell["image"]
    machine = cell["machine"]
    return (
        f"{cell['parameters'] / 1e6:.1f} million parameters, {cell['flop'] / 1e9:.2f} GFLOP an image, JPEGs of "
        f"{width} x {height} pixels; {machine['processor']}, {machine['cores']} cores, load {machine['load']:.1f} "
        "at the end."
    )


def _race(cell: Cell, threads: int) -> str:
    """A table of one number of threads."""
    clock = "cpu" if threads == 1 else "wall"
    names = [f"{what}, {count}" for what, count in COLUMNS]
    unit = "ms, and times as fast as torch eager"
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
    """Median, lowest and highest."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _peaks(networks: dict[str, Cell], peak: dict[str, dict[str, float]]) -> str:
    """What share of the machine's peak a batch of the network reaches, with one thread."""
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


def _start(ways: dict[str, Cell]) -> str:
    """From the start of a process to its first answer, and memory."""
    lines = START.splitlines()
    for way, one in ways.items():
        if "error" in one:
            lines.append(f"| {way} | {one['error']} | | | | | |")
            continue
        last = one["steps"][-1]
        lines.append(
            f"| {way} | {one['wall']:.2f} ({one['least']:.2f} to {one['most']:.2f}) | {one['cpu']:.2f} | "
            f"{last['rss']:.0f} | {last['pss']:.0f} | {last['most']:.0f} | {1000 * one['again']:.1f} |"
        )
    first = next(iter(ways.values()))
    int8 = ways["int8"]
    lines += ["", "| step | as it is: s by the processor, MB resident | int8 |", "|---|---|---|"]
    cells: Callable[[Cell], str] = lambda step: f"{step['cpu']:.3f}, {step['rss']:.0f}"  # noqa: E731
    lines += [f"| {a['name']} | {cells(a)} | {cells(b)} |" for a, b in zip(first["steps"], int8["steps"], strict=True)]
    return "\n".join([*lines, ""])


def _decoders(sets: dict[str, Cell]) -> str:
    """Milliseconds an image, and how far from Pillow's pixels."""
    names = list(next(iter(sets.values()))["decoders"])
    described = [f"{name}: {one['megapixels']:.2g} Mpx, {one['kilobytes']:.0f} kB" for name, one in sets.items()]
    lines = [
        DECODERS,
        f"| | {' | '.join(described)} |",
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
    off = cell["apart"]["most"]
    return f"{statistics.median(cell['milliseconds']):.3g}{f' ({off:.0f})' if off else ''}"
