"""Checks of a running server before and after its model was replaced."""

import math
import statistics
import time
from dataclasses import dataclass, field

from stages.core.plurals import quantity
from stages.deployment.deployed_file import SHORT
from stages.deployment.golden_images import GoldenSet, Values, judge
from stages.deployment.server_client import SERVER_ERROR, ServerClient, ServerError, Traffic

CONFIRMATIONS = 20
"""Consecutive responses that must come from the new model, so that all worker processes of the server are reached."""
PAUSE = 0.1
"""Seconds between two probes."""
LATEST = 50
"""Latest probes whose median latency is compared with that before the change."""
MAX_CONSECUTIVE = 3
"""Probes that may fail one after another."""
MIN_ERRORS = 3
"""Smallest number of failed requests of clients that counts."""
MAX_ERROR_INCREASE = 0.02
"""Largest accepted increase of the share of failed requests of clients."""
LATENCY_MARGIN = 0.02
"""Increase of the median latency that is accepted in any case, seconds."""


class CheckFailed(Exception):
    """The server fails a check; the message contains the check and its values."""


@dataclass
class Probes:
    """Requests of the deployment itself."""

    seconds: list[float] = field(default_factory=list)
    """Duration of each successful request."""
    requests: int = 0
    errors: int = 0
    """Requests with a status of 500 or higher."""
    consecutive: int = 0
    """Failures since the last success."""
    reason: str = ""
    """Last failure."""

    @property
    def median(self) -> float | None:
        """Median duration in seconds; None without successful requests."""
        return statistics.median(self.seconds) if self.seconds else None

    def send(self, client: ServerClient, golden: GoldenSet, number: int) -> tuple[Values, str] | None:
        """Send a golden image; return the prediction and the digest of the model, or None after a failure.

        Args:
            client: client of the server.
            golden: golden images.
            number: number of the probe; the images take turns.
        """
        image = golden.images[number % len(golden.images)]
        self.requests += 1
        picture = any(name.startswith("block ") for name in image.float32)
        try:
            response = client.predict(image.data, golden.deviation, picture)
        except ServerError as error:
            self.errors += error.status >= SERVER_ERROR
            self.consecutive += 1
            self.reason = str(error)
            return None
        self.seconds.append(response.seconds)
        self.consecutive = 0
        return response.values, response.digest


@dataclass(frozen=True)
class Baseline:
    """State of the server before the change."""

    start: Traffic
    """Counters at the time of the change."""
    median: float | None
    """Median latency of the probes, seconds; None if the previous model cannot predict the golden images."""
    error_share: float
    """Share of clients' requests that failed during the measurement."""


def measure_baseline(client: ServerClient, golden: GoldenSet, seconds: float) -> Baseline:
    """Measure error rate and latency of the server with its current model.

    Args:
        client: client of the server.
        golden: golden images of the new model, which the current model predicts as well.
        seconds: duration of the measurement.

    Raises:
        ServerError: there is no response.
    """
    first, probes, until = client.traffic(), Probes(), time.monotonic() + seconds
    while time.monotonic() < until or probes.requests < len(golden.images):
        probes.send(client, golden, probes.requests)
        time.sleep(PAUSE)
    now = client.traffic()
    clients = now.since(first, probes.requests, probes.errors)
    return Baseline(now, probes.median, clients.errors / clients.requests if clients.requests else 0.0)


def wait_for_model(client: ServerClient, digest: str, refused_before: float, seconds: float) -> None:
    """Wait until the server reports the model with this digest.

    Args:
        client: client of the server.
        digest: SHA-256 of the model.
        refused_before: `Traffic.refused_reloads` before the file was replaced.
        seconds: time limit.

    Raises:
        CheckFailed: the server refused the file, or reports another model at the time limit.
    """
    until, seen = time.monotonic() + seconds, "no response"
    while time.monotonic() < until:
        try:
            seen = client.model()["digest"]
            if seen == digest[:SHORT]:
                return
            if client.traffic().refused_reloads > refused_before:
                raise CheckFailed(
                    f"the server refused the file and still serves {seen}; its log has the reason (`reload refused`)"
                )
        except ServerError as error:
            seen = str(error)
        time.sleep(PAUSE)
    raise CheckFailed(f"the server does not serve {digest[:SHORT]} after {seconds:g} s ({seen})")


def check_golden(client: ServerClient, golden: GoldenSet, digest: str, seconds: float) -> tuple[str, Probes]:
    """Compare the predictions of the server with the golden images; return the verdict in words, and the probes.

    At least `CONFIRMATIONS` consecutive responses must come from the model: with several worker processes, some load it
    later than others.

    Args:
        client: client of the server.
        golden: golden images.
        digest: SHA-256 of the model.
        seconds: time limit until all workers use the model.

    Raises:
        CheckFailed: a prediction differs, a request fails repeatedly, or another model still responds.
    """
    until, probes = time.monotonic() + seconds, Probes()
    found: dict[int, Values | str] = {}
    confirmed, number = 0, 0
    while confirmed < max(CONFIRMATIONS, len(golden.images)):
        result = probes.send(client, golden, number)
        if result is not None and result[1] != digest[:SHORT]:
            if time.monotonic() > until:
                raise CheckFailed(f"after {seconds:g} s a worker of the server still serves {result[1]}")
            confirmed, found = 0, {}
            time.sleep(PAUSE)
            continue
        if result is None and probes.consecutive < MAX_CONSECUTIVE:
            time.sleep(PAUSE)
            continue
        found[number % len(golden.images)] = result[0] if result is not None else probes.reason
        probes.consecutive = 0
        confirmed, number = confirmed + 1, number + 1
    verdict = judge(golden, [found[i] for i in range(len(golden.images))])
    if not verdict.passed:
        raise CheckFailed(f"over HTTP {verdict.message}")
    return verdict.message, probes


def monitor(
    client: ServerClient,
    golden: GoldenSet,
    digest: str,
    baseline: Baseline,
    sent: Probes,
    seconds: float,
    max_slowdown: float,
) -> str:
    """Watch the server for some time; return the measured values in words.

    Args:
        client: client of the server.
        golden: golden images, which are sent all the time.
        digest: SHA-256 of the model.
        baseline: values before the change.
        sent: our own requests since the change.
        seconds: duration.
        max_slowdown: largest accepted ratio of the median latencies after and before the change.

    Raises:
        CheckFailed: the server fails, responds with other predictions or another model, or is slower, or more requests
            of clients fail than before the change.
        ServerError: there is no response to a request for the counters.
    """

    def clients_requests() -> Traffic:
        own = sent.requests + probes.requests, sent.errors + probes.errors
        return client.traffic().since(baseline.start, *own)

    probes, until = Probes(), time.monotonic() + seconds
    found: list[Values | str] = [image.shipped for image in golden.images]
    while time.monotonic() < until or probes.requests < len(golden.images):
        _check_latency(sent.seconds + probes.seconds, baseline, max_slowdown)
        number = probes.requests % len(golden.images)
        result = probes.send(client, golden, probes.requests)
        if probes.consecutive >= MAX_CONSECUTIVE:
            raise CheckFailed(f"{probes.consecutive} consecutive requests failed: {probes.reason}")
        if result is not None:
            values, served = result
            if served != digest[:SHORT]:
                raise CheckFailed(f"the server serves {served} instead of {digest[:SHORT]}")
            found[number] = values
            verdict = judge(golden, found)
            if not verdict.passed:
                raise CheckFailed(f"during monitoring {verdict.message}")
        if number == 0:
            _check_errors(clients_requests(), baseline)
        time.sleep(PAUSE)
    clients = clients_requests()
    _check_errors(clients, baseline)
    median = _check_latency(sent.seconds + probes.seconds, baseline, max_slowdown)
    latency = f"median latency {1000 * median:.0f} ms"
    if baseline.median is not None:
        latency += f" (before: {1000 * baseline.median:.0f} ms)"
    return (
        f"{seconds:g} s of monitoring: {latency}, {quantity(int(clients.errors), 'error')} in "
        f"{quantity(int(clients.requests), 'request')} of clients"
    )


def _check_latency(seconds: list[float], baseline: Baseline, max_slowdown: float) -> float:
    """Return the median latency of the latest probes in seconds.

    Args:
        seconds: durations of all probes since the change.
        baseline: values before the change.
        max_slowdown: largest accepted ratio.

    Raises:
        CheckFailed: the median is above the limit.
    """
    median = statistics.median(seconds[-LATEST:]) if seconds else 0.0
    limit = math.inf if baseline.median is None else max_slowdown * baseline.median + LATENCY_MARGIN
    if median > limit:
        raise CheckFailed(
            f"the median latency is {1000 * median:.0f} ms, above the limit of {1000 * limit:.0f} ms "
            f"({max_slowdown:g} times {1000 * (baseline.median or 0):.0f} ms before the change, plus "
            f"{1000 * LATENCY_MARGIN:.0f} ms)"
        )
    return median


def _check_errors(clients: Traffic, baseline: Baseline) -> None:
    share = clients.errors / clients.requests if clients.requests else 0.0
    if clients.errors >= MIN_ERRORS and share > baseline.error_share + MAX_ERROR_INCREASE:
        raise CheckFailed(
            f"{clients.errors:.0f} of {clients.requests:.0f} requests of clients failed with a status of 500 or higher "
            f"({share:.1%}; {baseline.error_share:.1%} before the change)"
        )
