# Everything a newcomer types. `make help` is made from the ## comments.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
BENCH_STAMP := .venv/.bench-installed

.DEFAULT_GOAL := help
.PHONY: help install run test chaos lint format bench lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One install for run, test and lint; nothing is installed again while the lock and the project file stand.
$(STAMP): requirements/all.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Penstock needs Python 3.11, 3.12 or 3.13; {sys.executable} is {v[0]}.{v[1]}. Set another one: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (about a minute, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/all.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

install: $(STAMP) ## Set everything up in .venv (leaves .venv/bin/penstock)

run: $(STAMP) ## Start the whole pipeline, with the demo lab sending traffic
	@exec $(BIN)/penstock up --demo

test: $(STAMP) lint ## Run every check that CI runs (T=path runs one)
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(T)

chaos: $(STAMP) ## Play every fault scenario, three seeds, and count what is lost (A="--scenario S")
	@exec $(BIN)/penstock chaos --seed 1 --seed 2 --seed 3 $(A)

lint: $(STAMP) ## ruff, mypy, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## Lay the code out
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# The yardsticks' libraries go into the same .venv, at the versions that everything else here has.
$(BENCH_STAMP): $(STAMP) requirements/bench.txt
	@echo "Installing the yardsticks into .venv (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

bench: $(BENCH_STAMP) ## Measure Penstock beside its yardsticks (Q=1: under two minutes)
	@exec $(BIN)/penstock bench $(if $(Q),--quick)

lock: $(STAMP) ## Renew requirements/*.txt (exact versions, hashes, no index named)
	@$(BIN)/uv pip compile pyproject.toml --extra embedded --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --upgrade --quiet --output-file requirements/all.txt
	@$(BIN)/uv pip compile --group bench --constraint requirements/all.txt --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --upgrade --quiet --output-file requirements/bench.txt

clean: ## Remove .venv and the data of the demo
	rm -rf .venv .penstock
