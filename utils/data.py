"""Corpora and labelled sets of the book: one call each, offline.

| call | what it gives | licence and source |
|---|---|---|
| `python_docs()` | the documentation that the running Python carries | PSF-2.0, python.org |
| `python_questions()` | questions about it with gold passages and answers | CC BY 4.0, written for this book |
| `identifier_questions()` | questions that name a function, a parameter, an exception | CC BY 4.0, written for this book |
| `two_passage_questions()` | questions whose answer stands in two passages | CC BY 4.0, written for this book |
| `unanswerable_questions()` | questions that it cannot answer | CC BY 4.0, written for this book |
| `parallel_sentences()` | ten support messages in ten languages | CC BY 4.0, written for this book |
| `intents(split)` | messages to a customer service, by what the writer wants | CC BY 4.0, written for this book |
| `word_problems(split)` | arithmetic in words, one to three steps, with the steps | CC BY 4.0, written for this book |
| `extraction_tasks()` | 60 short messages and the fields that they hold | CC BY 4.0, written for this book |
| `conversation()` | facts that a user tells, questions that ask for them, small talk | CC BY 4.0, written for this book |
| `prices()` | list prices of hosted models per million tokens, dated | quoted from the providers' pages |
| `question_pairs()` | pairs of support questions, duplicates or not | CC BY 4.0, written for this book |
| `meaning_triplets()` | a sentence, its meaning in other words, its words with another meaning | CC BY 4.0, written for this book |
| `business_documents()` | a fictional company's handbook, contracts, manuals and price list | CC BY 4.0, written for this book |
| `business_questions()` | 60 questions about them with gold passages and answers | CC BY 4.0, written for this book |
| `business_unanswerable()` | questions that they cannot answer | CC BY 4.0, written for this book |
| `dialogues()` | 20 chats of five turns each about them, with every turn made standalone by hand | CC BY 4.0, written for this book |
| `answer_labels()` | 148 answers about `python_docs()`, labelled: faithful, relevant, correct | CC BY 4.0, written for this book |
| `text_files(folder)` | your own `.md` and `.txt` files in the same form | yours |

Importing this module loads the standard library only.
"""

import functools
import importlib
import inspect
import json
import random
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

DATASETS = Path(__file__).parent / "datasets"


@dataclass(frozen=True)
class Document:
    """One piece of documentation: a section of a page, or one docstring.

    `text` holds paragraphs separated by a blank line, each reflowed to one
    line; code keeps its lines. A document has from ten words to a few
    thousand: split it before you index it.
    """

    id: str
    title: str
    section: str
    text: str
    source: str


# ---------------------------------------------------------------- the corpus

# Modules whose documentation reads the same on Linux, macOS and Windows.
_MODULES = (
    "builtins abc argparse base64 bisect calendar collections configparser contextlib copy csv "
    "dataclasses datetime enum fnmatch fractions functools glob graphlib hashlib heapq html "
    "itertools json logging math operator os.path pathlib pickle pprint queue random re secrets "
    "shelve shlex shutil sqlite3 statistics string struct subprocess tempfile textwrap threading "
    "time timeit types unittest urllib.parse uuid warnings weakref zipfile zlib"
).split()
# Long compilations that mostly repeat the other pages.
_SKIPPED_TOPICS = {"compound", "formatstrings", "specialnames", "types"}
_MIN_WORDS = 10
_NEAR_DUPLICATE = 0.8  # share of common three-word sequences


def python_docs() -> list[Document]:
    """The documentation that the running Python carries: about 1,300 documents.

    Read at run time from `pydoc_data.topics` (the language reference, as
    `help("for")` prints it) and from the docstrings of some fifty portable
    modules of the standard library. Tables and grammar are left out; of
    documents that say nearly the same (`str.find`, `bytes.find`,
    `bytearray.find`) one is kept. The order is the same in every run; the
    wording, and so the number of documents, follows the Python version.

    Licence: Python Software Foundation License 2.0.
    Source: https://docs.python.org/3/ and the standard library itself.

    Raises:
        RuntimeError: Python runs with -OO, which removes the docstrings.
    """
    return list(_python_docs())


@functools.cache
def _python_docs() -> tuple[Document, ...]:
    from pydoc_data.topics import topics

    if python_docs.__doc__ is None:
        raise RuntimeError(
            "python_docs() reads docstrings, and Python runs with -OO, which removes them: run without."
        )
    # Small topics first: "for" keeps its own text, and "compound", which
    # repeats it, loses it. Short names first: "str.find" before "bytes.find".
    pages = sorted(set(topics) - _SKIPPED_TOPICS, key=lambda name: (len(topics[name]), name))
    candidates = [section for name in pages for section in _topic_sections(name, topics[name])]
    candidates += sorted(_docstrings(), key=lambda document: (len(document.id), document.id))

    documents: dict[str, Document] = {}
    by_shingle: dict[tuple[str, ...], list[str]] = {}
    shingles_of: dict[str, set[tuple[str, ...]]] = {}
    for document in candidates:
        words = re.findall(r"\w+", document.text.lower())
        if len(words) < _MIN_WORDS or document.id in documents:
            continue
        shingles = set(zip(words, words[1:], words[2:], strict=False))
        common = Counter(other for shingle in shingles for other in by_shingle.get(shingle, ()))
        if any(
            count / len(shingles | shingles_of[other]) > _NEAR_DUPLICATE
            for other, count in common.most_common(3)
        ):
            continue
        documents[document.id], shingles_of[document.id] = document, shingles
        for shingle in shingles:
            by_shingle.setdefault(shingle, []).append(document.id)
    return tuple(documents[name] for name in sorted(documents))


def _topic_sections(name: str, page: str) -> Iterator[Document]:
    """Cut one page of the reference at its headings and at its definitions."""
    lines = page.replace("’", "'").replace("“", '"').replace("”", '"').splitlines()
    page_title, title, signature, block = name, name, "", []

    def document() -> Document:
        section = page_title if title != page_title else "Language reference"
        text = "\n".join(filter(None, (signature, _reflow(block))))
        return Document(
            f"reference/{name}#{_slug(title)}",
            title,
            section,
            text,
            f'Python reference, help("{name}")',
        )

    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        underline = re.fullmatch(r"([*=\-~^])\1{2,}", below)
        definition = re.match(r"(?:class |classmethod |async )?([\w.]+)\(.*", line)
        if underline and line.strip() and not line.startswith(" "):
            yield document()
            title = line.replace('"', "")
            page_title = title if below.startswith("*") else page_title
            signature, block = "", []
        elif definition and not below.strip() and "." in definition[1]:
            yield document()
            title, signature, block = definition[1], line, []
        elif not re.fullmatch(r"([*=\-~^])\1{2,}", line):
            block.append(line)
    yield document()


def _docstrings() -> Iterator[Document]:
    """Docstrings of the modules above, of their public classes, functions and methods."""

    def document(name: str, module: str, thing: object) -> Iterator[Document]:
        # Packages patch what they import: `transformers` gives logging.Logger two methods.
        # Their names must not make the corpus depend on what else is loaded.
        home = str(getattr(thing, "__module__", None) or module).partition(".")[0]
        if home in sys.stdlib_module_names and (text := inspect.getdoc(thing)):
            yield Document(
                f"library/{name}",
                name,
                f"Module {module}",
                _reflow(text.splitlines()),
                f'help("{name}")',
            )

    for module_name in _MODULES:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError:  # a Python built without it, as some are without sqlite3
            continue
        names = getattr(module, "__all__", None) or [
            name for name in dir(module) if not name.startswith("_")
        ]
        prefix = "" if module_name == "builtins" else f"{module_name}."
        yield from document(module_name, module_name, module)
        for name in sorted(names):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # names on their way out
                member = getattr(module, name, None)
            # A notebook's kernel has its own `input`
            if not callable(member) or prefix + name == "input":
                continue
            yield from document(prefix + name, module_name, member)
            if inspect.isclass(member):
                for attribute in sorted(vars(member)):
                    if not attribute.startswith("_") and callable(
                        method := getattr(member, attribute, None)
                    ):
                        yield from document(f"{prefix}{name}.{attribute}", module_name, method)


def _slug(title: str) -> str:
    return re.sub(r"[^\w.]+", "-", title.lower()).strip("-")


def _reflow(lines: Sequence[str]) -> str:
    """Paragraphs on one line each, code kept as it is, tables and grammar dropped."""
    paragraphs: list[str] = []
    indent, code_indent = 0, None  # of the paragraph above; of the code block that we are in
    for block in re.split(r"\n[ \t]*\n", inspect.cleandoc("\n".join(["", *lines]))):
        rows = [row.rstrip() for row in block.splitlines() if row.strip()]
        if not rows or any(re.match(r"\s*(\+[-=]{3}|\|.*\|$|[=-]{3,})", row) for row in rows):
            continue
        above, indent = indent, len(rows[0]) - len(rows[0].lstrip())
        introduced = (
            bool(paragraphs) and paragraphs[-1].endswith((":", "to", "::")) and indent > above
        )
        if code_indent is not None and indent < code_indent:
            code_indent = None
        if introduced and code_indent is None:
            code_indent = indent
        if "::=" in block or re.match(r"\s*\w+:(\s|$)", rows[0]) and block.count('"') >= 4:
            continue  # grammar
        if code_indent is not None or rows[0].lstrip().startswith(">>>"):
            paragraphs.append("\n".join(rows))
        else:
            joined = re.sub(r"\s+", " ", " ".join(rows)).strip()
            paragraphs.append(re.sub(r"(?<=[a-z])- (?=[a-z])", "-", joined))
    return "\n\n".join(paragraphs)


def text_files(
    folder: str | Path, patterns: Sequence[str] = ("**/*.md", "**/*.txt")
) -> list[Document]:
    """Your own Markdown and text files, one `Document` each, in the order of their paths.

    Raises:
        FileNotFoundError: the folder has no such file.
        UnicodeDecodeError: a file is not UTF-8.
    """
    folder = Path(folder)
    paths = sorted(
        {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    )
    if not paths:
        raise FileNotFoundError(f"No file in {folder.resolve()} matches {' or '.join(patterns)}.")
    names = [path.relative_to(folder).as_posix() for path in paths]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    return [
        Document(name, Path(name).stem, str(Path(name).parent), text, name)
        for name, text in zip(names, texts, strict=True)
    ]


# ------------------------------------------------------------- business documents


def business_documents() -> list[Document]:
    """14 documents of a fictional company, cut at their headings: 173 sections.

    A handbook, four contracts on the same skeleton, three product manuals with
    the same headings, two policies, a price list and a list of frequent
    questions; a quick guide and an annex are in Chinese. A clause says "Party A"
    and a manual "the device": who or what that is stands elsewhere in the file.

    The id is file and heading, such as "handbook#sick-pay", and `section` the
    title of the file and the heading above. Paragraphs are separated by a blank
    line; bullets and rows of tables ("cell | cell | cell", the header first)
    have a line each. The files are `datasets/business/*.md`.

    Licence: CC BY 4.0. Source: written for this book.
    """
    documents = []
    for path in sorted((DATASETS / "business").glob("*.md")):
        pieces = re.split(r"^(#+) (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        above: dict[int, str] = {}  # the heading that we are under, by level
        for marks, title, body in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
            above = {level: name for level, name in above.items() if level < len(marks)}
            text = "\n\n".join(_business_paragraph(block) for block in body.strip().split("\n\n"))
            if text:
                name, source = f"{path.stem}#{_slug(title)}", f"{path.name}, section {title}"
                documents.append(Document(name, title, " > ".join(above.values()), text, source))
            above[len(marks)] = title
    return documents


def _business_paragraph(block: str) -> str:
    """A paragraph or a list as it is; a table without its ruled line and its outer pipes."""
    lines = [line for line in block.splitlines() if not re.fullmatch(r"[|\s:-]+", line)]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return "\n".join(
        " | ".join(row) if "|" in line else line for line, row in zip(lines, cells, strict=True)
    )


def business_questions(split: str | None = None) -> list["Question"]:
    """60 hand-written questions about `business_documents()`, in two halves.

    `about` says what makes a question hard: "fact" (asked in other words),
    "party" (which contract or product does the clause belong to?),
    "identifier" (a part number, an error code, a form), "table" (a cell) and
    "chinese" (asked in Chinese; the answer stands in Chinese or in English).

    Licence: CC BY 4.0. Source: written for this book.

    Args:
        split: "dev", "test", or None for both.
    """
    questions, _ = read_questions(
        _rows("business_questions.json")["answerable"], business_documents()
    )
    return _of_split(questions, split)


def business_unanswerable(split: str | None = None) -> list[str]:
    """16 questions near the subject of `business_documents()` that they do not answer, in two halves.

    Licence: CC BY 4.0. Source: written for this book.

    Args:
        split: "dev", "test", or None for both.
    """
    rows = _rows("business_questions.json")["unanswerable"]
    return [row["question"] for row in rows if split in (None, row["split"])]


@dataclass(frozen=True)
class Turn:
    """What a user types at one point of a chat, and what that means without the chat.

    `kind` is "first", "pronoun", "ellipsis", "correction", "switch" (a new subject), "return" (to an
    earlier one) or "unanswerable". `standalone` is the same question written out by hand; of a first turn
    and of a switch it is the text itself. `question` holds gold passages and answers, under the standalone
    wording; it is None where the documents have no answer.
    """

    id: str
    split: str
    kind: str
    text: str
    standalone: str
    question: "Question | None"


def dialogues(split: str | None = None) -> list[tuple[Turn, ...]]:
    """20 scripted chats of five turns each about `business_documents()`, in two halves of ten.

    Written as people type to a help desk: "and for how long?", "no, I meant the other one", "back to the
    coffee machine". Both halves have the same number of turns of each kind. Draw whole chats in a
    bootstrap: the turns of one are not independent. (`conversation()` is another thing: facts and small
    talk for long conversations.)

    Licence: CC BY 4.0. Source: written for this book.

    Args:
        split: "dev", "test", or None for both.

    Raises:
        ValueError: the documents do not hold what a turn names as its evidence.
    """
    if split not in (None, "dev", "test"):
        raise ValueError(f'split is "dev", "test" or None, not {split!r}.')
    documents, chats = business_documents(), []
    for chat in _rows("dialogues.json")["conversations"]:
        if split in (None, chat["split"]):
            numbered = enumerate(chat["turns"], 1)
            chats.append(
                tuple(
                    _turn(f"{chat['id']}.{n}", chat["split"], row, documents) for n, row in numbered
                )
            )
    return chats


def _turn(name: str, split: str, row: dict, documents: list[Document]) -> Turn:
    standalone, question = row.get("standalone", row["text"]), None
    if "gold" in row:
        labels = {
            "answers": row["answers"],
            "reject": row["reject"],
            "gold": row["gold"],
            "about": row["kind"],
        }
        head = {"id": name, "split": split, "kind": row["form"], "question": standalone}
        questions, _ = read_questions([head | labels], documents)
        if not questions or len(questions[0].gold) < len(row["gold"]):
            raise ValueError(f"The documents do not hold the evidence of {name}: {row['gold']}")
        question = questions[0]
    return Turn(name, split, row["kind"], row["text"], standalone, question)


# ------------------------------------------------------------- other languages


def parallel_sentences() -> dict[str, list[str]]:
    """Ten messages to a customer service in ten languages: `{"English": [...], "Spanish": [...], ...}`.

    The n-th message says the same in every language, put as people there would
    put it. There are no names and no digits, so that lengths compare languages
    and not examples. Ten messages show factors of two, not tenths.

    Licence: CC BY 4.0. Source: written for this book.
    """
    return _rows("parallel_sentences.json")


# ----------------------------------------------------------- alike or not alike


def question_pairs(split: str) -> dict[str, list[tuple[str, str]]]:
    """120 pairs of questions to a customer service, thirty of each of four kinds.

    `{"reworded": [(one, other), ...], "in other words": ..., "near miss": ..., "unrelated": ...}`:
    the first two kinds are duplicates (lightly changed; asked with other
    words), the last two are not (most of the words, and another question;
    nothing in common). No question stands in both halves.

    Licence: CC BY 4.0. Source: written for this book.

    Args:
        split: "dev", to choose a threshold on, or "test", to report on.
    """
    if split not in ("dev", "test"):
        raise ValueError(f'split is "dev" or "test", not {split!r}.')
    return {
        name.partition(": ")[2]: [(one, other) for one, other in pairs]
        for name, pairs in _rows("question_pairs.json").items()
        if name.startswith(f"{split}: ")
    }


def meaning_triplets() -> dict[str, list[tuple[str, str, str]]]:
    """Twenty triplets of each kind: `{"negation": [(anchor, same, different), ...], ...}`.

    `same` says what `anchor` says with few of its words; `different` has most
    of its words and another meaning. They are made to be hard: a method that
    compares words alone is always wrong. Kinds: negation, numbers, who does
    what, and Chinese (where `different` shares characters).

    Licence: CC BY 4.0. Source: written for this book.
    """
    rows = _rows("meaning_triplets.json")
    return {
        kind: [tuple(triplet) for triplet in triplets]
        for kind, triplets in rows.items()
        if kind != "licence"
    }


# ------------------------------------------------------------- what a message wants


def intents(split: str) -> list[tuple[str, str]]:
    """Messages of one sentence to a customer service, each with one of six intents: `[(message, intent), ...]`.

    The intents are "delivery", "refund", "login", "billing", "bug" and "cancel".
    "pool" has 8 messages of each, to take examples from; "test" has 12 of each.
    Few messages contain the name of their intent.

    Licence: CC BY 4.0. Source: written for this book.
    """
    groups = _rows("intents.json")
    if split not in ("pool", "test"):
        raise ValueError(f'split is "pool" or "test", not {split!r}.')
    return [(message, intent) for intent, messages in groups[split].items() for message in messages]


# ------------------------------------------------------------- arithmetic in words


@dataclass(frozen=True)
class WordProblem:
    """A story that ends in a question, its answer, and the steps to it, such as `["7 + 5 = 12", "12 - 2 = 10"]`."""

    text: str
    steps: tuple[str, ...]
    answer: int


def word_problems(split: str, count: int, seed: int = 0) -> list[WordProblem]:
    """Arithmetic in words, one, two and three steps in turn, the numbers drawn from `seed`.

    The first number lies between 4 and 20, the others between 2 and 6; every
    step gives a positive whole number. "pool" has one story for each number of
    steps, "test" four others; names and numbers vary.

    Licence: CC BY 4.0. Source: written for this book.
    """
    rows = _rows("word_problems.json")
    if split not in ("pool", "test"):
        raise ValueError(f'split is "pool" or "test", not {split!r}.')
    rng = random.Random(f"{split} {seed}")
    stories = [[row for row in rows[split] if len(row[0]) == n] for n in (1, 2, 3)]
    problems: dict[str, WordProblem] = {}  # by text: none twice
    while len(problems) < count:
        group = stories[len(problems) % 3]
        operators, story = group[len(problems) // 3 % len(group)]
        numbers = [rng.randint(4, 20), *(rng.randint(2, 6) for _ in operators)]
        value, steps = numbers[0], []
        for operator, number in zip(operators, numbers[1:], strict=True):
            if value < 1 or (operator == "/" and value % number):
                break
            result = {
                "+": value + number,
                "-": value - number,
                "*": value * number,
                "/": value // number,
            }[operator]
            steps.append(f"{value} {operator} {number} = {result}")
            value = result
        if len(steps) == len(operators) and value > 0:
            text = story.format(
                name=rng.choice(rows["names"]), **dict(zip("abcd", numbers, strict=False))
            )
            problems[text] = WordProblem(text, tuple(steps), value)
    return list(problems.values())


# ------------------------------------------------------------- fields in messages


@dataclass(frozen=True)
class Extraction:
    """A message of one or two sentences and the fields that a reader finds in it.

    `kind` is "appointment", "order" or "ticket" and decides which fields there
    are; a field that the message does not mention is None.
    """

    kind: str
    text: str
    gold: dict[str, str | int | None]


def extraction_tasks(kind: str | None = None) -> list[Extraction]:
    """60 messages to a shop, its support and a front desk, 20 of each kind, with gold fields.

    appointment: name, day (of the week), time (HH:MM, 24-hour clock).
    order: item (singular), quantity, color or None, city.
    ticket: product (as written, or singular), team ("billing", "delivery" or
    "technical"), order_id (a letter and four digits) or None.

    Licence: CC BY 4.0. Source: written for this book.

    Args:
        kind: "appointment", "order", "ticket", or None for all.
    """
    rows = _rows("extraction.json")
    if kind not in (None, *rows):
        raise ValueError(f"kind is one of {', '.join(rows)} or None, not {kind!r}.")
    return [
        Extraction(name, row["text"], row["gold"])
        for name, group in rows.items()
        if kind in (None, name)
        for row in group
    ]


# ------------------------------------------------------- conversations and their price


@dataclass(frozen=True)
class Fact:
    """What a user says once in a conversation, and a question that asks for it later.

    `answer` is a pattern (case ignored, anchored at a word's beginning) that
    occurs in `said` and in no other fact, no question and no small talk.
    """

    said: str
    reply: str
    question: str
    answer: str

    def is_in(self, text: str) -> bool:
        """Whether the text holds the answer."""
        return re.search(rf"\b(?:{self.answer})", text, re.IGNORECASE) is not None


def conversation() -> tuple[list[Fact], list[tuple[str, str]]]:
    """40 facts about a user, and 44 turns of small talk (user, assistant) that hold none of them.

    To be shuffled into conversations of any length. Some of the small talk is
    close to a fact (flights, names for animals, databases) and some is in the
    first person, so that neither similarity nor "I" and "my" finds facts alone.

    Licence: CC BY 4.0. Source: written for this book.
    """
    rows = _rows("conversation.json")
    return [Fact(**row) for row in rows["facts"]], [
        (user, reply) for user, reply in rows["small_talk"]
    ]


@dataclass(frozen=True)
class Price:
    """US$ per million tokens. `cached` is for input read from the provider's cache, `write` for input put there."""

    input: float
    cached: float
    write: float
    output: float


def prices() -> dict[str, Price]:
    """List prices of hosted models by name, as quoted in November 2026; short prompts, standard tier.

    Quoted, not measured, from the pages that `datasets/prices.json` names; they change.
    """
    return {name: Price(*row) for name, row in _rows("prices.json")["models"].items()}


# ------------------------------------------------------------- labelled answers


@dataclass(frozen=True)
class LabelledAnswer:
    """A question, the passage that its answer is held against, the answer, and what a careful reader says of it.

    `source` says where the passage stood: "gold", "best" (the first that a dense search found), "wrong"
    (a lower rank, not gold), "closed book" (the model saw none; the gold passage is shown), "unanswerable"
    (the best for a question that the documentation does not answer), or "altered" (a sentence of the gold
    passage, `original`, with one thing changed by hand). `style` says how the answer was got, `writer` by
    whom. `second` holds the labels of a second reading, or nothing.
    """

    id: str
    split: str
    source: str
    style: str
    question_id: str | None
    question: str
    passage: str
    answer: str
    faithful: bool
    relevant: bool
    correct: bool
    sufficient: bool
    writer: str
    original: str = ""
    note: str = ""
    second: dict[str, bool] | None = None


def answer_labels(split: str | None = None) -> list[LabelledAnswer]:
    """148 answers to questions of `python_questions()` and `unanswerable_questions()`, labelled by hand.

    Four labels each: is every statement of the answer supported by the passage (`faithful`), does it
    address the question (`relevant`), is it right (`correct`), does the passage hold the answer
    (`sufficient`)? Most answers were written by the book's chat model and fixed text since; 22 are quoted
    from the passage, and 16 such quotations are altered. One annotator labelled them, 30 of them twice.

    Licence: CC BY 4.0. Source: written for this book; the passages are Python's documentation (PSF-2.0).

    Args:
        split: "dev", "test", or None for both. No question stands in both halves.
    """
    if split not in (None, "dev", "test"):
        raise ValueError(f'split is "dev", "test" or None, not {split!r}.')
    rows = [LabelledAnswer(**row) for row in _rows("answer_labels.json")["rows"]]
    return [row for row in rows if split in (None, row.split)]


def labelling_guideline() -> dict[str, str]:
    """Label to what it means: the text that `answer_labels()` was labelled by."""
    return _rows("answer_labels.json")["guideline"]


# ------------------------------------------------------------- the questions


@dataclass(frozen=True)
class Gold:
    """Where the answer stands: any passage cut from this document that holds this string."""

    document_id: str
    evidence: str


@dataclass(frozen=True)
class Question:
    """A question with its gold passages and with what counts as an answer.

    `kind` is "exception", "number" or "phrase"; `answers` and `reject` are
    regular expressions; `sentences` are those of the gold documents that
    hold the evidence; `split` is "dev" or "test"; `about` is filled where a
    set tells sorts of questions apart.
    """

    id: str
    split: str
    kind: str
    question: str
    answers: tuple[str, ...]
    reject: tuple[str, ...]
    gold: tuple[Gold, ...]
    sentences: tuple[str, ...]
    about: str = ""


def python_questions(split: str | None = None) -> list[Question]:
    """180 hand-written questions about `python_docs()`, in two halves.

    They are asked as people ask, with few words of the passage that answers.
    Choose settings on the "dev" half, report on the "test" half. Every gold
    passage is looked up in the documentation of the running Python: where a
    version has dropped or reworded it, the question is left out, and one
    printed line says which.

    Licence: CC BY 4.0. Source: written for this book.

    Args:
        split: "dev", "test", or None for both.
    """
    return _about_python(_rows("python_questions.json")["answerable"], split)


def identifier_questions(split: str | None = None) -> list[Question]:
    """80 hand-written questions about `python_docs()` that name an identifier, in two halves.

    They are typed as into a search box: "closefd=False", "math.ulp meaning",
    "parse_qs strict_parsing=True which exception". In the first fifty ("id01"
    to "id50") the identifier belongs to the title of the document that
    answers; in the other thirty the answer hangs on a parameter, constant,
    exception or piece of syntax that occurs in the text alone.

    `kind` is "exception", "number" or "phrase", by the form of the answer.
    Where `gold` has several entries, any of them answers. Questions that this
    Python words otherwise are left out, as in `python_questions`.

    Licence: CC BY 4.0. Source: written for this book.

    Args:
        split: "dev", "test", or None for both.
    """
    return _about_python(_rows("identifier_questions.json")["questions"], split)


def two_passage_questions(split: str | None = None) -> list[Question]:
    """40 hand-written questions about `python_docs()` that need two passages, in two halves.

    They compare two functions, or ask for two things at once. `gold` has
    exactly two entries, one for each fact: in two documents, or (in four
    questions) far apart in one. Both are needed: `is_gold` is true of a
    passage with either, `score_answer` of an answer with both. `kind` is
    always "phrase". A question of which this Python words one fact otherwise
    is left out, as in `python_questions`.

    Licence: CC BY 4.0. Source: written for this book.

    Args:
        split: "dev", "test", or None for both.
    """
    return _about_python(_rows("two_passage_questions.json")["questions"], split, every=True)


def _about_python(rows: list[dict], split: str | None, every: bool = False) -> list[Question]:
    """The questions of one half that the running Python's documentation answers; a line names the others."""
    questions, missing = read_questions(rows, python_docs(), every)
    if missing:
        print(
            f"{len(missing)} of {len(rows)} questions left out, this Python words them otherwise: {', '.join(missing)}"
        )
    return _of_split(questions, split)


def unanswerable_questions(topic: str, split: str | None = None) -> list[str]:
    """Questions to which `python_docs()` has no answer, in two halves.

    Licence: CC BY 4.0. Source: written for this book.

    Args:
        topic: "off" (eggs, rivers, painters) or "near" (programming, but pandas, Docker or CSS).
        split: "dev", "test", or None for both.
    """
    rows = [row for row in _rows("python_questions.json")["unanswerable"] if row["topic"] == topic]
    if not rows:
        raise ValueError(f'topic is "off" or "near", not {topic!r}.')
    return [row["question"] for row in rows if split in (None, row["split"])]


def read_questions(
    rows: Iterable[dict], documents: Iterable[Document], every: bool = False
) -> tuple[list[Question], list[str]]:
    """Questions in the form of `datasets/python_questions.json`, checked against a corpus.

    Args:
        rows: the questions as they stand in the file.
        documents: the corpus that their gold passages are looked up in.
        every: a question needs all its gold passages, and not just one of them.

    Returns:
        The questions whose gold passages the corpus has, and the ids of the others.
    """
    texts = {document.id: document.text for document in documents}
    flat = {name: " ".join(text.split()) for name, text in texts.items()}
    questions, missing = [], []
    for row in rows:
        gold = tuple(
            Gold(name, evidence) for name, evidence in row["gold"] if evidence in flat.get(name, "")
        )
        sentences = tuple(
            _sentence_with(texts[entry.document_id], entry.evidence) for entry in gold
        )
        if gold and not (every and len(gold) < len(row["gold"])):
            fields = {name: row[name] for name in ("id", "split", "kind", "question")}
            patterns = {name: tuple(row[name]) for name in ("answers", "reject")}
            about = row.get("about", "")
            questions.append(
                Question(**fields, **patterns, gold=gold, sentences=sentences, about=about)
            )
        else:
            missing.append(row["id"])
    return questions, missing


def is_gold(question: Question, document_id: str, text: str) -> bool:
    """Whether this passage of this document answers the question, however the document was cut."""
    text = " ".join(text.split())
    return any(
        entry.document_id == document_id and entry.evidence in text for entry in question.gold
    )


def gold_passages(
    questions: Sequence[Question], pieces: Sequence[tuple[Document, str]]
) -> list[list[int]]:
    """For every question the numbers of the passages that `is_gold` holds for, in order.

    Of a two-passage question these are the passages of both facts.

    Args:
        questions: the questions.
        pieces: passages with the documents that they were cut from.
    """
    by_document: dict[str, list[tuple[int, str]]] = {}
    for number, (document, text) in enumerate(pieces):
        by_document.setdefault(document.id, []).append((number, " ".join(text.split())))
    return [
        sorted(
            {
                number
                for entry in question.gold
                for number, text in by_document.get(entry.document_id, ())
                if entry.evidence in text
            }
        )
        for question in questions
    ]


MAX_ANSWER_WORDS = 45  # or as long as the longest gold sentence
_RIVALS = {
    "exception": r"\b[A-Z]\w*(?:Error|Exception|Iteration|Warning|Interrupt|Expired)\b",
    "number": r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?\b(?!\()",
}
_NEGATION = re.compile(r"(?:\b(?:not|never|no|cannot)|n't)\s+(?:\w+\s+){0,2}$", re.IGNORECASE)


def score_answer(question: Question, answer: str) -> bool:
    """Whether an answer is right, by rule and strictly.

    Right is an answer of at most 45 words that matches an accepted pattern
    outside a negation, and none of the rejected ones. It earns nothing by
    repeating the question (accepted patterns never match it), nor by listing
    candidates: an answer that names another exception, or another number,
    than the accepted one is wrong, unless the gold sentence or the question
    names it too; one that fits the questions of others at random is too long.
    """
    words = answer.split()
    limit = max(MAX_ANSWER_WORDS, *(len(sentence.split()) for sentence in question.sentences))
    if not 0 < len(words) <= limit:
        return False
    answer = " ".join(words)
    if any(re.search(pattern, answer) for pattern in question.reject):
        return False
    hits = [
        match
        for pattern in question.answers
        for match in re.finditer(pattern, answer, re.IGNORECASE)
    ]
    if not any(
        match[0].lower().startswith(("not ", "no ", "no-"))
        or not _NEGATION.search(answer[: match.start()])
        for match in hits
    ):
        return False
    if rival := _RIVALS.get(question.kind):
        allowed = set(re.findall(rival, " ".join((question.question, *question.sentences))))
        named = set(re.findall(rival, answer))
        accepted = {
            name
            for name in named
            if any(re.search(pattern, name, re.IGNORECASE) for pattern in question.answers)
        }
        return named <= allowed | accepted
    return True


def sentences(text: str) -> list[str]:
    """Cut a text into sentences at . ! ? before a space and a capital, at 。！？ and at line ends."""
    return [
        part.strip()
        for part in re.split(r"(?<=[.!?])\s+(?=[\"'*`(A-Z])|(?<=[。！？])|\n+", text)
        if part.strip()
    ]


def split_passages(text: str, words: int = 40) -> list[str]:
    """Pieces of whole sentences, each of at most about `words` words (recipe 2.1 builds this by hand)."""
    passages: list[str] = []
    current: list[str] = []
    for sentence in sentences(text):
        if current and sum(len(s.split()) for s in current) + len(sentence.split()) > words:
            passages.append(" ".join(current))
            current = []
        current.append(sentence)
    return [*passages, " ".join(current)] if current else passages


def _sentence_with(text: str, evidence: str) -> str:
    """The sentence of a text that holds the evidence."""
    rows = [line for line in text.splitlines() if " | " in line or line.startswith("- ")]
    for paragraph in (*rows, *text.split("\n\n")):  # a row of a table or a list stands alone
        if evidence in (paragraph := " ".join(paragraph.split())):
            found = [sentence for sentence in sentences(paragraph) if evidence in sentence]
            return found[0] if found else paragraph
    raise ValueError(f"Evidence across paragraphs: {evidence!r}")


def _of_split(questions: list[Question], split: str | None) -> list[Question]:
    if split not in (None, "dev", "test"):
        raise ValueError(f'split is "dev", "test" or None, not {split!r}.')
    return [question for question in questions if split in (None, question.split)]


def _rows(name: str) -> dict:
    return json.loads((DATASETS / name).read_text(encoding="utf-8"))
