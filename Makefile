# Targets work from a fresh clone and from any later state; see README.md.
#   PYTHON  the interpreter that makes the environment (3.11 or newer)
#   TORCH   a pip requirement in place of the pinned CPU build: make demo TORCH=torch==2.14.1
#   VENV    where the environment is
PYTHON ?= python3
TORCH ?=
VENV ?= .venv
PY := $(VENV)/bin/python

# Another checkout or another interpreter's packages must not leak into the environment.
unexport PYTHONPATH PYTHONHOME

.PHONY: help env demo test test-all conformance lint format types bench wheel wheel-test clean
.DEFAULT_GOAL := help

help:
	@echo "make demo         train, compile and run 24 small classifiers"
	@echo "make test         the tests, without the slow ones"
	@echo "make test-all     those too"
	@echo "make conformance  ONNX node tests, with both counts"
	@echo "make lint types   ruff; mypy --strict"
	@echo "make format       rewrite sources the way lint wants them"
	@echo "make bench        side-by-side benchmarks (minutes; rows in bench/results)"
	@echo "make wheel        dist/fusec-*.whl"
	@echo "make wheel-test   install that wheel elsewhere and use it"
	@echo "make clean        remove what the other targets made"

env:
	@$(PYTHON) tools/environment.py --venv "$(VENV)" --torch "$(TORCH)"

demo: env
	@$(PY) -m fusec demo

test: env
	@$(PY) -m pytest

test-all: env
	@$(PY) -m pytest -m ""

conformance: env
	@$(PY) -m pytest tests/conformance -m "" --capture=no

lint: env
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

format: env
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

types: env
	@$(PY) -m mypy
	@$(PY) -m mypy tools/*.py bench/*.py

bench: env
	@$(PY) -m fusec bench

# A stale build folder would put deleted modules back into the wheel.
wheel: env
	@rm -rf build dist
	@$(PY) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf build
	@ls dist/*.whl

wheel-test: wheel
	@$(PY) tools/try_wheel.py dist --torch "$(TORCH)"

clean:
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
