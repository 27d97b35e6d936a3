"""Contract types for import-linter, and the sentence on layers in README.md and CONTRIBUTING.md.

    python -m infra.import_contracts  # update the sentence after a change of the layers in pyproject.toml

`stage_layers` is a layers contract in which `STAGES` represents every module file in the container that has no layer of
its own, so that it covers new stages. `forbidden_except` is a forbidden contract that exempts the modules listed in
`except_modules`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from grimp import ImportGraph
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import Layer, LayersContract, ModuleTail
from importlinter.domain import fields
from importlinter.domain.contract import ContractCheck
from importlinter.domain.helpers import module_expressions_to_modules
from importlinter.domain.imports import ModuleExpression

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md")
STAGES = "STAGES"


def stages_in(graph: ImportGraph, package: str, listed: Iterable[str] = ()) -> set[str]:
    """Return the names of the module files in a package, without dunder names.

    Args:
        graph: The import graph.
        package: The full name of the package; its folder is looked up in the current folder.
        listed: Names to leave out, because they have their own layer.
    """
    children = {child.removeprefix(f"{package}.") for child in graph.find_children(package)}
    folder = Path(*package.split("."))
    return {name for name in children if not name.startswith("__") and (folder / f"{name}.py").is_file()} - set(listed)


class StageLayersContract(LayersContract):
    """Layers contract in which `STAGES` represents every module file in the container that has no layer of its own."""

    type_name = "stage_layers"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Replace `STAGES` with the module files, and check the layers."""
        (container,) = cast("list[ModuleExpression]", self.containers)
        layers = cast("list[Layer]", self.layers)
        listed = {tail.name for layer in layers for tail in layer.module_tails}
        stages = Layer({ModuleTail(name) for name in stages_in(graph, container.expression, listed)})
        self.layers = [  # type: ignore[assignment] # the parsed value of the field
            stages if layer.module_tails == {ModuleTail(STAGES)} else layer for layer in layers
        ]
        return super().check(graph, verbose)


class ForbiddenExceptContract(ForbiddenContract):
    """Forbidden contract in which `except_modules` are neither source modules nor forbidden modules."""

    type_name = "forbidden_except"

    except_modules = fields.SetField(subfield=fields.ModuleExpressionField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Remove the exceptions from the source and the forbidden modules, and check the contract."""
        listed = cast("set[ModuleExpression]", self.except_modules)
        exceptions = module_expressions_to_modules(graph, listed, raise_if_unmatched=True)
        for field in ("source_modules", "forbidden_modules"):
            matching = module_expressions_to_modules(graph, getattr(self, field)) - exceptions
            setattr(self, field, {ModuleExpression(module.name) for module in matching})
        return super().check(graph, verbose)


def layers() -> list[str]:
    """Return the layers of `stages/` from the top, as pyproject.toml defines them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (found,) = (contract["layers"] for contract in contracts if contract["type"] == StageLayersContract.type_name)
    return cast("list[str]", found)


def sentence() -> str:
    """Return the sentence that names the layers, as Markdown."""
    folders = [layer.split(" | ") for layer in layers() if layer != STAGES and not layer.startswith("__")]
    chain = " → ".join(", ".join(f"`{name}`" for name in layer) for layer in folders)
    return f"Folders import downwards only: {chain}."


def with_sentence(text: str) -> str:
    """Return a page in which the sentence replaces the text between `<!-- layers -->` and the next blank line."""
    return re.sub(r"(<!-- layers -->\n).*?(?=\n\n)", lambda found: found[1] + sentence(), text, flags=re.DOTALL)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(with_sentence(page.read_text()))
