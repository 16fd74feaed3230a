# Everything one does with a clone of odradek. It takes Python 3.11+, Java 17, Maven and make; the rest comes by itself.

PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
# Python keeps its byte code also where the environment says not to: the tests start hundreds of interpreters.
PYTEST  := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest
SOURCES := $(wildcard sdk runtime connectors tests examples bench)
ARGS    ?=
# Of the tests, side by side: most of them wait for brokers and workers, so three fill two cores. Each has a broker of its own.
TESTERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help venv broker-jars lint format test test-faults soak eos fuzz fuzz-http browser siege sim sim-mutants k8s mutants demo demo-kafka bench bench-waits broker-start broker-stop \
        constraints clean

help: ## show this
	@echo "odradek: durable execution for Python, on Kafka. Needs Python 3.11+; for Kafka (tests, demo-kafka, bench) also Java 17 and Maven."
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Start with 'make demo'. Extra arguments: make test ARGS='-k journal -x', make demo ARGS=--help"
	@echo "Tests use the Kafka at KAFKA_BOOTSTRAP_SERVERS if that is set, else Docker, else a broker they start themselves."

venv: $(VENV)/.made ## make .venv with odradek (editable) and all tools, in the versions of constraints.txt

# Made again when what it is made from changes. pyright's first run says at once if something it needs is missing.
$(VENV)/.made: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("odradek needs Python 3.11 or later, this is " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	@echo "== $(VENV): odradek (editable) with its development tools, about a minute the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --version
	@touch $@

broker-jars: venv ## fetch Kafka's jars into .cache (45 MB, once)
	@$(BIN)/python -m tests.broker jars

lint: venv ## ruff, mypy, pyright (both strict), import-linter
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports --no-logo

format: venv ## let ruff put imports and layout in order
	$(BIN)/ruff check --fix-only $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

test: broker-jars lint ## lint, then every test but the long fault suites and k8s, in TESTERS=3 processes (0: in one, as for a debugger)
	$(PYTEST) --numprocesses $(TESTERS) --dist worksteal --durations=15 -m "not faults and not soak and not k8s and not browser" $(ARGS)

test-faults: broker-jars ## kill, freeze and cut off real brokers and workers
	$(PYTEST) -m "faults and not soak" --durations=10 $(ARGS)

soak: broker-jars ## load and faults for a long time
	$(PYTEST) -m soak --durations=10 $(ARGS)

eos: broker-jars ## Kafka's own exactly-once test (StreamsEosTest) around odradek; ARGS="storm --seconds 90 --drivers 3", ARGS=--help
	@$(BIN)/python -m tests.eos $(ARGS)

siege: broker-jars ## an app under every attack at once, on both logs, and a judgement; ARGS="--minutes 30 --log kafka"
	@$(BIN)/python -m tests.siege $(ARGS)

fuzz: venv ## bytes of strangers for every decoder: a minute for each; ARGS="embedded --seconds 10"
	@$(BIN)/python -m tests.fuzz $(ARGS)

.cache/schemathesis/.made: tests/routes/requirements.txt
	@test -x .cache/schemathesis/bin/python || $(PYTHON) -m venv .cache/schemathesis
	@.cache/schemathesis/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement $<
	@touch $@

fuzz-http: venv .cache/schemathesis/.made ## schemathesis over every route of a running worker; ARGS="--seconds 600 --seed 7"
	@$(BIN)/python -m tests.routes $(ARGS)

browser: venv ## what pages may do to a worker, tried with a real Chromium (Debian: apt-get install chromium)
	$(PYTEST) -m browser tests/browser $(ARGS)

k8s: venv ## the chart on a real API server, the compose file and the Dockerfile (needs Go; 10 minutes once, then 1)
	@bash tests/k8s/build.sh
	$(PYTEST) -m k8s tests/k8s $(ARGS)

SEED  ?= 0
SEEDS ?= 1
STEPS ?= 30

sim: venv ## the engine under simulated faults: SEED=, SEEDS= (so many from there on), STEPS= (length); ARGS='--until EVENT'
	@$(BIN)/python -m tests.simulation $(SEED) --seeds $(SEEDS) --steps $(STEPS) $(ARGS)

sim-mutants: venv ## put each of some 70 defects into a copy of the engine and run seeds until one finds it; ARGS='word --seeds N'
	@$(BIN)/python -m tests.simulation.mutants $(ARGS)

mutants: broker-jars ## take each invariant out of the code (tests/mutants/*.patch) and see its test fail
	@$(BIN)/python -m tests.mutants $(ARGS)

demo: venv ## a year of flights through the embedded log, with a kill -9 midway; compares the totals
	@$(BIN)/python -m examples.demo $(ARGS)

demo-kafka: broker-jars ## the same on a real Kafka, started for it
	@$(BIN)/python -m examples.demo --kafka $(ARGS)

bench: broker-jars ## odradek beside its peers, in one run (bench/README.md or docs/bench.md)
	@$(BIN)/python -m bench.throughput $(ARGS)

bench-waits: broker-jars ## requests, steps, calls, latency: odradek beside Restate, DBOS, Streams; ARGS="--quick", ARGS=--help
	@$(BIN)/python -m bench.waits $(ARGS)

broker-start: broker-jars ## start a Kafka that stays, print its address
	@$(BIN)/python -m tests.broker start $(ARGS)

broker-stop: venv ## stop it
	@$(BIN)/python -m tests.broker stop

# uv asks the index for the hashes of every platform's wheels; what a file says already it keeps.
LOCK := .cache/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
        --custom-compile-command 'make constraints' $(ARGS)

.cache/uv/bin/uv:
	@$(PYTHON) -m venv .cache/uv
	@.cache/uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.9

constraints: .cache/uv/bin/uv ## write versions and hashes of all that is installed: missing ones, or ARGS=--upgrade for the newest
	@$(LOCK) --extra dev pyproject.toml --output-file constraints.txt
	@$(LOCK) --constraint constraints.txt pyproject.toml --output-file deploy/requirements.txt
	@echo hatchling | $(LOCK) --constraint constraints.txt - --output-file deploy/build-requirements.txt
	@echo schemathesis | $(LOCK) - --output-file tests/routes/requirements.txt

clean: ## remove all that make made, .venv and .cache included
	rm -rf $(VENV) .cache .odradek dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
