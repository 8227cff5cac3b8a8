"""What it takes to start an application: settings from where they lie, logs, uvicorn. Recipe 5.11 starts its own with it."""

import os
from typing import TypeVar

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from pydantic_settings import SettingsError

from . import logs
from .settings import Settings

AnySettings = TypeVar("AnySettings", bound=Settings)


def read_settings(kind: type[AnySettings]) -> AnySettings:
    """From the environment, `.env` and mounted secrets; a wrong one ends the program with the variable's name.

    Secrets mounted as files named like the variables (Docker, Kubernetes) are not in the environment, which
    `docker inspect` shows and every child process inherits.
    """
    try:
        return kind(_secrets_dir=os.environ.get("SERVICE_SECRETS_DIR"))
    except SettingsError as error:  # a variable that should hold JSON does not
        raise SystemExit(f"Settings: {error}") from None
    except ValidationError as error:  # say which variable, not the value: it may be a key
        raise SystemExit(
            "Settings: "
            + "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        ) from None


def serve(app: FastAPI, settings: Settings) -> None:
    """Answer until stopped."""
    logs.configure()
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,  # its records go through logs.configure()
        access_log=False,  # RequestLog writes the better line
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )
