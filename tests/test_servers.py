"""`utils.servers`: programs are found, started, stopped, and what goes wrong is said."""

import signal
import socket
import subprocess
import sys

import pytest

from utils import servers


def listener(port):
    return [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]


def test_a_server_listens_until_it_is_stopped(tmp_path):
    port = servers.free_port()
    with servers.Server(listener(port), port, tmp_path) as server:
        assert servers.listening(port) and server.running
        server.kill()
        assert not server.running and not servers.listening(port)
        server.start()
        assert servers.listening(port)
    assert not server.running and not servers.listening(port)
    server.stop()


def test_a_server_that_ignores_the_request_to_end_is_killed(tmp_path):
    port = servers.free_port()
    stubborn = "import signal, http.server; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    stubborn += f"http.server.HTTPServer(('127.0.0.1', {port}), http.server.BaseHTTPRequestHandler).serve_forever()"
    server = servers.Server([sys.executable, "-c", stubborn], port, tmp_path)
    server.stop(patience=0.5)
    assert not server.running and server._process.returncode == -signal.SIGKILL


def test_a_missing_program_is_named_with_its_package(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(servers, "FOLDERS", ())
    with pytest.raises(
        servers.ServerError,
        match="apt-get install --no-install-recommends redis-server.*brew install redis",
    ):
        servers.redis()


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(servers.ServerError, match=f"port {port} is taken"):
            servers.Server(listener(port), port, tmp_path)


def test_what_a_server_wrote_before_it_ended_is_shown(tmp_path):
    with pytest.raises(servers.ServerError, match="ended with code 3. It wrote:\nno such option"):
        servers.Server(
            [sys.executable, "-c", "print('no such option'); exit(3)"],
            servers.free_port(),
            tmp_path,
        )


def test_a_server_that_stays_silent_is_not_waited_for_without_end(tmp_path):
    with pytest.raises(servers.ServerError, match="does not listen after 1 s. It wrote:\nthinking"):
        command = [sys.executable, "-uc", "print('thinking'); import time; time.sleep(60)"]
        servers.Server(command, servers.free_port(), tmp_path, wait=1)


def test_redis_answers_and_keeps_nothing(tmp_path):
    with (
        servers.redis("--maxmemory", "20mb", folder=tmp_path) as server,
        socket.create_connection(("127.0.0.1", server.port)) as client,
    ):
        client.sendall(b"PING\r\n")
        assert client.recv(64) == b"+PONG\r\n"
    assert [path.name for path in tmp_path.iterdir()] == ["server.log"]


def test_installing_asks_for_the_missing_packages_only(monkeypatch):
    ran = []
    monkeypatch.setattr(servers, "missing", lambda: ["promtool", "prometheus", "nginx"])
    monkeypatch.setattr(servers.shutil, "which", lambda name, **_: name == "apt-get")
    monkeypatch.setattr(
        servers.subprocess,
        "run",
        lambda command, **_: ran.append(command) or subprocess.CompletedProcess(command, 0),
    )
    servers.install()
    assert ran[-1][-2:] == ["prometheus", "nginx-light"]
    monkeypatch.setattr(
        servers.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 100)
    )
    with pytest.raises(servers.ServerError, match="apt-get update -q` failed"):
        servers.install()
    monkeypatch.setattr(servers.shutil, "which", lambda name, **_: None)
    with pytest.raises(servers.ServerError, match="neither apt-get nor Homebrew"):
        servers.install()
