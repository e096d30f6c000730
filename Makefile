# Needs only python3 (>= 3.11) and make; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check install clean

demo: .venv/installed  ## install, then run the whole job on small synthetic datasets
	$(BIN)/moe demo

test: .venv/installed  ## install, then run the tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

check: .venv/installed  ## formatting, lint, types
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "moe needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
