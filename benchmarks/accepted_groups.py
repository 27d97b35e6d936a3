"""Accept the groups that `configure` proposes, as the command that it prints does."""

import shutil

from stages.configure import Proposal


def accept_groups(proposal: Proposal) -> None:
    """Move the proposed table of groups, if there is one, to its place in the project."""
    if proposal.groups:
        table, place = proposal.groups
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(table, place)
