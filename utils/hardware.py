"""What the machine has, and what follows from it: device, dtype, threads."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch


@cache
def cpu_features() -> frozenset[str]:
    """Names of the vector units that decide speed here, such as ``{"AVX-512", "AMX"}``.

    Read from ``/proc/cpuinfo``; empty where that file does not exist (macOS, Windows).
    """
    names = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "BF16", "amx_bf16": "AMX"}
    try:
        text = Path("/proc/cpuinfo").read_text()
    except FileNotFoundError:
        return frozenset()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return frozenset(names[flag] for flag in flags if flag in names)


def threads() -> int:
    """Threads for torch, llama.cpp and tokenizers alike: ``OMP_NUM_THREADS``, else the cores.

    One setting for all of them, because two libraries that each take every core
    are slower together than one after the other.
    """
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    return max(1, int(os.environ.get("OMP_NUM_THREADS") or cores))


def device() -> str:
    """``"cuda"``, ``"mps"`` or ``"cpu"``, the first that is there."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16; others emulate it, eighty times slower than float32."""
    return bool(cpu_features() & {"AMX", "BF16"})


def dtype() -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively, otherwise what is fast instead.

    A CPU without AMX or AVX-512-BF16 emulates bfloat16 and is faster in float32.
    """
    import torch

    match device():
        case "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        case "mps":
            return torch.float16
        case _:
            return torch.bfloat16 if multiplies_bfloat16() else torch.float32


def describe() -> str:
    """One line about this machine, such as
    ``2 cores (AVX-512, AMX), 24 GB, no GPU; bfloat16; 2 threads``."""
    import torch

    shown = [f for f in ("AVX2", "AVX-512", "AMX") if f in cpu_features()] or [platform.machine()]
    gpu = "no GPU"
    if device() == "cuda":
        properties = torch.cuda.get_device_properties(0)
        gpu = f"{properties.name}, {properties.total_memory / 2**30:.0f} GB"
    elif device() == "mps":
        gpu = "Apple GPU"
    memory = psutil.virtual_memory().total / 2**30
    name = str(dtype()).removeprefix("torch.")
    return (
        f"{os.cpu_count()} cores ({', '.join(shown)}), {memory:.0f} GB, {gpu}; "
        f"{name}; {threads()} threads"
    )
