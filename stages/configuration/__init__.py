"""What is proposed for images that were looked at, value by value, each with its reason."""

from stages.configuration.choice import Choice
from stages.configuration.inspection import Facts, looked_at
from stages.configuration.proposal import choices
from stages.configuration.summary import told
from stages.configuration.training_budget import amount, within_budget

__all__ = ["Choice", "Facts", "amount", "choices", "looked_at", "told", "within_budget"]
