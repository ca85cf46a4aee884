# table1: the paper's Table 1 on rendered faces. test: all tests. lint: style and types.
# test-browser: the report and the demo in Chromium (installed by apt if missing). test-bench: the benchmarks on tiny data.
# test-chaos: the chaos test with 30 kills instead of a few.
# bench-data, bench-train, bench-launchers, bench-logging, bench-predict: data engine, training, sweeps, loggers,
# prediction; tables in runs/bench.
# test-slurm, test-ray: sweeps on a Slurm (needs root and apt) and on a Ray that they start and end.
# Each makes .venv when it is missing, with uv where it is installed and with venv and pip otherwise.
# More options for table1 in ARGS: make table1 ARGS="data=affwild2 data.root=/data/Aff-Wild2".

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
BENCH_INSTALLED := $(VENV)/.installed-bench
ARGS ?=

.PHONY: table1 test test-bench test-browser test-chaos test-slurm test-ray lint
.PHONY: bench-data bench-train bench-launchers bench-logging bench-predict

table1: $(INSTALLED)
	$(VENV)/bin/python experiments/reproduce_table1.py $(ARGS)

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest $(ARGS)

test-bench: $(INSTALLED)
	$(VENV)/bin/python -m pytest tests/benchmarks $(ARGS)

test-chaos: $(INSTALLED)
	AUNET_KILLS=30 $(VENV)/bin/python -m pytest -n 0 --timeout 0 tests/test_chaos.py::test_chaos $(ARGS)

test-browser: $(INSTALLED)
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	  { apt-get update && apt-get install --yes --no-install-recommends chromium fonts-dejavu-core; }
	$(VENV)/bin/python -m pytest -n 0 -rs tests/test_report_browser.py tests/test_demo_browser.py $(ARGS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench-data: $(BENCH_INSTALLED)
	$(VENV)/bin/python experiments/benchmarks/data.py $(ARGS)

bench-train: $(BENCH_INSTALLED)
	$(VENV)/bin/python experiments/benchmarks/training.py $(ARGS)

bench-launchers: $(INSTALLED)
	$(VENV)/bin/python experiments/benchmarks/launchers.py $(ARGS)

bench-logging: $(INSTALLED)
	$(VENV)/bin/python experiments/benchmarks/loggers.py $(ARGS)

bench-predict: $(INSTALLED)
	$(VENV)/bin/python experiments/benchmarks/predict.py $(ARGS)

# One at a time, with the reason where they are skipped; a loaded machine needs its time.
test-slurm test-ray: test-%: $(VENV)/.installed-%
	$(VENV)/bin/python -m pytest -n 0 --timeout 1800 -rs tests/cluster/test_$*.py $(ARGS)

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

# On top, for the benchmarks only: the libraries that they compare with.
$(BENCH_INSTALLED): $(INSTALLED)
	@if command -v uv >/dev/null; then \
	  set -x; uv pip install --python $(VENV)/bin/python -e '.[dev,bench]'; \
	else \
	  set -x; $(VENV)/bin/python -m pip install --quiet -e '.[dev,bench]'; \
	fi
	@touch $@

# Likewise, each cluster's launcher; Ray's replaces cloudpickle and joblib by older releases.
$(VENV)/.installed-slurm $(VENV)/.installed-ray: $(VENV)/.installed-%: $(INSTALLED)
	@if command -v uv >/dev/null; then \
	  set -x; uv pip install --python $(VENV)/bin/python -e '.[dev,$*]'; \
	else \
	  set -x; $(VENV)/bin/python -m pip install --quiet -e '.[dev,$*]'; \
	fi
	@touch $@
