"""How Sphinx builds the site; `make site` gathers its pages and runs it (see utils/book/website.py)."""

import os

project = "AI Engineer Cookbook"
author = "the contributors of the AI Engineer Cookbook"
project_copyright = "the contributors; prose CC BY 4.0, code Apache-2.0"
language = "en"
repository = os.environ["COOKBOOK_ADDRESS"]

extensions = ["myst_nb", "sphinx_copybutton", "sphinxcontrib.mermaid"]
root_doc = "index"
nb_execution_mode = "off"  # the committed outputs are shown
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
myst_links_external_new_tab = False
suppress_warnings = ["myst.header", "mystnb.mime_priority"]

# Formulas and diagrams are drawn by the reader's browser from files of this site; nothing comes from another host.
mathjax_path = "mathjax/tex-svg.js"
mermaid_use_local = "mermaid/mermaid.esm.min.mjs"
mermaid_fullscreen = False
mermaid_height = "auto"

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}
html_copy_source = False
html_theme_options = {
    "repository_url": repository,
    "repository_branch": "main",
    "use_repository_button": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "navbar_persistent": [],  # the search field stands in the side bar
    "show_navbar_depth": 1,
    "show_toc_level": 2,
}
copybutton_exclude = ".linenos, .gp, .go"
