"""What is proposed for images that were looked at, value by value, each with its reason."""

from stages.proposals.choices import choices
from stages.proposals.facts import Facts, looked_at
from stages.proposals.protocol import Choice
from stages.proposals.telling import told
from stages.proposals.training import amount, within_budget

__all__ = ["Choice", "Facts", "amount", "choices", "looked_at", "told", "within_budget"]
