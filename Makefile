# make demo   the whole way on a real table: environment, installation, report
# make test   the tests (without the slow ones), environment included
#
# PYTHON=...  another Python (3.11 or newer) to make the environment with
# ARGS=...    more arguments for pytest or the demo

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=

# Two processes of one thread each: more threads than cores make the tests slower, not faster. Tests that share fitted
# models run in one process, and what takes long comes first: see tests/conftest.py.
WORKERS ?= 2
PYTEST  := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder

PIP     := $(BIN)/python -m pip install --disable-pip-version-check --quiet
NEEDED  := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format types check docs benchmark constraints clean

help:
	@echo "make demo        run the main job on a bundled real table; the report is demo/report.html"
	@echo "make test        run the tests without the slow ones"
	@echo "make test-all    run all tests"
	@echo "make lint types  check style and types"
	@echo "make format      mend style"
	@echo "make docs        build the documentation into docs/_build/html"
	@echo "make benchmark   measure what the README states"
	@echo "make clean       remove the environment and everything built"

demo: $(VENV)/.stamp-demo
	$(BIN)/fairsynth demo -o demo $(ARGS)

test: $(VENV)/.stamp-dev
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(VENV)/.stamp-dev
	$(PYTEST) $(ARGS)

lint: $(VENV)/.stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.stamp-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.stamp-dev
	$(BIN)/mypy

check: lint types test

docs: $(VENV)/.stamp-docs
	$(BIN)/sphinx-build -b html -W --keep-going -j auto docs docs/_build/html

benchmark: $(VENV)/.stamp-dev
	$(BIN)/python -m benchmarks $(ARGS)

# Pins of everything that is installed now: run it after trying newer versions.
constraints: $(VENV)/.stamp-dev $(VENV)/.stamp-docs
	@grep '^#' constraints.txt > $(VENV)/constraints.txt
	@$(BIN)/python -m pip freeze --exclude-editable --disable-pip-version-check | sed 's/+cpu$$//' >> $(VENV)/constraints.txt
	@mv $(VENV)/constraints.txt constraints.txt
	@touch $(VENV)/.stamp-*

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "fairsynth needs Python 3.11 or newer; '$(PYTHON)' is $$({ $(PYTHON) --version || echo absent; } 2>&1 | head -n 1)."; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "The environment could not be made. On Debian and Ubuntu: apt install python3-venv"; exit 1; }

# Installed again only when what is needed has changed. The extra is the stamp's name.
$(VENV)/.stamp-%: $(NEEDED) | $(VENV)/bin/python
	@echo "Installing fairsynth[$*] into $(VENV) (some minutes the first time)"
	@$(PIP) -c constraints.txt -e ".[$*]"
	@touch $@

clean:
	rm -rf $(VENV) build dist demo docs/_build docs/auto_examples docs/sg_execution_times.rst
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
