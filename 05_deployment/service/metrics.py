"""What Prometheus scrapes: requests inside this process now, and requests that are over."""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    generate_latest,
)

from .limits import Gate


class Metrics:
    """In a registry of its own, so that two services in one process do not share it."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, gate: Gate):
        self._registry = CollectorRegistry()
        self._over = Counter(
            "chat_requests", "Requests that are over.", ["path", "status"], registry=self._registry
        )
        for name, text, value in (
            ("running", "Requests at the model.", lambda: gate.running),
            ("waiting", "Requests that wait for a slot.", lambda: gate.waiting),
            ("inside", "Both: what one scales by.", lambda: gate.running + gate.waiting),
        ):
            Gauge(f"chat_{name}", text, registry=self._registry).set_function(value)

    def count(self, path: str, status: int) -> None:
        """A request is over. Only the one path that matters is told apart: any caller can invent paths."""
        self._over.labels(path if path == "/v1/chat" else "other", str(status)).inc()

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
