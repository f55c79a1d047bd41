# The one way in. `make` alone shows what there is.

PYTHON ?= python3
VENV := .venv
TOOLS := .venv-tools
PEERS := .venv-bench
BIN := $(VENV)/bin
TBIN := $(TOOLS)/bin
WORKERS ?= 2
ROUNDS ?= 30
MESSAGES ?= 2000000
GENERATORS := $(wildcard clients/*/generate.sh clients/go/tools/go.* clients/typescript/package-lock.json)
SOURCES := $(wildcard clients/python server tests examples benchmarks proto)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.PHONY: help setup tools lock generate baseline clients lint format test floors demo bench peers chaos fuzz clean

help:  ## show this page
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12
	@echo
	@echo "variables: PYTHON=$(PYTHON) (3.11 or newer)  WORKERS=$(WORKERS) (test)  ROUNDS=$(ROUNDS) (chaos)  MESSAGES=$(MESSAGES) (fuzz)  ARGS= (test, bench)"

setup: $(VENV)/.stamp  ## .venv with the server, the SDK and the tests' libraries
tools: $(TOOLS)/.stamp $(TOOLS)/.generators  ## the protos' generators and linter, each in a pinned environment

# The environments are laid anew when what they are made from has changed.
$(VENV)/.stamp: requirements/dev.lock pyproject.toml
	@$(call check_python)
	rm -f $@
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(TOOLS)/.stamp: requirements/tools.lock
	@$(call check_python)
	rm -f $@
	$(PYTHON) -m venv $(TOOLS)
	$(TBIN)/python -m pip install --quiet --require-hashes -r requirements/tools.lock
	@touch $@

# Each language's own package client puts its generator where it belongs; one run each shows that it is there.
$(TOOLS)/.generators: $(TOOLS)/.stamp $(GENERATORS)
	rm -rf $@ $(TOOLS)/scratch
	bash clients/each.sh generate.sh $(TOOLS)/scratch
	rm -rf $(TOOLS)/scratch
	@touch $@

$(PEERS)/.stamp: requirements/bench.lock requirements/bench-npm/package-lock.json
	@$(call check_python)
	rm -f $@
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --require-hashes -r requirements/bench.lock
	@command -v npm >/dev/null || echo "no npm here: without Restate's server"
	cp requirements/bench-npm/*.json requirements/bench-npm/.npmrc $(PEERS)/
	! command -v npm >/dev/null || npm ci --prefix $(PEERS) --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

define check_python
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  || { echo "$(PYTHON) is no Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
endef

lock: $(TOOLS)/.stamp  ## resolve requirements/*.in and pyproject.toml anew (--upgrade by ARGS)
	$(TBIN)/uv pip compile $(ARGS) --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --extra server pyproject.toml requirements/dev.in -o requirements/dev.lock
	$(TBIN)/uv pip compile $(ARGS) --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  requirements/tools.in -o requirements/tools.lock
	$(TBIN)/uv pip compile $(ARGS) --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  requirements/bench.in -o requirements/bench.lock

generate: setup tools  ## write the stubs of all clients and the error table (committed; tests prove them fresh)
	bash proto/generate.sh clients/python
	bash clients/each.sh generate.sh
	$(BIN)/python docs/error_table.py

clients: tools  ## build the clients in Go, TypeScript and Java
	bash clients/each.sh conformance.sh

lint: setup $(TOOLS)/.stamp  ## ruff, mypy, the layers, buf lint, buf breaking
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(TBIN)/buf lint proto
	$(TBIN)/buf format --diff --exit-code proto
	$(TBIN)/buf breaking proto --against proto/baseline.binpb

format: setup $(TOOLS)/.stamp  ## let the formatters write
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(TBIN)/buf format --write proto

test: setup tools  ## every test, on WORKERS processes
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

baseline: $(TOOLS)/.stamp  ## at a release: what `buf breaking` compares with from now on
	$(TBIN)/buf build proto --exclude-source-info -o proto/baseline.binpb

floors: setup $(TOOLS)/.stamp  ## the SDK on the oldest libraries that it names
	$(BIN)/python -m pytest tests/conformance/test_the_floors.py $(ARGS)

demo: setup  ## an order from start to end, with a kill -9 in between
	$(BIN)/python examples/demo.py

bench: setup  ## what durable calls cost, beside an echo and the peers that are here
	GRPC_VERBOSITY=ERROR $(BIN)/python benchmarks/run.py $(ARGS)

peers: $(PEERS)/.stamp  ## .venv-bench with DBOS, Temporal and Restate, for bench to compare with

chaos: setup  ## ROUNDS rounds each of load and kill -9, failing disks, power cuts (20 a round), judged by the checker
	PERDURE_CHAOS_ROUNDS=$(ROUNDS) PERDURE_DISK_ROUNDS=$(ROUNDS) PERDURE_POWER_CUTS=$$((20 * $(ROUNDS))) \
	  $(BIN)/python -m pytest -m chaos --timeout 0 $(ARGS)

fuzz: setup  ## MESSAGES mutated messages against every RPC of a server
	PERDURE_FUZZ_MESSAGES=$(MESSAGES) $(BIN)/python -m pytest -m fuzz --timeout 0 -s $(ARGS)

clean:  ## remove the environments, what was built and every cache
	rm -rf clients/go/build clients/java/target clients/typescript/build clients/typescript/dist \
	  clients/typescript/node_modules
	rm -rf $(VENV) $(TOOLS) $(PEERS) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
