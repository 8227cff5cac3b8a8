"""`python -m utils.book COMMAND`. Each command is a module with `add_parser(subparsers)` and `main(args)`."""

import argparse
import importlib
import os
import sys

from . import BookError

COMMANDS = (  # command, module, what it does
    ("install", "install", "create .venv and install what the book needs"),
    ("run", "execute", "execute recipes from a clean kernel and measure them"),
    ("compare", "replay", "hold the executed copies against the committed outputs"),
    ("update", "update", "execute, then write outputs and measurements into the recipes"),
    ("clean", "normalise", "normalise notebooks for committing"),
    ("table", "table", "write the README's table of recipes"),
    ("chinese", "chinese", "hold the Chinese words against the English ones"),
    ("site", "website", "build the web site"),
    ("offline", "sandbox", "run a command without a network"),
    ("new-recipe", "new_recipe", "start a recipe from the template"),
    ("set-repository", "repository", "write the repository's address into badges and cells"),
    ("lock", "lock", "write requirements.lock"),
    ("doctor", "doctor", "say what is missing on this machine"),
)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; only that command's module is imported."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m utils.book", description=__doc__)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command, module, help_line in COMMANDS:
        if argv[:1] == [command]:
            chosen = importlib.import_module(f"{__package__}.{module}")
            chosen.add_parser(subparsers)
        else:
            subparsers.add_parser(command, help=help_line)
    args = parser.parse_args(argv)
    try:
        return chosen.main(args) or 0
    except BookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)  # not waiting for notebooks: they notice, and end with all their processes


if __name__ == "__main__":
    sys.exit(main())
