"""Tasks: what a network answers, and how well. numpy only, so that serving and training share them."""

from stages.tasks import classification

TASKS = {"classification": classification}
"""One module per representation, with `score`, `scores` and `decode`."""
