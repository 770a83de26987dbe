# Each target sets up what it needs, in .venv beside this file. PYTHON chooses the interpreter: make test PYTHON=python3.12
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Anything to hand to the command: make train ARGS="--epochs 2"
ARGS   ?=
# What `make test` installs beside pyconv; "test,peers" adds PyTorch, which more tests then compare with
EXTRAS ?= test

SOURCES := setup.py pyproject.toml $(wildcard pyconv/*.pyx pyconv/*.pxd pyconv/*/*.pyx pyconv/_kernels/*.[ch])

.PHONY: help train test bench docs lint format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "pyconv needs Python 3.11 or newer; choose one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp a set of extras: pip runs again when the sources or the set change.
$(VENV)/.installed-%: $(BIN)/python $(SOURCES)
	@echo "setting up $(VENV) and building pyconv (a minute or two the first time)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable $(if $(filter run,$*),.,'.[$*]')
	@touch $@

train: $(VENV)/.installed-run  ## train on synthetic faces with the model fer: the main job
	$(BIN)/python -m pyconv.train $(ARGS)

test: $(VENV)/.installed-$(EXTRAS)  ## run the tests
	$(BIN)/python -m pytest tests $(ARGS)

bench: $(VENV)/.installed-test,peers  ## run the benchmarks
	$(BIN)/python -m pytest bench --benchmark-only $(ARGS)

docs: $(VENV)/.installed-docs  ## build the documentation into docs/_build/html; warnings are errors
	MPLBACKEND=agg $(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	$(BIN)/python -m sphinx -W -q -b doctest docs docs/_build/doctest
	$(BIN)/python -m sphinx -W -q -b linkcheck -D linkcheck_ignore='https?://.*' docs docs/_build/linkcheck  # no network

lint: $(VENV)/.installed-lint  ## check style, types and the layer rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" cython-lint --max-line-length=120 pyconv  # it looks for pycodestyle on PATH
	$(BIN)/clang-format --dry-run -Werror $(wildcard pyconv/_kernels/*.[ch])
	$(BIN)/mypy

format: $(VENV)/.installed-lint  ## put the sources into the house's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(wildcard pyconv/_kernels/*.[ch])

clean:  ## remove the environment and what was built
	rm -rf $(VENV) build pyconv/*.so pyconv/_cpu.c *.egg-info
