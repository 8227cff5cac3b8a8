"""The endpoints, put together."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from service.app import KeyId, Service, healthz, key_usage, within_rate
from service.disconnect import stop_when_client_leaves
from service.errors import CHAT_ERRORS, UPSTREAM_ERRORS, ApiError, from_upstream, install
from service.limits import BodyLimit
from service.logs import RequestLog
from service.schemas import KeyUsage, Status, Usage
from sqlalchemy.exc import SQLAlchemyError

from . import prompts
from .cache import open_cache
from .metrics import Metrics
from .pipeline import Pipeline
from .settings import RagSettings
from .store import Store


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    question: str = Field(min_length=3, max_length=500)


class RagAnswer(BaseModel):
    id: str
    answer: str
    outcome: Literal["answered", "refused", "unchecked", "cached"]
    source: str
    score: float = Field(description="cosine of question and passage")
    prompt: str = Field(description="the version of the prompt that answered")
    usage: Usage


class Feedback(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    helpful: bool
    comment: str = Field("", max_length=1000)


class State(Status):
    """`status` is ok as long as something can be answered; the others say what is missing."""

    model: bool
    cache: bool
    database: bool


class Rag:
    """What the requests of one process share, beside the chat service's."""

    def __init__(self, settings: RagSettings):
        self.settings, self.metrics = settings, Metrics()
        self.prompts = prompts.load(settings.prompts)
        self.store = Store(settings.database_url, settings.outbox, self.metrics)
        self.cache = open_cache(settings)
        self.release: prompts.Release
        self.pipeline: Pipeline
        self.model_up = True

    async def start(self, service: Service) -> None:
        """Read passages and release.

        Raises:
            LookupError: there are none.
        """
        self.pipeline = Pipeline(
            self.settings, await self.store.index(), self.cache, service.gate, service.model
        )
        if (release := await self.store.release()) is None:
            raise LookupError("No prompt is released: python -m rag_service release VERSION")
        self.take(release)

    def take(self, release: prompts.Release) -> None:
        """Switch to this release; a version that this replica has no file of is refused, and the old one stays."""
        if {release.production, release.candidate} - {None} <= self.prompts.keys():
            self.release = release


def shared(request: Request) -> Rag:
    return request.app.state.rag


Shared = Annotated[Rag, Depends(shared)]
router = APIRouter()
router.add_api_route(
    "/v1/usage", key_usage, response_model=KeyUsage, responses={401: CHAT_ERRORS[401]}
)
router.add_api_route("/healthz", healthz, response_model=Status)


@router.post("/v1/answers", responses=CHAT_ERRORS, dependencies=[Depends(within_rate)])
async def answer(ask: Question, request: Request, rag: Shared, key_id: KeyId) -> RagAnswer:
    """An answer from the documents, with its source, or that they do not say."""
    log, service = request.state.log, request.app.state.service
    prompt = rag.prompts[rag.release.version_for(key_id)]
    log.update(prompt=prompt.version, index=rag.pipeline.index.fingerprint)
    outcome, started = "failed", time.perf_counter()
    try:
        async with stop_when_client_leaves(request):
            result = await rag.pipeline.ask(ask.question, prompt)
        outcome = result.outcome
    except UPSTREAM_ERRORS as error:
        rag.model_up = False
        raise from_upstream(error, log) from error
    finally:
        rag.metrics.seconds.labels(outcome).observe(time.perf_counter() - started)
        rag.metrics.answers.labels(outcome, prompt.version).inc()
    if result.outcome != "cached":
        rag.model_up = True
    usage = service.meter.add(key_id, result.prompt_tokens, result.completion_tokens)
    bill(rag.metrics, usage)
    row = {
        name: getattr(result, name)
        for name in ("answer", "passage", "score", "outcome", "prompt", "model")
    }
    rag.store.record(
        row
        | usage.model_dump()
        | {"id": log["request_id"], "caller": key_id, "question": ask.question}
    )
    log.update(usage.model_dump(), outcome=result.outcome, score=result.score)
    return RagAnswer(
        id=log["request_id"],
        usage=usage,
        **{
            name: getattr(result, name)
            for name in ("answer", "outcome", "source", "score", "prompt")
        },
    )


def bill(metrics: Metrics, usage: Usage) -> None:
    """Put what an answer cost into the metrics."""
    metrics.tokens.labels("prompt").inc(usage.prompt_tokens)
    metrics.tokens.labels("completion").inc(usage.completion_tokens)
    metrics.cost.inc(usage.cost_usd)


@router.post("/v1/answers/{id}/feedback", responses={401: CHAT_ERRORS[401], 503: CHAT_ERRORS[503]})
async def feedback(id: str, said: Feedback, rag: Shared, key_id: KeyId) -> Status:
    """What the caller thinks of an answer of its own; a second judgement replaces the first."""
    try:
        if (found := await rag.store.find(id, key_id)) is None:
            raise ApiError(404, "unknown_answer", "This key was given no such answer.")
        await rag.store.add_feedback(id, said.helpful, said.comment)
    except (SQLAlchemyError, OSError):
        raise ApiError(
            503,
            "not_stored",
            "The judgement could not be stored; please send it again.",
            retry_after=5,
        ) from None
    rag.metrics.feedback.labels(str(said.helpful).lower(), found["prompt"]).inc()
    return Status()


@router.get("/readyz")
async def readyz(rag: Shared) -> State:
    """Requests may be sent here: also without model, cache or database there are answers to give. Alerts look at the metrics."""
    return State(model=rag.model_up, cache=rag.cache.up, database=rag.store.up)


@router.get("/metrics", include_in_schema=False)
async def metrics(rag: Shared) -> Response:
    """For Prometheus; do not route it to the outside."""
    for name, up in {
        "model": rag.model_up,
        "cache": rag.cache.up,
        "database": rag.store.up,
    }.items():
        rag.metrics.up.labels(name).set(up)
    return Response(generate_latest(rag.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def create_app(settings: RagSettings) -> FastAPI:
    """The application; nothing is shared between two of them."""
    service, rag = Service(settings), Rag(settings)
    rag.metrics.watch(service.gate)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as open:
            await open.enter_async_context(service.model.client)
            open.push_async_callback(rag.cache.close)
            open.push_async_callback(rag.store.close)
            await rag.start(service)
            tasks = [
                asyncio.create_task(work)
                for work in (
                    rag.store.keep_writing(),
                    rag.store.follow(rag.take, settings.release_poll_s),
                )
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    app = FastAPI(title="Answers from documents", version="1", lifespan=lifespan)
    app.state.service, app.state.rag = service, rag
    install(app)
    app.include_router(router)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(RequestLog, over=rag.metrics.count)  # the last one added is the outermost
    return app
