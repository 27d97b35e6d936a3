"""docs/results/serving.md, made from docs/results/serving.json."""

import statistics
from collections.abc import Callable
from typing import Any

Told = dict[str, Any]
CLIENTS = (1, 8, 64)
OWN = "macula"
INTRODUCTION = """# The server beside its peers

Made from [serving.json](serving.json) by `make bench-serving`; `benchmarks/serving/compare_serving.py` says how it is measured. Each
figure is the median of the rounds, ratios with their lowest and highest round. *CPU ms* is what all processes of a
server took for an answer, all cores together: other work on the machine changes it less than the clock. Beside it the
share of the machine that `wrk` took, and *elsewhere*, what neither took: mostly other work. A slow server beside a busy
neighbour is slower still, so that ratios of CPU ms say most.
"""


def page(found: Told) -> str:
    """Markdown of all that was measured."""
    parts = [INTRODUCTION, *(case(name, told) for name, told in found["cases"].items())]
    return "\n".join([*parts, holds(found["holds"])] if "holds" in found else parts)


def holds(told: Told) -> str:
    """Killed workers, a model replaced, minutes of load."""
    lines = [
        f"## What it holds ({told['name']})",
        "",
        f"8 clients that ask one after another, {told['workers']} processes. A worker was killed (SIGKILL) twice; then "
        "another model was put in place of the served file, and the first one again. An answer is one with status 200; "
        "an error is one that the client was told: another status, or its connection closed.",
        "",
        "| | requests | answered | errors | none within 15 s | longest s | what failed |",
        "|---|---|---|---|---|---|---|",
    ]
    for what, one in told.items():
        if what.startswith(("killed", "reloaded")):
            errors = {fate: count for fate, count in one["fates"].items() if fate != "200"}
            said = ", ".join(f"{count} {fate}" for fate, count in errors.items())
            cells = [one["requests"], one["fates"].get("200", 0), sum(errors.values()) - one["hanging"], one["hanging"]]
            lines.append(f"| {what} | {' | '.join(map(str, cells))} | {one['longest']:.2f} | {said} |")
    for one in (one for what, one in told.items() if what.startswith("reloaded")):
        spells = [f"`{spell['version']}` {spell['answers']}" for spell in one["versions"]]
        lines += ["", f"Answers by version of the model: {', '.join(spells)}."]
    for one in (one for what, one in told.items() if what.startswith("soaked")):
        lines += ["", _soaked(one)]
    return "\n".join([*lines, ""])


def _soaked(told: Told) -> str:
    load, memory = told["load"], [row[1] for row in told["memory"]]
    failed = sum(load[key] for key in ("refused", "connect", "read", "write", "timeout"))
    return (
        f"**{told['seconds'] / 60:g} minutes** of 8 clients of `wrk`: {load['requests']} requests, {failed} refused or "
        f"failed, p99 {load['p99'] / 1e3:.0f} ms. Resident memory of all processes: {memory[0]:.1f} MB at first, "
        f"{memory[-1]:.1f} at last, {max(memory):.1f} at most; behind the first fifth it changed by "
        f"{told['slope']:+.1f} ± {told['slope_error']:.1f} MB an hour."
    )


def case(name: str, told: Told) -> str:
    """A heading, what was measured, and a table for each number of clients."""
    (width, height), model = told["images"]["size"], told["model"]
    machine, peers = told["machine"], told["machine"]["peers"]
    lines = [
        f"## {name}: {width}x{height} pixels, {told['bytes'] / 1000:.1f} kB",
        "",
        f"A model of {model['megabytes']:.0f} MB at {model['size']} px ({model['task']}); {told['images']['files']} "
        f"images. {len(told['rounds'])} rounds of {told['seconds']:g} s; {told['workers']} processes with "
        f"{told['threads']} thread(s) of a session each; {machine['cores']} cores, {machine['cpu']}. "
        f"Macula {machine['commit']}: {_versions(machine['packages'])}; peers: {_versions(peers)}.",
        "",
    ]
    names = list(told["servers"])
    for clients in CLIENTS:
        lines += [
            f"**{clients} client{'s' * (clients > 1)}**",
            "",
            f"| | answers/s | times {OWN} | p50 ms | p99 ms | times {OWN} | CPU ms | times {OWN} | refused or failed | "
            "wrk, elsewhere |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *(f"| {name} | {_row(told, name, str(clients))} |" for name in names),
            "",
        ]
    lines += ["| | s to the first answer | MB | processes |", "|---|---|---|---|"]
    for name, one in told["servers"].items():
        lines.append(f"| {name} | {one['start']:.1f} | {one['memory']['proportional']:.0f} | {one['processes']} |")
    return "\n".join([*lines, ""])


def _row(told: Told, name: str, clients: str) -> str:
    """Cells of a server at a number of clients."""
    rounds, cores = told["rounds"], told["machine"]["cores"]
    mine = [one[name][clients] for one in rounds]
    failed = sum(sum(one[key] for key in ("refused", "connect", "read", "write", "timeout")) for one in mine)
    answers = sum(one["requests"] for one in mine)
    cells = [
        f"{_middle([rate(one) for one in mine]):.0f}",
        _ratio(rounds, name, clients, rate),
        f"{_middle([one['p50'] / 1e3 for one in mine]):.1f}",
        f"{_middle([one['p99'] / 1e3 for one in mine]):.1f}",
        _ratio(rounds, name, clients, lambda one: one["p99"]),
        f"{_middle([cost(one) for one in mine]):.2f}",
        _ratio(rounds, name, clients, cost),
        f"{failed} of {answers}" if failed else "0",
        ", ".join(
            f"{_middle([100 * one[part] / (one['seconds'] * cores) for one in mine]):.0f} %"
            for part in ("wrk", "elsewhere")
        ),
    ]
    return " | ".join(cells)


def answered(told: Told) -> int:
    """Requests that got what they asked for; wrk counts those that were refused as well."""
    return told["requests"] - told["refused"]


def rate(told: Told) -> float:
    """Answers a second."""
    return answered(told) / told["seconds"]


def cost(told: Told) -> float:
    """Milliseconds of all cores for an answer."""
    return 1e3 * told["server"] / max(1, answered(told))


def _ratio(rounds: list[Told], name: str, clients: str, of: Callable[[Told], float]) -> str:
    """To Macula in the same round: median, lowest and highest."""
    ratios = [of(one[name][clients]) / of(one[OWN][clients]) for one in rounds if OWN in one and of(one[OWN][clients])]
    return f"{_middle(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""


def _middle(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


def _versions(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())
