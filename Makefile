# Two commands on a fresh machine: `make demo` shows the benchmark at work, `make test` passes its tests.
# Each sets up what it needs: a virtual environment in .venv with pinned packages, and the datasets.
PYTHON ?= python3
PY := .venv/bin/python
WORKERS ?= $(shell P=$(PY); [ -x $$P ] || P=$(PYTHON); $$P -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')

PARTS := --env xor-ab_ba mne-imbalanced bridge-mix
OUT ?= results
PRESET ?= full
RUN = $(PY) run_benchmark.py --workers $(WORKERS)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup data cards demo reproduce ablations rerun tables pages docs test test-slow test-faults test-fuzz test-slurm bench

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; name one with PYTHON=python3.12"; exit 1; }
	@echo "installing the pinned packages into .venv (a few minutes, once)"
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r constraints.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	mkdir -p .venv/types && ln -sfn ../.. .venv/types/inspo_benchmark
	@touch .venv/ready

setup: .venv/ready ## create the virtual environment with all packages
ifneq ($(origin PYTHON),file)
	@[ "$$($(PYTHON) -c 'import sys; print(sys.version_info[:2])')" = "$$($(PY) -c 'import sys; print(sys.version_info[:2])')" ] || { echo "error: .venv has another Python than $(PYTHON); delete .venv and repeat the command"; exit 1; }
endif

data: setup ## build all published datasets (each is also built on first use)
	$(PY) -m datasets build

demo: setup ## train InSPO and BC on two games and a StarCraft task, 3 seeds: tables, figures and a battle in results/demo
	$(RUN) --preset demo --algo inspo bc --out results/demo
	@$(MAKE) --no-print-directory tables OUT=results/demo
	$(PY) -m tools.render_smac 5m_vs_6m --policy "$$(ls -t results/demo/runs/inspo/5m_vs_6m-medium-*.policies | head -n 1)" --out results/demo/battle.gif

# all experiments of a preset, and the ablations
EXPERIMENTS = $(RUN) --preset $(PRESET) --out results/$(PRESET)
reproduce: setup ## run the whole benchmark into results/PRESET, with PRESET=quick (half an hour on two cores) or full (default)
	$(EXPERIMENTS) --dry-run
	$(EXPERIMENTS)
	@$(MAKE) --no-print-directory ablations tables OUT=results/$(PRESET) RUN="$(RUN) --preset $(PRESET)" SEEDS=

cards: setup ## write the dataset cards, datasets/CARDS.md (builds missing datasets)
	$(PY) -m plots.dataset_cards

tables: setup ## make tables, figures and the report from the CSV files in OUT (default: results)
	$(PY) -m plots.tables --out $(OUT)
	$(PY) -m plots.figures --out $(OUT)
	$(PY) -m plots.report --out $(OUT)

pages: setup ## generate README's tables and the generated pages of docs/ from code and results
	$(PY) -m tools.docs.readme
	$(PY) -m tools.docs.hyperparameters
	$(PY) -m tools.docs.methods

docs: setup ## build the site of the documentation: site/index.html
	$(PY) -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

SEEDS ?= --seeds 10
PART = $(RUN) --algo inspo $(SEEDS) --out $(OUT)
ablations: setup ## run the ablations of InSPO, 10 seeds: results/tables/ablation-games.md
	$(PART) $(PARTS)
	$(PART) $(PARTS) --set sequential=false
	$(PART) $(PARTS) --set behavior=factored
	$(PART) $(PARTS) --set resample=false
	$(PART) $(PARTS) --set refresh=turn
	$(PART) --env mne-imbalanced --set beta=0
	$(PY) -m plots.tables --out $(OUT)

rerun: setup ## run a random tenth of the results in results/reference again and compare the files (an hour on two cores)
	$(PY) -m tools.rerun --workers $(WORKERS)

test: setup ## run ruff, mypy and the tests (some minutes on two cores)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -n auto --maxprocesses 8

test-slow: setup ## run the tests that take long: every method compiled, combinations of settings, every dataset built again
	$(PY) -m pytest -m slow -n auto --maxprocesses 8 --deselect tests/running/test_faults.py::test_two_hundred_faults

test-faults: setup ## run a sweep with 200 random faults and check that no row is lost (some minutes)
	$(PY) -m pytest -m slow tests/running/test_faults.py -s

CASES ?= 2000
test-fuzz: setup ## damage files at random and check that every command works or says why not (CASES=2000 of each kind; an hour)
	FUZZ_CASES=$(CASES) $(PY) -m pytest -n auto -m fuzz tests/test_fuzz.py

test-slurm: setup ## run a sweep on a SLURM cluster of one node; installs Debian packages, needs root
	apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge
	$(PY) -m pytest -m slurm tests/running/test_slurm.py

bench: setup ## measure speed: results/bench.csv; with AGAINST=FILE, a copy of an earlier one, fail where it fell by more than 30 %
	$(PY) -m tools.speed $(if $(AGAINST),--against $(AGAINST))
