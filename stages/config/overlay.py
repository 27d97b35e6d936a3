"""Replace values of sections by dotted key, such as the best values of the search."""

from typing import Any

from stages.config.schema_base import Section


def overlay(sections: dict[str, Section], best: dict[str, Any]) -> dict[str, Section]:
    """Return sections with the values of dotted keys replaced, such as `{"train.learning_rate": 0.003}`.

    Raises:
        pydantic.ValidationError: a value is invalid for its key, or a section has no such key.
        KeyError: there is no such section.
    """
    changed = {name: section.model_dump() for name, section in sections.items()}
    for key, value in best.items():
        *outer, name = key.split(".")
        inner = changed
        for part in outer:
            if not isinstance(inner.get(part), dict):
                inner[part] = {}
            inner = inner[part]
        inner[name] = value
    return {name: type(sections[name]).model_validate(values) for name, values in changed.items()}
