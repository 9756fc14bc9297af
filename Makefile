# `make report` sets up, runs small forms of the experiments beside the committed tables, and writes the page (QUICK=1:
# a first look); `make experiments` runs them in full; `make test` sets up and tests.

PYTHON ?= python3
# Work runs side by side in processes, one thread each.
export OMP_NUM_THREADS ?= 1

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: report experiments theory test check bench gpu fuzz mutants faults coverage versions audit fresh clean

report: $(STAMP)
	$(BIN)/python -m experiments

experiments: $(STAMP)
	$(BIN)/python -m experiments experiments

theory: $(STAMP)
	$(BIN)/python -m experiments theory

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py

# BENCH="simulation scaling" runs those alone; QUICK=1 small sizes.
bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python -m experiments.benchmarks $(BENCH)

gpu: $(STAMP)
	$(BIN)/python -m experiments.gpu

# torch is pinned by the constraints to a build that needs no GPU; the file is written last, so that an
# interrupted installation is begun again.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all]"
	touch $@

# What is too long for `make test`; each keeps its figures in tests/campaigns/results, and most go on where they were
# stopped. `python -m tests.campaigns.note` then writes paper_notes/reliability.md.
fuzz: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[fuzz]"
	$(BIN)/python -m tests.campaigns.fuzz $(FUZZ)

mutants: $(STAMP)
	$(BIN)/python -m tests.campaigns.mutants $(MUTANTS)

faults: $(STAMP)
	$(BIN)/python -m tests.campaigns.faults
	$(BIN)/python -m tests.campaigns.limits

coverage: $(STAMP)
	$(BIN)/python -m tests.campaigns.branches

# PYTHONS="--python 3.12=PATH --python 3.13=PATH" adds their interpreters.
versions: $(STAMP)
	$(BIN)/python -m tests.campaigns.versions $(PYTHONS)

audit: $(STAMP)
	$(PYTHON) -m venv runs/audit
	runs/audit/bin/python -m pip install --quiet pip-audit
	$(BIN)/python -m tests.campaigns.audit --tool runs/audit/bin/pip-audit

fresh: $(STAMP)
	$(BIN)/python -m tests.campaigns.fresh_clone

clean:
	rm -rf $(VENV) report runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
