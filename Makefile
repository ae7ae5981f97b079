# Linux, make and Python 3.10 to 3.13 are all this needs; everything else goes into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SCRIPTS := $(wildcard recipes/*/run.sh) recipes/gpu.sh .ci/run

.PHONY: help venv demo test lint ci golden site docs-reference clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(INSTALLED)  ## Create .venv and install speechmm with all it needs (once)

demo: $(INSTALLED)  ## Make a spoken corpus, train a tiny model on it, transcribe, align, score and speak
	PATH="$(CURDIR)/$(BIN):$$PATH" recipes/synth/run.sh

test: lint  ## Run all checks, then all tests, in one process a core (four at most)
	$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

lint: $(INSTALLED)  ## Run the checks alone: format, lint, types, imports, scripts, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck $(SCRIPTS)
	$(BIN)/codespell

ci: test  ## What the continuous integration runs: the same as make test

golden: $(INSTALLED)  ## Rewrite tests/golden/*.json from the code as it is (review the diff)
	$(BIN)/pytest tests/golden --rewrite-golden

site: $(INSTALLED)  ## Build the documentation as a site in site/, without network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

docs-reference: $(INSTALLED)  ## Rewrite the pages made from the code: docs/cli/, docs/tree.md
	$(BIN)/python tools/cli_reference.py
	$(BIN)/python tools/tree.py

clean:  ## Remove .venv and the caches of the tools (never data or trained models)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build site *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An install that was cut short leaves no .installed behind, so the next make goes on with it.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1); expected Python 3.10 to 3.13." \
	    "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@free=$$(df -Pk . 2>/dev/null | awk 'NR == 2 {print int($$4 / 1e6)}'); \
	[[ -d $(VENV) ]] || (( $${free:-8} >= 8 )) || { \
	  echo "make: $$free GB are free here; expected 8, for PyTorch and the rest. Make room." >&2; exit 1; }
	@echo "Installing into $(VENV): 7 GB with PyTorch, some minutes, once."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "make: $(PYTHON) cannot make a virtual environment; expected its venv and ensurepip" \
	    "modules. Name another Python: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[synth,media,onnx,docs,dev]"
	@touch $@
