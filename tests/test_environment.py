"""The environment: lock, floors, extras, conda file, make targets, and the installer itself.

The installer runs for real, with uv and with pip, on a book of one package and an index on loopback.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rattler import MatchSpec

from utils.book import doctor, install
from utils.book import lock as lockfile
from utils.book.__main__ import main

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK = ROOT / "requirements.lock"
PINS = [Requirement(line) for line in LOCK.read_text().splitlines() if line[:1] not in ("#", "")]


# --- what the files say ------------------------------------------------------


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_code_is_as_the_commit_hooks_leave_it(command):
    if f"ruff=={metadata.version('ruff')}" not in map(str, PINS):
        pytest.skip("another ruff than the lock's may format otherwise")
    ruff = Path(sys.executable).with_name("ruff")
    files = [*ROOT.glob("0*/**/*.py"), *ROOT.glob("utils/**/*.py"), *ROOT.glob("tests/*.py")]
    done = subprocess.run([ruff, *command, *files], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_covers_every_extra():
    [everything] = map(Requirement, EXTRAS["all"])
    assert everything.name == PROJECT["name"]
    assert everything.extras == EXTRAS.keys() - {"all"}


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0", "3.14.0"])
@pytest.mark.parametrize(
    ("system", "machine"), [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")]
)
def test_the_lock_meets_every_floor(python, system, machine):
    here = default_environment() | {
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "sys_platform": system,
        "platform_machine": machine,
        "platform_system": system.capitalize(),
        "os_name": "posix",
    }
    pinned = {}
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate(here):
            name = canonicalize_name(pin.name)
            assert name not in pinned, f"{name} is pinned twice for {system}, Python {python}"
            pinned[name] = str(pin.specifier).removeprefix("==")
    floors = [*PROJECT["dependencies"], *(line for name in EXTRAS for line in EXTRAS[name])]
    for floor in map(Requirement, floors):
        if floor.name == PROJECT["name"] or (floor.marker and not floor.marker.evaluate(here)):
            continue
        version = pinned.get(canonicalize_name(floor.name))
        assert version and floor.specifier.contains(version), f"{floor} is locked at {version}"


def test_every_dependency_has_a_floor_and_no_pin():
    for line in [*PROJECT["dependencies"], *(line for name in EXTRAS for line in EXTRAS[name])]:
        requirement = Requirement(line)
        if requirement.name != PROJECT["name"]:
            assert [part.operator for part in requirement.specifier] == [">="], line


def test_the_lock_pins_all_and_brings_no_cuda():
    for pin in PINS:
        assert [part.operator for part in pin.specifier] == ["=="] and pin.url is None, pin
        assert not re.match(r"nvidia|cuda|triton|torch(vision|audio)", pin.name), pin
    [torch] = [pin for pin in PINS if pin.name == "torch"]
    assert torch.marker is None and "+" not in str(torch.specifier)


@pytest.mark.network
def test_the_lock_is_what_make_lock_writes():
    torch = install.locked_version(LOCK, "torch")
    assert lockfile.resolve(ROOT, torch, upgrade=False) == LOCK.read_text()


def test_the_conda_environment_is_this_project_with_all_its_extras():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"][0] == "conda-forge"
    *conda, by_pip = environment["dependencies"]
    specs = {spec.name.normalized: spec for spec in map(MatchSpec, conda)}
    assert {"python", "pip"} <= specs.keys()
    [bounds] = re.findall(r">=([\d.]+)", str(specs["python"].version))
    assert PROJECT["requires-python"] == f">={bounds}"
    [line] = by_pip["pip"]
    [(path, extra)] = re.findall(r"^-e (.+)\[(\w+)\]$", line)
    assert (ROOT / path).resolve() == ROOT and extra == "all"


def test_utils_is_this_repository_and_no_package_of_the_same_name():
    found = subprocess.run(
        [sys.executable, "-c", "import utils; print(utils.__file__)"],
        cwd=Path.home(),
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()) == ROOT / "utils" / "__init__.py"


@pytest.mark.skipif(sys.prefix != str(ROOT / ".venv"), reason="runs outside of the book's .venv")
def test_installed_packages_fit_together():
    uv = Path(sys.executable).with_name("uv")
    check = subprocess.run(
        [uv, "pip", "check", "--python", sys.executable], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr


# --- make --------------------------------------------------------------------


def make(*arguments: str, **more) -> subprocess.CompletedProcess:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, **more)


def test_every_command_of_make_help_exists():
    listed = re.findall(r"^  make ([\w-]+)  +\S", make("help").stdout, re.MULTILINE)
    assert {"run", "test", "lab", "setup", "doctor", "new-recipe", "set-repository"} <= set(listed)
    for target in listed:
        dry = make("--dry-run", target)
        assert dry.returncode == 0, dry.stderr
    commands = re.findall(r"\$\(BOOK\) ([\w-]+)", (ROOT / "Makefile").read_text())
    known = main.__globals__["COMMANDS"]
    assert set(commands) <= {command for command, _, _ in known}


def test_the_readme_and_contributing_name_only_make_targets_that_exist():
    listed = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / name).read_text()))
        assert named <= listed, f"{name}: {named - listed}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files_of_the_book(name):
    targets = re.findall(r"\]\(([^)#\s]+)", (ROOT / name).read_text())
    missing = [path for path in targets if "://" not in path and not (ROOT / path).exists()]
    assert targets and not missing, missing


@pytest.mark.skipif(sys.prefix != str(ROOT / ".venv"), reason="runs outside of the book's .venv")
def test_a_second_setup_installs_nothing():
    """This runs with the network off, so an installation would also fail."""
    assert doctor.environment().startswith(("as locked", "the newest")), "run `make setup` first"
    site = Path(sys.prefix, "lib", f"python3.{sys.version_info[1]}", "site-packages")
    before = site.stat().st_mtime_ns
    second = make("setup")
    assert second.returncode == 0, second.stderr
    assert "Installing" not in second.stdout
    assert site.stat().st_mtime_ns == before


def test_ci_runs_make_test_and_nothing_less():
    assert re.search(
        r"make servers\nexec make test WITHIN=\d+$", (ROOT / ".ci" / "run").read_text().rstrip()
    )
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert {"ubuntu-latest", "macos-latest"} == set(matrix["os"])
    assert [path.name for path in sorted(ROOT.glob("[0-9][0-9]_*"))] + ["tests"] == matrix["part"]
    steps = [step.get("run") for job in jobs.values() for step in job["steps"] if "run" in step]
    part = "make test RECIPE=${{ matrix.part }}"
    servers = [step for step in steps if step.endswith("make servers")]
    assert len(servers) == 2, "chapter 5 needs them in both jobs"
    *runs, weekly, report = [step for step in steps if step not in servers]
    assert runs == [part, "make tests", "make test SEED=7"]
    assert weekly == "make test LOCK= 2>&1 | tee report.txt" and "gh issue create" in report


# --- the installer, for real -------------------------------------------------


def wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    """A wheel with one empty package, for every Python."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(path, text)


def index(folder: Path) -> None:
    """The pages that make a folder of `<name>/<wheels>` a package index."""
    for project in filter(Path.is_dir, folder.iterdir()):
        links = "".join(
            f'<a href="{file.name}">{file.name}</a>\n' for file in project.glob("*.whl")
        )
        (project / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")


BACKEND = """
import pathlib, zipfile
def _wheel(directory):
    name = "small_book-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(directory, name), "w") as archive:
        archive.writestr("small_book.pth", str(pathlib.Path.cwd()))
        archive.writestr("small_book-1.0.dist-info/METADATA",
                         "Metadata-Version: 2.1\\nName: small-book\\nVersion: 1.0\\n")
        archive.writestr("small_book-1.0.dist-info/WHEEL",
                         "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr("small_book-1.0.dist-info/RECORD", "")
    return name
def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return _wheel(wheel_directory)
"""


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """Two indexes on loopback: one like PyPI, with CUDA's torch, and one like PyTorch's for the CPU."""
    root = tmp_path_factory.mktemp("indexes")
    wheel(root / "pypi" / "torch", "torch", "2.13.0", "Requires-Dist: nvidia-cublas\n")
    for version in ("1.0", "2.0"):
        wheel(root / "pypi" / "lesson", "lesson", version)
    wheel(root / "pypi" / "uv", "uv", "0")  # without a program: as where uv has no build
    wheel(root / "cpu" / "torch", "torch", "2.13.0+cpu")
    for folder in ("pypi", "cpu"):
        index(root / folder)
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=root))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    yield SimpleNamespace(root=root, pypi=f"{address}/pypi", cpu=f"{address}/cpu")
    server.shutdown()


@pytest.fixture
def small(tmp_path, indexes, monkeypatch):
    """A book of one package, on a machine whose only index is the one on loopback."""
    (tmp_path / "book" / "utils" / "book").mkdir(parents=True)
    book = tmp_path / "book"
    shutil.copy(install.__file__, book / "utils" / "book")
    (book / "backend.py").write_text(BACKEND)
    (book / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "small-book"\nversion = "1.0"\n'
    )
    lock(book, "1.0")
    for name in list(os.environ):
        if re.match(r"(PIP|UV)_|MAKE|MFLAGS|PYTHONPATH|VIRTUAL_ENV", name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", indexes.pypi)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return book


@pytest.fixture(params=["uv", "pip"])
def tool(request, tmp_path, monkeypatch):
    """The two ways to install: uv on the PATH, and no uv anywhere."""
    path = tmp_path / "bin"
    path.mkdir()
    if request.param == "uv":
        (path / "uv").symlink_to(Path(sys.executable).with_name("uv"))
    monkeypatch.setenv("PATH", str(path))
    return request.param


def lock(book: Path, lesson: str) -> None:
    """Write the lock with another version of the one package."""
    (book / "requirements.lock").write_text(f"lesson=={lesson}\ntorch==2.13.0\nuv==0\n")


def set_up(book: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the installer as `make` does."""
    command = [sys.executable, "utils/book/install.py", *arguments]
    return subprocess.run(command, cwd=book, capture_output=True, text=True)


def installed(book: Path) -> dict[str, str]:
    code = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    python = book / ".venv" / "bin" / "python"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return dict(item.split("==") for item in found.stdout.split())


NOWHERE = "http://127.0.0.1:9/simple"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems take PyPI's torch")


@LINUX
def test_the_installer_from_a_broken_venv_to_a_gpu(small, tool, indexes, tmp_path, monkeypatch):
    python = small / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/nowhere/python")  # as after an upgrade of the system's Python
    first = set_up(small, "--torch-index", indexes.cpu)
    assert first.returncode == 0, first.stdout + first.stderr
    assert f"packages with {tool} " in first.stdout
    found = installed(small)
    assert found["torch"] == "2.13.0+cpu", "PyPI's torch is the CUDA build"
    assert found["lesson"] == "1.0" and found["small-book"] == "1.0"
    assert "nvidia-cublas" not in found

    stamp = small / ".venv" / "installed.txt"
    before = stamp.stat().st_mtime_ns
    second = set_up(small, "--torch-index", NOWHERE)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert stamp.stat().st_mtime_ns == before

    lock(small, "2.0")
    changed = set_up(small, "--torch-index", NOWHERE)
    assert changed.returncode == 0, changed.stdout + changed.stderr
    assert installed(small) == found | {"lesson": "2.0"}
    assert not re.search("^ [-+~] ", changed.stdout, re.MULTILINE), (
        "400 lines on packages help nobody"
    )

    wheel(tmp_path / "own", "torch", "2.14.0+cu130")
    [own] = (tmp_path / "own").glob("*.whl")
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", own], check=True)
    lock(small, "1.0")
    with_gpu = set_up(small, "--torch-index", indexes.cpu)
    assert "torch 2.14.0+cu130 is there already and left alone" in with_gpu.stdout
    assert installed(small) == found | {"torch": "2.14.0+cu130"}

    subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "torch"], check=True)
    lock(small, "2.0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(indexes.root / "cpu" / "torch"))
    from_folder = set_up(small, "--torch-index", NOWHERE)
    assert from_folder.returncode == 0, from_folder.stdout + from_folder.stderr
    assert installed(small) == found | {"lesson": "2.0"}


def test_what_stands_in_the_way_is_one_sentence(small, tool, indexes, monkeypatch):
    lock(small, "9.9")
    failed = set_up(small, "--torch-index", indexes.cpu)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == (
        f"{tool} could not install the book; its message is above, and `make doctor` prints what "
        "a bug report needs."
    )
    monkeypatch.setenv("PIP_INDEX_URL", "http://reader:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    failed = set_up(small)
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert re.fullmatch(
        r"The package index http://\*\*\*@127\.0\.0\.1:9/simple cannot be reached \(.*\): check "
        r"the network, or set HTTPS_PROXY for a proxy, or PIP_INDEX_URL for a mirror\.",
        failed.stderr.splitlines()[-1],
    )
    assert not (small / ".venv" / "installed.txt").exists(), "the next call must start again"


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(install.shutil, "disk_usage", lambda path: SimpleNamespace(free=1.2e9))
    with pytest.raises(install.Failure, match=r"needs 4 GB and the disk that holds .* has 1\.2 GB"):
        install.make_venv(tmp_path / ".venv")
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv_is_one_sentence(tmp_path, monkeypatch, module):
    find = install.importlib.util.find_spec
    monkeypatch.setattr(
        install.importlib.util, "find_spec", lambda name: None if name == module else find(name)
    )
    with pytest.raises(install.Failure, match=rf"no `{module}` module: install it .*-venv"):
        install.make_venv(tmp_path / ".venv")


def test_an_old_python_is_one_sentence():
    source = Path(install.__file__).read_text()
    code = (
        "import sys, collections\n"
        "version = collections.namedtuple('v', 'major minor')(3, 9)\n"
        "sys.version_info = version\n"
        f"exec(compile({source!r}, 'install.py', 'exec'))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.strip() == (
        "The book needs Python 3.11 or newer and this is 3.9: install one and name it, as in "
        "`make run PYTHON=python3.12`."
    )


def test_settings_for_pip_reach_uv(monkeypatch):
    monkeypatch.setattr(install.os, "environ", {"UV_FIND_LINKS": "/own"})
    environment = install.uv_environment(
        {
            "index-url": "https://mirror.example/simple",
            "extra-index-url": "https://a.example/simple\nhttps://b.example/simple",
            "find-links": "/wheels",
            "cert": "/etc/company.pem",
        }
    )
    assert environment["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert environment["UV_INDEX"] == "https://a.example/simple https://b.example/simple"
    assert environment["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert environment["UV_FIND_LINKS"] == "/own", "what is set for uv itself is kept"
    assert environment["SSL_CERT_FILE"] == "/etc/company.pem"


# --- doctor ------------------------------------------------------------------


def test_the_doctor_tells_all_and_no_secret(monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("PIP_INDEX_URL", "https://reader:secret@mirror.example/simple")
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "secret" not in out and "OPENAI_API_KEY=(set)" in out and "***@mirror.example" in out
    lines = dict(re.findall(r"^(\w+): +(\S.*)$", out, re.MULTILINE))
    assert lines.keys() == doctor.report().keys()
    assert sys.executable in lines["python"] and "torch 2" in lines["versions"]


def test_the_doctor_names_packages_that_are_not_as_locked(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        f"pytest=={pytest.__version__}\npackaging==1.0 ; sys_platform == 'x'\nabsent==1\n"
    )
    assert re.fullmatch(r"packaging is [\d.]+", doctor.differences(lock))
