# Two commands on a fresh machine: `make demo` shows the benchmark at work, `make test` passes its tests.
# Everything they need is made here: a virtual environment in .venv with pinned packages.
PYTHON ?= python3
PY := .venv/bin/python
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count())')

GAMES := --env 'xor-*' 'mne-*' 'bridge-*'
PARTS := --env xor-ab_ba mne-imbalanced bridge-mix
OUT ?= results
PRESET ?= full
RUN := $(PY) run_benchmark.py --workers $(WORKERS)

.DEFAULT_GOAL := help
.PHONY: help setup data cards demo reproduce ablations tables test test-slow test-faults test-slurm bench

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; name one with PYTHON=python3.12"; exit 1; }
	@echo "installing the pinned packages into .venv (a few minutes, once)"
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r constraints.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch .venv/ready

setup: .venv/ready ## the virtual environment with all packages

data: setup ## build the datasets (also done on first use)
	$(PY) -m datasets build

demo: setup ## InSPO and BC on XOR, M-NE and Bridge, 5 seeds: table and figures in results/
	$(RUN) --algo inspo bc $(GAMES) --seeds 5
	@$(MAKE) --no-print-directory tables

# all cells of a preset, and the ablations
CELLS = $(RUN) --preset $(PRESET) --out results/$(PRESET)
reproduce: setup ## everything registered, then tables, figures, report in results/$(PRESET); PRESET=quick (hours on two cores) or full
	$(CELLS) --dry-run
	$(CELLS)
	@$(MAKE) --no-print-directory ablations tables OUT=results/$(PRESET) RUN="$(RUN) --preset $(PRESET)" SEEDS=

cards: setup ## describe all datasets: datasets/CARDS.md (builds those that are not there)
	$(PY) -m plots.dataset_cards

tables: setup ## tables, figures and the report from the CSV files alone (of another folder: OUT=results/quick)
	$(PY) -m plots.tables --out $(OUT)
	$(PY) -m plots.figures --out $(OUT)
	$(PY) -m plots.report --out $(OUT)

SEEDS ?= --seeds 10
PART = $(RUN) --algo inspo $(SEEDS) --out $(OUT)
ablations: setup ## what each part of InSPO is worth, 10 seeds: results/tables/ablation-games.md
	$(PART) $(PARTS)
	$(PART) $(PARTS) --set sequential=false
	$(PART) $(PARTS) --set behavior=factored
	$(PART) $(PARTS) --set resample=false
	$(PART) --env mne-imbalanced --set beta=0
	$(PY) -m plots.tables --out $(OUT)

test: setup ## the tests (on two cores some minutes)
	$(PY) -m ruff check .
	$(PY) -m pytest -n auto --maxprocesses 8

test-slow: setup ## the tests that take long: every method compiled
	$(PY) -m pytest -m slow

test-faults: setup ## 200 faults in a random sweep: no row is lost (some minutes)
	$(PY) -m pytest -m slow tests/running/test_faults.py -s

test-slurm: setup ## a sweep on a real SLURM of one node; installs Debian's packages, needs root
	apt-get install -y --no-install-recommends slurm-wlm munge
	$(PY) -m pytest -m slurm tests/running/test_slurm.py

bench: setup ## how fast it is: results/bench.csv
	$(PY) -m tools.speed
