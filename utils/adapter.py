"""A PEFT LoRA adapter as the GGUF adapter that llama.cpp loads."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from utils import CACHE

# transformers' names of a Llama block's linear layers, and llama.cpp's.
_LAYERS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def to_gguf(folder: str | Path) -> Path:
    """Convert a LoRA adapter of a Llama-family model; the result is cached by content.

    Args:
        folder: what PEFT's ``save_pretrained`` wrote.

    Raises:
        FileNotFoundError: ``folder`` holds no adapter.
        ValueError: it is not LoRA, or adapts layers that llama.cpp does not name.
    """
    folder = Path(folder)
    weights = folder / "adapter_model.safetensors"
    if not weights.exists():
        raise FileNotFoundError(f"No adapter in {folder}: {weights.name} is missing.")
    settings = json.loads((folder / "adapter_config.json").read_text())
    if settings["peft_type"] != "LORA":
        raise ValueError(
            f"{folder} is a {settings['peft_type']} adapter; llama.cpp takes LoRA only."
        )
    key = hashlib.sha256(weights.read_bytes() + json.dumps(settings, sort_keys=True).encode())
    target = CACHE / "adapters" / f"{key.hexdigest()[:16]}.gguf"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_suffix(f".{os.getpid()}")
        _convert(weights, settings, scratch)
        scratch.replace(target)
    return target


def _convert(weights: Path, settings: dict, target: Path) -> None:
    import gguf
    import numpy as np
    from safetensors.torch import load_file
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(settings["base_model_name_or_path"])
    rotated = {
        "self_attn.q_proj": config.num_attention_heads,
        "self_attn.k_proj": config.num_key_value_heads,
    }
    # rsLoRA scales by alpha/sqrt(r); llama.cpp always by alpha/r.
    alpha = settings["lora_alpha"] * (settings["r"] ** 0.5 if settings.get("use_rslora") else 1)

    writer = gguf.GGUFWriter(target, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(alpha))
    for name, tensor in load_file(weights).items():
        match = re.search(r"layers\.(\d+)\.(.+)\.lora_([AB])\.weight$", name)
        if not match or match[2] not in _LAYERS:
            raise ValueError(f"llama.cpp has no place for the adapter's tensor {name}.")
        block, layer, half = match.groups()
        values = tensor.float().numpy()
        if half == "B" and layer in rotated:
            values = _rope_order(values, rotated[layer])
        writer.add_tensor(
            f"blk.{block}.{_LAYERS[layer]}.weight.lora_{half.lower()}", np.ascontiguousarray(values)
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _rope_order(rows, heads: int):
    """Reorder the output rows of q and k, shape (heads * head_dim, r).

    transformers rotates the first half of a head against the second, llama.cpp
    neighbouring pairs.
    """
    return (
        rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)
    )
