"""All choices, in the order of params.yaml."""

from pathlib import Path

from stages.config.load import value_of
from stages.config.schema import Params
from stages.configuration.choice import Choice
from stages.configuration.contract_thresholds import PerClass, held, per_class
from stages.configuration.inspection import Facts
from stages.configuration.resolution import pixels
from stages.configuration.source_proposal import divided, where
from stages.configuration.task import asked
from stages.configuration.training_budget import amount, learning
from stages.importers.format_detection import FormatCandidate
from stages.tasks.representations import REPRESENTATIONS, representation_of


def choices(reading: FormatCandidate, facts: Facts, source: Path, params: Params) -> tuple[list[Choice], PerClass]:
    """What is proposed, by key; and how many images each class will have in training and validation."""
    question = list(asked(reading, facts, params))
    value = {choice.key: choice.value for choice in question}
    gives = REPRESENTATIONS[representation_of(value["task.name"], value["representation.name"])].gives
    split = list(divided(reading, facts))
    shares = {choice.key: choice.value for choice in split}
    counts = per_class(reading, facts, (shares["split.validation"], shares["split.test"]))
    looks = list(pixels(facts, gives, value["task.name"], params))
    prepare = params.prepare.model_copy(update={c.key.removeprefix("prepare."): c.value for c in looks})
    found = [
        *question,
        *where(reading, facts, source, params),
        *split,
        *held(facts, counts),
        Choice("gate.waive", {}, "what was waived before was of other data" if params.gate.waive else ""),
        *looks,
        *learning(facts, gives, amount(reading, facts, prepare), prepare.fit, counts["train"]),
    ]
    return [_explained(choice, params) for choice in found], counts


def _explained(choice: Choice, params: Params) -> Choice:
    """No value is changed without a word."""
    had = value_of(params, choice.key)
    if choice.why or choice.value == had:
        return choice
    return Choice(choice.key, choice.value, f"not {had!r}, which was of other data")
