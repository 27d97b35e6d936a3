"""Proposal of the params that depend on the data, section by section."""

from pathlib import Path

from stages.config.load import default_params, value_of
from stages.config.schema import Params
from stages.configuration.choice import Choice
from stages.configuration.contract_thresholds import PerClass, count_per_class
from stages.configuration.inspection import SourceFacts
from stages.configuration.resolution import propose_prepare
from stages.configuration.source_proposal import propose_ingest, propose_split
from stages.configuration.task import propose_task
from stages.configuration.training_budget import estimate_data_amount, propose_training
from stages.importers.format_candidate import FormatCandidate
from stages.tasks.representations import REPRESENTATIONS, representation_of


def propose_params(
    reading: FormatCandidate, facts: SourceFacts, source: Path, params: Params
) -> tuple[list[Choice], PerClass]:
    """Propose values for the params that depend on the data, and count the training and validation images per class.

    Args:
        reading: chosen interpretation of the source.
        facts: statistics of its images.
        source: path of the source.
        params: current params.
    """
    task_choices = list(propose_task(reading, facts, params))
    value = {choice.key: choice.value for choice in task_choices}
    gives = REPRESENTATIONS[representation_of(value["task.name"], value["representation.name"])].gives
    split = list(propose_split(reading, facts))
    shares = {choice.key: choice.value for choice in split}
    counts = count_per_class(reading, facts, (shares["split.validation"], shares["split.test"]))
    prepare_choices = list(propose_prepare(facts, gives, value["task.name"], params))
    prepare = params.prepare.model_copy(update={c.key.removeprefix("prepare."): c.value for c in prepare_choices})
    found = [
        *task_choices,
        *propose_ingest(reading, facts, source),
        *split,
        Choice("gate.waive", {}, "previous waivers belong to other data" if params.gate.waive else ""),
        *prepare_choices,
        *propose_training(facts, gives, estimate_data_amount(reading, facts, prepare), prepare.fit, counts["train"]),
    ]
    return [explained(choice, params) for choice in found], counts


def explained(choice: Choice, params: Params) -> Choice:
    """Return the choice, with a reason if its value changes a key and has none."""
    previous = value_of(params, choice.key)
    if choice.why or choice.value == previous:
        return choice
    if previous == value_of(default_params(), choice.key):
        why = f"replaces the default {previous!r}"
    else:
        why = f"replaces the previous value {previous!r}, which belongs to other data"
    return Choice(choice.key, choice.value, why)
