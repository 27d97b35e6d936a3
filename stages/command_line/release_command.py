"""`macula release`: open the sealed test split once for a registered version, and publish its model card."""

from typing import Annotated

from typer import Argument, Option

from stages.command_line.options import AsJson, print_json

EXAMPLE = """\
macula release                    # the champion
macula release digits@v0.0.3"""


def release(
    model: Annotated[
        str, Argument(help="A stage such as champion, or a registered version such as digits@v0.0.3.")
    ] = "champion",
    reason: Annotated[
        str, Option(help="Reason to open the test split a second time for the same model; it is recorded.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Open the sealed test split once for a registered version, write its model card, and publish both.

    Everything happens in a clone; the checkout is not changed. The opening is recorded on the branch
    release/NAME-VERSION before a score is computed. An interrupted release is resumed by the same command.
    """
    from flows import releases

    outcome = releases.release(model, reason)
    if as_json:
        print_json(outcome.as_json())
    else:
        print(f"{outcome.outcome}: {outcome.message}\nbranch {outcome.branch}")
