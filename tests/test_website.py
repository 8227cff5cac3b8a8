"""The book as people read it: the site is built without a network, and works in a real browser."""

import functools
import http.server
import re
import threading
from urllib.parse import unquote, urlsplit

import pytest

from utils import models
from utils.book import BookError, discover, website

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.mark.network
def test_mathjax_and_mermaid_are_the_pinned_files():
    """Gets them for the tests below, which have no network."""
    try:
        archives = [website.fetch(name) for name in website.ASSETS]
    except BookError as error:
        if "could not be downloaded" not in str(error):
            raise
        pytest.skip(str(error))
    assert all(archive.stat().st_size > 1e6 for archive in archives)


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The built site's folder."""
    folder = tmp_path_factory.mktemp("site")
    try:
        assets = {name: website.fetch(name) for name in website.ASSETS}
    except BookError as error:
        pytest.skip(str(error))
    website.gather(folder / "source", assets)
    assert website.build(folder / "source", folder / "html") == 0
    return folder / "html"


@pytest.fixture(scope="module")
def address(html):
    """The site on a loopback port."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(html))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def visit(chromium, address):
    """A function that opens a page of the site. In the end: nothing came from elsewhere, no error in the console."""
    foreign, errors, pages = [], [], []

    def opened(path, size=DESKTOP):
        page = chromium.new_page(viewport=size)
        pages.append(page)
        page.on(
            "request",
            lambda request: (
                foreign.append(request.url)
                if urlsplit(request.url).netloc not in (urlsplit(address).netloc, "")
                else None
            ),
        )
        page.on(
            "console",
            lambda message: errors.append(message.text) if message.type == "error" else None,
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/{path}")
        return page

    yield opened
    for page in pages:
        page.close()
    assert not foreign and not errors


def pages_of(html):
    return [page for page in html.rglob("*.html") if "_static" not in page.parts]


def test_every_recipe_has_a_page_and_no_internal_link_is_broken(html):
    for recipe in discover.recipes():
        assert (html / f"{recipe.name}.html").exists()
    broken = []
    for page in pages_of(html):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r'(?:href|src)="([^"#?]+)', text):
            if not urlsplit(target).scheme and not target.startswith("//"):
                if not (page.parent / unquote(target)).exists():
                    broken.append(f"{page.relative_to(html)}: {target}")
    assert not broken


def test_links_to_files_of_the_book_name_files_that_exist(html):
    pattern = re.compile(re.escape(website.repository.address()) + r'/blob/main/([^"#?]+)')
    named = {
        unquote(name)
        for page in pages_of(html)
        for name in pattern.findall(page.read_text(encoding="utf-8"))
    }
    assert named and not [name for name in named if not (discover.ROOT / name).exists()]


def test_a_reader_finds_a_recipe_and_opens_it(visit):
    page = visit("search.html?q=hybrid+search")
    page.wait_for_selector("#search-results li a")
    found = page.eval_on_selector_all(
        "#search-results li a", "links => links.slice(0, 5).map(link => link.getAttribute('href'))"
    )
    assert any("02_rag/06_hybrid_search.html" in link for link in found)
    page.goto(f"{page.url.split('/search')[0]}/index.html")
    page.click("article table >> text=2.6 Hybrid search >> nth=0")
    assert page.url.endswith("02_rag/06_hybrid_search.html")
    assert page.get_attribute("a[href*='colab.research.google.com']", "href").endswith(
        "02_rag/06_hybrid_search.ipynb"
    )


def test_formulas_plots_and_diagrams_are_drawn(visit):
    page = visit("03_finetuning/02_lora_from_scratch.html")
    page.wait_for_selector("mjx-container svg")
    assert page.eval_on_selector_all(
        ".cell_output img",
        "images => images.length && images.every(image => image.naturalWidth > 200)",
    )
    assert visit("04_agents/index.html").wait_for_selector(".mermaid svg")


@pytest.mark.parametrize(
    "page, chosen", [("index.html", 4), ("README.zh-CN.html", 4), ("04_agents/index.html", 1)]
)
def test_the_boxes_of_a_map_are_links(visit, page, chosen):
    shown = visit(page)
    shown.wait_for_selector(".mermaid svg a")
    boxes = shown.locator(".mermaid svg").first.locator("a")
    number = boxes.nth(chosen - 1).text_content().split()[0]
    boxes.nth(chosen - 1).click()
    shown.wait_for_load_state()
    assert re.match(rf"{re.escape(number)}\s", shown.inner_text("h1")), (number, shown.url)


@pytest.mark.parametrize(
    "path",
    ["index.html", "04_agents/index.html", "docs/glossary.html", "02_rag/06_hybrid_search.html"],
)
def test_a_phone_shows_the_page_without_scrolling_sideways(visit, path):
    assert visit(path, PHONE).evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_an_archive_that_was_changed_is_refused(tmp_path, monkeypatch):
    """By the download that the models use too; its other faults are tested there."""
    (tmp_path / "mathjax.tgz").write_bytes(b"something else")
    monkeypatch.setattr(models, "CACHE", tmp_path / "cache")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        changed = f"http://127.0.0.1:{server.server_port}/mathjax.tgz", "0" * 64, 14, ""
        monkeypatch.setitem(website.ASSETS, "mathjax", changed)
        with pytest.raises(BookError, match="does not have the pinned SHA-256"):
            website.fetch("mathjax")
        monkeypatch.setitem(
            website.ASSETS, "mathjax", (changed[0].replace("mathjax", "gone"), *changed[1:])
        )
        with pytest.raises(BookError, match="could not be downloaded"):
            website.fetch("mathjax")
        server.shutdown()
    assert not any((tmp_path / "cache" / "downloads").iterdir())
