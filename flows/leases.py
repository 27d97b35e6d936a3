"""Leases that runs on several machines hold on their Prefect server, so that they do not do the same work twice.

A lease saves work and protects nothing: a run whose server is away continues without one. Files of one machine are
protected by the locks of `flows.state`, the registry by atomic pushes.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

SECONDS = 120.0
"""Time in seconds after which the lease of a run that was killed ends; a running process renews it in the meantime."""


@contextmanager
def hold(name: str, use: str) -> Iterator[None]:
    """Hold a lease within the block; wait until no other run of the same server holds it.

    Args:
        name: name of the lease, a concurrency limit of 1 on the server.
        use: what the lease is for, for the log.
    """
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):  # another run created it in the meantime
            client.upsert_global_concurrency_limit_by_name(name, 1)
        with suppress(ObjectNotFound):  # another run has removed it in the meantime
            if client.read_global_concurrency_limit_by_name(name).active_slots:
                get_run_logger().info("waiting for another run, perhaps on another machine, that uses %s", use)
    with concurrency(name, lease_duration=SECONDS):
        yield


def remove(name: str) -> None:
    """Remove a lease that no run requires any more; runs that wait for it continue."""
    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        client.delete_global_concurrency_limit_by_name(name)
