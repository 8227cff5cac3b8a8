"""What Prometheus reads. Labels have few values: a version, an outcome, a dependency; never a caller or a question."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from service.limits import Gate

SECONDS = (0.005, 0.02, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16)


class Metrics:
    """One registry for each app, so that two of them in one process do not share counters."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "rag_requests", "Requests that are over", ["path", "status"], registry=self.registry
        )
        self.answers = Counter(
            "rag_answers", "Answers by outcome", ["outcome", "prompt"], registry=self.registry
        )
        self.seconds = Histogram(
            "rag_answer_seconds",
            "Seconds by outcome",
            ["outcome"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter("rag_tokens", "Tokens paid for", ["kind"], registry=self.registry)
        self.cost = Counter("rag_cost_usd", "Dollars", registry=self.registry)
        self.feedback = Counter(
            "rag_feedback", "Judgements of users", ["helpful", "prompt"], registry=self.registry
        )
        self.up = Gauge("rag_dependency_up", "1 while it answers", ["name"], registry=self.registry)
        self.outbox = Gauge("rag_outbox", "Answers not yet in the database", registry=self.registry)
        self.lost = Counter(
            "rag_answers_lost",
            "Answers that the full outbox had no room for",
            registry=self.registry,
        )

    def watch(self, gate: Gate) -> None:
        """Show who is at the model and who waits, at the moment of asking."""
        for name, text, value in (
            ("running", "Requests at the model", lambda: gate.running),
            ("waiting", "Requests that wait for a place there", lambda: gate.waiting),
        ):
            Gauge(f"rag_{name}", text, registry=self.registry).set_function(value)

    def count(self, path: str, status: int) -> None:
        """A request is over, also one without an answer. Any caller can invent paths: one is told apart."""
        self.requests.labels(path if path == "/v1/answers" else "other", str(status)).inc()
