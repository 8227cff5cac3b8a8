"""What the recipe on vector databases needs and does not teach: a PostgreSQL of its own, and second processes.

A :class:`Process` runs an engine of the notebook in another Python, so that restarts, two writers and a
kill in the middle of a write can be tried. ``python -m utils.vectors`` is its other end.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

# Milvus Lite answers through a local gRPC server, which complains on stderr of its own client's pings.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


class EngineError(RuntimeError):
    """What the engine raised in the other process."""


class Process:
    """An engine in a process of its own.

    Args:
        source: a Python file that defines the engine classes.
        name: the class.
    """

    def __init__(self, source: str | Path, name: str):
        command = [sys.executable, "-W", "ignore", "-m", "utils.vectors", str(source), name]
        path = os.pathsep.join(
            filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")])
        )
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path},
        )

    def send(self, method: str, *arguments: Any) -> None:
        """Ask without waiting. "open" makes the engine, "memory" gives the megabytes of the process."""
        pickle.dump((method, arguments), self._process.stdin)
        self._process.stdin.flush()

    def call(self, method: str, *arguments: Any) -> Any:
        """Ask, and wait for what the method returns.

        Raises:
            EngineError: the engine raised; the message is its type and its text.
        """
        self.send(method, *arguments)
        try:
            good, value = pickle.load(self._process.stdout)
        except EOFError:
            raise EngineError("the process died") from None
        if not good:
            raise EngineError(value)
        return value

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up. Unlike a power cut, what the system has buffered still reaches the disk."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Postgres:
    """A PostgreSQL with pgvector, from the package `pgserver`: on a Unix socket in `folder`, until `close`.

    Run as root, it makes and uses a system user `pgserver`, since PostgreSQL refuses to run as root.

    Raises:
        ImportError: `pgserver` is not installed; it has no wheel for Python 3.13 and later.
    """

    def __init__(self, folder: str | Path):
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # for its lock; else it warns
        import pgserver

        self._server = pgserver.get_server(Path(folder) / "postgres", cleanup_mode="stop")
        self.dsn = self._server.get_uri()

    def memory(self) -> float:
        """Megabytes of the server's processes, shared ones counted once (on Linux)."""
        main = psutil.Process(self._server.get_pid())
        total = 0
        for process in [main, *main.children(recursive=True)]:
            # A connection's process ends a moment after the connection
            with suppress(psutil.NoSuchProcess):
                total += getattr(process.memory_full_info(), "pss", process.memory_info().rss)
        return total / 1e6

    def kill(self) -> None:
        """SIGKILL for the server and its workers: what a crash looks like from outside."""
        main = psutil.Process(self._server.get_pid())
        processes = [main, *main.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        end = time.monotonic() + 10
        while any(map(_alive, processes)) and time.monotonic() < end:
            time.sleep(0.01)
        # Until init has collected the dead server, its number in these files looks like that of a living one.
        info = self._server.get_postmaster_info()
        for path in [self._server.pgdata / "postmaster.pid", *info.socket_dir.glob(".s.PGSQL.*")]:
            path.unlink(missing_ok=True)

    def start(self) -> None:
        """Start it again after `kill`: it recovers what was committed, under the same address."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """Stop the server and wait until it is gone."""
        self._server.cleanup()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def disk(folder: str | Path) -> float:
    """Megabytes of all files in a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6


def _serve(source: str, name: str) -> None:
    """Answer the calls of a :class:`Process`; what libraries print goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    space: dict[str, Any] = {"__name__": "engines"}
    exec(compile(Path(source).read_text(encoding="utf-8"), source, "exec"), space)
    engine = None
    while True:
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if method == "open":
                engine, value = space[name](*arguments), None
            elif method == "memory":
                # Without files that are mapped: the kernel drops those at will
                used = psutil.Process().memory_info()
                value = (used.rss - getattr(used, "shared", 0)) / 1e6
            else:
                value = getattr(engine, method)(*arguments)
            answer = (True, value)
        except Exception as error:  # whatever it is, it is for the other side to read
            answer = (False, f"{type(error).__name__}: {error}")
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
