# table1: the paper's Table 1 on rendered faces. test: all tests. lint: style and types.
# Each makes .venv when it is missing, with uv where it is installed and with venv and pip otherwise.
# More options for table1 in ARGS: make table1 ARGS="data=affwild2 data.root=/data/Aff-Wild2".

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
ARGS ?=

.PHONY: table1 test lint

table1: $(INSTALLED)
	$(VENV)/bin/python experiments/reproduce_table1.py $(ARGS)

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest $(ARGS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Written last: an installation that was interrupted has none and starts afresh.
$(INSTALLED): pyproject.toml
	@if command -v uv >/dev/null; then \
	  set -x; [ -e $@ ] || uv venv --clear --python $(PYTHON) $(VENV); \
	  uv pip install --python $(VENV)/bin/python -e '.[dev]'; \
	else \
	  set -x; [ -e $@ ] || $(PYTHON) -m venv --clear $(VENV); \
	  $(VENV)/bin/python -m pip install --quiet -e '.[dev]'; \
	fi
	@touch $@
