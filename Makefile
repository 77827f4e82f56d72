# Two commands for a newcomer: `make demo` and `make test`. Each builds .venv first; only Python 3.10+ and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1

DEMO_OUT ?= runs/demo
DEMO_OPTIONS ?=

.PHONY: demo test lint format coverage clean help

help:
	@echo "make demo      train, score and report on the embedded phantom (under 5 minutes on 2 cores); ends with the report's path"
	@echo "make test      run the test suite (under 12 minutes on 2 cores)"
	@echo "make lint      ruff and mypy"
	@echo "make coverage  the suite with a coverage table"
	@echo "make format    rewrite the code in the house format"
	@echo "make clean     remove the environment, caches and runs"

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Threads that wait must sleep: spinning ones slow small networks several times where others want the cores too.
demo: $(INSTALLED)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} OMP_WAIT_POLICY=$${OMP_WAIT_POLICY:-PASSIVE} \
		$(BIN)/monai-ctmri demo --out $(DEMO_OUT) $(DEMO_OPTIONS)

# Two test workers already fill two cores.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

coverage: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --cov --cov-report term-missing

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .coverage htmlcov runs
