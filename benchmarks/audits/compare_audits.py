"""Do the audits find what is planted, and nothing where nothing is? `make bench-audits`.

Faults of graded strength are planted in real images (`planted`, `carriers`); Macula's audits and its peers look at the
same files, each with its defaults. Peers, which are slow, are asked about fewer seeds: `seeds` says how many they had.
How fast they all are is `audit_speed`. What is measured is written down at once, so that a run that was stopped goes on
where it was; delete the file to measure anew.
"""

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.audits import audit_speed
from benchmarks.audits import injected_faults as planted
from benchmarks.audits.audit_competitors import (
    ALARMING,
    Answer,
    Peers,
    by_arrival,
    ingested,
    lay_out,
    macula,
    out_of_fold,
    settings,
    subject,
)
from benchmarks.audits.audit_tables import told
from benchmarks.audits.base_datasets import CARRIERS, available, pool
from benchmarks.audits.injected_faults import CONFOUNDERS, Case
from stages.audits import AUDITS

Found = Counter[str]
"""What is counted of an answer; summed over seeds."""
Score = Callable[[Case, Answer], Found]
RESULT = Path("docs/results/audits.json")
PYTHON = Path(".venv-audit-peers/bin/python")
SEEDS, PEER_SEEDS, FEW_SEEDS, VERY_FEW_SEEDS = 50, 5, 10, 5
CLASSES, EACH = 4, 75
NULL = "nothing"
SOME = (
    "brightness, levels",
    "stamp, share of images",
    "JPEG quality, below 95",
    "file size, bytes",
    "camera, share of images",
)
GREY = ("border, levels", "stamp, share of images")
"""Confounders of images that are grey, on a black ground and no JPEGs."""
ALARMS = {"confounders": ("confounder/",), "drift": ("representativeness/", "domain_gap/")}
"""Beginnings of the ids by which Macula may say that it saw the fault."""
PEER_ALARMS = {
    "confounders": ("property_label_correlation", "spurious_correlations"),
    "drift": ("property_drift", "non_iid"),
}


class Bench:
    """Who is asked, and how often."""

    def __init__(
        self, seeds: int, peer_seeds: int, folder: Path | None, peers: Peers | None, done: Iterable[dict[str, Any]] = ()
    ) -> None:
        self.seeds, self.peer_seeds, self.folder, self.peers = seeds, peer_seeds, folder, peers
        self.done = list(done)
        self.few = min(FEW_SEEDS, seeds)
        self.given = settings()

    def cell(
        self,
        facts: dict[str, Any],
        make: Callable[[np.random.Generator], Case],
        asked: Iterable[str],
        peers: Iterable[str],
        score: Score,
        seeds: int = 0,
    ) -> dict[str, Any]:
        """Cases of all seeds, looked at by Macula's audits of these names and, the first few, by these peers."""
        seeds = seeds or self.seeds
        for cell in self.done:
            if facts.items() <= cell.items() and cell["macula"]["seeds"] == seeds:
                return cell
        counts: dict[str, Found] = defaultdict(Counter)
        for seed in range(seeds):
            case = make(np.random.default_rng(seed))
            with tempfile.TemporaryDirectory() as name:
                answers = self._answers(case, Path(name), asked, peers if seed < self.peer_seeds else ())
            for who, answer in answers.items():
                if "error" in answer:
                    counts[who].update({f"error: {answer['error']}": 1, "seeds": 1})
                else:
                    counts[who].update(score(case, answer) + Counter(seeds=1, seconds=answer["seconds"]))
        print(facts, {who: {k: round(v, 2) for k, v in found.items()} for who, found in counts.items()}, flush=True)
        return facts | {who: dict(found) for who, found in counts.items()}

    def _answers(self, case: Case, folder: Path, asked: Iterable[str], peers: Iterable[str]) -> dict[str, Answer]:
        rows, files = ingested(case, folder)
        looked_at = subject(rows, folder)
        answers = {"macula": macula(looked_at, asked, self.given)}
        if peers and self.peers:
            order = by_arrival(rows)
            wanted = "datalab" in peers
            lay_out(rows.iloc[order], files, folder, *(a[order] for a in (out_of_fold(looked_at) if wanted else ())))
            answers |= self.peers.ask(peers, folder)
        return answers

    def case(self, name: str, rng: np.random.Generator, classes: int, each: int, meaning: bool = True) -> Case:
        """Images of a carrier with nothing planted."""
        return planted.clean(pool(name, self.folder or Path()), CARRIERS[name].quality, rng, classes, each, meaning)

    def carriers(self, *names: str) -> list[str]:
        """Those that can be read here."""
        return [name for name in available(self.folder) if name in names]


def alarms(part: str) -> Score:
    """Whether an alarm of the right kind was given, whether it blocks, and which it was."""

    def score(case: Case, answer: Answer) -> Found:
        begins = (*ALARMS[part], *PEER_ALARMS[part])
        rung = [(name, severity) for name, severity in answer["alarms"] if name.startswith(begins)]
        loud = [name for name, severity in rung if severity in ALARMING]
        return Counter(
            {
                "alarm": int(bool(loud)),
                "blocking": int(any(severity == "blocking" for _, severity in rung)),
                **{f"id: {name}": 1 for name in set(loud)},
            }
        )

    return score


def pairs(case: Case, answer: Answer) -> Found:
    """Planted copies found by kind, and pairs said to be copies that are none."""
    said = {pair for sets in answer["sets"].values() for one in sets for pair in combinations(sorted(set(one)), 2)}
    wanted = {kind: [tuple(sorted(pair)) for pair in some] for kind, some in case.pairs.items()}
    found = Counter({f"found: {kind}": sum(p in said for p in some) for kind, some in wanted.items()})
    found.update({f"planted: {kind}": len(some) for kind, some in wanted.items()})
    found["extra"] = len(said - {pair for some in wanted.values() for pair in some})
    return found


def mislabelled(case: Case, answer: Answer) -> Found:
    """Of the images said to have wrong labels those that have, and how many are said to."""
    name = "label" if "label" in answer["images"] else "label_errors/classes"
    named, wrong = answer["images"].get(name, []), set(case.mislabelled)
    figures = answer["figures"].get("label_errors/classes", {})
    loud = any(one == name and severity in ALARMING for one, severity in answer["alarms"])
    skilled = name == "label" or bool(figures)
    return Counter(
        {
            "alarm": int(loud),
            "told": int(skilled),
            "planted": len(wrong),
            "planted where told": len(wrong) * skilled,
            "named": len(named),
            "named rightly": len(wrong & set(named)),
            "share": figures.get("share", len(named) / len(case.shots)),
            "share at least": figures.get("at_least", 0.0),
        }
    )


def odd_ones(case: Case, answer: Answer) -> Found:
    """Planted oddities that are named, and other images that are."""
    named = {path for name, images in answer["images"].items() if not name.endswith("duplicates") for path in images}
    found = Counter({f"found: {kind}": len(named & set(some)) for kind, some in case.odd.items()})
    found.update({f"planted: {kind}": len(some) for kind, some in case.odd.items()})
    found["extra"] = len(named - {path for some in case.odd.values() for path in some})
    found["images"] = len(case.shots)
    return found


def ids(case: Case, answer: Answer) -> Found:
    """Every finding with its severity."""
    return Counter({f"{severity}: {name}": 1 for name, severity in {tuple(a) for a in answer["alarms"]}})


def confounders(bench: Bench) -> Iterator[dict[str, Any]]:
    """One class is made otherwise than the rest; labels are dealt at random, so that nothing else tells them.

    All strengths for four classes of colour images; some, the strongest, for ten; on digits what a black ground allows.
    """
    regimes = {("cifar10", 10, 30): SOME, ("digits", CLASSES, EACH): GREY, ("cifar10", CLASSES, EACH): CONFOUNDERS}
    for (name, classes, each), faults in regimes.items():
        if name not in bench.carriers(name):
            continue
        cells = [(NULL, planted.brightness, 0.0)]
        for fault in faults:
            change, strengths = CONFOUNDERS[fault]
            cells += [(fault, change, s) for s in (strengths if faults is CONFOUNDERS else strengths[-1:])]
        for fault, change, strength in cells:

            def made(rng: np.random.Generator, given=(name, classes, each), how=(change, strength)) -> Case:  # type: ignore[no-untyped-def]
                return planted.confounded(bench.case(given[0], rng, *given[1:], meaning=False), *how, rng)

            facts = {
                "carrier": name,
                "classes": classes,
                "images": classes * each,
                "fault": fault,
                "strength": strength,
            }
            peers = ("datalab", "deepchecks") if name != "digits" else ()
            yield bench.cell(facts, made, ["confounder"], peers, alarms("confounders"))


def copies(bench: Bench) -> Iterator[dict[str, Any]]:
    """Changed copies of 36 images among 400, half of them in the other split; and none."""
    peers = ("cleanvision", "datalab", "imagededup")
    for name in bench.carriers("cifar10", "plankton121", "clothing10"):
        for each, fault in ((0, NULL), (3, "copies")):
            facts = {"carrier": name, "fault": fault, "images": 400}

            def made(rng: np.random.Generator, name: str = name, each: int = each) -> Case:
                classes = 20 if name == "plankton121" else 10
                return planted.copied(bench.case(name, rng, classes, 400 // classes), each, rng)

            yield bench.cell(facts, made, ("duplicates", "leakage"), peers, pairs, seeds=0 if each else bench.few)


def labels(bench: Bench) -> Iterator[dict[str, Any]]:
    """A share of the labels replaced by others."""
    for name in bench.carriers("digits", "usps", "cifar10"):
        for share in (0, 0.02, 0.05, 0.1, 0.2) if name == "digits" else (0, 0.1):
            facts = {"carrier": name, "classes": 10, "images": 600, "fault": "wrong labels", "strength": share}

            def made(rng: np.random.Generator, name: str = name, share: float = share) -> Case:
                return planted.mislabelled(bench.case(name, rng, 10, 60), share, rng)

            yield bench.cell(
                facts, made, ("label_errors",), ("datalab",), mislabelled, seeds=bench.few if name == "cifar10" else 0
            )


def drift(bench: Bench) -> Iterator[dict[str, Any]]:
    """Images of validation, of a later arrival or of another origin that are made otherwise."""
    asked, score = ("representativeness", "domain_gap"), alarms("drift")
    for name in bench.carriers("cifar10") or bench.carriers("digits"):
        for whom in ("validation", "arrival", "origin"):
            cells = [(NULL, planted.brightness, 0.0)]
            few = ("brightness, levels", "blur, share of side")
            for fault, (change, strengths) in planted.DRIFTS.items():
                if whom != "validation" and fault not in few:
                    continue
                cells += [(fault, change, s) for s in (strengths if whom == "validation" else strengths[1:2])]
            for fault, change, strength in cells:

                def made(rng: np.random.Generator, name=name, whom=whom, how=(change, strength)) -> Case:  # type: ignore[no-untyped-def]
                    return planted.drifted(bench.case(name, rng, CLASSES, EACH), whom, *how, rng)

                facts = {"carrier": name, "whom": whom, "images": CLASSES * EACH, "fault": fault, "strength": strength}
                peers = ("datalab", "deepchecks") if whom == "validation" else ()
                yield bench.cell(facts, made, asked, peers, score, seeds=0 if peers else min(20, bench.seeds))


def odd(bench: Bench) -> Iterator[dict[str, Any]]:
    """Single images that are dark, washed out, blurred, next to blank, far too large or far too long."""
    for name in bench.carriers("cifar10", "clothing10"):
        for each, fault in ((0, NULL), (3, "odd images")):

            def made(rng: np.random.Generator, name: str = name, each: int = each) -> Case:
                return planted.with_odd(bench.case(name, rng, CLASSES, EACH), each, rng)

            facts = {"carrier": name, "fault": fault, "images": CLASSES * EACH}
            yield bench.cell(
                facts,
                made,
                ("checks", "dynamic_range", "outliers"),
                ("cleanvision", "deepchecks"),
                odd_ones,
                seeds=bench.few,
            )


def untouched(bench: Bench) -> Iterator[dict[str, Any]]:
    """Real images under their own labels with nothing planted: every audit, every peer, every finding."""
    for name in bench.carriers(*CARRIERS):
        classes, each = (20, 30) if name == "plankton121" else (10, 60)

        def made(rng: np.random.Generator, name: str = name, classes: int = classes, each: int = each) -> Case:
            return bench.case(name, rng, classes, each)

        facts = {"carrier": name, "fault": NULL, "images": classes * each}
        peers = ("cleanvision", "datalab", "deepchecks", "imagededup")
        yield bench.cell(facts, made, list(AUDITS), peers, ids, seeds=min(VERY_FEW_SEEDS, bench.seeds))


PARTS: dict[str, Callable[[Bench], Iterator[dict[str, Any]]]] = {
    "confounders": confounders,
    "copies": copies,
    "labels": labels,
    "drift": drift,
    "odd": odd,
    "untouched": untouched,
}


def main() -> None:
    """Measure the parts that are asked for, write them down, print the tables."""
    asked = _arguments()
    file = asked.output
    kept = json.loads(file.read_text()) if file.exists() else {}
    peers = Peers(PYTHON.absolute()) if PYTHON.exists() else None
    if peers:
        kept["versions"] = peers.versions
    for name in asked.parts:
        if name == "speed":
            kept[name] = audit_speed.measured(asked.data, asked.rounds)
        else:
            bench, found = Bench(asked.seeds, asked.peer_seeds, asked.data, peers, kept.get(name, [])), []
            for cell in PARTS[name](bench):
                found.append(cell)
                kept[name] = found + [one for one in bench.done if one not in found]
                file.write_text(json.dumps(kept, indent=1) + "\n")
            kept[name] = found
        file.write_text(json.dumps(kept, indent=1) + "\n")
    print(told(kept))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audits.compare_audits", description=__doc__)
    parser.add_argument("parts", nargs="*", default=[*PARTS, "speed"], help=f"of {', '.join([*PARTS, 'speed'])}")
    parser.add_argument("--data", type=Path, help="folder of the reference data; without it the digits alone")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--peer-seeds", type=int, default=PEER_SEEDS)
    parser.add_argument("--rounds", type=int, default=3, help="of the speed")
    parser.add_argument("--output", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
