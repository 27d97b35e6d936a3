"""Write the tables of `compare_audits` into docs/results/audits.md: `python -m benchmarks.audits.audit_tables`.

In that page, the tables of a part are between `<!-- PART -->` and `<!-- end -->`.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

RESULT, PAGE = Path("docs/results/audits.json"), Path("docs/results/audits.md")
Cell = dict[str, Any]
LIBRARIES = ("macula", "datalab", "deepchecks", "cleanvision", "imagededup")


def all_tables(kept: dict[str, Any]) -> str:
    """Return the tables of all parts that were measured, in Markdown."""
    return "\n\n".join(f"### {name}\n\n{TABLES[name](kept[name])}" for name in TABLES if name in kept)


def fill_page(page: str, kept: dict[str, Any]) -> str:
    """Return the page with the tables of all parts that were measured.

    Args:
        page: Markdown with the markers of the parts.
        kept: content of audits.json.
    """
    for name, tabulate in TABLES.items():
        if name in kept:
            found = tabulate(kept[name])
            start, end = f"<!-- {name} -->\n", "<!-- end -->"
            before, _, rest = page.partition(start)
            page = f"{before}{start}\n{found}\n\n{end}{rest.partition(end)[2]}" if rest else page
    return page


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(head), ["---"] * len(list(head)), *rows])


def rate(cell: Cell, who: str, name: str, of: str = "seeds") -> str:
    """Format a count divided by another count.

    Args:
        cell: counts of a case.
        who: the library.
        name: the count.
        of: the count by which it is divided.

    Returns:
        The share with two decimals; `-` if the library did not run, or the other count is 0.
    """
    found = cell.get(who, {})
    return f"{found.get(name, 0) / found[of]:.2f}" if found.get(of) else "-"


def errors(cells: list[Cell]) -> str:
    """List the errors of the libraries that failed; return an empty string if there are none."""
    found = {
        f"- {who}: {name.removeprefix('error: ')} ({count} of {cell[who]['seeds']}, "
        f"{cell['base_dataset']}, {cell['fault']})"
        for cell in cells
        for who in LIBRARIES
        for name, count in cell.get(who, {}).items()
        if name.startswith("error: ")
    }
    return "\n\n" + "\n".join(sorted(found)) if found else ""


def confounders(cells: list[Cell]) -> str:
    """Tabulate the rates of alarms for confounders."""
    rows = []
    for cell in cells:
        where = f"{cell['base_dataset']}, {cell['classes']} classes"
        rates = [rate(cell, "macula", "alarm"), rate(cell, "macula", "blocking")]
        rates += [rate(cell, who, "alarm") for who in ("datalab", "deepchecks")]
        rows.append([where, cell["fault"], f"{cell['strength']:g}", *rates, alarm_ids(cell)])
    head = ["images", "fault in one class", "strength", "Macula", "blocking", "Datalab", "deepchecks"]
    return table([*head, "Macula's findings"], rows) + errors(cells)


def alarm_ids(cell: Cell) -> str:
    """List the ids of Macula's alarms with their rates, the most frequent first."""
    ids = {k.removeprefix("id: "): v for k, v in cell["macula"].items() if k.startswith("id: ")}
    return ", ".join(
        f"`{k}` {v / cell['macula']['seeds']:.2f}" for k, v in sorted(ids.items(), key=lambda one: -one[1])
    )


def duplicates(cells: list[Cell]) -> str:
    """Tabulate the share of injected copies that were found, by kind, and the other pairs that were reported."""
    parts = []
    who = ("macula", "cleanvision", "imagededup", "datalab")
    for cell in cells:
        kinds = [name.removeprefix("injected: ") for name in cell["macula"] if name.startswith("injected: ")]
        rows = [[kind, *(rate(cell, w, f"found: {kind}", f"injected: {kind}") for w in who)] for kind in kinds]
        extra = [f"{cell[w].get('extra', 0) / cell[w]['seeds']:.1f}" if cell.get(w) else "-" for w in who]
        rows.append(["other pairs reported, per data set", *extra])
        title = f"{cell['base_dataset']}, {cell['fault']}"
        parts.append(table([title, "Macula", "cleanvision", "imagededup PHash", "Datalab"], rows))
    return "\n\n".join(parts) + errors(cells)


def labels(cells: list[Cell]) -> str:
    """Tabulate alarms, the share of labels reported as wrong, precision and recall."""
    rows = []
    for cell in cells:
        for who in ("macula", "datalab"):
            found = cell.get(who)
            if not found:
                continue
            precision = f"{found.get('flagged correctly', 0) / found['flagged']:.2f}" if found.get("flagged") else "-"
            recall = rate(cell, who, "flagged correctly", "injected where evaluated") if cell["strength"] else "-"
            share = f"{found.get('share', 0) / found['evaluated']:.3f}" if found.get("evaluated") else "-"
            figures = [rate(cell, who, "evaluated"), rate(cell, who, "alarm"), share, precision, recall]
            rows.append([cell["base_dataset"], f"{cell['strength']:.0%}", who, *figures])
    head = ["images", "label errors", "library", "evaluated", "alarm", "share reported as wrong", "precision", "recall"]
    return table(head, rows) + errors(cells)


def drift(cells: list[Cell]) -> str:
    """Tabulate the rates of alarms for drift."""
    rows = []
    for cell in cells:
        rates = [rate(cell, who, "alarm") for who in ("macula", "datalab", "deepchecks")]
        rows.append([cell["subset"], cell["fault"], f"{cell['strength']:g}", *rates, alarm_ids(cell)])
    head = ["changed images", "fault", "strength", "Macula", "Datalab", "deepchecks", "Macula's findings"]
    return table(head, rows) + errors(cells)


def outlier_images(cells: list[Cell]) -> str:
    """Tabulate the shares of injected outliers, by kind, and of other images that were reported."""
    parts = []
    who = ("macula", "cleanvision", "deepchecks")
    for cell in cells:
        kinds = [name.removeprefix("injected: ") for name in cell["macula"] if name.startswith("injected: ")]
        rows = [[kind, *(rate(cell, w, f"found: {kind}", f"injected: {kind}") for w in who)] for kind in kinds]
        rows.append(["share of other images reported", *(rate(cell, w, "extra", "images") for w in who)])
        parts.append(table([f"{cell['base_dataset']}, {cell['fault']}", "Macula", "cleanvision", "deepchecks"], rows))
    return "\n\n".join(parts) + errors(cells)


def unmodified(cells: list[Cell]) -> str:
    """Tabulate the rates of warnings and blocking findings without an injected fault, and the seconds per data set."""
    rows = []
    for cell in cells:
        for who in LIBRARIES:
            found = cell.get(who, {})
            loud = {k: v / found["seeds"] for k, v in found.items() if k.startswith(("warning: ", "blocking: "))}
            ranked = sorted(loud.items(), key=lambda one: (-one[1], one[0]))
            warnings = ", ".join(f"{name} {share:.2f}" for name, share in ranked) or "none"
            if found:
                rows.append([cell["base_dataset"], who, warnings, f"{found['seconds'] / found['seeds']:.1f}"])
    return table(["images", "library", "warnings with their rates", "seconds"], rows) + errors(cells)


def speed(found: dict[str, Any]) -> str:
    """Tabulate the speed of each library, and list the times of the stages and of the steps that describe an image."""
    parts = []
    for kind, one in found.items():
        if not isinstance(one, dict):
            continue
        rows = []
        for who, rates in one["rates"].items():
            spread = "-"
            if "ratio" in rates:
                spread = f"{rates['ratio']:.1f} ({rates['ratio_low']:.1f} to {rates['ratio_high']:.1f})"
            figures = [f"{rates['images_per_second']:.0f}", f"{rates['images_per_cpu_second']:.0f}", spread]
            rows.append([who, *figures])
        cpu = {stage: used["cpu_seconds"] for stage, used in one["pipeline"].items()}
        total = sum(cpu.values())
        rows.append([f"macula: {', '.join(cpu)}, including start-up", "", f"{one['images'] / total:.0f}", ""])
        parts.append(table([kind, "images/s", "images per CPU second", "ratio to cleanvision"], rows))
        parts.append(
            f"CPU seconds: {', '.join(f'{stage} {seconds:.1f}' for stage, seconds in cpu.items())}. Milliseconds per "
            f"image: {', '.join(f'{part} {ms:.2f}' for part, ms in one['breakdown'].items())}."
        )
    return "\n\n".join(parts)


TABLES: dict[str, Callable[[Any], str]] = {
    "confounders": confounders,
    "duplicates": duplicates,
    "labels": labels,
    "drift": drift,
    "outliers": outlier_images,
    "unmodified": unmodified,
    "speed": speed,
}

if __name__ == "__main__":
    PAGE.write_text(fill_page(PAGE.read_text(), json.loads(RESULT.read_text())))
