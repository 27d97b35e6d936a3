"""What every stage stands on: typed params, the stage runner, findings, and errors that speak to the user."""

from stages.frame.errors import UserError
from stages.frame.findings import Finding
from stages.frame.stage import In, Out, run

__all__ = ["Finding", "In", "Out", "UserError", "run"]
