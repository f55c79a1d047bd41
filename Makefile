# `make` lists the targets. Output of setup steps goes to $(LOG), and to the terminal if a step fails.

PYTHON ?= python3
VENV := .venv
TOOLS := .venv-tools
PEERS := .venv-bench
LOG := .setup.log
BIN := $(VENV)/bin
TBIN := $(TOOLS)/bin
WORKERS ?= 2
ROUNDS ?= 30
MESSAGES ?= 2000000
GENERATORS := $(wildcard clients/*/generate.sh clients/go/tools/go.* clients/typescript/package-lock.json)
SOURCES := $(wildcard clients/python server tests examples benchmarks proto)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup tools lock generate baseline clients lint format test minimums demo bench peers chaos fuzz clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12
	@echo
	@echo "variables: PYTHON=$(PYTHON) (3.11 or later)  WORKERS=$(WORKERS) (test)  ROUNDS=$(ROUNDS) (chaos)  MESSAGES=$(MESSAGES) (fuzz)  ARGS= (test, bench)"

# $(call quietly,MESSAGE,COMMANDS): print MESSAGE, run COMMANDS, and print their output only if they fail.
define quietly
@echo "$(1) (output: $(LOG))"
@sh -ec '$(2)' >$(LOG) 2>&1 || { cat $(LOG) >&2; exit 1; }
endef

define check_python
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  || { echo "$(PYTHON) is not Python 3.11 or later. Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
endef

setup: $(VENV)/.stamp  ## create .venv with the server, the SDK and the libraries of the tests
tools: $(TOOLS)/.stamp $(TOOLS)/.generators  ## create the generators and linter of the protos, each in a pinned environment

# An environment is created again if the files that it was made from have changed.
$(VENV)/.stamp: requirements/dev.lock pyproject.toml
	@$(call check_python)
	$(call quietly,creating $(VENV): up to 60 MB to download,rm -f $@; $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock; \
	  $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .)
	@touch $@

$(TOOLS)/.stamp: requirements/tools.lock
	@$(call check_python)
	$(call quietly,creating $(TOOLS): up to 45 MB to download,rm -f $@; $(PYTHON) -m venv $(TOOLS); \
	  $(TBIN)/python -m pip install --quiet --require-hashes -r requirements/tools.lock)
	@touch $@

# The package client of each language installs its generator. One run of each verifies it.
$(TOOLS)/.generators: $(TOOLS)/.stamp $(GENERATORS)
	$(call quietly,installing the generators of the clients: up to 200 MB to download,rm -rf $@ $(TOOLS)/scratch; \
	  bash clients/each.sh generate.sh $(TOOLS)/scratch; rm -rf $(TOOLS)/scratch)
	@touch $@

$(PEERS)/.stamp: requirements/bench.lock requirements/bench-npm/package-lock.json
	@$(call check_python)
	@command -v npm >/dev/null || echo "npm not found: the server of Restate is skipped"
	$(call quietly,creating $(PEERS),rm -f $@; $(PYTHON) -m venv $(PEERS); \
	  $(PEERS)/bin/python -m pip install --quiet --require-hashes -r requirements/bench.lock; \
	  cp requirements/bench-npm/*.json requirements/bench-npm/.npmrc $(PEERS)/; \
	  ! command -v npm >/dev/null || npm ci --prefix $(PEERS) --ignore-scripts --no-audit --no-fund --loglevel error)
	@touch $@

lock: $(TOOLS)/.stamp  ## resolve requirements/*.in and pyproject.toml again (ARGS=--upgrade for newer versions)
	$(TBIN)/uv pip compile $(ARGS) --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --extra server pyproject.toml requirements/dev.in -o requirements/dev.lock
	$(TBIN)/uv pip compile $(ARGS) --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  requirements/tools.in -o requirements/tools.lock
	$(TBIN)/uv pip compile $(ARGS) --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  requirements/bench.in -o requirements/bench.lock

generate: setup tools  ## generate the stubs of all clients and the error table (committed; tests check that they are current)
	@bash proto/generate.sh clients/python
	@bash clients/each.sh generate.sh
	@$(BIN)/python docs/error_table.py

clients: tools  ## build the clients in Go, TypeScript and Java
	@bash clients/each.sh conformance.sh

lint: setup $(TOOLS)/.stamp  ## run ruff, mypy, the check of the layers, buf lint and buf breaking
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@out=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$out"; exit 1; }
	@$(TBIN)/buf lint proto
	@$(TBIN)/buf format --diff --exit-code proto
	@$(TBIN)/buf breaking proto --against proto/baseline.binpb

format: setup $(TOOLS)/.stamp  ## format the code and the protos
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .
	@$(TBIN)/buf format --write proto

test: setup tools  ## run every test, in WORKERS processes
	@PYTHONPATH="$(CURDIR)/tests" $(BIN)/python -m pytest -q --no-header -rfE -p support.progress_line -n $(WORKERS) --dist worksteal $(ARGS)

baseline: $(TOOLS)/.stamp  ## record the API that `buf breaking` compares with (at a release)
	$(TBIN)/buf build proto --exclude-source-info -o proto/baseline.binpb

minimums: setup $(TOOLS)/.stamp  ## test the SDK with the oldest supported libraries
	@$(BIN)/python -m pytest tests/conformance/test_minimum_versions.py $(ARGS)

demo: setup  ## run an order from start to end, with a kill -9 in between
	@$(BIN)/python examples/demo.py

bench: setup  ## measure durable calls, compared with an echo and the installed peers
	@GRPC_VERBOSITY=ERROR $(BIN)/python benchmarks/run.py $(ARGS)

peers: $(PEERS)/.stamp  ## create .venv-bench with DBOS, Temporal and Restate, to compare with

chaos: setup  ## run ROUNDS rounds each of load and kill -9, failing disks, and power cuts (20 a round)
	@PERDURE_CHAOS_ROUNDS=$(ROUNDS) PERDURE_DISK_ROUNDS=$(ROUNDS) PERDURE_POWER_CUTS=$$((20 * $(ROUNDS))) \
	  $(BIN)/python -m pytest -m chaos --timeout 0 $(ARGS)

fuzz: setup  ## send MESSAGES mutated messages to every RPC of a server
	@PERDURE_FUZZ_MESSAGES=$(MESSAGES) $(BIN)/python -m pytest -m fuzz --timeout 0 -s $(ARGS)

clean:  ## remove the environments, build output and caches
	rm -rf clients/go/build clients/java/target clients/typescript/build clients/typescript/dist \
	  clients/typescript/node_modules $(LOG)
	rm -rf $(VENV) $(TOOLS) $(PEERS) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
