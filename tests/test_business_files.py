"""The business corpus as files: the same bytes every time, and every known word is in them."""

import io
import re
import zipfile
from pathlib import Path

import pytest

from utils import business, data

pytest.importorskip("reportlab")
pytest.importorskip("docx")
pypdf = pytest.importorskip("pypdf")

NAMES = sorted(business._WRITERS["first"])
PDFS = [name for name in NAMES if name.endswith(".pdf")]


@pytest.fixture(scope="module", params=business.STYLES)
def written(request, tmp_path_factory) -> dict[str, Path]:
    return {
        path.name: path
        for path in business.write_files(tmp_path_factory.mktemp("files"), request.param)
    }


def style_of(written: dict[str, Path]) -> str:
    return next(
        style for style in business.STYLES
        if business._WRITERS[style]["price_list.csv"](business.blocks_of("price_list.csv")) == written["price_list.csv"].read_bytes()
    )  # fmt: skip


def letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text)


def test_the_same_bytes_every_time(written, tmp_path):
    for path in business.write_files(tmp_path, style_of(written)):
        assert path.read_bytes() == written[path.name].read_bytes(), path.name


def test_every_document_of_the_corpus_is_a_file(written):
    stems = {document.id.partition("#")[0] for document in data.business_documents()}
    assert {business.source_of(path) for path in written.values()} == stems
    assert sorted(written) == NAMES


@pytest.mark.parametrize("document", data.business_documents(), ids=lambda document: document.id)
def test_known_text_is_the_corpus(document):
    texts = [
        business.known_text(name)
        for name in NAMES
        if business.source_of(name) == document.id.partition("#")[0]
    ]
    for paragraph in document.text.replace("(EUR)", "(€)").split("\n\n"):
        held = [text.replace("(EUR)", "(€)").replace("\n\n", "\n") for text in texts]
        assert sum(paragraph in text for text in held) == 1, paragraph


def test_the_evidence_of_every_question_is_in_the_known_text():
    for question in data.business_questions():
        for gold in question.gold:
            stem = gold.document_id.partition("#")[0]
            texts = [
                business.known_text(name) for name in NAMES if business.source_of(name) == stem
            ]
            assert any(gold.evidence in " ".join(text.split()) for text in texts), gold


@pytest.mark.parametrize("name", PDFS)
def test_every_word_of_a_pdf_can_be_read(written, name):
    reader = pypdf.PdfReader(written[name])
    read = [letters(page.extract_text()) for page in reader.pages]
    for text, first, last in business.known_pages(name, style_of(written)):
        pages = "".join(read[first - 1 : last])
        for line in text.replace(" - ", " \u2013 ").splitlines():
            # Wrapped cells of one row are written one after the other
            for cell in line.split(" | "):
                head = letters(cell)[:12]
                assert head in pages, (first, last, cell)
    assert len(read) == business.known_pages(name, style_of(written))[-1][2]


def test_tracked_changes_hide_figures_from_paragraph_text(written):
    import docx

    document = docx.Document(written["contract_software.docx"])
    assert "interest of  percent" in "\n".join(paragraph.text for paragraph in document.paragraphs)
    with zipfile.ZipFile(written["contract_software.docx"]) as package:
        xml = package.read("word/document.xml").decode()
        assert {part.date_time for part in package.infolist()} == {(2025, 3, 14, 9, 0, 0)}
    assert len(re.findall("<w:ins ", xml)) == len(re.findall("<w:del ", xml)) >= 10
    changed = re.findall(r"<w:delText[^>]*>([^<]+)</w:delText>.*?<w:t [^>]*>([^<]+)</w:t>", xml)
    assert all(old != new for old, new in changed)


def test_encodings(written):
    chinese = written["contract_logistics_zh_annex.html"].read_bytes()
    assert "甲方" in chinese.decode("gb18030")
    with pytest.raises(UnicodeDecodeError):
        chinese.decode("utf-8")
    first = style_of(written) == "first"
    assert (b"charset=" in chinese) == first
    assert "1.035,00" in written["price_list.csv"].read_bytes().decode(
        "cp1252" if first else "utf-16"
    )
    with pytest.raises(UnicodeDecodeError):
        written["price_list.csv"].read_bytes().decode("utf-8")


def test_furniture_is_not_known_text(written):
    html = written["manual_pump_controller.html"].read_text(encoding="utf-8")
    assert (
        "cookies" in html
        and "&shy;" in html
        and "cookies" not in business.known_text("manual_pump_controller.html")
    )
    assert ("<main>" in html) == (style_of(written) == "first")


@pytest.mark.parametrize("word, parts", [
    ("company", ["com", "pany"]), ("part-time", ["part-", "time"]), ("HR-47", []), ("12,000", []), ("cat", []), ("rather", []),
])  # fmt: skip
def test_hyphenation(word, parts):
    cuts = [[word[:i], word[i:]] for i in business.hyphenation(word)]
    assert (parts in cuts) if parts else all(cut[0].endswith("-") for cut in cuts)


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(ValueError, match="style"):
        business.write_files(tmp_path, "third")
    with pytest.raises(ValueError, match="letter.docx"):
        business.known_text("letter.docx")


def test_pages_say_their_number(written):
    text = pypdf.PdfReader(io.BytesIO(written["handbook.pdf"].read_bytes())).pages[1].extract_text()
    assert ("Page 2 of" in text) == (style_of(written) == "first")
