"""What the server counts, in Prometheus' format: no picture, address, name or client is among it."""

from __future__ import annotations

from typing import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "selfie_requests", "Requests that were answered", ("route", "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "selfie_request_seconds",
            "Time from a request to its answer",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self.pictures = Counter("selfie_pictures", "Pictures that went to the net", ("outcome",), registry=registry)
        self.waiting = Gauge("selfie_waiting_pictures", "Pictures in the queue", registry=registry)
        self.queue_seconds = Histogram(
            "selfie_queue_seconds", "Time of a picture in the queue", buckets=SECONDS, registry=registry
        )
        self.batch_pictures = Histogram(
            "selfie_batch_pictures", "Pictures per batch", buckets=(1, 2, 4, 8, 12, 16), registry=registry
        )
        self.batch_seconds = Histogram(
            "selfie_batch_seconds", "Time of a batch in the child process", buckets=SECONDS, registry=registry
        )
        self._ready = Gauge("selfie_ready", "1 if a picture could be scored at once", registry=registry)
        self._restarts = Gauge(
            "selfie_child_restarts", "How often a child process was started again", ("child",), registry=registry
        )

    def watch(self, ready: Callable[[], bool], **restarts: Callable[[], int]) -> None:
        """Ask for these whenever the metrics are read: readiness, and the restarts of each child."""
        self._ready.set_function(lambda: float(ready()))
        for name, count in restarts.items():
            self._restarts.labels(name).set_function(count)

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self._registry)
