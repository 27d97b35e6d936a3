"""`macula doctor`: check that this machine and its environment are suitable for Macula."""

from dataclasses import asdict
from typing import Annotated

from typer import Option

from stages.command_line.exit_codes import FAILED, OK
from stages.command_line.options import AsJson, print_json

EXAMPLE = "macula doctor"


def doctor(
    quick: Annotated[bool, Option("--quick", help="Skip the checks of devices and of CPU speed.")] = False,
    as_json: AsJson = False,
) -> int:
    """Check the installation and the machine, and state what to do about each problem.

    The checks cover Python, the versions of packages, devices, disk, memory, shared memory, the DVC remote, the Prefect
    API, settings that slow down the CPU, and the speed of JPEG decoding and matrix multiplication. The exit code is 1
    if a check reports an error.
    """
    from stages.command_line.machine_checks import checks

    found = []
    for check in checks(quick):
        found.append(check)
        if not as_json:
            print(f"{check.state:<8} {check.name:<16} {check.found}", flush=True)
            if check.advice:
                print(f"{'':<25} -> {check.advice}", flush=True)
    if as_json:
        print_json([asdict(check) for check in found])
    return FAILED if any(check.state == "error" for check in found) else OK
