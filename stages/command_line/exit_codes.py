"""Exit codes of `macula`, as docs/reference/command-line.md lists them."""

OK = 0
FAILED = 1
"""An error with a message that states what to do, an image that was not predicted, or an error found by `doctor`."""
USAGE = 2
"""The command line itself is wrong: an unknown option, a missing argument, a value out of range."""
BLOCKED = 3
"""The gate stopped the pipeline because of a blocking finding that has not been accepted."""
OBJECTIVE_MISSED = 4
"""`macula run --require-objective`: every stage finished, but the score misses the objective."""
BUG = 70
"""An unexpected error in Macula itself (EX_SOFTWARE of sysexits.h)."""
INTERRUPTED = 130
"""The command was interrupted by Ctrl-C or SIGTERM, or the reader of its output closed it."""
