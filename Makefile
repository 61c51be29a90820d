# Two commands: `make demo` runs the main job, `make test` passes the tests; both set up first.
PYTHON ?= python3.11
BIN := .venv/bin
RECIPE ?= retail
# not in the lock: which build it is, and with which CUDA libraries, is the machine's choice
TORCH ?= torch==2.13.0
STAMP := .venv/.installed
# set, as container images like to, every process would compile thousands of modules again
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo compare test test-long check ui base-model gpu-check clean
.DEFAULT_GOAL := help

help:
	@echo "make demo        set up, then the whole line on the embedded default (9 to 14 minutes)"
	@echo "make test        set up, then the tests (8 to 15 minutes)"
	@echo "make test-long   the tests of kills, rounds, several processes and machines (18 to 25 minutes)"
	@echo "make compare     every way to train, three seeds, then its tables and curves (hours, resumable)"
	@echo "make ui          the Prefect and MLflow pages of your runs, on loopback"
	@echo "make check       ruff, mypy, import-linter"
	@echo "make gpu-check   the trainer on one GPU, with torch and transformers alone (no set-up)"
	@echo "make base-model  train the embedded default's base model again (25 to 40 minutes); RECIPE=shell, repo, web: for another domain"

setup: $(STAMP)

$(STAMP): infra/lock.txt pyproject.toml
	@echo "Installing into .venv (about 5 GB, a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile $(TORCH)
	@split -n r/4 infra/lock.txt .venv/lock. && ls .venv/lock.?? | xargs -P 4 -I{} \
		$(BIN)/python -m pip install -qq --disable-pip-version-check \
		--no-compile --no-deps --require-hashes -r {}
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python infra/check_imports.py
	@touch $(STAMP)

demo: setup
	@$(BIN)/python -m pivotrl.mini.write
	@$(BIN)/pivotrl run configs/mini.toml

compare: setup
	@$(BIN)/python -m pivotrl.mini.write
	@$(BIN)/python bench/compare.py

test: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-long: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m long

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

ui: setup
	@$(BIN)/pivotrl ui

GPU_PYTHON ?= python3
gpu-check:
	@$(GPU_PYTHON) bench/gpu_check.py

base-model: setup
	@rm -rf build/base-model
	@$(BIN)/python -m pivotrl.mini.base_model --out build/base-model --recipe $(RECIPE)
	@echo "to ship it: copy build/base-model over pivotrl/mini/model (retail) or pivotrl/mini/model_shell, model_repo"

clean:
	rm -rf .pivotrl build *.egg-info
