"""Tables of `compare_serving`, which make docs/results/serving.md from docs/results/serving.json."""

import statistics
from collections.abc import Callable
from typing import Any

from stages.core.plurals import quantity

Figures = dict[str, Any]
CLIENTS = (1, 8, 64)
OWN = "macula"
INTRODUCTION = """# The server compared with other servers

Made from [serving.json](serving.json) by `make bench-serving`; `benchmarks/serving/compare_serving.py` describes the
method. Each figure is the median of the rounds; ratios have the lowest and the highest round in brackets. *CPU ms* is
the processor time of all processes of a server per response, summed over cores; other work on the machine affects it
less than wall-clock time. The last column is the share of the machine that `wrk` used, and *elsewhere*, the share that
neither `wrk` nor the server used, which is mostly other work. Since other work slows down a slow server even more,
ratios of CPU ms are the most reliable figures.
"""


def page(found: Figures) -> str:
    """Return the page in Markdown; `found` is the content of serving.json."""
    parts = [INTRODUCTION, *(case(name, figures) for name, figures in found["cases"].items())]
    return "\n".join([*parts, endurance(found["endurance"])] if "endurance" in found else parts)


def endurance(figures: Figures) -> str:
    """Return the section on killed workers, a replaced model and minutes of load."""
    lines = [
        f"## Endurance ({figures['name']})",
        "",
        f"8 clients that send one request after another, {figures['workers']} processes. A worker was killed (SIGKILL) "
        "twice; then the served file was replaced by another model, and by the first one again. A response counts if "
        "its status is 200. An error is another status, or a closed connection.",
        "",
        "| | requests | responses | errors | none within 15 s | longest, s | kinds of errors |",
        "|---|---|---|---|---|---|---|",
    ]
    for what, one in figures.items():
        if what.startswith(("killed", "reloaded")):
            errors = {outcome: count for outcome, count in one["outcomes"].items() if outcome != "200"}
            kinds = ", ".join(f"{count} {outcome}" for outcome, count in errors.items())
            cells = [
                one["requests"],
                one["outcomes"].get("200", 0),
                sum(errors.values()) - one["hanging"],
                one["hanging"],
            ]
            lines.append(f"| {what} | {' | '.join(map(str, cells))} | {one['longest']:.2f} | {kinds} |")
    for one in (one for what, one in figures.items() if what.startswith("reloaded")):
        versions = [f"`{entry['version']}` {entry['responses']}" for entry in one["versions"]]
        lines += ["", f"Responses by version of the model: {', '.join(versions)}."]
    for one in (one for what, one in figures.items() if what.startswith("soaked")):
        lines += ["", _soaked(one)]
    return "\n".join([*lines, ""])


def _soaked(figures: Figures) -> str:
    load, memory = figures["load"], [row[1] for row in figures["memory"]]
    failed = sum(load[key] for key in ("refused", "connect", "read", "write", "timeout"))
    return (
        f"**{figures['seconds'] / 60:g} minutes** of load by 8 clients of `wrk`: {load['requests']} requests, {failed} "
        f"refused or failed, p99 {load['p99'] / 1e3:.0f} ms. Resident memory of all processes: {memory[0]:.1f} MB at "
        f"the beginning, {memory[-1]:.1f} at the end, {max(memory):.1f} at most; after the first fifth it changed by "
        f"{figures['slope']:+.1f} ± {figures['slope_error']:.1f} MB per hour."
    )


def case(name: str, figures: Figures) -> str:
    """Return the section of a case: the facts, and a table for each number of clients.

    Args:
        name: name of the case.
        figures: figures of the case.
    """
    (width, height), model = figures["images"]["size"], figures["model"]
    machine, peers = figures["machine"], figures["machine"]["peers"]
    lines = [
        f"## {name}: {width}x{height} pixels, {figures['bytes'] / 1000:.1f} kB",
        "",
        f"Model of {model['megabytes']:.0f} MB at {model['size']} px ({model['task']}); {figures['images']['files']} "
        f"images. {len(figures['rounds'])} rounds of {figures['seconds']:g} s; {figures['workers']} processes with "
        f"{quantity(figures['threads'], 'thread')} per session; {machine['cores']} cores, {machine['cpu']}. "
        f"Macula {machine['commit']}: {_versions(machine['packages'])}; others: {_versions(peers)}.",
        "",
    ]
    names = list(figures["servers"])
    for clients in CLIENTS:
        lines += [
            f"**{clients} client{'s' * (clients > 1)}**",
            "",
            f"| | responses/s | ratio to {OWN} | p50 ms | p99 ms | ratio to {OWN} | CPU ms | ratio to {OWN} | "
            "refused or failed | wrk, elsewhere |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *(f"| {name} | {_row(figures, name, str(clients))} |" for name in names),
            "",
        ]
    lines += ["| | seconds to the first response | MB | processes |", "|---|---|---|---|"]
    for server, one in figures["servers"].items():
        lines.append(f"| {server} | {one['start']:.1f} | {one['memory']['proportional']:.0f} | {one['processes']} |")
    return "\n".join([*lines, ""])


def _row(figures: Figures, name: str, clients: str) -> str:
    """Return the cells of a server for a number of clients."""
    rounds, cores = figures["rounds"], figures["machine"]["cores"]
    mine = [one[name][clients] for one in rounds]
    failed = sum(sum(one[key] for key in ("refused", "connect", "read", "write", "timeout")) for one in mine)
    requests = sum(one["requests"] for one in mine)
    cells = [
        f"{_median([rate(one) for one in mine]):.0f}",
        _ratio(rounds, name, clients, rate),
        f"{_median([one['p50'] / 1e3 for one in mine]):.1f}",
        f"{_median([one['p99'] / 1e3 for one in mine]):.1f}",
        _ratio(rounds, name, clients, lambda one: one["p99"]),
        f"{_median([cost(one) for one in mine]):.2f}",
        _ratio(rounds, name, clients, cost),
        f"{failed} of {requests}" if failed else "0",
        ", ".join(
            f"{_median([100 * one[part] / (one['seconds'] * cores) for one in mine]):.0f} %"
            for part in ("wrk", "elsewhere")
        ),
    ]
    return " | ".join(cells)


def successful(figures: Figures) -> int:
    """Return the number of requests that were not refused; wrk counts refused ones as well."""
    return figures["requests"] - figures["refused"]


def rate(figures: Figures) -> float:
    """Return the responses per second."""
    return successful(figures) / figures["seconds"]


def cost(figures: Figures) -> float:
    """Return the processor milliseconds per response, summed over cores."""
    return 1e3 * figures["server"] / max(1, successful(figures))


def _ratio(rounds: list[Figures], name: str, clients: str, of: Callable[[Figures], float]) -> str:
    """Format the ratio to Macula in the same round: median, lowest and highest; empty if Macula was not measured."""
    ratios = [of(one[name][clients]) / of(one[OWN][clients]) for one in rounds if OWN in one and of(one[OWN][clients])]
    return f"{_median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


def _versions(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())
