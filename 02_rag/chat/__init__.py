"""The chat page of recipe 2.10: a help desk that answers from documents and cites them.

Start it from the book's folder with `python 02_rag/chat/page.py`.

    desk    passages, search, answer, the check of its citation, thumbs
    page    what one sees of it in a browser (Gradio)
"""
