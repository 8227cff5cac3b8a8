"""`python -m rag_service.model PORT`: a local model behind the OpenAI API, in a process of its own that can be killed.

It wants the key in OPENAI_API_KEY, and runs until it is stopped; with `--with-parent` also not longer than the process
that started it, however that one ends. In production this is vLLM or a provider.
"""

import os
import signal
import sys
import threading
import time

from utils import llm


def end_with(parent: int) -> None:
    """A process whose parent was killed gets another one."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that llama.cpp's threads are stopped
    if "--with-parent" in sys.argv:
        threading.Thread(target=end_with, args=[os.getppid()], daemon=True).start()
    for name in ("OPENAI_BASE_URL", "OPENAI_MODEL"):  # they name this server, for its clients
        os.environ.pop(name, None)
    llm.serve(port=int(sys.argv[1]), api_key=os.environ["OPENAI_API_KEY"])
    signal.pause()


if __name__ == "__main__":
    main()
