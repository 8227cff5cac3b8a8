# The book's few commands; `make help` lists them.

PYTHON      ?= python3             # any Python >= 3.11; it only makes .venv
LOCK        ?= requirements.lock   # empty: the newest releases instead
TORCH_INDEX ?=                     # another source of torch's CPU build for Linux
RECIPE      ?=
SEED        ?=
WITHIN      ?=                     # minutes for the recipes that a change has not touched

FLAGSHIP := 02_rag/01_rag_from_scratch
BOOK     := .venv/bin/python -m utils.book
PYTEST   := .venv/bin/python -m pytest

.PHONY: help run test tests recipes execute compare tests-network tests-offline lab setup servers vllm doctor new-recipe update site site-serve clean-notebooks lock set-repository

help:  ## list these commands
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

setup:  ## create .venv from the lock and get the models; nothing if that is done
	@$(PYTHON) utils/book/install.py --lock "$(strip $(LOCK))" --torch-index "$(strip $(TORCH_INDEX))"
	@.venv/bin/python -m utils.models

servers:  ## install Redis, Prometheus and nginx for chapter 5, with apt-get or brew
	@$(PYTHON) -m utils.servers

vllm: setup  ## measure vLLM for recipe 5.5 (Linux), in an environment of its own of 3 GB
	@$(PYTHON) -m venv .venv-vllm
	@.venv-vllm/bin/python -m pip install -q -r 05_deployment/serving/vllm-requirements.txt
	@.venv-vllm/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec
	@.venv/bin/python 05_deployment/serving/measure_vllm.py

run: setup  ## execute a recipe and show its results [RECIPE=4.1]
	@$(BOOK) run $(or $(RECIPE),$(FLAGSHIP)) --show

test: setup  ## run every recipe and every test, the network off [RECIPE=02_rag] [SEED=7] [WITHIN=minutes]
	@$(MAKE) --no-print-directory --keep-going recipes tests

tests: setup  ## run the tests alone
	@$(MAKE) --no-print-directory --keep-going tests-network tests-offline

# Each step runs though one before it failed (--keep-going); the call fails in the end.
recipes:
	@$(BOOK) offline -- $(MAKE) --no-print-directory --keep-going execute compare

execute:
	@$(BOOK) run $(RECIPE) $(if $(SEED),--seed $(SEED)) $(if $(WITHIN),--within $(WITHIN))

compare:
	@$(if $(SEED),,$(BOOK) compare $(RECIPE) $(if $(WITHIN),--executed))

tests-network:
	@$(if $(RECIPE),,$(PYTEST) -m network)

tests-offline:
	@$(BOOK) offline -- $(PYTEST) -m "not network" -n 2 --dist loadfile --no-loadscope-reorder

lab: setup  ## open JupyterLab on the book [LAB=--allow-root, or any other option]
	@.venv/bin/jupyter lab $(LAB)

doctor:  ## print what a bug report needs
	@$(firstword $(wildcard .venv/bin/python) $(PYTHON)) -m utils.book doctor

new-recipe: setup  ## start a recipe: CHAPTER=02_rag AT=3 NAME=query_rewriting
	@$(BOOK) new-recipe "$(CHAPTER)" "$(NAME)" $(if $(AT),--at $(AT))

update: setup  ## execute recipes and write their outputs and figures into the book [RECIPE=...]
	@$(BOOK) update $(RECIPE)

site: setup  ## build the web site in build/site/html
	@$(BOOK) site

site-serve: setup  ## build the web site and serve it [PORT=8000]
	@$(BOOK) site --serve $(or $(PORT),8000)

clean-notebooks: setup  ## normalise the notebooks for committing
	@$(BOOK) clean

lock: setup  ## pin the dependencies of pyproject.toml anew [UPGRADE=1] [TORCH=2.13.0]
	@$(BOOK) lock $(if $(UPGRADE),--upgrade) $(if $(TORCH),--torch $(TORCH))

set-repository: setup  ## write the repository's address into badges and cells [URL=https://github.com/...]
	@$(BOOK) set-repository $(URL)
