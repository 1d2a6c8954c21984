# `make` or `make help` lists the targets. All that is needed is Python 3.11 or newer (with venv) and make.
# Works with GNU make 3.81, which macOS has.

PYTHON ?= python3
BIN := .venv/bin
TOOLS := .venv-tools
PYTEST := $(BIN)/python -m pytest

# Test suites with a target of their own: `make test` leaves them out, `make smoke` runs each in its short form.
# The markers are explained in pyproject.toml.
SUITES := chaos or fuzz or model or mutants or soak or bench

LOCK = $(BIN)/pip-compile --quiet --no-config --generate-hashes --strip-extras --allow-unsafe --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-build-isolation $(if $(UPGRADE),--upgrade)

# Empty where .venv has a Python that runs; else what is wrong with $(PYTHON), if anything. Runs on old Pythons, too.
PYTHON_PROBLEM = $(shell $(BIN)/python -c '' 2>/dev/null && exit; \
	command -v $(PYTHON) >/dev/null 2>&1 || { echo "'$(PYTHON)' was not found"; exit; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "'$(PYTHON)' is older than Python 3.11"; exit; }; \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || echo "'$(PYTHON)' comes without venv (Debian: python3-venv)")

# Where it forbids Python to keep what it compiled, each of the hundreds of processes that the tests start would compile
# our modules anew, for a quarter of a second.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help .venv run test smoke lint format contract-check client clients page-check chaos fuzz test-model mutants soak bench bench-queries bench-admission bench-client bench-backfill audit lock lock-node clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# ------------------------------------------------------------------------------------------------------------ environment

.venv: .venv/.project-installed ## Create .venv from the locked requirements; another Python: make .venv PYTHON=python3.12

# Every package by version and hash. Runs again only when the lock changes; an interpreter that has gone is replaced.
.venv/.requirements-installed: requirements-dev.txt
	$(if $(PYTHON_PROBLEM),$(error Python 3.11 or newer with venv is needed, but $(PYTHON_PROBLEM). Try: make $(MAKECMDGOALS) PYTHON=python3.12))
	@$(BIN)/python -c '' 2>/dev/null || { echo "Making .venv ..."; $(PYTHON) -m venv --clear .venv; }
	@echo "Fetching and installing the locked requirements into .venv ..."
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --requirement requirements-dev.txt
	@touch $@

# The project itself, editable, built by the locked hatchling: nothing is fetched.
.venv/.project-installed: .venv/.requirements-installed pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Tools that are no part of the product, apart: what `make run` and `make test` install does not grow with them.
$(TOOLS)/.requirements-installed: requirements-tools.txt | .venv
	@echo "Fetching and installing the locked tools into $(TOOLS) ..."
	@$(BIN)/python -m venv --clear $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

NODE_CHECKS := tests/contracts/node
NPM = PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" npm

$(TOOLS)/node/.installed: $(TOOLS)/.requirements-installed $(wildcard $(NODE_CHECKS)/*) $(NODE_CHECKS)/.npmrc
	@mkdir -p $(TOOLS)/node
	@cp $(NODE_CHECKS)/*.json $(NODE_CHECKS)/*.mjs $(NODE_CHECKS)/.npmrc $(TOOLS)/node/
	@cd $(TOOLS)/node && $(NPM) ci --silent
	@touch $@

TYPESCRIPT := clients/typescript

$(TOOLS)/.typescript-installed: $(TOOLS)/.requirements-installed $(TYPESCRIPT)/package-lock.json $(TYPESCRIPT)/.npmrc
	@cd $(TYPESCRIPT) && $(NPM) ci --silent
	@touch $@

# -------------------------------------------------------------------------------------------------------------------- run

run: .venv ## The whole system on this machine, with a scenario; stays up until Ctrl-C, ONCE=1 ends after the scenario
	@$(BIN)/catalog demo $(if $(ONCE),--once)

# ----------------------------------------------------------------------------------------------------------------- checks

# Most tests wait for a server or a time-out: four processes, each with a stack of its own, keep two cores busy. What
# stays together by file, and what begins, is told in tests/distribution.py. A few that are chosen by name share one
# process, and start at once.
test: .venv ## All tests but the suites below; more pytest options: make test ARGS="-k dead_letter"
	@$(PYTEST) -m "not ($(SUITES) or clients)" $(if $(findstring -k,$(ARGS)),,--numprocesses 4 --dist loadfile) $(ARGS)

# Likewise, in two processes; one test at a time, as one may take as long as twenty others. What measures how fast the
# machine is runs alone, at the end.
smoke: .venv ## The short form of every suite below
	@SUITE_SIZE=short $(PYTEST) -m "$(SUITES)" --timeout 240 \
		$(if $(findstring -k,$(ARGS)),,--numprocesses 2 --dist load --maxschedchunk 1) $(ARGS)

lint: .venv ## Formatting, style, types, import directions, safe DDL, the declarations of kinds
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m migrations.lint
	@$(BIN)/python -m workers.contract.lint

# Node comes from a wheel, the parser from npm; both are locked.
contract-check: .venv $(TOOLS)/node/.installed ## The exported contract, read by the official AsyncAPI parser
	@$(BIN)/catalog contract export --format asyncapi-json >$(TOOLS)/node/to-fill-in.json
	@$(BIN)/catalog contract export --format asyncapi-yaml --prefix shop --server kafka.example.com:9093 --currency EUR \
		>$(TOOLS)/node/filled.yaml
	@cd $(TOOLS)/node && ../bin/node parse.mjs to-fill-in.json filled.yaml

client: .venv $(TOOLS)/.typescript-installed ## Write what the clients have from the contract: their generated parts
	@$(BIN)/catalog contract export --format asyncapi-json | \
		$(BIN)/python clients/python/generate.py catalog_client/generated
	@$(BIN)/catalog contract export --format asyncapi-json | $(TOOLS)/bin/node $(TYPESCRIPT)/generate.ts

clients: .venv $(TOOLS)/.typescript-installed ## The clients of every language: types, packages, and the table of scenarios
	@cd $(TYPESCRIPT) && $(NPM) run --silent check && $(NPM) test --silent -- --test-reporter=dot
	@$(PYTEST) -m clients --timeout 180 $(ARGS)

page-check: .venv $(TOOLS)/node/.installed ## The page /contract in headless Chromium (which has to be there), by axe-core
	@$(BIN)/python -m tests.contracts.page_server $(TOOLS)/node $(TOOLS)/bin/node $(TOOLS)/node/page.mjs

format: .venv ## Put the formatting right, and what ruff can put right by itself
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# ----------------------------------------------------------------------------------------------------------------- suites

chaos: .venv ## Long: processes killed, stopped and cut off while commands flow
	@SUITE_SIZE=long $(PYTEST) -m chaos --timeout 0 $(ARGS)

fuzz: .venv ## Long: generated messages against real workers
	@SUITE_SIZE=long $(PYTEST) -m fuzz --timeout 0 $(ARGS)

test-model: .venv ## Long: random batches against a plain-Python model
	@SUITE_SIZE=long $(PYTEST) -m model --timeout 0 $(ARGS)

mutants: .venv ## Long: each protection removed in turn, and its test must fail
	@SUITE_SIZE=long $(PYTEST) -m mutants --timeout 0 $(ARGS)

soak: .venv ## Long: half an hour of load with a fault a minute
	@SUITE_SIZE=long $(PYTEST) -m soak --timeout 0 $(ARGS)

bench: .venv ## Every promised figure, beside an older commit; a part of it: make bench ARGS="create --rounds 3"
	@$(BIN)/python -m tests.benchmarks $(ARGS)

bench-queries: .venv ## Queries on a million rows, beside the same on a thousand
	@$(BIN)/python -m tests.benchmarks.queries $(ARGS)

bench-admission: .venv ## What tokens and limits cost a command
	@$(BIN)/python -m tests.benchmarks.admission $(ARGS)

bench-client: .venv ## The Python client beside a bare loop of aiokafka
	@$(BIN)/python -m tests.benchmarks.client $(ARGS)

bench-backfill: .venv ## Backfilled rows a second, beside one plain UPDATE
	@$(BIN)/python -m tests.benchmarks.backfill $(ARGS)

# ------------------------------------------------------------------------------------------------------------ maintenance

# Strict: a package that the advisory service does not know, or a service that does not answer, fails the audit.
# The other two locks are parts of this one, which a test makes sure of.
audit: .venv ## Known vulnerabilities in the locked requirements
	@$(BIN)/pip-audit --strict --require-hashes --disable-pip --requirement requirements-dev.txt

# Made with the oldest Python that is supported, so that what only that one needs is locked, too.
lock: .venv ## Re-make requirements*.txt from pyproject.toml, keeping what still fits; newest versions: make lock UPGRADE=1
	@$(LOCK) --output-file requirements-build.txt --build-deps-for wheel --only-build-deps pyproject.toml
	@$(LOCK) --output-file requirements.txt --constraint requirements-build.txt pyproject.toml
	@$(LOCK) --output-file requirements-dev.txt --extra stack --extra contract --extra dev \
		--constraint requirements-build.txt --constraint requirements.txt pyproject.toml
	@$(LOCK) --output-file requirements-tools.txt requirements-tools.in

lock-node: $(TOOLS)/.requirements-installed ## Re-make the locks of what runs in Node from their package.json
	@for place in $(NODE_CHECKS) $(TYPESCRIPT); do \
		(cd $$place && $(NPM) install --package-lock-only) && \
		$(TOOLS)/bin/node $(NODE_CHECKS)/plain_lock.mjs $$place/package-lock.json || exit 1; done

clean: ## Stop the embedded stack; remove .venv, .local and the tools' caches of this checkout
	@if [ -e .local/stack.env ] && [ -x $(BIN)/catalog ]; then $(BIN)/catalog stack down; fi
	@rm -rf .venv $(TOOLS) $(TYPESCRIPT)/node_modules $(TYPESCRIPT)/dist .local build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -prune -exec rm -rf {} +
