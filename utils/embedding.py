"""Vectors of a whole corpus, computed once: the same 3,000 passages stand behind most recipes of chapter 2.

On two cores without bfloat16 they take a minute, which is neither the lesson nor worth a reader's
time in each notebook. Question vectors are computed where they are needed, with `llm.embed`.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils import CACHE, hardware, models


def embed_corpus(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors of the book's embedding model, float32, shape (len(texts), 384); kept on disk.

    The file's name is a hash of the texts, the model and the dtype: whatever changes, the vectors are
    made anew. They lie in `COOKBOOK_VECTORS`, by default beside the models. `make run` of one recipe
    names an empty folder, so that its measured time is that of a first run.

    Args:
        texts: each is cut after 256 tokens.
    """
    from filelock import FileLock

    from utils import llm

    content = json.dumps([models.EMBEDDING, str(hardware.dtype()), list(texts)])
    folder = Path(os.environ.get("COOKBOOK_VECTORS") or CACHE / "vectors")
    path = folder / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # a second notebook waits for the first one's vectors
        if path.exists():
            return np.load(path)
        vectors = llm.embed(texts, fast=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp", delete=False) as unfinished:
            np.save(unfinished, vectors)
        # In one step: a killed run leaves no half file under this name
        os.replace(unfinished.name, path)
    return vectors
