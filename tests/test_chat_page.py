"""The chat page of recipe 2.10: its parts with the real embedding model, then the page in a real browser."""

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openai
import pytest
import uvicorn
from playwright.sync_api import expect

from utils import data, llm

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio")  # its use of pandas
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "02_rag"))

from chat import desk as logic  # noqa: E402
from chat import page as ui  # noqa: E402

HOSTILE = (
    'Zorblax filters <img src=x onerror="window.ran=1"> are changed <script>window.ran=1</script> every 9 days. '
    "See ![x](http://198.51.100.7/x.png) and [this](javascript:window.ran=1) *now* $$x^2$$."
)
BUSINESS = "Above which length of flight may I sit in business class?"


@pytest.fixture(scope="module")
def desk(serve):
    """The real one, over the business documents and one that is hostile."""
    desk = logic.Desk(data.business_documents())
    hostile = data.Document("notes#zorblax", "Zorblax <b>filters</b>", "Notes", HOSTILE, "notes.md")
    found, embedded = logic.passages([hostile])
    desk.documents.append(hostile)
    desk.passages += found
    desk.vectors = np.vstack([desk.vectors, llm.embed(embedded)])
    return desk


@pytest.fixture
def feedback(tmp_path):
    return logic.Feedback(tmp_path / "new" / "feedback.sqlite3")


def rows(path: Path) -> list[dict]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute("SELECT * FROM feedback ORDER BY turn")]


def last(turns) -> logic.Turn:
    return list(turns)[-1]


# --- the desk -------------------------------------------------------------------


@pytest.mark.parametrize(
    "history, turn, expected",
    [
        ([], "How heavy is it?", "How heavy is it?"),
        (["What is the Stampa L2?"], "How heavy is it?", "What is the Stampa L2? How heavy is it?"),
        (["What is the Stampa L2?"], "How heavy is the Hydrel PC-7?", "How heavy is the Hydrel PC-7?"),
        (["a b c", "What is E17?", "And E18?"], "and its cause?", "What is E17? And E18? and its cause?"),
        (["one two", "And a?", "And b?", "And c?"], "And d?", "And a? And b? And c? And d?"),
        (["one two"], "How loud is the Stampa L2 when it prints?", "How loud is the Stampa L2 when it prints?"),
        (["the pump fails"], "What if it shows E17?", "the pump fails What if it shows E17?"),
        (["Stampa L2 多重？"], "它多少钱？", "Stampa L2 多重？ 它多少钱？"),
    ],
)  # fmt: skip
def test_standalone_takes_what_the_turn_leans_on(history, turn, expected):
    assert logic.standalone(history, turn) == expected


def test_passages_stay_inside_their_section_and_have_ids_of_their_own(desk):
    sections = {d.id: " ".join(data.sentences(d.text)) for d in desk.documents}
    assert len({p.id for p in desk.passages}) == len(desk.passages) == len(desk.vectors)
    for passage in desk.passages:
        assert passage.text in sections[passage.id.rsplit("/", 1)[0]]
        assert " ".join(passage.sentences) == passage.text


def test_search_finds_the_section(desk):
    found, cosine = desk.search(BUSINESS)
    assert found[0].id.startswith("travel_policy#trains-and-flights") and cosine > logic.MIN_COSINE
    assert len(found) == logic.PASSAGES


@pytest.mark.parametrize(
    "off_topic", ["Who painted the Mona Lisa?", "How do I bake a sourdough bread?"]
)
def test_off_topic_is_refused_without_asking_the_model(desk, monkeypatch, off_topic):
    monkeypatch.setattr(desk, "write", None)
    turn = last(desk.ask(logic.Conversation(), off_topic))
    assert (turn.answer, turn.error, len(turn.passages)) == ("", "", logic.PASSAGES)
    assert all(f"/documents/{p.id.split('#')[0]}#" in ui.shown(turn) for p in turn.passages)


def test_what_does_not_stand_in_the_passage_is_not_shown_as_an_answer(desk, monkeypatch):
    monkeypatch.setattr(
        desk, "write", lambda *_: iter(["Business", "Business class is free for all."])
    )
    turn = last(desk.ask(logic.Conversation(), BUSINESS))
    assert turn.draft and not turn.answer
    assert "free for all" not in ui.shown(turn) and ui.REFUSED in ui.shown(turn)


@pytest.mark.parametrize("reason, cited", [("stop", True), ("length", False), (None, False)])
def test_half_a_sentence_is_no_answer(desk, monkeypatch, reason, cited):
    def create(**_):
        piece = SimpleNamespace(content="Business class is permitted")
        choices = [SimpleNamespace(delta=piece, finish_reason=reason)]
        return contextlib.nullcontext([SimpleNamespace(choices=choices)])

    stub = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    monkeypatch.setattr(desk, "client", stub)
    assert bool(last(desk.ask(logic.Conversation(), BUSINESS)).answer) == cited


def test_model_out_of_reach_is_said_and_the_next_question_works(desk, monkeypatch):
    conversation = logic.Conversation()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        gone = openai.OpenAI(base_url=address, api_key="x", max_retries=0)
        with monkeypatch.context() as patch:
            patch.setattr(desk, "client", gone)
            turn = last(desk.ask(conversation, BUSINESS))
    assert "does not answer" in turn.error and turn.error == ui.shown(turn)
    assert last(desk.ask(conversation, BUSINESS)).answer


def test_two_at_once_get_their_own_answers(desk):
    asked = {BUSINESS: "travel_policy#", "How heavy is the Stampa L2?": "manual_label_printer#"}
    turns = {}
    threads = [
        threading.Thread(
            target=lambda q=q: turns.update({q: last(desk.ask(logic.Conversation(), q))})
        )
        for q in asked
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for question, document in asked.items():
        assert turns[question].passages[0].id.startswith(document)
        assert logic.stands_in(turns[question].answer, turns[question].passages[0])


@pytest.mark.parametrize(
    "raw, text",
    [("", ""), ("{", ""), ('{"answer": "', ""), ('{ "answer": "a \\"b\\', 'a "b'), ('{"answer": "\\u00', ""),
     ('{"answer": "\\u00e9t\\n"}', "ét\n"), ("plain", "plain")],
)  # fmt: skip
def test_unfinished_json_is_read_as_far_as_it_goes(raw, text):
    assert logic.written(raw) == text


def test_what_cannot_be_asked():
    assert logic.problem(" \n") and logic.problem("x" * (logic.MAX_CHARS + 1))
    assert not logic.problem("x" * logic.MAX_CHARS)


def test_last_thumb_counts_and_can_be_taken_back(feedback):
    conversation = logic.Conversation(turns=[logic.Turn("q", "q"), logic.Turn("r", "q r")])
    for thumb in ("up", "down"):
        feedback.save(conversation, 1, thumb)
    again = logic.Feedback(feedback.path)  # as after a restart
    [row] = rows(feedback.path)
    assert (row["question"], row["standalone"], row["turn"], row["thumb"]) == (
        "r",
        "q r",
        1,
        "down",
    )
    again.save(conversation, 1, None)
    assert rows(feedback.path) == []
    if os.name == "posix":
        assert feedback.path.stat().st_mode & 0o077 == 0


def test_text_is_shown_as_text():
    """Nothing is left that Markdown or HTML could act on, and prose stays legible."""
    text = "<b>\n    # *x* _y_ `z`\n- a\n1. b\n2) c\nhttps://x.org www.x.org a@b.org\n---\n=== ~~s~~ | $$1$$ &lt; \\"
    shown = ui.plain(text)
    back = re.sub(r"&#(\d+);", lambda m: chr(int(m[1])), shown)
    assert back == "<br>".join(line.strip() for line in text.splitlines())
    left = re.sub(r"&#\d+;", "", shown).split("<br>")
    assert not set("".join(left)) & set('<>&"*_`#[]!~|$=@+{}\\')
    assert not any(
        re.match(r"\s*(-|\d+[.)])", line) or re.search(r"://|www\.", line) for line in left
    )
    prose = "5 days, (at most) 5.1 % of CL-2023-118: don't ask?"
    assert ui.plain(prose) == prose


# --- the command ----------------------------------------------------------------


def test_taken_port_ends_it_with_2(tmp_path, capsys):
    with ui.listen(0) as taken, pytest.raises(SystemExit, match="2"):
        port = taken.getsockname()[1]
        ui.main(["--port", str(port), "--feedback", str(tmp_path / "x")])
    assert f"port {port} cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_thumbs_in_the_book_or_in_no_database_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        ui.main(["--feedback", str(ROOT / "x")])
    assert "outside of the book's folder" in capsys.readouterr().err
    (tmp_path / "text").write_text("something else" * 100)
    with pytest.raises(SystemExit, match="not a database"):
        ui.main(["--port", "0", "--feedback", str(tmp_path / "text")])


def test_command_starts_keeps_the_thumbs_and_stops_at_ctrl_c(tmp_path):
    path = tmp_path / "feedback.sqlite3"
    logic.Feedback(path).save(logic.Conversation(turns=[logic.Turn("q", "q")]), 0, "down")
    command = [sys.executable, ROOT / "02_rag/chat/page.py", "--port", "0", "--feedback", path]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=tmp_path, text=True, stdout=pipe, stderr=pipe)
    try:
        url = process.stdout.readline().split()[0]
        assert b"gradio_config" in urllib.request.urlopen(url, timeout=20).read()
        assert urllib.request.urlopen(f"{url}/documents/handbook", timeout=20).status == 200
        strange = urllib.request.Request(url, headers={"Host": "example.org"})  # DNS rebinding
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(strange, timeout=20)
    finally:
        process.send_signal(signal.SIGINT)
    assert (process.communicate(timeout=30)[1], process.returncode) == ("", 0)
    assert [row["thumb"] for row in rows(path)] == ["down"]


# --- in the browser -------------------------------------------------------------


@contextlib.contextmanager
def served(app):
    listening = ui.listen(0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def site(desk, tmp_path_factory):
    """The running page: its address, and the file with the thumbs."""
    path = tmp_path_factory.mktemp("site") / "feedback.sqlite3"
    with served(ui.create_app(desk, logic.Feedback(path))) as url:
        yield SimpleNamespace(url=url, feedback=path)


class Tab:
    """A browser tab on the help desk."""

    def __init__(self, context, url: str):
        self.page = context.new_page()
        self.page.goto(url)
        self.box = self.page.get_by_label("Your question")
        self.bots = self.page.locator(".message.bot")

    def ask(self, question: str, finished: str = "details, ul"):
        """Type, press Enter, wait for the end of the answer; returns its bubble."""
        count = self.page.locator(".message.user").count()
        self.box.fill(question)
        self.box.press("Enter")
        bubble = self.bots.nth(count)
        bubble.locator(finished).first.wait_for(timeout=60_000)
        expect(self.box).to_be_enabled()
        return bubble


@pytest.fixture
def open_tab(chromium, site):
    """open_tab(width=1280) -> Tab. At the end: nothing foreign was asked, nothing ran, no error was logged."""
    foreign, errors, contexts = [], [], []

    def keep_out(route):
        foreign.append(route.request.url)
        route.abort()

    def open_tab(width: int = 1280, height: int = 900) -> Tab:
        context = chromium.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        context.route(re.compile(rf"^(?!{re.escape(site.url)}/|data:|blob:)"), keep_out)
        context.on(
            "console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None
        )
        context.on("weberror", lambda error: errors.append(str(error.error)))
        return Tab(context, site.url)

    yield open_tab
    ran = [page.evaluate("window.ran") for context in contexts for page in context.pages]
    for context in contexts:
        context.close()
    assert foreign == [] and errors == [] and not any(ran)


GROWTH = """() => { window.seen = []; new MutationObserver(() => {
    const bots = document.querySelectorAll('.message.bot');
    const text = bots.length ? bots[bots.length - 1].innerText : '';
    if (text && text !== window.seen.at(-1)) window.seen.push(text);
}).observe(document.body, {subtree: true, childList: true, characterData: true}) }"""


def test_answer_streams_and_is_cited(open_tab, site):
    tab = open_tab()
    tab.page.evaluate(GROWTH)
    bubble = tab.ask(BUSINESS)
    seen = tab.page.evaluate("window.seen")
    assert len({len(text) for text in seen}) > 3, seen
    citation = bubble.locator("details")
    expect(citation.locator("summary")).to_have_text(
        "Source: Velmora Travel Policy, Trains and flights"
    )
    quote = citation.locator("blockquote")
    expect(quote).to_be_hidden()
    tab.page.keyboard.press("Tab")
    citation.locator("summary").focus()
    tab.page.keyboard.press("Enter")
    expect(quote).to_contain_text("Business class")
    with tab.page.context.expect_page() as opened:
        citation.locator("a").click()
    expect(opened.value.locator("h2:target")).to_have_text("Trains and flights")


def test_follow_up_with_a_pronoun_cites_the_same_machine(open_tab):
    tab = open_tab()
    tab.ask("What should I do when the Hydrel PC-7 shows E17?")
    bubble = tab.ask("How long is it under guarantee?")
    expect(bubble.locator("summary")).to_contain_text("Hydrel PC-7 Pump Controller")


def test_off_topic_is_refused_with_links(open_tab):
    bubble = open_tab().ask("Who painted the Mona Lisa?")
    expect(bubble).to_contain_text(ui.REFUSED)
    expect(bubble.locator("details")).to_have_count(0)
    expect(bubble.locator("li a")).to_have_count(logic.PASSAGES)


def test_thumbs_are_kept_and_a_mind_may_change(open_tab, site):
    tab = open_tab()
    tab.ask("What should I do when the Hydrel PC-7 shows E17?")
    tab.ask("How long is it under guarantee?")
    for name, thumb in (("Like", "up"), ("Dislike", "down")):
        tab.page.get_by_role("button", name=name, exact=True).last.click()
        until = time.monotonic() + 10
        while [row["thumb"] for row in rows(site.feedback)] != [thumb]:
            assert time.monotonic() < until, rows(site.feedback)
            time.sleep(0.05)
    [row] = rows(site.feedback)
    assert row["turn"] == 1 and row["question"] == "How long is it under guarantee?"
    assert row["standalone"].startswith("What should I do when the Hydrel PC-7 shows E17? How long")
    assert json.loads(row["passages"])[0].startswith("manual_pump_controller#")
    assert len(row["conversation"]) == 32 and row["answer"] and row["time"].endswith("+00:00")


def test_html_is_text_wherever_it_comes_from(open_tab):
    tab = open_tab()
    bubble = tab.ask(f"How often are Zorblax filters changed? {HOSTILE}")
    expect(tab.page.locator(".message.user").last).to_contain_text(
        '<img src=x onerror="window.ran=1">'
    )
    expect(bubble.locator("summary")).to_have_text("Source: Notes, Zorblax <b>filters</b>")
    expect(bubble.locator("blockquote")).to_contain_text("<script>window.ran=1</script>")
    assert (
        tab.page.locator(".message img, .message script, .message em, .message .katex").count() == 0
    )
    tab.page.goto(f"{tab.page.url}documents/notes")
    expect(tab.page.locator("pre")).to_have_text(HOSTILE)


def test_empty_and_too_long_stay_in_the_box(open_tab):
    tab = open_tab()
    for text, message in (("   ", "type a question"), ("x" * 501, "at most 500 characters")):
        tab.box.fill(text)
        tab.box.press("Enter")
        expect(tab.page.get_by_text(message)).to_be_visible()
        expect(tab.box).to_have_value(text)
    expect(tab.page.locator(".message")).to_have_count(0)


def test_tabs_have_conversations_of_their_own(open_tab):
    first, second = open_tab(), open_tab()
    first.ask("How heavy is the Stampa L2?")
    bubble = second.ask("And what does the Hydrel PC-7 for two pumps cost?")
    expect(bubble).not_to_contain_text("Stampa")
    expect(second.page.locator(".message.user")).to_have_count(1)


def test_clearing_begins_a_new_conversation(open_tab):
    tab = open_tab()
    tab.ask("How heavy is the Stampa L2?")
    tab.page.get_by_role("button", name="Clear").click()
    expect(tab.page.locator(".message.user")).to_have_count(0)
    tab.ask("And what does the Hydrel PC-7 for two pumps cost?")
    expect(tab.page.locator(".message.user")).to_have_count(1)


def test_fits_a_phone(open_tab):
    tab = open_tab(width=390, height=844)
    tab.ask(BUSINESS).locator("summary").click()
    tab.ask("x" * 200)
    overflow = "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
    assert tab.page.evaluate(overflow) <= 0
    send = tab.page.get_by_role("button", name="Send").bounding_box()
    assert send["x"] + send["width"] <= 390 and send["y"] + send["height"] <= 844
