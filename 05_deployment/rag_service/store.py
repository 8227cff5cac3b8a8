"""The database. SQLAlchemy speaks to SQLite and to PostgreSQL with the same lines.

Answers are written behind the caller's back, through a bounded outbox: a database that is away delays the record and
not the answer. Feedback is written at once or refused, so that nobody is thanked for what was thrown away.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import numpy as np
from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from .index import Index, Passage
from .metrics import Metrics
from .prompts import Release

TABLES = MetaData()
PASSAGES = Table(
    "passages", TABLES,
    Column("id", String, primary_key=True), Column("heading", String), Column("text", String), Column("source", String),
    Column("vector", LargeBinary),
)  # fmt: skip
ANSWERS = Table(
    "answers", TABLES,
    Column("id", String, primary_key=True), Column("at", DateTime(timezone=True)), Column("caller", String, index=True),
    Column("question", String), Column("answer", String), Column("passage", String), Column("score", Float),
    Column("outcome", String), Column("prompt", String), Column("model", String),
    Column("prompt_tokens", Integer), Column("completion_tokens", Integer), Column("cost_usd", Float),
)  # fmt: skip
FEEDBACK = Table(
    "feedback", TABLES,
    Column("answer", String, primary_key=True), Column("helpful", Boolean), Column("comment", String),
    Column("at", DateTime(timezone=True)),
)  # fmt: skip
RELEASES = Table(
    "releases", TABLES,
    Column("number", Integer, primary_key=True, autoincrement=True), Column("at", DateTime(timezone=True)),
    Column("production", String), Column("candidate", String), Column("share", Float),
)  # fmt: skip
BATCH, PAUSE_S = 100, 0.5


def now() -> datetime:
    return datetime.now(UTC)


class Store:
    """Raises SQLAlchemyError or OSError where the database is away; `up` says what the last attempt found."""

    def __init__(self, url: str, room: int, metrics: Metrics):
        # A dead connection is replaced before it is used; and no caller waits for long.
        self.engine = create_async_engine(
            url,
            pool_pre_ping=True,
            **({} if "sqlite" in url else {"connect_args": {"connect_timeout": 2}}),
        )
        self._outbox: deque[dict] = deque()
        self._room, self._metrics, self.up = room, metrics, True

    async def create(self) -> None:
        """Create the tables that are missing."""
        async with self.engine.begin() as connection:
            await connection.run_sync(TABLES.create_all)

    # --- passages

    async def replace_passages(self, passages: list[Passage], vectors: np.ndarray) -> None:
        """All or nothing: readers see the old ones until the new ones are there."""
        rows = [
            vars(passage) | {"vector": vector.astype(np.float32).tobytes()}
            for passage, vector in zip(passages, vectors, strict=True)
        ]
        async with self.engine.begin() as connection:
            await connection.execute(delete(PASSAGES))
            await connection.execute(insert(PASSAGES), rows)

    async def index(self) -> Index:
        """What is searched.

        Raises:
            LookupError: there are no passages yet.
        """
        async with self.engine.connect() as connection:
            rows = (await connection.execute(select(PASSAGES).order_by(PASSAGES.c.id))).all()
        if not rows:
            raise LookupError("The database holds no passages: python -m rag_service ingest")
        passages = [Passage(row.id, row.heading, row.text, row.source) for row in rows]
        return Index(passages, np.stack([np.frombuffer(row.vector, np.float32) for row in rows]))

    # --- releases

    async def release(self, back: int = 0) -> Release | None:
        """The newest one, or one of those before."""
        async with self.engine.connect() as connection:
            row = (
                await connection.execute(
                    select(RELEASES).order_by(RELEASES.c.number.desc()).offset(back).limit(1)
                )
            ).first()
        return row and Release(production=row.production, candidate=row.candidate, share=row.share)

    async def set_release(self, release: Release) -> None:
        """Add one; the earlier ones stay as the history."""
        async with self.engine.begin() as connection:
            await connection.execute(insert(RELEASES).values(at=now(), **release.model_dump()))

    # --- answers and feedback

    def record(self, row: dict) -> None:
        """Keep an answer until `write` has stored it; without room the oldest one is lost, and counted."""
        if len(self._outbox) >= self._room:
            self._outbox.popleft()
            self._metrics.lost.inc()
        self._outbox.append(row | {"at": now()})
        self._metrics.outbox.set(len(self._outbox))

    async def write(self) -> None:
        """Store what waits, in order; what fails goes on waiting."""
        while self._outbox:
            rows = [self._outbox[i] for i in range(min(BATCH, len(self._outbox)))]
            async with self.engine.begin() as connection:
                known = set(
                    (
                        await connection.execute(
                            select(ANSWERS.c.id).where(
                                ANSWERS.c.id.in_([row["id"] for row in rows])
                            )
                        )
                    ).scalars()
                )
                if fresh := [
                    row for row in rows if row["id"] not in known
                ]:  # a commit whose confirmation was lost
                    await connection.execute(insert(ANSWERS), fresh)
            for row in rows:
                with suppress(ValueError):  # dropped meanwhile for want of room
                    self._outbox.remove(row)
            self._metrics.outbox.set(len(self._outbox))

    async def keep_writing(self) -> None:
        """Until cancelled."""
        while True:
            if self._outbox:
                with self._attempt():
                    await self.write()
            await asyncio.sleep(PAUSE_S)

    async def follow(self, take: Callable[[Release], None], pause_s: float) -> None:
        """Tell `take` the newest release, until cancelled; while the database is away the last known one holds."""
        while True:
            await asyncio.sleep(pause_s)
            with self._attempt():
                if release := await self.release():
                    take(release)

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        """Something that may fail and is tried again."""
        try:
            yield
        except (SQLAlchemyError, OSError):
            self.up = False
        else:
            self.up = True

    async def add_feedback(self, answer: str, helpful: bool, comment: str) -> None:
        """One judgement an answer; the last one counts."""
        async with self.engine.begin() as connection:
            await connection.execute(delete(FEEDBACK).where(FEEDBACK.c.answer == answer))
            await connection.execute(
                insert(FEEDBACK).values(answer=answer, helpful=helpful, comment=comment, at=now())
            )

    async def find(self, answer: str, caller: str) -> dict | None:
        """An answer of this caller's, stored or still waiting."""
        for row in self._outbox:
            if row["id"] == answer and row["caller"] == caller:
                return row
        async with self.engine.connect() as connection:
            query = select(ANSWERS).where(ANSWERS.c.id == answer, ANSWERS.c.caller == caller)
            row = (await connection.execute(query)).mappings().first()
        return row and dict(row)

    async def close(self) -> None:
        """Store what still waits, if that is possible, and let go."""
        with suppress(SQLAlchemyError, OSError, TimeoutError):
            async with asyncio.timeout(5):
                await self.write()
        await self.engine.dispose()
