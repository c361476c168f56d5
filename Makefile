# `make bench` on a fresh clone needs python3 (3.11 or newer) and a package index, nothing else.
PYTHON ?= python3
UV_VERSION := 0.13.8
LOCK_FILE := requirements.lock

BIN := .venv/bin
# The stamps carry Python's and uv's version, so that another PYTHON gets a new environment and not the old one.
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
UV := .venv/.uv-$(UV_VERSION)-python-$(PYTHON_VERSION)
READY := .venv/.ready-$(UV_VERSION)-python-$(PYTHON_VERSION)

.DEFAULT_GOAL := help
.PHONY: help setup bench test alone benchmarks lint typecheck lock overhead screenshots clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Set up .venv

bench: $(READY) ## Compare three stacks on any machine, within minutes
	@$(BIN)/ttsbench run quickstart

test: $(READY) ## Run the tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile

alone: $(READY) ## Run the tests that need the machine to themselves, about 75 minutes
	@$(BIN)/python -m pytest -m alone

benchmarks: $(READY) ## Check what must be fast, as ratios to a reference in the same run; results in .benchmarks/
	@$(BIN)/python -m pytest tests/benchmarks --benchmark-autosave

lint: $(READY) ## Check style, formatting, and who imports whom
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-logo

typecheck: $(READY) ## Check the types, strictly
	@$(BIN)/mypy

lock: $(UV) ## Bring requirements.lock in step with pyproject.toml (UPGRADE=--upgrade: and up to date)
	@$(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --extra dev --generate-hashes \
	  --custom-compile-command 'make lock' $(UPGRADE) --output-file $(LOCK_FILE)

overhead: $(READY) ## Show that the harness does not slow down what it measures
	@$(BIN)/ttsbench overhead

screenshots: $(READY) ## Draw the README's pictures (RUN=runs/quickstart-… PROFILE=runs/quickstart-…-profile-…)
	@$(BIN)/python tests/screenshots.py $(RUN) $(PROFILE) docs/images

clean: ## Remove the environment, builds and caches; runs/ stays
	rm -rf .venv .benchmarks build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "ttsbench needs Python 3.11 or newer, and '$(PYTHON)' is $(or $(PYTHON_VERSION),not there); name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

# Compiled now, since an environment that may not write bytecode would compile torch and transformers at every start.
# --no-deps: the lock is complete, and what Chatterbox's wheel asks for is overridden in pyproject.toml.
$(READY): $(UV) requirements.lock pyproject.toml
	@echo "Setting up .venv with Python $(PYTHON_VERSION) (some minutes the first time) ..."
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --no-deps --requirement requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
