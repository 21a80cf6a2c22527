# The verbs of this project. Bare `make` lists them; each sets up what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := list
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
POLICY := .venv-policy/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Where this is set, each of some hundred processes of `make test` would compile the whole project anew.
export PYTHONDONTWRITEBYTECODE :=
SOURCES := domain projections watchtower examples tests
FAST_TESTS := tests/unit tests/contract_vectors tests/properties tests/fuzz tests/simulation tests/typing tests/deploy
WORKERS ?= 2
# Tests on a real node wait for it now and then.
NODE_WORKERS ?= 3
# How often a failed test is played again; continuous integration says 1 (docs/adr/0036-second-play.md).
RERUNS ?= 0
AGAIN = $(if $(filter-out 0,$(RERUNS)),-p tests.support.second_play --reruns $(RERUNS))
# The same random numbers and the same order of sets each time, where no node or server has its own (the same ADR).
SAME = PYTHONHASHSEED=0 $(BIN)/pytest -p tests.support.chance
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
SEEDS ?= 2000

.PHONY: list setup demo check test check-deploy container-smoke crash sim search mutants chaos soak bench fees format pages pictures lock clean

list: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with the locked packages (every other verb does this first)

# Build tools first and with hashes, then everything without build isolation: nothing is installed that is not locked.
# Like the demo it prints nothing on stdout, so that `make demo DEMO_ARGS=--json` can be read by a program.
$(STAMP): requirements/build.txt requirements/dev.txt
	@python="$(PYTHON)"; \
	for candidate in $${python:-python3 python3.13 python3.12 python3.11}; do \
	    if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
	        found="$$candidate"; break; \
	    fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	    echo "make setup needs Python 3.11, 3.12 or 3.13 (say which one with make PYTHON=/path/to/python3)" >&2; exit 2; \
	fi; \
	echo "setting up $(VENV) with $$("$$found" --version): a minute or two, once" >&2; \
	"$$found" -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements/build.txt
	@$(PIP) --require-hashes --no-build-isolation --use-pep517 -r requirements/dev.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP) ## Play six acts on a private regtest node: a tower catches every cheat
	@$(BIN)/watchtower demo $(DEMO_ARGS)

check: $(STAMP) ## The fast gate: style, types, layers, tests without a node
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(SAME) -q $(AGAIN) -n $(WORKERS) --dist worksteal -m 'not slow and not deploy' $(FAST_TESTS) $(PYTEST_ARGS)

test: check $(POLICY) ## Everything that CI runs: the fast gate, then the tests on a real node
	$(SAME) -q $(AGAIN) -n $(WORKERS) --dist worksteal -m 'slow and not deploy' $(FAST_TESTS) $(PYTEST_ARGS)
	$(BIN)/python -m tests.simulation --seeds 0..2000 --workers $(WORKERS)
	HYPOTHESIS_PROFILE=long $(SAME) -q -n $(WORKERS) --dist worksteal -m hypothesis tests/properties tests/fuzz $(PYTEST_ARGS)
	STATE_CHANNEL_REQUIRE_NODE=1 $(BIN)/pytest -q $(AGAIN) -n $(NODE_WORKERS) -m 'not crash' tests/postgres tests/regtest tests/crash $(PYTEST_ARGS)
	$(CHECK_DEPLOY)

# The tests that need the programs of a deployment. What is missing is a failure here, not a skip.
# A file stays on one worker, with its tower; in the order of their names none of the long ones comes last and alone.
CHECK_DEPLOY = STATE_CHANNEL_REQUIRE_NODE=1 $(BIN)/pytest -q $(AGAIN) -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m deploy tests/deploy $(PYTEST_ARGS)

# Its pins would change those of everything else.
$(POLICY): $(STAMP) requirements/policy.txt
	$(BIN)/python -m venv .venv-policy
	.venv-policy/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/policy.txt
	@touch $@

container-smoke: $(STAMP) ## Build the image and run it, closed, beside a regtest node (as root); writes build/container.json
	$(BIN)/python -m tests.deploy.container_smoke

check-deploy: $(STAMP) $(POLICY) ## Rules, dashboards, pages and everything in deploy/, with the real programs
	$(CHECK_DEPLOY)

crash: $(STAMP) ## Fail at every named point in every way, kill writers 1,200 times: a quarter of an hour; writes build/crash.json
	STATE_CHANNEL_REQUIRE_NODE=1 $(BIN)/pytest -q -n $(WORKERS) -p tests.crash.report tests/crash $(PYTEST_ARGS)

RUNS ?= 100
FIRST ?= 0
MINUTES ?= 30

chaos: $(STAMP) ## Random schedules on two real nodes: make chaos RUNS=300 FIRST=1000; writes build/chaos.json
	PYTHONHASHSEED=0 $(BIN)/python -m tests.chaos.run --runs $(RUNS) --first $(FIRST) --workers $(WORKERS)

soak: $(STAMP) ## The service under faults for a while: make soak MINUTES=30; writes build/soak.json and build/soak.csv
	PYTHONHASHSEED=0 $(BIN)/python -m tests.chaos.soak --minutes $(MINUTES)

sim: $(STAMP) ## Play SEEDS random schedules against the tower on a model chain (default 2000)
	$(BIN)/python -m tests.simulation --seeds 0..$(SEEDS) --workers $(WORKERS)

SEED ?= $(shell date +%s)

search: $(STAMP) ## Generate examples that the gates don't: an hour of all generated tests, never twice the same (or SEED=7)
	HYPOTHESIS_PROFILE=search SCHEMATHESIS_SEED=$(SEED) $(BIN)/pytest -q -n $(WORKERS) -m hypothesis --timeout 7200 \
	    --hypothesis-seed=$(SEED) $(FAST_TESTS) $(PYTEST_ARGS)

mutants: $(STAMP) ## Plant known bugs into the tower and count the schedules that find each; writes docs/mutants.md
	$(BIN)/python -m tests.simulation.mutants --workers $(WORKERS)

bench: $(VENV)/.bench ## Measure speed and memory, print a table and write build/bench.json
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

$(VENV)/.bench: $(STAMP) requirements/bench.txt
	$(PIP) --require-hashes -r requirements/bench.txt
	@touch $@

fees: $(STAMP) ## Compare the way penalties bid with others on a made-up fee market; writes docs/fees.md
	$(BIN)/python -m tests.bench.fee_policies --output docs/fees.md

format: $(STAMP) ## Bring the sources into the one style
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

pages: $(STAMP) ## Write the pages that are made from the program itself
	@mkdir -p build
	$(BIN)/python -m tests.support.reference docs/reference.md
	$(BIN)/python -m tests.support.rules_files
	$(BIN)/python -m tests.support.commands_page docs/cli.md
	$(BIN)/python -m tests.support.settings_page docs/configuration.md
	$(BIN)/python -m tests.support.logs_page docs/logs.md
	$(BIN)/python -m tests.support.bitcoin_conf deploy/bitcoind/bitcoin.conf.example
	$(BIN)/python -m tests.support.prometheus_rule deploy/kustomize/components/monitoring/prometheusrule.yaml
	$(BIN)/python -m tests.support.scenarios > build/scenarios.md && mv build/scenarios.md docs/scenarios.md
	$(BIN)/python -m tests.support.fault_table > build/faults.md && mv build/faults.md docs/faults.md
	$(BIN)/python -m tests.support.notification_page > build/notification.json && mv build/notification.json docs/notification.schema.json
	$(BIN)/watchtower api openapi > build/openapi.json && mv build/openapi.json docs/openapi.json
	$(BIN)/watchtower config example > build/example && mv build/example deploy/watchtower.toml.example
	$(BIN)/python -m tests.support.dashboards grafana/dashboards

pictures: $(STAMP) ## Draw status page and dashboards of a real run into docs/pictures (needs Node.js 20, npm and Chromium)
	$(BIN)/python -m tests.support.status_pictures docs/pictures
	$(BIN)/python -m tests.support.dashboards.pictures docs/pictures

lock: $(STAMP) ## Lock all dependencies again (needs uv)
	uv lock
	uv export --quiet --no-emit-project --no-header --only-group build -o requirements/build.txt
	uv export --quiet --no-emit-project --no-header --only-group bench -o requirements/bench.txt
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --generate-hashes requirements/policy.in -o requirements/policy.txt
	uv export --quiet --no-emit-project --no-header --no-default-groups --extra speed --extra postgres -o requirements/runtime.txt
	uv export --quiet --no-emit-project --no-header --group dev --group deploy --extra test --extra speed --extra postgres -o requirements/dev.txt

clean: ## Remove the environment, caches and built files
	rm -rf $(VENV) .venv-policy build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
