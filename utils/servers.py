"""Servers that recipes need and that are no Python packages: found, started on loopback, stopped.

Redis, Prometheus and nginx come from the system's package manager; ``python -m utils.servers`` installs what is
missing. A recipe starts its own copy on a free port with a folder of its own, so that one which runs already is
neither used nor disturbed, and stops it in the end.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

PACKAGES = {
    "nginx": ("nginx-light", "nginx"),
    "prometheus": ("prometheus", "prometheus"),
    "promtool": ("prometheus", "prometheus"),
    "redis-server": ("redis-server", "redis"),
}
"""Program -> the package that brings it, of Debian or Ubuntu and of Homebrew."""

FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")
"""Where programs also lie, though not every shell looks there."""


class ServerError(RuntimeError):
    """A server is missing or does not start; the message says what to do."""


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), *FOLDERS])


def find(program: str) -> str:
    """The path of a program.

    Raises:
        ServerError: it is not installed; the message says how to install it.
    """
    if found := shutil.which(program, path=_path()):
        return found
    apt, brew = PACKAGES.get(program, (program, program))
    raise ServerError(
        f"`{program}` is not installed. Debian, Ubuntu: apt-get install --no-install-recommends {apt}; "
        f"macOS: brew install {brew}; either: make servers. Then run this cell again."
    )


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def listening(port: int) -> bool:
    """Whether somebody answers on a port of the loopback interface."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def missing() -> list[str]:
    """The programs of :data:`PACKAGES` that are not installed."""
    return [program for program in PACKAGES if not shutil.which(program, path=_path())]


def install() -> None:
    """Install what is missing with apt-get (as root) or Homebrew.

    Raises:
        ServerError: there is neither, or it failed; its own messages are printed above.
    """
    if not (programs := missing()):
        return
    apt, brew = ([*dict.fromkeys(PACKAGES[program][i] for program in programs)] for i in (0, 1))
    if shutil.which("apt-get"):
        commands = [
            ["apt-get", "update", "-q"],
            ["apt-get", "install", "-qy", "--no-install-recommends", *apt],
        ]
    elif shutil.which("brew"):
        commands = [["brew", "install", *brew]]
    else:
        raise ServerError(
            f"neither apt-get nor Homebrew is here: install {', '.join(programs)} by other means"
        )
    for command in commands:
        if subprocess.run(
            command, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        ).returncode:
            raise ServerError(
                f"`{' '.join(command)}` failed, as it says above; it needs an administrator's rights"
            )


class Server:
    """A program that listens on a loopback port, until :meth:`stop`.

    Args:
        command: the program and its arguments; it must stay in the foreground.
        port: where it will listen.
        folder: its working directory; its output goes to `server.log` there.
        wait: seconds until it has to listen.

    Raises:
        ServerError: the program is not installed, the port is taken, or it ends or stays silent; the message
            holds the last lines that it wrote.
    """

    def __init__(self, command: Sequence[str], port: int, folder: str | Path, *, wait: float = 30):
        self.command, self.port, self.folder = [find(command[0]), *command[1:]], port, Path(folder)
        self.log = self.folder / "server.log"
        self._wait = wait
        self.start()
        atexit.register(self.stop)

    def start(self) -> None:
        """Start it, again if it was stopped or killed, and wait until it listens."""
        name = Path(self.command[0]).name
        if listening(self.port):
            raise ServerError(
                f"port {self.port} is taken: stop what listens there, or choose another port for {name}"
            )
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end = time.monotonic() + self._wait
        while not listening(self.port):
            code = self._process.poll()
            if code is not None or time.monotonic() > end:
                self.kill()
                what = (
                    f"does not listen after {self._wait:.0f} s"
                    if code is None
                    else f"ended with code {code}"
                )
                said = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
                raise ServerError(f"{name}, started on port {self.port}, {what}. It wrote:\n{said}")
            time.sleep(0.05)

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send a signal, such as `signal.SIGHUP` to read the configuration again."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: what a crash looks like from outside."""
        if self.running:
            self._process.kill()
        self._process.wait()

    def stop(self, patience: float = 10) -> None:
        """Ask it to end, and wait; after `patience` seconds it is killed. Stopping twice does nothing."""
        if not self.running:
            return
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def redis(*options: str, port: int = 0, folder: str | Path | None = None) -> Server:
    """A Redis on loopback that keeps nothing on disk; its address is ``redis://127.0.0.1:{port}/0``.

    Args:
        options: as on its command line, such as ``"--maxmemory", "20mb"``.
        port: 0 for any free one.
        folder: its working directory; without one a temporary folder.

    Raises:
        ServerError: see :class:`Server`.
    """
    port = port or free_port()
    folder = folder or tempfile.mkdtemp(prefix="redis-")
    fixed = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    return Server(["redis-server", *fixed, *options], port, folder)


if __name__ == "__main__":
    try:
        install()
    except ServerError as error:
        raise SystemExit(str(error)) from None
    print("installed:", ", ".join(find(program) for program in PACKAGES))
