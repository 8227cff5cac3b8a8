"""Every failure leaves as RFC 9457 problem+json with a request id; nothing of the upstream's words leaks."""

import http.client
import json
from http import HTTPStatus

import openai
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from .schemas import Problem


class ApiError(HTTPException):
    """An expected failure. `retry_after` (seconds) tells a client when it is worth coming back."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(
            status, detail, headers={"Retry-After": str(retry_after)} if retry_after else headers
        )
        self.code = code
        self.errors: list[str] = []


# What may come out of a call to the model: late, cut off, any error of the SDK's, not JSON.
UPSTREAM_ERRORS = (TimeoutError, EOFError, openai.APIError, json.JSONDecodeError)


def from_upstream(error: Exception, log: dict) -> ApiError:
    """What the client is told when the model's server fails: 502 it failed, 503 it is busy, 504 it is late.

    The upstream's own words may quote the prompt, so the log gets only its class, status and request id.
    """
    known = (
        type(error).__name__,
        getattr(error, "status_code", None),
        getattr(error, "request_id", None),
    )
    log["upstream_error"] = " ".join(str(part) for part in known if part)
    match error:
        case TimeoutError() | openai.APITimeoutError():
            return ApiError(504, "upstream_timeout", "The model did not answer in time.")
        case openai.APIConnectionError():
            return ApiError(
                502, "upstream_unreachable", "The connection to the model's server failed."
            )
        case openai.RateLimitError():
            return ApiError(503, "upstream_busy", "The model's server is busy.", retry_after=5)
        case openai.APIStatusError(status_code=400 | 413 | 422):
            return ApiError(
                400,
                "refused_by_model",
                "The model's server refused this input; it may be too long for it.",
            )
        case _:  # its 401 and 404 are our mistake, not the client's
            return ApiError(502, "upstream_error", "The model's server failed.")


def problem(request: Request, error: ApiError) -> Problem:
    """The body for this error; its code goes into the request's log line too."""
    request.state.log["code"] = error.code
    title = http.client.responses.get(error.status_code, "Client Closed Request")
    return Problem(
        title=title,
        status=error.status_code,
        detail=error.detail,
        code=error.code,
        request_id=request.state.log["request_id"],
        errors=error.errors,
    )


def install(app: FastAPI) -> None:
    """Replace FastAPI's error bodies, also those of unknown paths and of our own bugs."""

    def answer(request: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(
            problem(request, error).model_dump(),
            error.status_code,
            error.headers,
            media_type="application/problem+json",
        )

    @app.exception_handler(HTTPException)
    async def expected(request: Request, error: HTTPException) -> JSONResponse:
        if not isinstance(error, ApiError):  # FastAPI's and Starlette's own: 401, 404, 405
            error = ApiError(
                error.status_code,
                HTTPStatus(error.status_code).name.lower(),
                error.detail,
                headers=error.headers,
            )
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, invalid: RequestValidationError) -> JSONResponse:
        error = ApiError(422, "invalid_request", "The request does not match the schema.")
        # Where and what, but not the input: it may be long, and it may be private.
        error.errors = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in invalid.errors()][
            :10
        ]
        return answer(request, error)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, _: ClientDisconnect) -> JSONResponse:
        # nginx's status for it. Nobody reads this answer; only the log sees it.
        return answer(request, ApiError(499, "client_left", "The client closed the connection."))

    @app.exception_handler(Exception)
    async def bug(
        request: Request, _: Exception
    ) -> JSONResponse:  # Starlette raises it again, so the server logs the traceback
        headers = {"X-Request-ID": request.state.log["request_id"]}
        return answer(
            request,
            ApiError(
                500,
                "internal_error",
                "This is our fault; please quote the request id.",
                headers=headers,
            ),
        )


# For the OpenAPI document: what POST /v1/chat may answer besides 200.
CHAT_ERRORS: dict[int | str, dict] = {
    status: {
        "description": description,
        "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
    }
    for status, description in {
        400: "not UTF-8, or refused by the model",
        401: "no key or a wrong one",
        413: "too long",
        422: "does not match the schema",
        429: "over the key's rate limit; see Retry-After",
        500: "a bug",
        502: "the model's server failed",
        503: "overloaded; see Retry-After",
        504: "the model was too slow",
    }.items()
}
