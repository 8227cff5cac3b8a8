"""What the recipes share and do not teach: models, data, hardware, plots.

Importing this package selects the book's own model cache and a quiet, offline
default through environment variables, so that the standard calls
(``AutoModel.from_pretrained("HuggingFaceTB/…")``) find the models. It therefore
comes before ``transformers`` and its relatives are imported.
"""

import logging
import os
import sys
from pathlib import Path

CACHE = Path(os.environ.get("COOKBOOK_CACHE") or "~/.cache/ai-engineer-cookbook").expanduser()
"""Where models are kept; ``COOKBOOK_CACHE`` moves it."""

HUB_CACHE = CACHE / "hub"
"""A private Hugging Face hub cache: the reader's own one is never written to."""


def _set_environment() -> None:
    hub = sys.modules.get("huggingface_hub.constants")
    if hub is not None and Path(hub.HF_HUB_CACHE) != HUB_CACHE:
        raise RuntimeError(
            "`import utils` must come before transformers, datasets or huggingface_hub: "
            "it selects the book's model cache. Restart the kernel and run from the top."
        )
    os.environ["HF_HUB_CACHE"] = str(HUB_CACHE)
    defaults = {
        "HF_HUB_OFFLINE": "1",  # `models.ensure` goes online for what is missing
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_VERBOSITY": "error",  # it warns that it is offline, which is meant
        "TRANSFORMERS_VERBOSITY": "error",
        "ANONYMIZED_TELEMETRY": "False",  # Chroma's
        "TOKENIZERS_PARALLELISM": "false",  # no warning, no deadlock after a fork
        "OMP_WAIT_POLICY": "PASSIVE",  # idle threads sleep: spinning ones starve other jobs
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # It announces on import that an optional kernel, got from the hub, is missing.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


_set_environment()
