# Two commands on a fresh machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# Colab has Python 3.12 or 3.13, and older versions of everything.
PYTHON_COLAB ?= python3.12
COLAB := .venv-colab
# The tests import what a wheel holds, and not the folder that is beside them.
WHEEL := $(CURDIR)/build/wheel
PACKAGED := pyproject.toml README.md LICENSE $(shell find jaxflow -type f ! -name '*.pyc')
# A worker a processor, also where two share a core; each takes some 3 GiB.
PYTEST := -m pytest -n logical --maxprocesses 8 --dist worksteal
TEST := JAXFLOW_WHEEL="$(WHEEL)" PYTHONPATH="$(WHEEL):$(CURDIR)" $(BIN)/python -P $(PYTEST)

.PHONY: demo docs test test-slow test-all test-colab notebooks accelerator lint clean

demo: .venv/demo.stamp
	$(BIN)/jaxflow demo

test: build/wheel.stamp
	$(TEST) --durations=40

# What `make test-all` holds beyond `make test`.
test-slow: build/wheel.stamp
	$(TEST) -m slow --durations=40

test-all: build/wheel.stamp
	$(TEST) -m ""

test-colab: $(COLAB)/test.stamp
	$(COLAB)/bin/python $(PYTEST)

# Executes the notebooks that are not stored as their sources are; goes on where it stopped.
notebooks: .venv/test.stamp
	$(BIN)/python experiments/notebooks.py $(OPTIONS)

# The site, in build/site; a warning is an error.
docs: .venv/docs.stamp
	JAX_PLATFORMS=cpu $(BIN)/sphinx-build -q -W --keep-going -c colabs/site colabs build/site

# Checks and times the device that JAX sees, in eight minutes; OPTIONS=--small tries it.
accelerator: .venv/test.stamp
	$(BIN)/python experiments/bench/accelerator.py $(OPTIONS)

lint: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

clean:
	rm -rf .venv $(COLAB) build .jax_cache .pytest_cache .ruff_cache

.venv/%.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -e '.[$*]'
	touch $@

build/wheel.stamp: .venv/test.stamp $(PACKAGED)
	rm -rf $(WHEEL)
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation --target $(WHEEL) .
	touch $@

$(COLAB)/test.stamp: pyproject.toml tests/constraints-colab.txt
	test -x $(COLAB)/bin/python || $(PYTHON_COLAB) -m venv $(COLAB)
	$(COLAB)/bin/python -m pip install -q --upgrade pip
	$(COLAB)/bin/python -m pip install -q -c tests/constraints-colab.txt -e '.[test]'
	touch $@
