# Every target makes what it needs; a second run finds it made. `make demo PYTHON=python3.12` picks the interpreter.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: demo test test-slow export-check style style-check wheel clean

demo: $(VENV)/.demo  ## degrade five photographs, restore them, and lay them side by side under demo/
	$(BIN)/pipcli demo --overwrite $(DEMO)

test: $(VENV)/.test  ## the tests that CI runs
	$(BIN)/python -m pytest

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

export-check: $(VENV)/.test  ## export the shipped weights in every format, each beside torch
	$(BIN)/python -m pytest -m slow -k shipped tests/test_export.py

style: $(VENV)/.test  ## put the code in order, then check it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

style-check: $(VENV)/.test  ## the same, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

wheel: $(VENV)/.base  ## dist/pipcli-*.whl with the weights inside
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist $(DEMO)

# torch is by far the largest and comes by itself, so that a change of anything else does not fetch it again.
$(VENV)/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	touch $@

$(VENV)/.base: $(VENV)/.torch pyproject.toml
	$(PIP) --editable .
	touch $@

$(VENV)/.demo: $(VENV)/.base
	$(PIP) --editable '.[demo]'
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(PIP) --editable '.[demo,export,plots,test]'
	touch $@
