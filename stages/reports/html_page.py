"""Render templates into self-contained HTML pages; all values are escaped, because file names are untrusted."""

import math
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

HERE = Path(__file__).parent
UNDEFINED = "\N{EN DASH}"  # shown for an undefined number


def write_page(file: Path, template: str, **values: Any) -> int:
    """Render a template of this folder into one self-contained file and return its size in bytes."""
    css = Markup((HERE / "page.css").read_text())  # noqa: S704 our own file
    text = _templates().get_template(template).render(css=css, **values)
    data = text.encode("utf-8", errors="replace")  # file names may contain undecodable bytes
    file.write_bytes(data)
    return len(data)


@cache
def _templates() -> Environment:
    loader = FileSystemLoader(HERE)
    templates = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= {
        "prose": prose,
        "figure": figure,
        "words": words,
        "anchor": anchor,
        "bounded": bounded,
        "name": name,
    }
    return templates


def prose(text: str) -> Markup:
    """Return text as HTML: escaped, with text between backticks as code.

    >>> prose("class `<b>` is rare")
    Markup('class <code>&lt;b&gt;</code> is rare')
    """
    escaped = str(escape(text))
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped))  # noqa: S704


def name(text: str) -> Markup:
    """Return a name of a class or file with line-break opportunities after separators.

    >>> name("fish_larvae")
    Markup('fish_<wbr>larvae')
    """
    escaped = str(escape(text))
    return Markup(re.sub(r"(?<=[a-z0-9])([_/-])(?=\w)", r"\1<wbr>", escaped, flags=re.IGNORECASE))  # noqa: S704


def figure(value: Any, digits: int | None = None) -> str:
    """Return a number with grouped digits and `digits` decimals (default: 0 for integers, else 3); a dash if undefined.

    Text is returned unchanged, or as a dash if it is empty.

    >>> figure(0.97153), figure(1250), figure(1, 3), figure(None)
    ('0.972', '1,250', '1.000', '\u2013')
    """
    if value is None or isinstance(value, str):
        return value or UNDEFINED
    if not math.isfinite(value):
        return UNDEFINED
    digits = (0 if value == int(value) else 3) if digits is None else digits
    return f"{value:,.{digits}f}"


def words(key: str) -> str:
    """Return a key as words.

    >>> words("balanced_accuracy"), words("auc")
    ('balanced accuracy', 'AUC')
    """
    return {
        "auc": "AUC",
        "f1": "F1",
        "iou": "IoU",
        "psnr": "PSNR",
        "ssim": "SSIM",
        "pck": "PCK",
        "r2": "R²",
        "onnxruntime": "ONNX Runtime",
        "openvino": "OpenVINO",
    }.get(key, key.replace("_", " "))


def anchor(label: str) -> str:
    """Return a name as the id of an HTML element.

    >>> anchor("checks/min_side")
    'checks-min_side'
    """
    return re.sub(r"[^A-Za-z0-9_-]+", "-", label).strip("-") or "item"


def bounded(share: float | None) -> str:
    """Return a share as a CSS number within 0 to 1; undefined and non-finite values are 0."""
    return f"{min(1.0, max(0.0, share)):.4f}" if share is not None and math.isfinite(share) else "0"
