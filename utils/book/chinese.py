"""`chinese`: hold the Chinese words in `docs/zh.toml` against the English ones.

Each recipe has a Chinese title, promise and summary, written by meaning. `--confirm 2.1` notes that somebody has
compared the two languages (`pair`, a hash of both): when either changes alone, this command fails and names it.
`table` makes `README.zh-CN.md` and a page for each chapter of them.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import tomllib
from itertools import groupby
from pathlib import Path

from . import BookError, discover, frontmatter, pages, repository
from .discover import Recipe

CHAPTERS = {
    "foundations": "基础",
    "rag": "检索增强生成",
    "finetuning": "微调",
    "agents": "智能体",
    "deployment": "部署上线",
}


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add this command to `python -m utils.book`."""
    parser = subparsers.add_parser(
        "chinese",
        help="hold the Chinese words against the English ones",
        description=__doc__,
        formatter_class=discover.RawHelp,
    )
    parser.add_argument(
        "--confirm", nargs="*", metavar="2.1", help="these recipes were compared in both languages"
    )
    return parser


def main(args: argparse.Namespace) -> int:
    """Confirm, then name what is not in step; 0 if nothing is."""
    if args.confirm:
        confirm(args.confirm)
    problems = out_of_step()
    print("\n".join(problems) or "Chinese and English are in step")
    return 1 if problems else 0


def source() -> Path:
    """`docs/zh.toml`."""
    return discover.ROOT / "docs" / "zh.toml"


def read() -> dict[str, dict[str, str]]:
    """Number of a recipe to its Chinese words."""
    return tomllib.loads(source().read_text(encoding="utf-8"))


def pair(recipe: Recipe, words: dict[str, str]) -> str:
    """A short hash of what both languages say: the English title and promise, the Chinese words."""
    promise = discover.source(recipe.raw["cells"][0]).split("<!--")[0]
    said = [promise, *(words[key] for key in ("title", "promise", "summary"))]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:12]


def out_of_step() -> list[str]:
    """What is missing, and what was changed in one language alone."""
    words, found = read(), []
    for recipe in discover.recipes():
        if recipe.number not in words:
            found.append(f"docs/zh.toml has nothing for {recipe.number} {recipe.title}")
        elif words[recipe.number].get("pair") != pair(recipe, words[recipe.number]):
            found.append(
                f"{recipe.number}: English or Chinese changed alone; compare the two, then: python -m utils.book chinese --confirm {recipe.number}"
            )
    known = {recipe.number for recipe in discover.recipes()}
    return found + [
        f"docs/zh.toml has {number}, which the book does not have"
        for number in words
        if number not in known
    ]


def confirm(numbers: list[str]) -> None:
    """Write the `pair` of these recipes.

    Raises:
        BookError: a recipe or its Chinese words do not exist.
    """
    text, words = source().read_text(encoding="utf-8"), read()
    known = {recipe.number: recipe for recipe in discover.recipes()}
    for number in numbers:
        if number not in known or number not in words:
            raise BookError(f"{number} is not in the book or not in docs/zh.toml")
        block = re.search(rf'^\["{re.escape(number)}"\]\n(?:.+\n)+', text, re.MULTILINE)
        lines = [line for line in block[0].splitlines() if not line.startswith("pair = ")]
        lines.append(f'pair = "{pair(known[number], words[number])}"')
        text = text.replace(block[0], "\n".join(lines) + "\n")
    source().write_text(text, encoding="utf-8")


# --- the pages -----------------------------------------------------------------


def made() -> dict[Path, str]:
    """Every Chinese page, by its path in the book."""
    words, book = read(), pages.read()
    result, tables = {}, []
    for chapter, group in groupby(discover.recipes(), key=lambda recipe: recipe.chapter):
        recipes = [recipe for recipe in group if recipe.number in words]
        if not recipes:
            continue
        heading = f"{int(chapter[:2])}. {CHAPTERS[recipes[0].extra]}"
        about = book["chapters"][recipes[0].extra]["zh"]
        result[Path(chapter) / "README.zh-CN.md"] = (
            f"# {heading}\n\n{about}\n\n[English](README.md) · [全书](../README.zh-CN.md)\n\n{table(recipes, words, '..')}\n"
            f"CPU 时间与峰值内存取自随书提交的那一次运行：两个核心，无 GPU。\n\n## 先后关系\n\n"
            f"```mermaid\n{pages.graph(recipes, {number: entry['title'] for number, entry in words.items()})}\n```\n"
        )
        tables.append(
            f"### [{heading}]({chapter}/README.zh-CN.md)\n\n{about}\n\n{table(recipes, words, '.')}"
        )
    asked = "\n".join(
        f"| {entry['zh']} | {links(entry['recipes'], words)} |" for entry in book["tasks"]
    )
    result[Path("README.zh-CN.md")] = HOME.format(
        address=repository.address(),
        paths=pages.paths({number: entry["title"] for number, entry in words.items()}),
        tables="\n".join(tables),
        tasks=f"| 你遇到的问题 | 看这里 |\n|---|---|\n{asked}",
    )
    return result


def table(recipes: list[Recipe], words: dict, folder: str) -> str:
    """Title, promise, summary, time and memory of each recipe."""
    rows = []
    for recipe in recipes:
        said, cost = words[recipe.number], recipe.meta.get("measured", {})
        rows.append(
            f"| [{recipe.number} {said['title']}]({folder}/{recipe.name}.ipynb) | {said['promise']} | {said['summary']} "
            f"| {frontmatter.seconds(cost)} | {frontmatter.memory(cost)} |\n"
        )
    return (
        f"| 配方 | 你会得到 | 实测结论 | CPU 时间 | 内存 |\n|---|---|---|---|---|\n{''.join(rows)}"
    )


def links(numbers: list[str], words: dict) -> str:
    """Links to recipes, with their Chinese titles."""
    known = {recipe.number: recipe for recipe in discover.recipes()}
    found = pages.chosen(numbers, known)
    return "、".join(f"[{r.number} {words[r.number]['title']}]({r.name}.ipynb)" for r in found)


HOME = """\
# AI Engineer Cookbook（AI 工程师实战手册）

[English](README.md)

写给用大模型做东西的工程师的 Jupyter 笔记本：从第一次调用，到检索、微调、智能体，直到上线的服务。每个笔记本是一个配方：用真实数据回答一个问题，把技术和基线放在一起测，并用断言守住自己的结论。CI 在两个 CPU 核心上执行它们，无需密钥、GPU 和网络：每次改动都执行涉及的配方，外加半小时的其他配方（[哪些还没有跑过](#尚未验证)）。

适合后端、前端和算法工程师：会读 Python 就行，不要求机器学习基础。正文是英文；这里和各章页面给出中文的标题、简介与实测结论，
[术语表](docs/glossary.md)中英对照。

![关于 Python 的问题答对的比例：不检索、检索到的段落、正确的段落](docs/picture.png)

*出自配方 2.1：1.35 亿参数的模型，80 个问题，线段是 95% 置信区间。不给文档（closed book）只答对 1%；给检索到的段落，用自己的话（own words）答对 28%；只许照抄其中一句（copied）答对 44%，并不比随机抽一句（by lot，43%）强，取与问题最接近的那句（closest）是 50%；给五段反而只有 26%；直接给出含答案的段落（gold passage）是 75%。*

## 两条命令

```sh
git clone --depth 1 {address} cookbook && cd cookbook
make run     # 建好 .venv，下载模型，执行 RAG 配方并打印结果：下载之后约三分钟
make test    # 同样的准备，然后断网执行全部配方和全部测试：一小时以上，提交改动前再跑
```

需要 Python 3.11 以上、`make`、`git` 和一个 PyPI 源（镜像也行）。第一次会往 `.venv` 装 3.2 GB，往
`~/.cache/ai-engineer-cookbook` 放 0.6 GB 模型；之后跳过准备，只执行配方。`make run` 会打印实测结果，以及执行后的笔记本和可阅读网页的位置。然后：

```sh
make lab                         # 在 JupyterLab 里打开全书
make run RECIPE=4.1              # 另一个配方；RECIPE=02_rag 是整章
make servers                     # 安装 Redis、Prometheus、nginx：5.7 至 5.11 要用
make site-serve                  # 在本机浏览网页版
make help                        # 其余命令
```

默认模型故意选得很小（SmolLM2-135M-Instruct 与 all-MiniLM-L6-v2）：它经常出错，正好用来统计错误率，再设法改进。

## 从哪里开始

要解决眼前的问题，看下面的[从问题找配方](#从问题找配方)，或按[论文](docs/papers.md)、[面试题](docs/interviews.md)查。时间充裕，各章可以顺着读。想尽快用上，就选一条路线；图里的方框可以点击。路线没有列出每个配方的全部前置配方，不过每个配方都能单独运行：要用的适配器已在仓库里。

{paths}
## 从问题找配方

{tasks}

## 全部配方

数字都来自随书提交的那一次运行，细节和置信区间在各配方里。CPU 时间是两个核心合计；处理器没有 AMX 或 AVX-512-BF16 时，最多可能要四倍的时间，机器繁忙时两倍。
同一批问题上各种检索技术的成绩，见[第 2 章排行榜](02_rag/leaderboard.md)。

{tables}
## 其他模型与硬件

**托管模型，或自己的服务。** 配方调用 OpenAI 兼容的接口。什么都不设，就在本机启动一个，数据不出本机；设了地址或模型，就改为调用那一个，代码不变：

```sh
export OPENAI_BASE_URL=https://api.openai.com/v1 OPENAI_API_KEY=... OPENAI_MODEL=...      # 托管服务
export OPENAI_BASE_URL=http://localhost:11434/v1 OPENAI_API_KEY=ollama OPENAI_MODEL=qwen3  # Ollama
export OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=none OPENAI_MODEL=Qwen/Qwen3-1.7B  # vLLM
make lab
```

只设 `OPENAI_API_KEY` 不起作用：很多人的环境里本来就有，不能因为打开一个笔记本就花钱。各配方的结论只对默认模型验证过。

**更大的本地模型。** 所有参数都在同一个单元格里。只换一次：`.venv/bin/python -m utils.book run 02_rag/01 --show -p MODEL Qwen/Qwen3-1.7B`（会从 Hugging Face 下载）。

**GPU。** Linux 上默认装 CPU 版 torch，换成 CUDA 版只需一次：`.venv/bin/uv pip install --python .venv/bin/python --reinstall-package torch torch==2.13.0`。设备与精度随硬件自动选择。

**Colab。** 每个配方顶部有按钮，第一个单元格会取来本书并补齐依赖。**conda。** `conda env create -f environment.yml`。

## 出错时

先运行 `make doctor`：它打印排查要用的全部信息，不含密钥。常见情况：

| 提示 | 怎么办 |
|---|---|
| `The book needs Python 3.11 or newer` | 另装一个新版本并指明：`make run PYTHON=python3.12` |
| ``This Python has no `ensurepip` module`` | Debian、Ubuntu：`apt install python3.11-venv` |
| `The package index ... cannot be reached` | 有代理就设 `HTTPS_PROXY`，用镜像就设 `PIP_INDEX_URL`；torch 的镜像用 `make setup TORCH_INDEX=...` |
| `Running as root is not recommended` | 容器里用 `make lab LAB="--allow-root --no-browser"`，再打开它打印的地址 |
| `No module named 'utils'`（编辑器里） | 内核选错了，选 `.venv` 的 |
| ``RuntimeError: `import utils` must come before transformers`` | 重启内核，从头运行 |
| `redis-server is not installed` | 5.7 至 5.11 要启动真实的服务：`make servers` |
| `No room for ...`、`The installation needs 4 GB` | 腾出空间，或用 `COOKBOOK_CACHE` 把模型放到别的磁盘 |
| `... is damaged` | `.venv/bin/python -m utils.models --repair` |
| `... refuses the key in OPENAI_API_KEY (401)` | 换对的密钥，或取消 `OPENAI_BASE_URL` 与 `OPENAI_MODEL`，改用本机模型 |

其余见[英文版](README.md#when-something-fails)。

## 尚未验证

全部在 Linux（x86-64，Python 3.11）上执行过。macOS、ARM、CUDA、真实的 Colab、conda 环境、GitHub 上的工作流、5.10 的容器镜像都还没有真正跑过，逐项说明见[英文版](README.md#what-is-untested)。Windows 请用 WSL 2。

欢迎贡献新配方，写法见 [CONTRIBUTING.md](CONTRIBUTING.md)（英文）。代码用 Apache-2.0 许可（[LICENSE](LICENSE)），文字和图用 CC BY 4.0（[LICENSE-TEXT](LICENSE-TEXT)）。
"""
