"""Start the command line: `macula COMMAND`, or `python -m stages COMMAND`."""


def main() -> None:
    """Run the command that `sys.argv` names and exit with its status."""
    # Child processes import the main module again; this import, which they do not need, is therefore not at the top.
    from stages.command_line.app import main as start

    start()


if __name__ == "__main__":
    main()
