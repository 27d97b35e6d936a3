"""Proposal of params for a data set: each value with its reason."""

from stages.configuration.choice import Choice
from stages.configuration.inspection import SourceFacts, inspect_images
from stages.configuration.proposal import propose_params
from stages.configuration.summary import summarize
from stages.configuration.training_budget import estimate_data_amount, limit_epochs

__all__ = [
    "Choice",
    "SourceFacts",
    "estimate_data_amount",
    "inspect_images",
    "limit_epochs",
    "propose_params",
    "summarize",
]
