"""The tables of docs/results/audits.md out of what `benchmarks.audits.compare_audits` wrote: `python -m benchmarks.audits.audit_tables`.

In that page a table stands between `<!-- its part -->` and `<!-- end -->`.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

RESULT, PAGE = Path("docs/results/audits.json"), Path("docs/results/audits.md")
Cell = dict[str, Any]
WHO = ("macula", "datalab", "deepchecks", "cleanvision", "imagededup")


def told(kept: dict[str, Any]) -> str:
    """All that was measured, part by part, in Markdown."""
    return "\n\n".join(f"### {name}\n\n{TABLES[name](kept[name])}" for name in TABLES if name in kept)


def into(page: str, kept: dict[str, Any]) -> str:
    """The page with the tables of what was measured."""
    for name in TABLES:
        if name in kept:
            found = TABLES[name](kept[name])
            marks = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
            page = re.sub(marks, lambda m, found=found: f"{m[1]}\n{found}\n\n{m[2]}", page, flags=re.DOTALL)
    return page


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(head), ["---"] * len(list(head)), *rows])


def rate(cell: Cell, who: str, name: str, of: str = "seeds") -> str:
    """A share of what was counted; `-` where it was not asked."""
    found = cell.get(who, {})
    return f"{found.get(name, 0) / found[of]:.2f}" if found.get(of) else "-"


def errors(cells: list[Cell]) -> str:
    """What a peer said when it could not answer."""
    found = {
        f"- {who}: {name.removeprefix('error: ')} ({count} of {cell[who]['seeds']}, {cell['carrier']}, {cell['fault']})"
        for cell in cells
        for who in WHO
        for name, count in cell.get(who, {}).items()
        if name.startswith("error: ")
    }
    return "\n\n" + "\n".join(sorted(found)) if found else ""


def confounders(cells: list[Cell]) -> str:
    """Rates of alarms."""
    rows = []
    for cell in cells:
        where = f"{cell['carrier']}, {cell['classes']} classes"
        rates = [rate(cell, "macula", "alarm"), rate(cell, "macula", "blocking")]
        rates += [rate(cell, who, "alarm") for who in ("datalab", "deepchecks")]
        rows.append([where, cell["fault"], f"{cell['strength']:g}", *rates, which(cell)])
    head = ["images", "planted in one class", "strength", "Macula", "... blocks", "Datalab", "deepchecks"]
    return table([*head, "by which"], rows) + errors(cells)


def which(cell: Cell) -> str:
    """The ids of Macula's alarms, the most frequent first."""
    ids = {k.removeprefix("id: "): v for k, v in cell["macula"].items() if k.startswith("id: ")}
    return ", ".join(
        f"`{k}` {v / cell['macula']['seeds']:.2f}" for k, v in sorted(ids.items(), key=lambda one: -one[1])
    )


def copies(cells: list[Cell]) -> str:
    """Share of the copies found by kind, and pairs that are none."""
    parts = []
    who = ("macula", "cleanvision", "imagededup", "datalab")
    for cell in cells:
        kinds = [name.removeprefix("planted: ") for name in cell["macula"] if name.startswith("planted: ")]
        rows = [[kind, *(rate(cell, w, f"found: {kind}", f"planted: {kind}") for w in who)] for kind in kinds]
        extra = [f"{cell[w].get('extra', 0) / cell[w]['seeds']:.1f}" if cell.get(w) else "-" for w in who]
        rows.append(["pairs named that were not planted, a data set", *extra])
        title = f"{cell['carrier']}, {cell['fault']}"
        parts.append(table([title, "Macula", "cleanvision", "imagededup PHash", "Datalab"], rows))
    return "\n\n".join(parts) + errors(cells)


def labels(cells: list[Cell]) -> str:
    """Alarms, how many labels are said to be wrong, how many of those are."""
    rows = []
    for cell in cells:
        for who in ("macula", "datalab"):
            found = cell.get(who)
            if not found:
                continue
            precision = f"{found.get('named rightly', 0) / found['named']:.2f}" if found.get("named") else "-"
            recall = rate(cell, who, "named rightly", "planted where told") if cell["strength"] else "-"
            share = f"{found.get('share', 0) / found['told']:.3f}" if found.get("told") else "-"
            figures = [rate(cell, who, "told"), rate(cell, who, "alarm"), share, precision, recall]
            rows.append([cell["carrier"], f"{cell['strength']:.0%}", who, *figures])
    head = ["images", "wrong labels", "who", "could tell", "alarm", "share said to be wrong", "precision", "recall"]
    return table(head, rows) + errors(cells)


def drift(cells: list[Cell]) -> str:
    """Rates of alarms."""
    rows = []
    for cell in cells:
        rates = [rate(cell, who, "alarm") for who in ("macula", "datalab", "deepchecks")]
        rows.append([cell["whom"], cell["fault"], f"{cell['strength']:g}", *rates, which(cell)])
    head = ["what differs", "by", "strength", "Macula", "Datalab", "deepchecks", "by which"]
    return table(head, rows) + errors(cells)


def odd(cells: list[Cell]) -> str:
    """Share of the odd images named, and of the others."""
    parts = []
    who = ("macula", "cleanvision", "deepchecks")
    for cell in cells:
        kinds = [name.removeprefix("planted: ") for name in cell["macula"] if name.startswith("planted: ")]
        rows = [[kind, *(rate(cell, w, f"found: {kind}", f"planted: {kind}") for w in who)] for kind in kinds]
        rows.append(["other images named, a share", *(rate(cell, w, "extra", "images") for w in who)])
        parts.append(table([f"{cell['carrier']}, {cell['fault']}", "Macula", "cleanvision", "deepchecks"], rows))
    return "\n\n".join(parts) + errors(cells)


def untouched(cells: list[Cell]) -> str:
    """How often each finding comes up where nothing was planted."""
    rows = []
    for cell in cells:
        for who in WHO:
            found = cell.get(who, {})
            loud = {k: v / found["seeds"] for k, v in found.items() if k.startswith(("warning: ", "blocking: "))}
            ranked = sorted(loud.items(), key=lambda one: (-one[1], one[0]))
            said = ", ".join(f"{name} {share:.2f}" for name, share in ranked) or "nothing"
            if found:
                rows.append([cell["carrier"], who, said, f"{found['seconds'] / found['seeds']:.1f}"])
    return table(["images", "who", "warnings, and how often", "seconds"], rows) + errors(cells)


def speed(found: dict[str, Any]) -> str:
    """Rates, ratios, and where the time goes."""
    parts = []
    for kind, one in found.items():
        if not isinstance(one, dict):
            continue
        rows = []
        for who, rates in one["rates"].items():
            spread = f"{rates['ratio']:.1f} ({rates['ratio_low']:.1f} to {rates['ratio_high']:.1f})"
            figures = [f"{rates['images_per_second']:.0f}", f"{rates['images_per_cpu_second']:.0f}", spread]
            rows.append([who, *figures])
        cpu = {stage: used["cpu_seconds"] for stage, used in one["line"].items()}
        line = sum(cpu.values())
        rows.append(["macula: ingest, validate, audit, starting included", "", f"{one['images'] / line:.0f}", ""])
        parts.append(table([kind, "images a second", "a CPU-second", "times cleanvision"], rows))
        parts.append(
            f"CPU seconds: {', '.join(f'{stage} {seconds:.1f}' for stage, seconds in cpu.items())}. Milliseconds an "
            f"image: {', '.join(f'{part} {ms:.2f}' for part, ms in one['where'].items())}."
        )
    return "\n\n".join(parts)


TABLES: dict[str, Callable[[Any], str]] = {
    "confounders": confounders,
    "copies": copies,
    "labels": labels,
    "drift": drift,
    "odd": odd,
    "untouched": untouched,
    "speed": speed,
}

if __name__ == "__main__":
    PAGE.write_text(into(PAGE.read_text(), json.loads(RESULT.read_text())))
