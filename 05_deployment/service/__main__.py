"""`python -m service`, from the folder above this one."""

import os

import uvicorn
from pydantic import ValidationError
from pydantic_settings import SettingsError

from . import logs
from .app import create_app
from .settings import Settings


def main() -> None:
    try:
        # Where secrets are mounted as files named like the variables (Docker, Kubernetes), so that they are not in
        # the environment, which `docker inspect` shows and every child process inherits.
        settings = Settings(_secrets_dir=os.environ.get("SERVICE_SECRETS_DIR"))
    except SettingsError as error:  # a variable that should hold JSON does not
        raise SystemExit(f"Settings: {error}") from None
    except ValidationError as error:  # say which variable, not the value: it may be a key
        raise SystemExit(
            "Settings: "
            + "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        ) from None
    logs.configure()
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,  # its records go through logs.configure()
        access_log=False,  # RequestLog writes the better line
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )


if __name__ == "__main__":
    main()
