# make demo: sets up .venv, trains and evaluates the small model on the built-in scenes.
# make test: sets up .venv and runs the tests.       PYTHON=python3.12 chooses the interpreter.

SHELL := /bin/bash
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for python in .venv/bin/python python3.11 python3.12 python3 python; do \
	$$python -c '$(NEW_ENOUGH)' 2> /dev/null && echo $$python && break; done)
endif
VERSION := $(shell $(or $(PYTHON),false) -c \
	'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null)
BIN := .venv/bin
# Made anew when the interpreter, the dependencies or the list of packages change.
STAMP := .venv/installed-$(VERSION)
PYTEST := HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

.PHONY: demo test test-all lint format clean

demo: $(STAMP)
	@$(BIN)/python -m locvlm.demo

test: $(STAMP)
	@$(PYTEST)

test-all: $(STAMP)
	@$(PYTEST) -m "not gpu and not net"

lint: $(STAMP)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(STAMP)
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

clean:
	rm -rf .venv build dist

$(STAMP): pyproject.toml setup.cfg
	@test -n "$(PYTHON)" || { \
		echo "error: locvlm needs Python 3.11 or newer, none was found" >&2; \
		echo "  fix:   install python3.11 or python3.12, or name one: make PYTHON=/path/to/python" >&2; \
		exit 1; }
	@"$(PYTHON)" --version > /dev/null 2>&1 || { \
		echo "error: $(PYTHON) does not run" >&2; \
		echo "  fix:   give a Python of 3.11 or newer: make PYTHON=/path/to/python" >&2; \
		exit 1; }
	@"$(PYTHON)" -c '$(NEW_ENOUGH)' || { \
		echo "error: locvlm needs Python 3.11 or newer, $(PYTHON) is $$("$(PYTHON)" --version 2>&1)" >&2; \
		echo "  fix:   give a newer one: make PYTHON=python3.12" >&2; \
		exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "error: $(PYTHON) cannot make virtual environments: it has no venv or no ensurepip" >&2; \
		echo "  fix:   on Debian and Ubuntu: apt-get install $$(basename $(PYTHON))-venv" >&2; \
		exit 1; }
	@echo "Setting up .venv (Python $(VERSION)); the first time downloads a few GB."
	@$(BIN)/python -c 'import pip, sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(VERSION)")' \
		2> /dev/null || "$(PYTHON)" -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
