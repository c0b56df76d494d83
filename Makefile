# make run: install into .venv, then run the default testbed.   make test: install, then run all tests.
PYTHON ?= python3
ARGS ?=
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: run test check docs install clean

run: install
	$(VENV)/bin/jetbed run $(ARGS)

test: install
	$(VENV)/bin/python -m pytest -n 2 $(ARGS)

docs: install
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" scripts/docs

check: install
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" scripts/check

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jetbed needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev,docs]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
