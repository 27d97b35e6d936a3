"""`macula compare`: scores of variants of params.yaml."""

from typing import Annotated

from typer import Argument, Option

from stages.command_line.options import AsJson, print_json

EXAMPLE = 'macula compare "network.name=resnet18" "network.name=googlenet train.epochs=20"'


def compare(
    variants: Annotated[
        list[str],
        Argument(
            metavar="'KEY=VALUE ...'...", help="Changes to params.yaml, one argument per variant; two or more variants."
        ),
    ],
    example: Annotated[
        str,
        Option(
            help="Name of an example in docs/examples; its changes to params.yaml apply to all variants, before theirs."
        ),
    ] = "",
    source: Annotated[
        str,
        Option(
            help="Folder or archive with the images of the example; required with --example, otherwise not allowed."
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Run variants of params.yaml and compare their scores on the same resamples of the same images.

    Each variant runs in its own clone under work/. The first is the baseline. When the command is repeated, finished
    variants are read from the cache.
    """
    from flows.compare import main

    try:
        result = main(variants, example, source)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("finished stages are kept in the cache; repeat the command to resume") from None
    if as_json:
        print_json({key: value for key, value in result.items() if key != "table"})
        return
    print(f"\n{result['table']}\n")
    for one in result["variants"]:
        print(f"- `{one['changes']}`: {one['report']}")
    print(f"written to {result['file']}")
