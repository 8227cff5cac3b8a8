"""Recipe 5.5's load on vLLM's CPU build, written to vllm.json: `make vllm`, or this with names of SETTINGS.

Runs in the book's environment and starts vLLM from `.venv-vllm`. Float32, no compilation, one thread: as recipe 5.5
starts transformers. Each setting takes some two minutes, most of it vLLM's start.
"""

import asyncio
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

import httpx2  # noqa: E402
import load  # noqa: E402
import openai  # noqa: E402

import utils  # noqa: F401, E402 - selects the model cache
from utils import models, servers  # noqa: E402

PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
MEASURED = HERE / "vllm.json"
NGRAM = '{"method": "ngram", "num_speculative_tokens": 8, "prompt_lookup_max": 3, "prompt_lookup_min": 2}'
SETTINGS = {
    "plain": ["--no-enable-prefix-caching"],
    "prefix cache": ["--enable-prefix-caching"],
    "n-gram": ["--no-enable-prefix-caching", "--speculative-config", NGRAM],
}
CALLERS = (1, 4, 16, 32)
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}


def processor() -> str:
    """Its name where Linux knows it."""
    info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.partition(": ")[2] for line in info if line.startswith("model name")),
        platform.processor(),
    )


def counted(url: str) -> tuple[float, float]:
    """Draft tokens and those of them that were accepted, since the start."""
    text = httpx2.get(f"{url}/metrics").text
    names = (
        "vllm:spec_decode_num_draft_tokens_total",
        "vllm:spec_decode_num_accepted_tokens_total",
    )
    return tuple(
        sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))
        for name in names
    )


async def run(name: str, url: str) -> dict:
    options = {"api_key": "none", "max_retries": 0, "timeout": 120, "default_headers": load.FRESH}
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", **options) as client:

        async def send(request: load.Request, due: float | None = None) -> load.Answer:
            return await load.ask(client, models.CHAT, request, {"ignore_eos": True}, due)

        await load.closed_loop(send, load.draw(2, 99), 1)  # warm
        result = {}
        if name == "plain":
            closed = {
                n: load.summary(await load.closed_loop(send, load.draw(load.enough(n), 0), n))
                for n in CALLERS
            }
            result["closed"] = {
                str(n): {key: round(float(value), 4) for key, value in row.items()}
                for n, row in closed.items()
            }
        for task, requests in {
            "prefix": load.with_prefix(),
            "copying": load.copying(),
            "writing": load.writing(),
        }.items():
            before = counted(url)
            answers = [await send(request) for request in requests]
            assert not any(answer.error for answer in answers), answers
            row = {
                "first": [a.first for a in answers],
                "tokens/s": [1 / a.per_token for a in answers],
            }
            row |= {"prompt": [a.prompt for a in answers], "cached": [a.cached for a in answers]}
            result[task] = {
                key: [round(value, 4) for value in values] for key, values in row.items()
            }
            result[task]["drafted"], result[task]["accepted"] = (
                b - a for a, b in zip(before, counted(url), strict=True)
            )
            result[task]["texts"] = [answer.text for answer in answers]
        return result


def main(names: list[str]) -> None:
    models.ensure(models.CHAT)
    packages = ("vllm-cpu", "torch", "transformers")
    show = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    command = [PYTHON, "-c", show, *packages]
    versions = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    measured |= {
        "date": datetime.date.today().isoformat(),
        "versions": versions,
        "processor": processor(),
    }
    measured |= {
        "cores": os.cpu_count(),
        "threads": 1,
        "dtype": "float32",
        "settings": measured.get("settings", {}),
    }
    os.environ |= ENVIRONMENT
    for name in names or SETTINGS:
        port = servers.free_port()
        command = [
            str(PYTHON),
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            models.CHAT,
            "--host",
            "127.0.0.1",
        ]
        command += [
            "--port",
            str(port),
            "--dtype",
            "float32",
            "--enforce-eager",
            "--max-model-len",
            "2048",
        ]
        command += ["--enable-prompt-tokens-details", *SETTINGS[name]]
        with (
            tempfile.TemporaryDirectory() as folder,
            servers.Server(command, port, folder, wait=300),
        ):
            print(f"{name} ...", flush=True)
            measured["settings"][name] = asyncio.run(run(name, f"http://127.0.0.1:{port}")) | {
                "flags": SETTINGS[name]
            }
        MEASURED.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
