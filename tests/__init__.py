"""Tests. Modules that use `stages.core.shapes` check the shapes of their arrays at every call."""

from pathlib import Path

from jaxtyping import install_import_hook

from tests import shape_checks

ROOT = Path(__file__).parents[1]


def modules_with_shapes() -> list[str]:
    """Return the names of the modules that import shape types."""
    files = [
        file for file in sorted((ROOT / "stages").rglob("*.py")) if "from stages.core.shapes import" in file.read_text()
    ]
    return [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]


install_import_hook(modules_with_shapes(), f"{shape_checks.__name__}.{shape_checks.checked.__name__}")
