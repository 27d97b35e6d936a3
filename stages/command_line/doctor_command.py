"""`macula doctor`: check that this machine and its environment are suitable for Macula."""

from dataclasses import asdict
from typing import Annotated

from typer import BadParameter, Option

from stages.command_line.exit_codes import FAILED, OK
from stages.command_line.options import AsJson, print_json

EXAMPLE = """\
macula doctor
macula doctor --remote --repair   # objects of DVC that are missing or wrong"""


def doctor(
    quick: Annotated[bool, Option("--quick", help="Skip the checks of devices and of CPU speed.")] = False,
    remote: Annotated[
        bool,
        Option("--remote", help="Compare every object that DVC uses with the default remote, and check nothing else."),
    ] = False,
    read: Annotated[
        bool, Option("--read", help="With --remote: read every object, instead of comparing sizes and ETags.")
    ] = False,
    repair: Annotated[
        bool, Option("--repair", help="With --remote: replace missing and wrong objects from the cache or the remote.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Check the installation and the machine, and state what to do about each problem.

    The checks cover Python, the versions of packages, devices, disk, memory, shared memory, the DVC remote, the Prefect
    API, settings that slow down the CPU, and the speed of JPEG decoding and matrix multiplication. The exit code is 1
    if a check reports an error.

    With --remote, the objects in the dvc.lock files of the current commit, of all registered versions and of all
    retraining runs are compared with the remote: `dvc push` and `dvc pull` do not detect those that are missing or
    wrong.
    """
    from stages.command_line.machine_checks import checks
    from stages.command_line.service_checks import remote_objects

    if (read or repair) and not remote:
        raise BadParameter("requires --remote", param_hint="--read" if read else "--repair")
    found = []
    for check in remote_objects(read, repair) if remote else checks(quick):
        found.append(check)
        if not as_json:
            print(f"{check.state:<8} {check.name:<16} {check.found}", flush=True)
            if check.advice:
                print(f"{'':<25} -> {check.advice}", flush=True)
    if as_json:
        print_json([asdict(check) for check in found])
    return FAILED if any(check.state == "error" for check in found) else OK
