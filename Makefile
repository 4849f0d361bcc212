# Two commands on a fresh machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint notebooks clean

demo: .venv/demo.stamp
	$(BIN)/jaxflow demo

test: .venv/test.stamp
	$(BIN)/python -m pytest -n auto --dist worksteal --durations=40

test-all: .venv/test.stamp
	$(BIN)/python -m pytest -n auto --dist worksteal -m ""

lint: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

clean:
	rm -rf .venv .jax_cache .pytest_cache .ruff_cache

.venv/%.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -e '.[$*]'
	touch $@
