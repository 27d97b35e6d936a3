"""Connect to the scheduler of a Dask cluster, whose workers do the work of a program."""

from typing import Any

from stages.core.errors import UserError


def connect(address: str, name: str) -> Any:
    """Return a client of the Dask scheduler at an address, to be used as a context manager.

    Args:
        address: address such as tcp://HOST:8786.
        name: option or variable that contains the address, for messages.

    Raises:
        UserError: the package distributed is missing, or no scheduler runs at the address.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError(f"{name} requires the package distributed: install the extra `workers`") from error
    try:
        return Client(address, timeout="20s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{name}: no Dask scheduler at {address} ({error}); start `dask scheduler` there, or correct the address"
        ) from error
