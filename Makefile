# make run: from a fresh checkout to a table, figures, and a page (report.html) that shows everything.
# make test: the fast tests, in parallel (WORKERS=N: in at most N processes).
# make figures: figures, tables and verdicts of every study, from the published records.
VENV ?= .venv
PYTHON := $(VENV)/bin/python
# Each test process imports torch and transformers and holds 1 to 2 GB.
WORKERS ?= 4
# Of `make mutants`: mutations in the sample, and its seed.
COUNT ?= 300
SEED ?= 1

.PHONY: run figures figures-of-studies figures-of-paper test test-faults test-mutants mutants test-all lint format bench clean

run: $(VENV)/run.stamp
	$(PYTHON) -m lorax_lab.run rank=4,8,16 -m
	$(PYTHON) -m analysis
	@echo
	@echo "To go on in this shell, activate the environment first:"
	@echo "  source $(VENV)/bin/activate"
	@echo "  python -m lorax_lab.run --help"
	@echo
	$(PYTHON) -m analysis report

# Its two parts run side by side.
figures: $(VENV)/run.stamp
	$(MAKE) --no-print-directory -j 2 figures-of-studies figures-of-paper

figures-of-studies: $(VENV)/run.stamp
	$(PYTHON) -m analysis study

figures-of-paper: $(VENV)/run.stamp
	$(PYTHON) -m analysis paper

test: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n logical --maxprocesses $(WORKERS) --dist loadfile \
	  -m "not network and not slow and not gpu and not faults"

test-faults: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n logical --maxprocesses 2 -m faults

# Sixty mutations of the code that no test saw once: each is made, and a test has to fail. Some minutes.
test-mutants: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(PYTHON) tests/nightly/mutants/known.py

# A random sample of all mutations, and how many of them the tests see. Hours; it goes on where it was interrupted.
mutants: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(PYTHON) tests/nightly/mutants/sample.py --count $(COUNT) --seed $(SEED)

test-all: $(VENV)/test.stamp
	$(PYTHON) -m pytest

lint: $(VENV)/dev.stamp
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format: $(VENV)/dev.stamp
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

bench: $(VENV)/test.stamp
	$(PYTHON) -m benchmarks

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
