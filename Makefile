# One word per thing a developer does. Every target that needs the environment makes it first.

PYTHON ?= python3
VENV ?= .venv
OUT ?= out/run
# What integration tests run against; each in an environment of its own.
SERVERS ?= .cache/servers
PYTEST_ARGS ?=
SOAK_ARGS ?=
BENCH_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- Set-up ----------------------------------------------------------------------------------

.PHONY: setup
setup: $(STAMP) ## Make .venv with exactly the locked versions (again when they change)

# PIP_DISABLE_PIP_VERSION_CHECK: the environment is locked, a newer pip is nobody's concern here.
$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet -r requirements.lock
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

.PHONY: lock
lock: setup ## Write requirements.lock anew from pyproject.toml
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev \
		--no-header --output-file requirements.lock pyproject.toml

# --- Use -------------------------------------------------------------------------------------

.PHONY: run
run: setup ## Simulate the built-in day and leave report, result and journal in out/run
	$(BIN)/heteroscale simulate --out $(OUT)

.PHONY: soak
soak: setup ## Break random small fleets, seed after seed, until Ctrl-C; SOAK_ARGS="--seeds 0..199"
	$(BIN)/heteroscale soak $(SOAK_ARGS)

# --- Checks ----------------------------------------------------------------------------------

.PHONY: test
test: setup ## Run every test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

DYNAMO := $(SERVERS)/dynamo

# Not all that Dynamo depends on is on the package index, and what is here is enough: no dependencies.
$(DYNAMO)/.installed: tests/integration/dynamo.lock
	test -x $(DYNAMO)/bin/python || $(PYTHON) -m venv $(DYNAMO)
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(DYNAMO)/bin/python -m pip install --quiet --no-deps -r $< || \
		{ echo "Dynamo cannot be had from the package index: no integration tests" >&2; exit 1; }
	@touch $@

# A server of the operating system's packages: what cannot be installed here is skipped with a message.
.PHONY: prometheus
prometheus: ## Install Prometheus where the operating system has it, if it is not there
	@command -v prometheus > /dev/null || \
		(apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus) > /dev/null || \
		echo "Prometheus cannot be installed here: its tests are skipped" >&2

.PHONY: test-integration
test-integration: setup prometheus $(DYNAMO)/.installed ## Run the tests against real servers, installed on first use (400 MB in .cache)
	HETEROSCALE_DYNAMO=$(DYNAMO) $(BIN)/python -m pytest tests/integration tests/contracts $(PYTEST_ARGS)

CLUSTER := $(SERVERS)/cluster

.PHONY: test-cluster
test-cluster: setup ## Run the tests against a Kubernetes control plane, built from Go modules on first use
	bash tests/cluster/build.sh $(CLUSTER)
	$(if $(wildcard $(DYNAMO)/.installed),HETEROSCALE_DYNAMO=$(DYNAMO)) HETEROSCALE_CLUSTER=$(abspath $(CLUSTER)) $(BIN)/python -m pytest tests/cluster tests/contracts/test_subcluster.py tests/contracts/test_store.py $(PYTEST_ARGS)

# Moments at which controllers are killed.
KILLS ?= 50

.PHONY: soak-cluster
soak-cluster: setup prometheus ## Break what is between controllers, cluster and Prometheus, 200 seeds; kill controllers
	bash tests/cluster/build.sh $(CLUSTER)
	HETEROSCALE_CLUSTER=$(abspath $(CLUSTER)) $(BIN)/python -m tests.cluster.soak $(SOAK_ARGS)
	HETEROSCALE_CLUSTER=$(abspath $(CLUSTER)) HETEROSCALE_KILLS=$(KILLS) $(BIN)/python -m pytest tests/cluster/test_killed.py

.PHONY: coverage
coverage: PYTEST_ARGS += --cov --cov-report=term-missing
coverage: test ## Run every test; the core must be covered to the last branch

.PHONY: lint
lint: setup ## Check format and lint rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

.PHONY: format
format: setup ## Rewrite files to the format, with the safe lint fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: type
type: setup ## Check types, strictly
	$(BIN)/mypy src tests benchmarks

.PHONY: imports
imports: setup ## Check that imports run one way
	$(BIN)/lint-imports --no-cache

.PHONY: check
check: lint type imports test ## Everything above, in the order in which it fails fastest

# --- Figures ---------------------------------------------------------------------------------

.PHONY: bench
bench: bench-plan bench-placement bench-kernel bench-sim ## Run every benchmark

.PHONY: bench-plan
bench-plan: setup ## Time one tick of the planner; ends with one line of JSON
	$(BIN)/python -m benchmarks.bench_plan

.PHONY: bench-placement
bench-placement: setup ## Time a cycle of placement, and hold it to the exact plan; ends with one line of JSON
	$(BIN)/python -m benchmarks.bench_placement

.PHONY: bench-kernel
bench-kernel: setup ## Time the simulator's kernel; ends with one line of JSON
	$(BIN)/python -m benchmarks.bench_kernel

.PHONY: bench-sim
bench-sim: setup ## Time the simulator: kernel, loop, a week, beside its peers; ends with one line of JSON
	$(BIN)/python -m benchmarks.bench_sim

.PHONY: bench-dynamo
bench-dynamo: setup prometheus $(DYNAMO)/.installed ## Soft scale-in beside plain termination on real Dynamo processes (15 min); ends with one line of JSON
	$(BIN)/python -m benchmarks.dynamo --python $(DYNAMO)/bin/python $(BENCH_ARGS)

.PHONY: bench-cluster
bench-cluster: setup prometheus ## Time the controller before a real API server and Prometheus, 1,000 services; ends with one line of JSON
	bash tests/cluster/build.sh $(CLUSTER)
	HETEROSCALE_CLUSTER=$(abspath $(CLUSTER)) $(BIN)/python -m benchmarks.bench_cluster $(BENCH_ARGS)

.PHONY: calibrate
calibrate: setup ## Hold tables, roofline and simulator to published figures; ends with one line of JSON
	$(BIN)/python -m benchmarks.calibrate

.PHONY: study-signals
study-signals: setup ## Measure which signals follow the load; table and picture in out/signals
	$(BIN)/python -m benchmarks.study_signals

# --- Generated files -------------------------------------------------------------------------

.PHONY: golden
golden: setup ## Rewrite the golden files; read the diff like code
	HETEROSCALE_GOLDEN=rewrite $(BIN)/python -m pytest tests/golden

.PHONY: docs
docs: setup ## Write docs/configuration.md and deploy/crds anew from the configuration models
	$(BIN)/heteroscale schema --markdown > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md
	$(BIN)/heteroscale schema --crd > deploy/crds/scaledservices.yaml.new
	mv deploy/crds/scaledservices.yaml.new deploy/crds/scaledservices.yaml

.PHONY: clean
clean: ## Remove what runs and tests leave behind, but not the environment
	rm -rf out .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
