"""`macula runs`: comparison of all runs that are stored as experiments."""

from stages.command_line.options import AsJson, print_json

EXAMPLE = "macula runs"


def runs(as_json: AsJson = False) -> None:
    """Compare all runs that are stored as experiments, on one page."""
    from stages.compare_runs import main

    page, found = main()
    if as_json:
        print_json({"page": page.absolute(), "runs": [_listed(run) for run in found]})
        return
    print(f"runs        {page.absolute()}")


def _listed(run: dict) -> dict:
    """Return a run without the values that only the page needs."""
    return {key: value for key, value in run.items() if key not in ("order", "curve")}
