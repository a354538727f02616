# Everything a newcomer types. `make help` is made from the ## comments.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
BENCH_STAMP := .venv/.bench-installed
DEBIAN := .venv/.debian-installed

.DEFAULT_GOAL := help
.PHONY: help install run test chaos fuzz lint format bench lock sbom clean docs
SBOM ?= build/penstock.cdx.json

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

# What comes from Debian: a browser for the console's tests, Prometheus' checker of rules and pgbouncer, of which the programs
# alone are taken (their packages would start servers). Without root, tests that need them are skipped and say so.
$(DEBIAN): $(STAMP)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { command -v chromium && command -v promtool && command -v pgbouncer; } >/dev/null; then \
		echo "Installing chromium, promtool and pgbouncer from Debian (once) ..."; \
		export DEBIAN_FRONTEND=noninteractive; apt-get update -qq; \
		command -v chromium >/dev/null || apt-get install -qq -y --no-install-recommends chromium >.venv/debian.log 2>&1 || cat .venv/debian.log; \
		if cd .venv && apt-get download -qq prometheus 2>/dev/null; then \
			dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --strip-components=3 -C bin ./usr/bin/promtool; rm prometheus_*.deb; \
		fi; \
		mkdir -p lib/pgbouncer; \
		for package in pgbouncer libc-ares2 libevent-2.1-7 libevent-2.1-7t64; do apt-get download -qq $$package 2>/dev/null || true; done; \
		for file in pgbouncer_*.deb; do test ! -f $$file || dpkg-deb --fsys-tarfile $$file | tar -x --strip-components=3 -C bin ./usr/sbin/pgbouncer; done; \
		for file in libc-ares2_*.deb libevent-*.deb; do \
			test ! -f $$file || dpkg-deb --fsys-tarfile $$file | tar -x --wildcards --strip-components=4 -C lib/pgbouncer './usr/lib/*/lib*.so*'; \
		done; \
		rm -f pgbouncer_*.deb libc-ares2_*.deb libevent-*.deb; \
	fi
	@touch $@

# One process more than there are cores, for many tests wait; at most four. What failed beside others, on a machine that
# they keep busy, is played once more alone; what fails twice fails, and what passes only then is named in build/flaky.txt.
TEST_PROCESSES ?= $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')
test: $(DEBIAN) lint ## Run every check that CI runs (T=path runs one)
	@rm -f build/flaky.txt
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(T) || { \
		status=$$?; [ $$status = 1 ] || exit $$status; \
		echo "Playing once more, alone, what failed above ..."; \
		$(BIN)/python -m tests.support.second_play $(T); \
	}

chaos: $(STAMP) ## Play every fault scenario, three seeds, and count what is lost (A="--scenario S")
	@exec $(BIN)/penstock chaos --seed 1 --seed 2 --seed 3 $(A)

fuzz: $(STAMP) ## Fuzz for longer: a million requests on raw sockets, thousands of examples each
	@PENSTOCK_FUZZ_REQUESTS=1000000 PENSTOCK_FUZZ_EXAMPLES=5000 $(BIN)/python -m pytest --timeout 7200 --capture no tests/fuzz

docs: $(STAMP) ## Renew the generated pages, and build the site of the documents into build/site
	@$(BIN)/python -m ops.reference
	@$(BIN)/zensical build --strict

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
	@$(BIN)/uv pip compile pyproject.toml --extra embedded --extra tracing --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --upgrade --quiet --output-file requirements/all.txt
	@$(BIN)/uv pip compile --group bench --constraint requirements/all.txt --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --upgrade --quiet --output-file requirements/bench.txt
	@$(BIN)/uv pip compile pyproject.toml --extra tracing --constraint requirements/all.txt --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --upgrade --quiet --output-file requirements/runtime.txt
	@echo hatchling | $(BIN)/uv pip compile - --constraint requirements/all.txt --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --upgrade --quiet --output-file requirements/build.txt

# Of what the image holds: the locked packages that processes run with, each with the digests that were checked.
sbom: $(STAMP) ## List what a release consists of, as CycloneDX (into build/penstock.cdx.json)
	@mkdir -p $(dir $(SBOM))
	@PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file $(SBOM) requirements/runtime.txt

clean: ## Remove .venv and the data of the demo
	rm -rf .venv .penstock
