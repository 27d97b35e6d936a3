"""Many images answered: where they come from, the processes that answer them, what is written of the answers."""

from stages.batch_prediction.formats import FORMS
from stages.batch_prediction.inputs import asked, count, names_of, refuse_sources
from stages.batch_prediction.resumable_output import began_with, output_to
from stages.batch_prediction.worker_pool import Order, answered

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
