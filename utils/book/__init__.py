"""The workshop behind the book: `python -m utils.book COMMAND` runs, checks and updates the recipes."""

import sys

# nbformat imports jsonschema, which would compile a grammar of IRIs if it finds one: a second in every
# command, for a format that notebooks do not have.
sys.modules.setdefault("rfc3987_syntax", None)


class BookError(Exception):
    """Something that the reader can put right; shown as one sentence, without a traceback."""
