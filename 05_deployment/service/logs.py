"""Everything this process prints is JSON, one object a line; a request is one line."""

import logging
import re
import sys
import time
from collections.abc import Callable
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

log = structlog.get_logger()
PROBES = {"/healthz", "/readyz", "/metrics"}  # asked every few seconds, so not logged
SANE_ID = re.compile(r"[\w.-]{8,64}")


def configure() -> None:
    """Send structlog's and the standard library's records (uvicorn's, too) through one JSON renderer to stdout."""
    shared = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.getLogger("httpx2").setLevel(
        logging.WARNING
    )  # a line for each upstream call says nothing new


class RequestLog:
    """Gives each request an id and writes its line when it is over, streams included.

    Others add fields through `request.state.log`. Prompts and answers are not
    among them: logs are read by more people, and kept longer, than either.
    `over` is told the path and status of each, for the metrics.
    """

    def __init__(self, app: ASGIApp, over: Callable[[str, int], None]):
        self.app, self.over = app, over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if SANE_ID.fullmatch(given) else uuid4().hex
        fields = {
            "request_id": request_id,
            "method": scope["method"],
            "path": scope["path"],
            "status": 500,
        }
        scope.setdefault("state", {})["log"] = fields
        started = time.perf_counter()

        async def send_with_id(message):
            if message["type"] == "http.response.start":
                fields["status"] = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            with structlog.contextvars.bound_contextvars(
                request_id=request_id
            ):  # for other lines, as the SDK's on a retry
                await self.app(scope, receive, send_with_id)
        finally:
            fields["latency_ms"] = round(1000 * (time.perf_counter() - started), 1)
            if scope["path"] not in PROBES:
                self.over(fields["path"], fields["status"])
                log.info("request", **fields)
