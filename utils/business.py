"""The business corpus as the files that a company really has: PDF, DOCX, HTML, Markdown and CSV.

The texts are `datasets/business/*.md`; they are set at run time, the same bytes every time, into

| file | what is in the way of its text |
|---|---|
| `handbook.pdf` | running header and footer, justified lines with hyphens |
| `contract_cleaning.pdf` | running header and footer, no hyphens |
| `manual_coffee_machine.pdf` | two columns, ruled tables whose cells wrap |
| `price_list.pdf` | a table without ruled lines |
| `price_list.csv` | semicolons, decimal commas, cp1252 |
| `manual_printer_zh.pdf` | Chinese, a font that is not embedded |
| `contract_software.docx` | tracked changes |
| `contract_logistics.docx`, `contract_warehouse.docx`, `manual_label_printer.docx` | header, footer, tables |
| `manual_pump_controller.html` | one line of HTML: navigation, cookie banner, entities, soft hyphens |
| `travel_policy.html` | navigation, footer |
| `contract_logistics_zh_annex.html` | Chinese in GB18030 |
| `security_policy.md` | nothing |
| `support_faq.md` | cp1252 |

What a perfect loader would give is known: `known_text`, and `known_pages` for the PDF files.

The same texts are also set in a second style, as another company would: columns and tables elsewhere,
running heads that change, headings that only look like headings, pages without a `main`, UTF-16. It is
there to see what a loader does with files that it was not written for.
"""

import csv
import functools
import html
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from utils.data import DATASETS

STYLES = ("first", "second")
_WRITTEN = datetime(2025, 3, 14, 9, 0)


@dataclass(frozen=True)
class Block:
    """A heading (level 1 is the title), a paragraph, a bullet or a table."""

    kind: str
    text: str
    level: int = 0
    rows: tuple[tuple[str, ...], ...] = ()

    @property
    def known(self) -> str:
        """As `data.business_documents` gives it: a table has a line for each row, "cell | cell"."""
        marks = "- " if self.kind == "bullet" else ""
        return "\n".join(" | ".join(row) for row in self.rows) if self.rows else marks + self.text


def read_blocks(markdown: str) -> list[Block]:
    """The blocks of one of the corpus's files, in order."""
    blocks = []
    for piece in re.split(r"\n{2,}", markdown.strip()):
        lines = piece.splitlines()
        if heading := re.fullmatch(r"(#+) (.+)", piece):
            blocks.append(Block("heading", heading[2], len(heading[1])))
        elif lines[0].startswith("|"):
            cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
            blocks.append(Block("table", "", rows=(cells[0], *cells[2:])))
        elif lines[0].startswith("- "):
            blocks += [Block("bullet", line[2:]) for line in lines]
        else:
            blocks.append(Block("paragraph", " ".join(lines)))
    return blocks


def source_of(path: str | Path) -> str:
    """The corpus's name of a file's text, which stands before the # in the ids of `data.business_documents`."""
    return Path(path).stem


def blocks_of(path: str | Path) -> list[Block]:
    """What stands in a written file, without its headers, footers and navigation."""
    name = Path(path).name
    if name not in _WRITERS["first"]:
        raise ValueError(f"{name} is not one of the files that business.write_files writes.")
    blocks = read_blocks(
        (DATASETS / "business" / f"{source_of(name)}.md").read_text(encoding="utf-8")
    )
    if name == "price_list.csv":
        head, *body = next(block.rows for block in blocks if block.rows)
        return [
            Block(
                "table", "", rows=(tuple(cell.replace("(EUR)", "(\u20ac)") for cell in head), *body)
            )
        ]
    if name == "price_list.pdf":
        start = next(i for i, block in enumerate(blocks) if block.rows)
        return blocks[: start - 1] + blocks[start + 1 :]
    return blocks


def known_text(path: str | Path) -> str:
    """What a perfect loader gives for a written file: blocks between blank lines, rows of tables as "cell | cell"."""
    return "\n\n".join(block.known for block in blocks_of(path))


def known_pages(path: str | Path, style: str = "first") -> list[tuple[str, int, int]]:
    """(text, first page, last page) of every block of a written PDF file; pages count from 1."""
    blocks = blocks_of(path)
    sheet = _SHEETS[style][Path(path).name](blocks)
    return [
        (block.known, first, last) for block, (first, last) in zip(blocks, sheet.spans, strict=True)
    ]


def write_files(folder: str | Path, style: str = "first") -> list[Path]:
    """Write the files; the same bytes every time.

    Args:
        folder: is made if it is missing.
        style: "first" (the table above), or "second".

    Returns:
        Their paths, by name.

    Raises:
        ValueError: no such style.
    """
    if style not in STYLES:
        raise ValueError(f"style is one of {STYLES}, not {style!r}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in _WRITERS[style].items():
        (folder / name).write_bytes(write(blocks_of(name)))
    return [folder / name for name in sorted(_WRITERS[style])]


def _typographic(text: str) -> str:
    """Curly quotes and dashes, as word processors make them of what is typed."""
    text = re.sub(r'(^|[\s(])"', "\\1\u201c", text).replace('"', "\u201d").replace("'", "\u2019")
    return re.sub(r"(\d) to (?=\d)", "\\1 to\u00a0", text).replace(" - ", " \u2013 ")


# ------------------------------------------------------------------------- PDF

_WIDTH, _HEIGHT = 595.28, 841.89  # A4 in points


@dataclass
class _Sheet:
    """A typesetter of a few lines: places words on pages, remembers which block stands on which page."""

    header: tuple[str, str]  # left, right
    # With {page} and {pages}; none: a running head, and the page's number in the outer corner
    footer: str = ""
    columns: int = 1
    size: float = 10
    font: str = "Times-Roman"
    bold: str = "Times-Bold"
    hyphens: bool = False
    ruled: bool = True  # tables with boxes, or with a rule above, below and under the header
    indented: bool = False  # paragraphs begin with an indent, or after a gap
    headings: tuple[float, float, float] = (1.9, 1.35, 1.1)  # sizes of the three levels
    margin: float = 68
    pages: list[list[tuple]] = field(default_factory=list)  # drawing operations
    spans: list[tuple[int, int]] = field(default_factory=list)  # of each block
    # Page to the last section that begins on it
    heads: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        gutter = 22 if self.columns > 1 else 0
        self.width = (_WIDTH - 2 * self.margin - gutter * (self.columns - 1)) / self.columns
        self.lefts = [self.margin + i * (self.width + gutter) for i in range(self.columns)]
        self.leading = 1.28 * self.size
        self.column, self.top = 0, _HEIGHT - 78  # of the frames on this page
        self._turn()

    def _turn(self) -> None:
        self.pages.append([])
        self.column, self.top = 0, _HEIGHT - 78
        self.y = self.top

    def _room(self, height: float) -> bool:
        """Whether a new column or page was begun for it."""
        if self.y - height >= 66:
            return False
        if self.column + 1 < self.columns:
            self.column, self.y = self.column + 1, self.top
        else:
            self._turn()
        return True

    @property
    def left(self) -> float:
        return self.lefts[self.column]

    def set(self, blocks: list[Block]) -> "_Sheet":
        for block in blocks:
            if block.kind == "heading":
                self._room(90)
            else:
                self._room(2.2 * self.leading)
            first = len(self.pages)
            if block.rows:
                first = self._table(block.rows)
            elif block.kind == "heading":
                self._heading(block)
            else:
                self._paragraph(block)
            self.spans.append((first, len(self.pages)))
        return self

    def _heading(self, block: Block) -> None:
        size = self.headings[block.level - 1] * self.size
        if block.level == 2:
            self.heads[len(self.pages)] = block.text
        width = _WIDTH - 2 * self.margin if block.level == 1 else self.width
        self.y -= 0.0 if self.y == self.top else 0.5 * size
        for line in self._break(block.text, self.bold, size, width, hyphens=False):
            self.y -= 1.25 * size
            self.pages[-1].append(("text", self.left, self.y, line, self.bold, size, 0.0))
        self.y -= 0.35 * size
        if block.level == 1:
            self.top = self.y  # the columns of the first page begin under the title

    def _paragraph(self, block: Block) -> None:
        indent = 14 if block.kind == "bullet" else 0
        width = self.width - indent
        first = "\u2003" if self.indented and not indent else ""  # an em space, set as an indent
        lines = self._break(
            first + _typographic(block.text), self.font, self.size, width, self.hyphens
        )
        for i, line in enumerate(lines):
            self._room(self.leading)
            self.y -= self.leading
            if block.kind == "bullet" and i == 0:
                self.pages[-1].append(
                    ("text", self.left + 2, self.y, "\u2022", self.font, self.size, 0.0)
                )
            spaces, spare = line.count(" "), width - self._measure(line, self.font, self.size)
            stretch = spare / spaces if self.hyphens and spaces and i + 1 < len(lines) else 0.0
            x = self.left + indent
            if line.startswith("\u2003"):
                line, x = line[1:], x + self.size
            self.pages[-1].append(("text", x, self.y, line, self.font, self.size, stretch))
        self.y -= (
            0.0 if self.indented else 0.45 * self.leading if indent == 0 else 0.1 * self.leading
        )

    def _table(self, rows: tuple[tuple[str, ...], ...]) -> int:
        """Cells wrap if lines are ruled; the header is printed again on a new page or column. Gives the first page."""
        size, pad, first = 0.9 * self.size, 4, 0
        natural = [
            max(self._measure(row[i], self.bold, size) for row in rows) + 2 * pad
            for i in range(len(rows[0]))
        ]
        spare = self.width - sum(natural)
        widths = [w + spare / len(natural) for w in natural]
        if spare < 0:  # the widest columns give way
            limit = max(natural)
            while sum(min(w, limit) for w in natural) > self.width:
                limit -= 1
            widths = [min(w, limit) for w in natural]
        self.y -= 0.2 * self.leading

        def draw(row: tuple[str, ...], font: str) -> None:
            nonlocal first
            cells = [
                self._break(cell, font, size, width - 2 * pad, hyphens=False)
                for cell, width in zip(row, widths, strict=True)
            ]
            height = 1.2 * size * max(map(len, cells)) + pad
            if self._room(height) and font == self.font:
                draw(rows[0], self.bold)
            first = first or len(self.pages)
            x = self.left
            for lines, width in zip(cells, widths, strict=True):
                for i, line in enumerate(lines):
                    y = self.y - 1.2 * size * (i + 0.85) - pad / 2
                    self.pages[-1].append(("text", x + pad, y, line, font, size, 0.0))
                if self.ruled:
                    self.pages[-1].append(("box", x, self.y - height, width, height))
                x += width
            if not self.ruled and font == self.bold:
                self.pages[-1] += [
                    ("box", self.left, y, self.width, 0) for y in (self.y, self.y - height)
                ]
            self.y -= height

        draw(rows[0], self.bold)
        for row in rows[1:]:
            draw(row, self.font)
        if not self.ruled:
            self.pages[-1].append(("box", self.left, self.y, self.width, 0))
        self.y -= 0.6 * self.leading
        return first

    @staticmethod
    def _measure(text: str, font: str, size: float) -> float:
        from reportlab.pdfbase.pdfmetrics import stringWidth

        return stringWidth(text.replace("\u2003", "M"), font, size)

    def _break(self, text: str, font: str, size: float, width: float, hyphens: bool) -> list[str]:
        lines, line = [], ""
        for word in re.findall(
            r"[\u3000-\u9fff\uff00-\uffef]|[^\s\u3000-\u9fff\uff00-\uffef]+|\s+", text
        ):
            if word.isspace() and word != "\u2003" and (not line or word != "\u00a0"):
                line += " " if line else ""
                continue
            if self._measure(line + word, font, size) > width and line:
                if hyphens and (cut := self._hyphen(word, line, font, size, width)):
                    line, word = line + cut[0], cut[1]
                lines.append(line.rstrip())
                line = ""
            line += word
        return [*lines, line.rstrip()]

    def _hyphen(
        self, word: str, line: str, font: str, size: float, width: float
    ) -> tuple[str, str] | None:
        """The longest head of a word that still fits, with its hyphen, and the tail."""
        for i in reversed(hyphenation(word)):
            head = word[:i] if word[i - 1] == "-" else word[:i] + "-"
            if self._measure(line + head, font, size) <= width:
                return head, word[i:]
        return None

    def pdf(self) -> bytes:
        from reportlab.pdfgen.canvas import Canvas

        buffer = io.BytesIO()
        canvas = Canvas(buffer, pagesize=(_WIDTH, _HEIGHT), invariant=1)
        canvas.setTitle(self.header[0])
        canvas.setAuthor("Velmora Instruments Ltd")
        for number, operations in enumerate(self.pages, 1):
            self._furnish(canvas, number)
            for kind, *rest in operations:
                if kind == "box":
                    canvas.setLineWidth(0.4)
                    canvas.rect(*rest)
                    continue
                x, y, text, font, size, stretch = rest
                words = canvas.beginText(x, y)
                words.setFont(font, size)
                words.setWordSpace(stretch)
                words.textOut(text)
                canvas.drawText(words)
            canvas.showPage()
        canvas.save()
        return buffer.getvalue()

    def _furnish(self, canvas, number: int) -> None:
        canvas.setFont(self.font, 8)
        if self.footer:
            canvas.drawString(self.margin, _HEIGHT - 44, self.header[0])
            canvas.drawRightString(_WIDTH - self.margin, _HEIGHT - 44, self.header[1])
            canvas.drawCentredString(
                _WIDTH / 2, 38, self.footer.format(page=number, pages=len(self.pages))
            )
            return
        section = next(
            (self.heads[n] for n in range(number, 0, -1) if n in self.heads), self.header[0]
        )
        if number % 2:
            canvas.drawRightString(_WIDTH - self.margin, _HEIGHT - 48, section)
            canvas.drawRightString(_WIDTH - self.margin, 42, str(number))
        else:
            canvas.drawString(self.margin, _HEIGHT - 48, self.header[1])
            canvas.drawString(self.margin, 42, str(number))


def hyphenation(word: str) -> list[int]:
    """Where a typesetter may cut: after a hyphen, and between syllables of a long word, by a rule of thumb."""
    cuts = [i for i in range(2, len(word) - 1) if word[i - 1] == "-"]
    letters = word.rstrip(".,;:)\u201d")
    if not (letters.isascii() and letters.isalpha()) or len(letters) < 6:
        return cuts
    low, vowels = letters.lower(), "aeiouy"
    for i in range(3, len(low) - 2):
        before, after, beyond = low[i - 1], low[i], low[i + 1]
        if (
            after in vowels
            or beyond not in vowels
            or low[i - 1 : i + 1] in {"th", "sh", "ch", "ph", "ck", "wh", "gh"}
        ):
            continue
        if before in vowels or low[i - 2] in vowels:  # be-fore, com-pany
            cuts.append(i)
    return sorted(set(cuts))


def _handbook(blocks: list[Block]) -> _Sheet:
    sheet = _Sheet(
        ("Velmora Instruments Ltd", "Employee Handbook, edition 9"),
        "Internal use only. Page {page} of {pages}",
        hyphens=True,
        size=11,
        margin=125,  # a booklet
    )
    return sheet.set(blocks)


def _contract(blocks: list[Block]) -> _Sheet:
    return _Sheet(
        ("Agreement CL-2023-118", "Confidential"), "Page {page} of {pages}. Initials: ____ ____"
    ).set(blocks)


def _two_columns(blocks: list[Block]) -> _Sheet:
    sheet = _Sheet(
        ("Caldera 400", "DM-4003, edition 3"),
        "{page}",
        columns=2,
        size=9,
        font="Helvetica",
        bold="Helvetica-Bold",
        hyphens=True,
        margin=50,
    )
    return sheet.set(blocks)


def _prices(blocks: list[Block]) -> _Sheet:
    sheet = _Sheet(
        ("Velmora price list", "valid from 1 February 2025"),
        "All prices net. Page {page} of {pages}",
        font="Helvetica",
        bold="Helvetica-Bold",
        ruled=False,
    )
    return sheet.set(blocks)


def _chinese(blocks: list[Block]) -> _Sheet:
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont

    font = "STSong-Light"
    pdfmetrics.registerFont(UnicodeCIDFont(font))
    return _Sheet(
        ("Stampa L2", "DM-2009"), "第 {page} 页，共 {pages} 页", size=11, font=font, bold=font
    ).set(blocks)


def _chinese_second(blocks: list[Block]) -> _Sheet:
    _chinese([])  # registers the font
    return _second(
        ("DM-2009", "Stampa L2"), font="STSong-Light", bold="STSong-Light", columns=2, margin=60
    )(blocks)


def _second(header: tuple[str, str], **options) -> Callable[[list[Block]], _Sheet]:
    """The second style: a running head that changes, indents instead of gaps, tables with three rules."""
    shared = {"hyphens": True, "ruled": False, "indented": True, "headings": (1.7, 1.15, 1.0)}
    return lambda blocks: _Sheet(header, **shared | options).set(blocks)


# ------------------------------------------------------------------------ DOCX


def _docx(blocks: list[Block], header: str, changes: bool = False, styled: bool = True) -> bytes:
    import docx
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    document = docx.Document()
    properties = document.core_properties
    properties.author, properties.title, properties.comments = (
        "Velmora Instruments Ltd",
        blocks[0].text,
        "",
    )
    properties.created = properties.modified = _WRITTEN
    document.sections[0].header.paragraphs[0].text = header
    footer = document.sections[0].footer.paragraphs[0]
    footer.add_run("Page ")
    field_code = OxmlElement("w:fldSimple")
    field_code.set(qn("w:instr"), "PAGE")
    footer._p.append(field_code)

    def tracked(kind: str, text: str, number: int):
        """A deleted (w:del) or an inserted (w:ins) run, as Word keeps it until somebody accepts it."""
        change, run = OxmlElement(f"w:{kind}"), OxmlElement("w:r")
        for name, value in (
            ("id", str(number)),
            ("author", "Counsel"),
            ("date", "2024-12-09T10:00:00Z"),
        ):
            change.set(qn(f"w:{name}"), value)
        words = OxmlElement("w:delText" if kind == "del" else "w:t")
        words.text = text
        words.set(qn("xml:space"), "preserve")
        run.append(words)
        change.append(run)
        return change

    for number, block in enumerate(blocks):
        if block.rows:
            table = document.add_table(rows=0, cols=len(block.rows[0]), style="Table Grid")
            for row in block.rows:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    cell.text = text
        elif block.kind == "heading" and not styled:  # as most people make headings
            run = document.add_paragraph().add_run(block.text)
            run.bold, run.font.size = True, docx.shared.Pt((20, 13, 11)[block.level - 1])
        elif block.kind == "heading":
            document.add_heading(block.text, level=block.level - 1)  # level 0 is the style Title
        else:
            paragraph = document.add_paragraph(
                style="List Bullet" if block.kind == "bullet" else None
            )
            text = _typographic(block.text)
            # What was negotiated: the first figure of every clause n.2.
            figure = (
                re.search(r"(?<=\s)\d[\d.,]*\d|(?<=\s)\d(?=\s)", text)
                if re.match(r"\d+\.2 ", text)
                else None
            )
            if changes and figure:
                paragraph.add_run(text[: figure.start()])
                old = re.sub(r"\d", lambda digit: str((int(digit[0]) + 3) % 9 + 1), figure[0])
                paragraph._p.append(tracked("del", old, 2 * number))
                paragraph._p.append(tracked("ins", figure[0], 2 * number + 1))
                paragraph.add_run(text[figure.end() :])
            else:
                paragraph.add_run(text)
    buffer = io.BytesIO()
    document.save(buffer)
    return _rezip(buffer.getvalue())


def _rezip(package: bytes) -> bytes:
    """The same package with a fixed date on every part."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(package)) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in sorted(old.namelist(), key=lambda name: (name != "[Content_Types].xml", name)):
            part = zipfile.ZipInfo(name, date_time=_WRITTEN.timetuple()[:6])
            part.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(part, old.read(name))
    return buffer.getvalue()


# ------------------------------------------------------------------------ HTML

_NAVIGATION = (
    "Home",
    "Products",
    "Downloads",
    "Dealers",
    "Careers",
    "Contact",
    "My account",
    "English",
)
_COOKIES = (
    "We value your privacy. We and our 214 partners use cookies to improve your experience. "
    "Accept all. Reject all. Settings."
)
_SHOP = (
    "You may also like: Stampa L2 label printer, Caldera 400 coffee machine. Add to basket.",
    "Subscribe to our newsletter and get EUR 10 off your next order.",
)
_IMPRINT = "Velmora Instruments Ltd, Esterholm. Imprint. Privacy. Terms. All rights reserved."


def _inline(text: str, soft: bool) -> str:
    """Escaped, with the entities that content systems put in; long words get soft hyphens."""
    text = _typographic(text)
    if soft:
        text = re.sub(
            r"[A-Za-z]{11,}",
            lambda word: "\u00ad".join(
                word[0][a:b]
                for a, b in zip(
                    [0, *hyphenation(word[0])], [*hyphenation(word[0]), None], strict=True
                )
            ),
            text,
        )
        text = re.sub(r"(?<=\d) (?=(?:bar|mm|cm|kg|Nm|days|months|degrees)\b)", "\u00a0", text)
    text = html.escape(text, quote=False)
    named = {
        "\u00ad": "&shy;",
        "\u00a0": "&nbsp;",
        "\u2019": "&rsquo;",
        "\u201c": "&ldquo;",
        "\u201d": "&rdquo;",
    }
    return re.sub("|".join(named), lambda sign: named[sign[0]], text)


def _html_blocks(blocks: list[Block], soft: bool) -> Iterator[str]:
    for i, block in enumerate(blocks):
        text = _inline(block.text, soft)
        if block.rows:
            head, *body = block.rows
            rows = ["".join(f"<th>{_inline(cell, soft)}</th>" for cell in head)]
            rows += ["".join(f"<td>{_inline(cell, soft)}</td>" for cell in row) for row in body]
            yield "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"
        elif block.kind == "heading":
            yield f"<h{block.level}>{text}</h{block.level}>"
        elif block.kind == "bullet":
            opens = "<ul>" if blocks[i - 1].kind != "bullet" else ""
            yield f"{opens}<li>{text}</li>" + (
                "</ul>" if [b.kind for b in blocks[i + 1 : i + 2]] != ["bullet"] else ""
            )
        else:
            yield f"<p>{text}</p>"


def _html(
    blocks: list[Block],
    charset: str,
    furniture: bool,
    soft: bool,
    joint: str,
    language: str = "en",
    semantic: bool = True,
) -> bytes:
    before, after = [], []
    if furniture:
        links = joint.join(
            f'<li><a href="#{i}">{name}</a></li>' for i, name in enumerate(_NAVIGATION)
        )
        before = [
            f"<nav><ul>{links}</ul></nav>",
            f'<div class="cookie-banner" role="dialog"><p>{_COOKIES}</p></div>',
        ]
        after = ["<aside>" + joint.join(f"<p>{text}</p>" for text in _SHOP) + "</aside>"]
        after += [
            '<div style="display:none">Session expired. Please log in again.</div>',
            f"<footer><p>{_IMPRINT}</p></footer>",
        ]
    else:
        before = ["<header><p>Intranet &gt; Documents</p></header>"]
        after = ["<footer><p>Last change: 14 March 2025</p></footer>"]
    meta = f'<meta charset="{charset}">'
    opening, closing = "<main>", "</main>"
    # Everything is a div, and the server's header, which is lost, said the charset
    if not semantic:
        meta, opening, closing = "", '<div class="c2">', "</div>"
        before, after = (
            [re.sub(r"<(/?)(?:nav|header|aside|footer)\b", r"<\1div", t) for t in part]
            for part in (before, after)
        )
        before = [t.replace("cookie-banner", "c9").replace(' role="dialog"', "") for t in before]
    page = joint.join([
        "<!DOCTYPE html>",
        f'<html lang="{language}"><head>{meta}<title>{_inline(blocks[0].text, False)}</title>',
        "<style>nav{float:left}</style><script>window.dataLayer=[];</script></head><body>",
        *before, opening, *_html_blocks(blocks, soft), closing, *after, "</body></html>",
    ])  # fmt: skip
    return page.encode(charset)


# ------------------------------------------------------------- CSV and Markdown


def _csv(
    blocks: list[Block], delimiter: str = ";", encoding: str = "cp1252", preamble: tuple = ()
) -> bytes:
    """As a spreadsheet writes it where the comma is the decimal sign."""
    head, *body = blocks[0].rows
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, delimiter=delimiter)
    writer.writerows([*preamble, head])
    for article, name, price, days in body:
        writer.writerow([article, name, price.translate(str.maketrans(",.", ".,")), days])
    return lines.getvalue().encode(encoding)


def _markdown(blocks: list[Block], encoding: str, underlined: bool = False) -> bytes:
    pieces = []
    for block in blocks:
        if block.rows:
            head, *body = [f"| {' | '.join(row)} |" for row in block.rows]
            pieces.append("\n".join([head, "|" + " --- |" * len(block.rows[0]), *body]))
        elif block.kind == "heading" and underlined and block.level < 3:
            pieces.append(f"{block.text}\n{'=-'[block.level - 1] * len(block.text)}")
        elif block.kind == "heading":
            pieces.append(f"{'#' * block.level} {block.text}")
        else:
            pieces.append(block.known if encoding == "utf-8" else _typographic(block.known))
    text = "\n\n".join(pieces) + "\n"
    return (text.replace("\n", "\r\n") if underlined else text).encode(encoding)


_Setter = Callable[[list[Block]], _Sheet]
_SHEETS: dict[str, dict[str, _Setter]] = {
    "first": {
        "contract_cleaning.pdf": _contract,
        "handbook.pdf": _handbook,
        "manual_coffee_machine.pdf": _two_columns,
        "manual_printer_zh.pdf": _chinese,
        "price_list.pdf": _prices,
    },
    "second": {
        "contract_cleaning.pdf": _second(
            ("Cleaning services", "CL-2023-118"), columns=2, size=8.5, margin=56
        ),
        "handbook.pdf": _second(
            ("Handbook", "Velmora Instruments"), columns=2, margin=60, size=9.5
        ),
        "manual_coffee_machine.pdf": _second(("Manual", "Caldera 400"), margin=90),
        "manual_printer_zh.pdf": _chinese_second,
        "price_list.pdf": _second(("Prices", "Velmora"), size=11, margin=80),
    },
}

_HTML = functools.partial(_html, charset="utf-8", furniture=False, soft=False, joint="\n")
_WRITERS: dict[str, dict[str, Callable[[list[Block]], bytes]]] = {
    "first": {
        "contract_logistics.docx": functools.partial(_docx, header="Agreement LG-2024-052"),
        "contract_software.docx": functools.partial(
            _docx, header="Agreement SW-2025-007", changes=True
        ),
        "contract_warehouse.docx": functools.partial(_docx, header="Confidential agreement"),
        "manual_label_printer.docx": functools.partial(_docx, header="DM-2002, edition 2"),
        "contract_logistics_zh_annex.html": functools.partial(
            _HTML, charset="gb18030", language="zh"
        ),
        "manual_pump_controller.html": functools.partial(
            _HTML, furniture=True, soft=True, joint=""
        ),
        "travel_policy.html": _HTML,
        "price_list.csv": _csv,
        "security_policy.md": functools.partial(_markdown, encoding="utf-8"),
        "support_faq.md": functools.partial(_markdown, encoding="cp1252"),
    }
}
_WRITERS["second"] = {
    **{
        name: functools.partial(write, styled=False)
        if name.endswith("docx")
        else functools.partial(write, semantic=False)
        for name, write in _WRITERS["first"].items()
        if name.endswith(("docx", "html"))
    },
    "price_list.csv": functools.partial(
        _csv,
        delimiter="\t",
        encoding="utf-16",
        preamble=(("Velmora Instruments Ltd", "", "", ""), ("", "", "", "")),
    ),
    "security_policy.md": functools.partial(_markdown, encoding="cp1252", underlined=True),
    "support_faq.md": functools.partial(_markdown, encoding="utf-8-sig", underlined=True),
}
for _style, _setters in _SHEETS.items():
    _WRITERS[_style] |= {
        name: lambda blocks, setter=setter: setter(blocks).pdf()
        for name, setter in _setters.items()
    }
