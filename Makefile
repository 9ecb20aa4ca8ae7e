# Everything runs in .venv, which is made as needed: see `make help`.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
K2_VENV := .venv-k2
# Where torch and torchaudio come from, if not from where pip takes all packages: pytorch.org's index of CPU builds, say.
TORCH_INDEX :=
COMMA := ,

.PHONY: help install demo test test-all test-gpu test-k2 lint bench

help:  ## list what there is
	@sed -n 's/^\([a-z0-9-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

install: $(INSTALLED)  ## make .venv with all that is needed

demo: $(INSTALLED)  ## from synthetic speech to the report, in minutes: recipes/synthetic/run.sh
	recipes/synthetic/run.sh

# A process for each core (8 at most: each takes about 1 GB), of one thread each.
TEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal

test: $(INSTALLED)  ## run the tests that take seconds each
	$(TEST) -m "not slow"

test-all: $(INSTALLED)  ## run all tests: kills, several processes and whole recipes, too
	$(TEST)

test-gpu: $(INSTALLED)  ## compare what runs on a GPU with the same on the CPU, where there is a GPU
	OMP_NUM_THREADS=1 TEST_ON_GPU=1 $(VENV)/bin/python -m pytest -rs tests/test_on_gpu.py

test-k2: $(INSTALLED)  ## run k2's tests, on Python 3.9 in .venv-k2 (PYTHON39=/path/to/python3.9)
	local/k2_environment.sh $(K2_VENV)
	$(VENV)/bin/python tests/with_k2/write_cases.py $(K2_VENV).cases
	K2_CASES=$(K2_VENV).cases $(K2_VENV)/bin/python -m pytest -c tests/with_k2/pytest.ini tests/with_k2 \
	  tests/test_recognise_words.py

bench: $(INSTALLED)  ## the engine beside the obvious formulation; writes bench.json (10 minutes, nothing else running)
	$(VENV)/bin/python local/bench.py $(ARGS)

lint: $(INSTALLED)  ## ruff, mypy and shellcheck
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/shellcheck .ci/run $$(find recipes local -name '*.sh')

# The stamp comes last, so that an environment without it, which is one that an error or ctrl-C left half made, is
# made anew.
$(INSTALLED): setup.cfg pyproject.toml
	@command -v $(PYTHON) > /dev/null || \
	  { echo "There is no $(PYTHON): install Python 3.10 or newer, or name yours: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed, and $(PYTHON) is $$($(PYTHON) -V 2>&1); name another: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
	  { echo "$(PYTHON) lacks its venv module; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@rm -f $@
	@echo "Installing into $(CURDIR)/$(VENV): $(if $(TORCH_INDEX),torch and torchaudio from $(TORCH_INDEX)$(COMMA) and about 0.5 GB of other packages,about 3 GB to download$(COMMA) 6 GB on disk; without a GPU see README$(COMMA) Install)"
	$(PYTHON) -m venv --clear $(VENV)
	$(if $(TORCH_INDEX),$(VENV)/bin/python -m pip install --disable-pip-version-check -q torch torchaudio --index-url $(TORCH_INDEX))
	$(VENV)/bin/python -m pip install --disable-pip-version-check -q -e '.[align,analysis,asr,hub,dev]'
	@touch $@
