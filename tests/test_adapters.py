"""Every adapter that a recipe has committed: small, complete, and with a card that says what it sits on."""

import json
from pathlib import Path

import pytest

from utils import models

ADAPTERS = sorted((Path(__file__).parents[1] / "03_finetuning" / "adapters").iterdir())


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda path: path.name)
def test_files_are_small_and_complete(adapter):
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == models.CHAT
    assert (adapter / "adapter_model.safetensors").stat().st_size < 6_000_000
    card = (adapter / "README.md").read_text()
    assert card.startswith("---\n") and "license: apache-2.0" in card and models.CHAT in card
