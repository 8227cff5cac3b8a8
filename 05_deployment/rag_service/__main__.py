"""The commands: serve (the default), ingest, release, roll-back. `python -m rag_service --help`."""

import argparse
import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from dotenv import dotenv_values
from service import run
from service.limits import Gate
from service.upstream import ChatModel
from sqlalchemy.exc import SQLAlchemyError

from . import gate, prompts
from .app import create_app
from .cache import open_cache
from .index import Passage
from .metrics import Metrics
from .pipeline import Pipeline, chunks, embed
from .settings import RagSettings
from .store import Store

LOCAL_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
BATCH = 32  # passages embedded by one request


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m rag_service", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser(
        "serve", help="start the service; without a database of passages it fills one first"
    )
    commands.add_parser("ingest", help="read the documents into the database")
    release = commands.add_parser(
        "release", help="put a prompt version into production, if it passes the gate"
    )
    release.add_argument(
        "version", help="one of those in the folder of prompts, or the beginning of one"
    )
    release.add_argument("--share", type=float, default=1.0, help="of the callers (default: all)")
    commands.add_parser("roll-back", help="the release before the last one")
    args = parser.parse_args()
    with ExitStack() as stack:
        embedded(stack)
        settings = run.read_settings(RagSettings)
        try:
            match args.command or "serve":
                case "serve":
                    asyncio.run(prepare(settings))
                    run.serve(create_app(settings), settings)
                case "ingest":
                    asyncio.run(ingest(settings))
                case "release":
                    asyncio.run(release_version(settings, args.version, args.share))
                case "roll-back":
                    asyncio.run(roll_back(settings))
        except (LookupError, ValueError) as error:
            raise SystemExit(str(error)) from None
        except (SQLAlchemyError, OSError) as error:
            raise SystemExit(
                f"The database of SERVICE_DATABASE_URL cannot be used: {error}"
            ) from None


def configured(name: str) -> bool:
    """Whether a setting comes from where `RagSettings` looks: the environment, `.env`, a mounted secret."""
    secrets_dir = os.environ.get("SERVICE_SECRETS_DIR")
    return (
        name in os.environ
        or name in dotenv_values(".env")
        or bool(secrets_dir and (Path(secrets_dir) / name).exists())
    )


def embedded(stack: ExitStack) -> None:
    """With nothing configured: a local model in a child process, and a key for this run, which is printed."""
    if not configured("OPENAI_BASE_URL"):
        from utils import servers

        port = servers.free_port()
        os.environ |= {
            "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
            "OPENAI_MODEL": LOCAL_MODEL,
        }
        os.environ["OPENAI_API_KEY"] = secrets.token_urlsafe(16)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the model ends with us
        command = [sys.executable, "-m", "rag_service.model", str(port), "--with-parent"]
        child = subprocess.Popen(command, start_new_session=True)  # Ctrl-C is ours: it ends last
        stack.callback(child.wait)
        stack.callback(child.terminate)
        while not servers.listening(port):
            if child.poll() is not None:
                raise SystemExit("The local model did not start; its error stands above.")
            time.sleep(0.05)
    if not configured("SERVICE_API_KEYS"):
        secret = secrets.token_urlsafe(16)
        os.environ["SERVICE_API_KEYS"] = json.dumps({"demo": {"secret": secret}})
        print(f"key for this run: {secret}", flush=True)


async def prepare(settings: RagSettings) -> None:
    """Tables, passages and a first release, where they are missing."""
    store = Store(settings.database_url, settings.outbox, Metrics())
    try:
        await store.create()
        try:
            await store.index()
        except LookupError:
            await fill(store, settings)
        if await store.release() is None:
            await store.set_release(prompts.Release(production=find("copy", settings)))
    finally:
        await store.close()


async def ingest(settings: RagSettings) -> None:
    """Replace the passages by those of the documents as they are now; replicas see them when they start again."""
    store = Store(settings.database_url, settings.outbox, Metrics())
    try:
        await store.create()
        print(f"{await fill(store, settings)} passages")
    finally:
        await store.close()


async def fill(store: Store, settings: RagSettings) -> int:
    """Embed the documents and store them; the number of passages."""
    from utils import data

    passages = [
        Passage(
            f"{document.id}/{number}",
            f"{document.section}: {document.title}",
            text,
            document.source,
        )
        for document in data.business_documents()
        for number, text in enumerate(chunks(document.text))
    ]
    async with ChatModel(settings).client as client:
        client = client.with_options(
            base_url=settings.embedding_base_url or settings.openai_base_url, timeout=60
        )
        batches = [passages[start : start + BATCH] for start in range(0, len(passages), BATCH)]
        vectors = [
            row
            for batch in batches
            for row in await embed(
                client, settings.embedding_model, [passage.whole for passage in batch]
            )
        ]
    await store.replace_passages(passages, vectors)
    return len(passages)


def find(name: str, settings: RagSettings) -> str:
    """The one version whose name begins so.

    Raises:
        LookupError: there is none, or more than one.
    """
    versions = prompts.load(settings.prompts)
    found = [version for version in versions if version.startswith(name)]
    if len(found) != 1:
        raise LookupError(f"{name!r} names {len(found)} of the versions {', '.join(versions)}")
    return found[0]


async def release_version(settings: RagSettings, name: str, share: float) -> None:
    """Through the gate, to all callers or a share of them.

    Raises:
        LookupError: the gate refuses it, or there is no such version.
    """
    from utils import data

    cases = [
        gate.Case(q.question, lambda answer, q=q: data.score_answer(q, answer))
        for q in data.business_questions("dev")
    ]
    cases += [gate.Case(question, None) for question in data.business_unanswerable("dev")]
    cases = cases[:: settings.gate_every]
    known, version = prompts.load(settings.prompts), find(name, settings)
    store, model = Store(settings.database_url, settings.outbox, Metrics()), ChatModel(settings)
    try:
        release = await store.release()
        async with model.client:
            cache = open_cache(settings)
            pipeline = Pipeline(
                settings, await store.index(), cache, Gate(4, len(cases), 600), model
            )
            # What is in production is judged by what its users get; the candidate's answers are made now.
            rights = [
                await gate.evaluate(pipeline, known[which], cases, cached=which != version)
                for which in (version, release.production)
            ]
            await cache.close()
        print(
            f"{version}: {sum(rights[0])} of {len(cases)} right; {release.production}, in production: {sum(rights[1])}"
        )
        if not gate.passes(*rights, may_lose=settings.gate_may_lose):
            raise LookupError(
                f"{version} is not released: it may be right on {settings.gate_may_lose} cases fewer, no more"
            )
        whole = share >= 1
        await store.set_release(
            prompts.Release(
                production=version if whole else release.production,
                candidate=None if whole else version,
                share=0 if whole else share,
            )
        )
    finally:
        await store.close()


async def roll_back(settings: RagSettings) -> None:
    """The release before the last one becomes the newest.

    Raises:
        LookupError: there is none.
    """
    store = Store(settings.database_url, settings.outbox, Metrics())
    try:
        earlier = await store.release(back=1)
        if earlier is None:
            raise LookupError("There is no earlier release.")
        await store.set_release(earlier)
        print(f"in production: {earlier.production}")
    finally:
        await store.close()


if __name__ == "__main__":
    main()
