"""The service put together."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

import openai
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from .auth import KeyRing
from .disconnect import HeldStream, stop_when_client_leaves
from .errors import CHAT_ERRORS, UPSTREAM_ERRORS, ApiError, from_upstream, install, problem
from .limits import BodyLimit, Gate, RateLimit
from .logs import RequestLog
from .metrics import Metrics
from .schemas import ChatAnswer, ChatRequest, KeyUsage, Status, StreamEnd, Usage
from .settings import Settings
from .stream import EVENT_STREAM, SSE_HEADERS, events
from .upstream import Answer, ChatModel
from .usage import Meter


class Service:
    """What the requests of one process share."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.keys = KeyRing(settings.api_keys)
        self.rates = RateLimit(settings.rate_limit_storage, settings.api_keys)
        self.gate = Gate(settings.max_concurrency, settings.max_queue, settings.queue_timeout_s)
        self.metrics = Metrics(self.gate)
        self.model = ChatModel(settings)
        self.meter = Meter(
            settings.usd_per_million_prompt_tokens, settings.usd_per_million_completion_tokens
        )


def shared(request: Request) -> Service:
    return request.app.state.service


Shared = Annotated[Service, Depends(shared)]


def authenticated(
    request: Request,
    service: Shared,
    sent: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
) -> str:
    key_id = service.keys.key_id(sent.credentials)
    if key_id is None:
        raise ApiError(
            401,
            "unknown_key",
            "This key is not known here.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    request.state.log["key_id"] = key_id
    return key_id


KeyId = Annotated[str, Depends(authenticated)]


async def within_rate(request: Request, service: Shared, key_id: KeyId) -> None:
    if not await service.rates.hit(key_id):
        request.state.log["rate_limit"] = "unavailable"


router = APIRouter()


@router.post(
    "/v1/chat",
    response_model=ChatAnswer,
    responses={200: {"content": {"text/event-stream": EVENT_STREAM}}, **CHAT_ERRORS},
    dependencies=[Depends(within_rate)],
)
async def chat(ask: ChatRequest, request: Request, service: Shared, key_id: KeyId):
    """One answer; with `stream: true` as server-sent events (`token`..., then `done` or `error`)."""
    settings, log = service.settings, request.state.log
    log.update(model=settings.openai_model, stream=ask.stream)
    if ask.chars > settings.max_prompt_chars:
        raise ApiError(
            413,
            "prompt_too_long",
            f"All messages together may have {settings.max_prompt_chars} characters.",
        )

    def usage() -> Usage:
        return service.meter.price(answer.prompt_tokens, answer.completion_tokens)

    async with stop_when_client_leaves(request), AsyncExitStack() as held:
        log["queue_ms"] = round(1000 * await held.enter_async_context(service.gate.slot()), 1)
        try:
            answer = await held.enter_async_context(service.model.answer(ask))
            held.callback(settle, service, key_id, answer, log)
            if ask.stream:
                content = events(
                    answer.pieces(),
                    done=lambda: StreamEnd(finish_reason=answer.finish_reason, usage=usage()),
                    failed=lambda error: problem(request, from_upstream(error, log)),
                )
                return HeldStream(
                    content, held.pop_all(), media_type="text/event-stream", headers=SSE_HEADERS
                )
            text = "".join([piece async for piece in answer.pieces()])
        except UPSTREAM_ERRORS as error:
            raise from_upstream(error, log) from error
    return ChatAnswer(
        request_id=log["request_id"],
        model=settings.openai_model,
        content=text,
        finish_reason=answer.finish_reason,
        usage=usage(),
    )


def settle(service: Service, key_id: str, answer: Answer, log: dict) -> None:
    """However it ended: what was written must be paid for, so it is counted."""
    usage = service.meter.add(key_id, answer.prompt_tokens, answer.completion_tokens)
    log.update(usage.model_dump(), usage_estimated=answer.estimated, retries=answer.retries)
    if answer.finish_reason is None:
        log.setdefault("code", "client_left")


@router.get("/v1/usage", responses={401: CHAT_ERRORS[401]})
async def key_usage(service: Shared, key_id: KeyId) -> KeyUsage:
    """What this key has used since the process started."""
    return service.meter.total(key_id)


@router.get("/healthz")
async def healthz() -> Status:
    """The process lives. Fails only when it should be restarted, so it must not ask the model's server."""
    return Status()


@router.get("/metrics", include_in_schema=False)
async def metrics(service: Shared) -> Response:
    """For Prometheus; the load balancer must not pass it on to the world."""
    return Response(service.metrics.exposition(), media_type=Metrics.media_type)


@router.get("/readyz", responses={503: CHAT_ERRORS[503]})
async def readyz(service: Shared) -> Status:
    """Requests may be sent here: the model's server answers."""
    try:
        await service.model.ping()
    except openai.APIError:
        raise ApiError(
            503, "not_ready", "The model's server does not answer.", retry_after=1
        ) from None
    return Status()


def create_app(settings: Settings) -> FastAPI:
    """The application; nothing is shared between two of them."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.model.client:
            yield

    app = FastAPI(title="Chat service", version="1", lifespan=lifespan)
    app.state.service = service
    install(app)
    app.include_router(router)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(
        RequestLog, over=service.metrics.count
    )  # the last one added is the outermost
    return app
