"""Many images answered: where they come from, the processes that answer them, what is written of the answers."""

from stages.answering.forms import FORMS
from stages.answering.output import began_with, output_to
from stages.answering.sources import asked, count, names_of, refuse_sources
from stages.answering.work import Order, answered

__all__ = [
    "FORMS",
    "Order",
    "answered",
    "asked",
    "began_with",
    "count",
    "names_of",
    "output_to",
    "refuse_sources",
]
