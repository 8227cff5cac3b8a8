"""Create `.venv` and install the book into it, from the lock or with the newest releases.

Runs on the system's Python before anything is installed: standard library only.
uv does the work where it is on the PATH or can be had from the package index,
pip otherwise. Settings made for pip (index, find-links, certificate, proxy) hold
for both.

torch goes first and by itself, since on Linux the name `torch` means the CUDA
build with some gigabytes of libraries on PyPI. The CPU build is taken from the
reader's own indexes where they offer it, else from PyTorch's. A torch that is
already there and is not a CPU build was chosen by somebody, and is left alone.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "The book needs Python 3.11 or newer and this is %d.%d: install one and name it, "
        "as in `make run PYTHON=python3.12`." % sys.version_info[:2]
    )

import argparse
import ast
import datetime
import hashlib
import importlib.util
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CHANGE = re.compile(r" [-+~] ")  # uv's list of what it changed, some 400 lines
NEEDED_GB = 4.0  # .venv holds about 3.2 GB, the installer's cache the downloads


class Failure(Exception):
    """Something that the reader has to put right; the message says what."""


def fingerprint(root: Path, lock: Path | None) -> str:
    """What `.venv` was made from; the same text means that there is nothing to do.

    The newest releases change by themselves, so those count for one day.
    """
    text = (root / "pyproject.toml").read_bytes()
    text += lock.read_bytes() if lock else datetime.date.today().isoformat().encode()
    return f"{'lock' if lock else 'newest'} {hashlib.sha256(text).hexdigest()}"


def locked_version(lock: Path, name: str) -> str:
    """The version that the lock pins `name` to."""
    match = re.search(rf"^{re.escape(name)}==([^\s;]+)", lock.read_text(), re.MULTILINE)
    if match is None:
        raise Failure(f"{lock} does not pin {name}: make it anew with `make lock`.")
    return match[1]


def pip_settings(python: Path) -> dict[str, str]:
    """What the reader has set for `pip install`, as {"index-url": ..., "find-links": ...}.

    pip's own order holds: environment before `[install]` before `[global]`.
    """
    listing = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    settings: dict[str, str] = {}
    for scope in ("global", "install", ":env:"):
        for line in listing.stdout.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{scope}."):
                settings[name.removeprefix(f"{scope}.")] = ast.literal_eval(value)
    return settings


def uv_environment(settings: dict[str, str]) -> dict[str, str]:
    """The same settings in the variables that uv reads; a variable already set is kept."""
    translation = {
        "index-url": ("UV_DEFAULT_INDEX", " "),
        "extra-index-url": ("UV_INDEX", " "),
        "find-links": ("UV_FIND_LINKS", ","),
        "trusted-host": ("UV_INSECURE_HOST", " "),
        "no-index": ("UV_NO_INDEX", " "),
        "cert": ("SSL_CERT_FILE", " "),
        "proxy": ("ALL_PROXY", " "),
    }
    environment = dict(os.environ)
    for option, (variable, separator) in translation.items():
        if settings.get(option):
            environment.setdefault(variable, separator.join(settings[option].split()))
    if "UV_INDEX" in environment:  # pip compares all indexes, uv by default stops at the first
        environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return environment


class Installer:
    """`pip install` for one virtual environment, by uv or by pip itself."""

    def __init__(self, venv: Path, lock: Path | None, allow_uv: bool = True):
        self.python = venv / "bin" / "python"
        self.settings = pip_settings(self.python)
        self.environment = dict(os.environ)
        self.command: list[str | Path] = [self.python, "-m", "pip", "install"]
        self.name = "pip"
        uv = self._find_uv(lock) if allow_uv else None
        if uv:
            self.name = "uv"
            self.command = [uv, "pip", "install", "--python", self.python]
            self.environment = uv_environment(self.settings)

    def _find_uv(self, lock: Path | None) -> str | None:
        own = self.python.with_name("uv")
        if own.exists():
            return str(own)
        if shutil.which("uv"):
            return shutil.which("uv")
        wanted = f"uv=={locked_version(lock, 'uv')}" if lock else "uv"
        attempt = subprocess.run(
            [*self.command, "--quiet", "--no-deps", "--retries", "1", wanted],
            capture_output=True,
            text=True,
        )
        if attempt.returncode == 0 and own.exists():
            return str(own)
        if self.obstacle():
            raise Failure(self.obstacle())
        print("uv cannot be had here: installing with pip, which takes some minutes.", flush=True)
        return None

    def offers(self, requirement: str) -> bool:
        """Whether the reader's own indexes and folders have a distribution for this machine."""
        return self._run("--dry-run", "--quiet", "--no-deps", requirement, quiet=True) == 0

    def install(self, *arguments: str | Path, index: str | None = None) -> None:
        """Install, showing the installer's progress; `index` stands in for the reader's own."""
        option = "--default-index" if self.name == "uv" else "--index-url"
        if self._run(*([option, index] if index else []), *arguments) != 0:
            raise Failure(
                self.obstacle(index)
                or f"{self.name} could not install the book; its message is above, and "
                "`make doctor` prints what a bug report needs."
            )

    def _run(self, *arguments: str | Path, quiet: bool = False) -> int:
        command = [str(part) for part in (*self.command, *arguments)]
        where = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
            "errors": "replace",
        }
        with subprocess.Popen(command, env=self.environment, **where) as process:
            for line in process.stdout:
                if not quiet and not CHANGE.match(line):
                    print(line, end="", flush=True)
        return process.returncode

    def version(self, name: str) -> str | None:
        """The installed version of `name`, asked of the environment's own Python."""
        code = (
            "import importlib.metadata as m, sys\n"
            "try: print(m.version(sys.argv[1]))\n"
            "except m.PackageNotFoundError: pass"
        )
        found = subprocess.run(
            [self.python, "-c", code, name], capture_output=True, text=True, check=True
        )
        return found.stdout.strip() or None

    def obstacle(self, index: str | None = None) -> str | None:
        """Why an installation failed, where the disk or the way to the index is the reason."""
        folders = (self.python.parent, Path(tempfile.gettempdir()), Path.home())
        for folder in folders:
            if free_gb(folder) < 0.5:
                return f"The disk that holds {folder} is full: make room and start again."
        if self.settings.get("no-index") or self.settings.get("proxy"):
            return None
        certificates = ssl.create_default_context(cafile=self.settings.get("cert"))
        own = self.environment.get("UV_DEFAULT_INDEX") or self.settings.get("index-url")
        sources = {own or "https://pypi.org/simple": "PIP_INDEX_URL"}
        if index:
            sources[index] = "TORCH_INDEX"
        for url, variable in sources.items():
            try:
                page = f"{url.rstrip('/')}/pip/"
                urllib.request.urlopen(page, timeout=10, context=certificates).close()
            except urllib.error.HTTPError:
                continue  # it answers: whatever is wrong, it is not the way there
            except OSError as error:
                return (
                    f"The package index {without_password(url)} cannot be reached "
                    f"({getattr(error, 'reason', error)}): check the network, or set HTTPS_PROXY "
                    f"for a proxy, or {variable} for a mirror."
                )
        return None


def without_password(url: str) -> str:
    """`url` as it may be shown."""
    return re.sub(r"//[^/@]*@", "//***@", url)


def free_gb(folder: Path) -> float:
    """Free space, in GB, on the disk that holds `folder`."""
    return shutil.disk_usage(folder).free / 1e9


def make_venv(venv: Path) -> None:
    """Create the environment, unless a working one is there."""
    python = venv / "bin" / "python"
    if python.exists() and subprocess.run([python, "-c", ""]).returncode == 0:
        return
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise Failure(
                f"This Python has no `{module}` module: install it (Debian and Ubuntu: "
                f"`apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv`)."
            )
    if free_gb(venv.parent) < NEEDED_GB:
        raise Failure(
            f"The installation needs {NEEDED_GB:.0f} GB and the disk that holds {venv.parent} "
            f"has {free_gb(venv.parent):.1f} GB left: make room and start again."
        )
    print(f"Creating {venv} with Python {sys.version.split()[0]} ...", flush=True)
    command = [sys.executable, "-m", "venv", "--clear", str(venv)]
    if subprocess.run(command).returncode != 0:
        raise Failure(f"Python could not make a virtual environment in {venv}; see above.")


def install_torch(installer: Installer, lock: Path | None, index: str) -> str:
    """Install the CPU build of torch, or keep what is there; return the version."""
    present = installer.version("torch")
    if present and "+cpu" not in present and sys.platform == "linux":
        print(f"torch {present} is there already and left alone.", flush=True)
        return present
    if lock:
        public = locked_version(lock, "torch")
        wanted = f"torch=={public}+cpu" if sys.platform == "linux" else f"torch=={public}"
        if present != wanted.removeprefix("torch=="):
            own = sys.platform != "linux" or installer.offers(wanted)
            installer.install("--no-deps", wanted, index=None if own else index)
    else:
        source = index if sys.platform == "linux" else None
        installer.install("--upgrade", "--no-deps", "torch", index=source)
    return installer.version("torch") or ""


def install(root: Path, lock: Path | None, torch_index: str, allow_uv: bool = True) -> None:
    """Make `.venv` agree with the lock, or with the newest releases if there is none.

    Raises:
        Failure: with one sentence on what is in the way.
    """
    started = time.monotonic()
    venv = root / ".venv"
    stamp = venv / "installed.txt"
    current = fingerprint(root, lock)
    python = venv / "bin" / "python"
    if python.exists() and stamp.exists() and stamp.read_text() == current:
        return
    make_venv(venv)
    stamp.unlink(missing_ok=True)
    installer = Installer(venv, lock, allow_uv)
    print(f"Installing {'the locked' if lock else 'the newest'} packages with {installer.name} "
          "(about 3.2 GB on disk) ...", flush=True)  # fmt: skip
    torch = install_torch(installer, lock, torch_index)
    with tempfile.TemporaryDirectory() as scratch:
        chosen = Path(scratch) / "requirements.txt"
        if lock:
            lines = [
                line for line in lock.read_text().splitlines() if not line.startswith("torch==")
            ]
            chosen.write_text("\n".join(lines) + "\n")
            installer.install("--no-deps", "-r", chosen)
            installer.install("--no-deps", "--no-build-isolation", "-e", root)
        else:
            chosen.write_text(f"torch=={torch}\n")
            installer.install("--upgrade", "--constraint", chosen, "-e", f"{root}[all]")
    stamp.write_text(current)
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add this command to `python -m utils.book`."""
    parser = subparsers.add_parser("install", help="create .venv from the lock")
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lock",
        default="requirements.lock",
        help="file of pinned versions; empty for the newest releases (default: %(default)s)",
    )
    parser.add_argument(
        "--torch-index",
        default="",
        help=f"where Linux gets the CPU build of torch (default: {TORCH_CPU_INDEX})",
    )
    parser.add_argument("--no-uv", action="store_true", help="install with pip even if uv is there")


def main(args: argparse.Namespace) -> int:
    """Install; 0 if `.venv` is ready."""
    lock = ROOT / args.lock if args.lock else None
    try:
        install(ROOT, lock, args.torch_index or TORCH_CPU_INDEX, allow_uv=not args.no_uv)
    except Failure as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno == 28:  # ENOSPC
            print("\nThe disk is full: make room and start again.", file=sys.stderr)
            return 1
        raise
    return 0


if __name__ == "__main__":
    command_line = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(command_line)
    sys.exit(main(command_line.parse_args()))
