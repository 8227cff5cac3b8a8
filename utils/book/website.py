"""`site`: build the book as a web site in build/site, from the committed notebooks and with no network.

Sphinx with myst-nb. The pages are gathered in build/site/source: the README as the home page, the chapters' pages,
and the recipes as they are, save that the badge goes (the theme has a button) and links to files which are no page
lead to the repository. MathJax and Mermaid are the files of their npm packages, fetched once with a pinned hash.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from utils import models

from . import BookError, discover, repository

ASSETS = {
    # MathJax 4 loads parts of its font from a CDN while it draws; the last 3 is one file.
    "mathjax": (
        "https://registry.npmjs.org/mathjax/-/mathjax-3.2.2.tgz",
        "1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09",
        6_132_118,
        r"package/es5/(tex-svg\.js)",
    ),
    "mermaid": (
        "https://registry.npmjs.org/mermaid/-/mermaid-12.3.0.tgz",
        "be0684e8d20bfc874df12c0f04927a5c482f57f2200eec54cca52a4583fd4040",
        26_280_147,
        r"package/dist/(mermaid\.esm\.min\.mjs|chunks/mermaid\.esm\.min/[\w.-]+\.mjs)",
    ),
}
"""What the browser draws with: name -> (address, SHA-256, bytes, the files wanted)."""

LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?\)")
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)\n\n?")


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add this command to `python -m utils.book`."""
    parser = subparsers.add_parser(
        "site",
        help="build the web site in build/site/html",
        description=__doc__,
        formatter_class=discover.RawHelp,
    )
    parser.add_argument(
        "--fetch",
        action="store_true",
        help="only get MathJax and Mermaid, which needs the network once",
    )
    parser.add_argument(
        "--serve",
        type=int,
        metavar="PORT",
        help="show it on this port of the loopback interface (0: any)",
    )
    return parser


def main(args: argparse.Namespace) -> int:
    """Fetch, build or serve; 0 if it worked."""
    assets = {name: fetch(name) for name in ASSETS}
    if args.fetch:
        return 0
    folder = discover.ROOT / "build" / "site"
    gather(folder / "source", assets)
    if status := build(folder / "source", folder / "html"):
        return status
    print(
        f"built: {folder / 'html' / 'index.html'} (make site-serve shows it)"
        if args.serve is None
        else ""
    )
    if args.serve is not None:
        serve(folder / "html", args.serve)
    return 0


def fetch(name: str) -> Path:
    """The checked archive of an asset, downloaded the first time.

    Raises:
        BookError: it cannot be downloaded, or is not the pinned file.
    """
    import httpx

    address, sha256, size, _ = ASSETS[name]
    try:
        return models.download(address.rsplit("/", 1)[1], sha256, size, lambda _: address)
    except httpx.HTTPError as error:
        raise BookError(
            f"{address} could not be downloaded ({error}): check the network and run it again"
        ) from error
    except models.ModelError as error:
        raise BookError(str(error)) from error


def gather(source: Path, assets: dict[str, Path]) -> None:
    """Write all pages and files that Sphinx reads, afresh."""
    shutil.rmtree(source, ignore_errors=True)
    docs, recipes = discover.ROOT / "docs", discover.recipes()
    shutil.copytree(
        docs, source / "docs", ignore=shutil.ignore_patterns("_static", "*.py", "*.toml")
    )
    shutil.copytree(docs / "_static", source / "_static")
    shutil.copy(docs / "conf.py", source)
    for name, archive in assets.items():
        unpack(archive, ASSETS[name][3], source / "_static" / name)
    chapters = sorted({recipe.chapter for recipe in recipes})
    folders = [docs, *(discover.ROOT / chapter for chapter in chapters)]
    found = [
        discover.ROOT / "README.zh-CN.md",
        *(path for folder in folders for path in sorted(folder.glob("*.md"))),
    ]
    texts = {path: path.read_text(encoding="utf-8") for path in found if path.exists()}
    pages = {
        path.relative_to(discover.ROOT).as_posix()
        for path in [*texts, *(recipe.path for recipe in recipes)]
    }
    for path, text in texts.items():
        folder = path.parent.relative_to(discover.ROOT)
        if path.name == "README.md":
            path = path.with_name("index.md")
            text += toctree(
                [r.path.stem for r in recipes if r.chapter == folder.name]
                + ["leaderboard"] * (f"{folder}/leaderboard.md" in pages)
            )
        write(source / folder / path.name, links(text, folder, pages))
    home = links((discover.ROOT / "README.md").read_text(encoding="utf-8"), Path(), pages)
    indexes = [f"docs/{path.stem}" for path in texts if path.parent == docs]
    chinese = [
        path.relative_to(discover.ROOT).with_suffix("").as_posix()
        for path in texts
        if path.name == "README.zh-CN.md"
    ]
    trees = (
        toctree([f"{chapter}/index" for chapter in chapters])
        + toctree(indexes, "Find")
        + toctree(chinese, "中文")
    )
    write(source / "index.md", home + trees)
    for recipe in recipes:
        write(
            source / f"{recipe.name}.ipynb", json.dumps(page_of(recipe, pages), ensure_ascii=False)
        )


def unpack(archive: Path, wanted: str, folder: Path) -> None:
    """Write an archive's wanted files, by the part of their name that the pattern's group takes."""
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            if match := re.fullmatch(wanted, member.name):
                target = folder / match[1]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(tar.extractfile(member).read())


def page_of(recipe: discover.Recipe, pages: set[str]) -> dict:
    """A notebook as the site shows it."""
    notebook = json.loads(json.dumps(recipe.raw))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = links(
                BADGE.sub("", discover.source(cell)), Path(recipe.chapter), pages
            )
        elif "setup" in cell["metadata"].get("tags", []):
            cell["metadata"]["tags"].append("hide-input")
    return notebook


def links(text: str, folder: Path, pages: set[str]) -> str:
    """`text` with links to pages of the site as they are there, and to other files of the book at the repository."""

    def there(match: re.Match) -> str:
        opening, target, anchor = match[1], match[2], match[3] or ""
        if re.match(r"[a-z]+:", target) or opening.startswith("!"):
            return match[0]
        path = os.path.normpath(folder / target)
        if path.endswith("README.md"):
            return f"{opening}{os.path.relpath(path.replace('README.md', 'index.md'), folder)}{anchor})"
        if path in pages:
            return match[0]
        return f"{opening}{repository.address()}/blob/main/{path}{anchor})"

    def drawn(match: re.Match) -> str:
        return f'{match[1]}"{os.path.relpath(match[2], folder)}.html"'

    box = re.compile(
        rf'(?m)^(  click \w+ href )"{re.escape(repository.address())}/blob/main/([^"]+)\.ipynb"'
    )
    return LINK.sub(there, box.sub(drawn, text))


def toctree(names: list[str], caption: str = "") -> str:
    """The navigation below a page, which is drawn at the side."""
    options = f":hidden:\n:caption: {caption}\n" if caption else ":hidden:\n"
    return f"\n\n```{{toctree}}\n{options}\n" + "\n".join(names) + "\n```\n"


def write(path: Path, text: str) -> None:
    """A file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def build(source: Path, html: Path) -> int:
    """Run Sphinx, warnings as errors; its exit status."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "html",
        "-W",
        "--keep-going",
        "-q",
        "-j",
        "auto",
        str(source),
        str(html),
    ]
    environment = os.environ | {"COOKBOOK_ADDRESS": repository.address()}
    return subprocess.run(command, env=environment).returncode


def serve(html: Path, port: int) -> None:
    """Serve the site until interrupted."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"http://127.0.0.1:{server.server_port}  (Ctrl+C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
