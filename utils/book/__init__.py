"""The workshop behind the book: `python -m utils.book COMMAND` runs, checks and updates the recipes."""


class BookError(Exception):
    """Something that the reader can put right; shown as one sentence, without a traceback."""
