"""The help desk of recipe 2.10 in a browser: `python page.py --port 7860 --feedback PATH`.

It listens on loopback only, and its pages load nothing from anywhere else. Questions go to the local
model, or to the provider that OPENAI_BASE_URL and OPENAI_MODEL name.
"""

import argparse
import os
import re
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import suppress
from html import escape
from pathlib import Path
from urllib.parse import quote

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at its import
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "02_rag")]

import utils  # noqa: E402, F401, I001  first: it selects the book's model cache
import gradio as gr  # noqa: E402
import uvicorn  # noqa: E402
from fastapi import FastAPI, Request  # noqa: E402
from fastapi.responses import HTMLResponse  # noqa: E402
from starlette.middleware.trustedhost import TrustedHostMiddleware  # noqa: E402

from chat.desk import MAX_CHARS, Conversation, Desk, Feedback, Passage, Turn, problem  # noqa: E402
from utils import data, llm, models  # noqa: E402

# The second barrier, should something pass as HTML after all: nothing is loaded from another host.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; frame-ancestors 'none'"
)
CSS = """
footer { display: none !important; }
.gradio-container { width: 100% !important; max-width: 60em !important; margin: 0 auto !important; }
.gradio-container { --block-info-text-color: var(--neutral-600); }
.dark .gradio-container { --block-info-text-color: var(--neutral-300); }
textarea {
  margin-right: .5em; padding: .4em !important;
  border: 1px solid var(--neutral-400) !important; border-radius: 6px;
}
details { margin-top: .6em; font-size: .9em; }
summary { cursor: pointer; }
.message, .message * { overflow-wrap: anywhere; min-width: 0; }
"""
# What Markdown could take for more than a character: also autolinks, and lists and headings at a line's start.
MARKUP = re.compile(r"[^\w\s,;?'%().:/-]|_|:(?=/)|\.(?=[^\W\d])|(?<!\w)-|(?<=\d)[.)](?=\s)")
HEAD = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>
body { font: 1em/1.5 sans-serif; max-width: 45em; margin: 1em auto; padding: 0 1em; }
pre { white-space: pre-wrap; font: inherit; }
:target { background: #ffe999; }
</style>"""
HINT = f"At most {MAX_CHARS} characters. Enter sends."
WELCOME = (
    "**Velmora help desk**\n\nAsk about the handbook, the contracts, the manuals or the price list."
)
REFUSED = "I find no answer to this in the documents. The nearest passages:"


def plain(text: str) -> str:
    """The text as Markdown that shows it character by character: no HTML, link, image or formula in it works."""
    lines = [line.strip() for line in text.splitlines()]
    return "<br>".join(MARKUP.sub(lambda c: f"&#{ord(c[0])};", line) for line in lines)


def link(passage: Passage) -> str:
    name, heading = passage.id.rsplit("/", 1)[0].split("#")
    title = plain(f"{passage.document}, {passage.section}")
    return f'<a href="/documents/{quote(name)}#{quote(heading)}" target="_blank">{title}</a>'


def shown(turn: Turn) -> str:
    """What stands in the bubble: the answer as it grows, at the end its citation, or that there is none."""
    if turn.error or not turn.done:
        return plain(turn.error or turn.draft)
    if not turn.answer:
        return f"{REFUSED}<ul>{''.join(f'<li>{link(p)}</li>' for p in turn.passages)}</ul>"
    cited = turn.passages[0]
    return (
        f"{plain(turn.answer)}\n\n<details><summary>Source: {plain(f'{cited.document}, {cited.section}')}</summary>"
        f"<blockquote>{plain(cited.text)}</blockquote>Whole document: {link(cited)}</details>"
    )


def messages(conversation: Conversation) -> list[dict[str, str]]:
    return [
        {"role": role, "content": text}
        for turn in conversation.turns
        for role, text in (("user", plain(turn.question)), ("assistant", shown(turn)))
    ]


def build(desk: Desk, feedback: Feedback) -> gr.Blocks:
    """The page. Each tab that loads it has a conversation of its own, kept on the server."""

    def reply(question: str, conversation: Conversation | None) -> Iterator[tuple]:
        if why := problem(question):  # which stays in the box, to be mended
            yield gr.update(info=why), gr.skip(), conversation
            return
        conversation = conversation or Conversation()
        for _ in desk.ask(conversation, question.strip()):
            yield gr.update(value="", info=HINT), messages(conversation), conversation

    def rate(conversation: Conversation, thumb: gr.LikeData) -> None:
        kind = {True: "up", False: "down"}.get(thumb.liked)
        feedback.save(conversation, thumb.index // 2, kind)

    with gr.Blocks(title="Help desk", analytics_enabled=False, fill_height=True) as page:
        conversation = gr.State()
        log = gr.Chatbot(
            label="Conversation",
            placeholder=WELCOME,
            scale=1,
            buttons=[],
            latex_delimiters=[],
            allow_tags=False,
        )
        box = gr.Textbox(
            label="Your question", info=HINT, max_lines=4, autofocus=True, submit_btn="Send"
        )
        box.submit(
            reply, [box, conversation], [box, log, conversation],
            concurrency_limit=4, show_progress="hidden", api_visibility="private",
        )  # fmt: skip
        log.clear(lambda: None, None, conversation, api_visibility="private")  # a new one begins
        log.like(rate, conversation, None, api_visibility="private")
    return page


def document_page(sections: list[data.Document]) -> HTMLResponse:
    """A whole document as text; each section can be linked to."""
    if not sections:
        return HTMLResponse("No such document.", 404)
    title = f"<title>{escape(sections[0].section.split(' > ')[0])}</title>"
    return HTMLResponse(
        HEAD
        + title
        + "".join(
            f'<h2 id="{escape(d.id.split("#")[1])}">{escape(d.title)}</h2><pre>{escape(d.text)}</pre>'
            for d in sections
        )
    )


def create_app(desk: Desk, feedback: Feedback) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])

    @app.middleware("http")
    async def nothing_foreign(request: Request, call_next):
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    @app.get("/documents/{name}")
    def document(name: str) -> HTMLResponse:
        return document_page([d for d in desk.documents if d.id.split("#")[0] == name])

    return gr.mount_gradio_app(
        app, build(desk, feedback), path="/", css=CSS, footer_links=[], run_history=False, ssr_mode=False, pwa=False,
        mcp_server=False, enable_monitoring=False,
    )  # fmt: skip


def listen(port: int) -> socket.socket:
    """A socket on loopback. Raises OSError if somebody listens there."""
    listening = socket.socket()
    if os.name == "posix":  # elsewhere this would take the port from who has it
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen()
    return listening


def main(arguments: list[str] | None = None) -> None:
    home = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    default = home / "ai-engineer-cookbook" / "feedback.sqlite3"
    parser = argparse.ArgumentParser(
        description="A help desk that answers from documents and cites them."
    )
    parser.add_argument(
        "--port", type=int, default=7860, help="on 127.0.0.1 (default: %(default)s)"
    )
    parser.add_argument(
        "--feedback", type=Path, default=default, help="SQLite file (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.feedback.resolve().is_relative_to(ROOT):
        parser.error("--feedback holds people's questions: keep it outside of the book's folder")
    try:
        listening = listen(options.port)
    except (OSError, OverflowError) as error:
        parser.error(f"port {options.port} cannot be used ({error}): choose another with --port")
    try:
        feedback, desk = Feedback(options.feedback), Desk(data.business_documents())
    except (llm.LLMError, models.ModelError, sqlite3.Error, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
    where = "" if desk.endpoint.local else f"; questions go to {desk.endpoint.base_url}"
    print(
        f"http://127.0.0.1:{listening.getsockname()[1]} (thumbs: {options.feedback}{where}; Ctrl+C ends it)",
        flush=True,
    )
    server = uvicorn.Server(
        uvicorn.Config(create_app(desk, feedback), log_level="warning", timeout_graceful_shutdown=1)
    )
    with suppress(KeyboardInterrupt):
        server.run([listening])


if __name__ == "__main__":
    main()
