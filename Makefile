# groupage: every target does its own set-up; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := worker emulator compression encryption tokens tracing otlp dev

.DEFAULT_GOAL := help
.PHONY: upgrade-test image chart security alerts dashboards help setup demo simulate simulate-real test chaos-short chaos bench bench-guard lint types contracts base-install check lock clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "groupage needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "python3 cannot make a virtual environment: on Debian install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

setup: $(READY) ## Make the virtual environment with everything in it

demo: $(READY) ## Run the main job: three producers, two workers, three regions (ARGS="--help" for knobs)
	$(BIN)/python -m groupage_emulator.demo $(ARGS)

simulate: $(READY) ## The scheduler against other policies in modelled regions (ARGS="--help" for knobs)
	$(BIN)/python -m benchmarks.simulate $(ARGS)

simulate-real: $(READY) ## The scheduler's own steps on a real Redis and the emulator, 100,000 requests (ARGS="--help")
	$(BIN)/python -m benchmarks.simulate_real $(ARGS)

test: $(READY) ## Run the tests (ARGS="-k name" to choose)
	$(BIN)/python -m pytest --ignore=tests/chaos --ignore=tests/helm --ignore=tests/image $(ARGS)

image: $(READY) ## Lint, build and run the image, locked down (root: mmdebstrap, buildah, podman)
	.ci/image

chart: $(READY) ## Check the Helm chart: lint, schemas, policies, tests (needs npm, for Helm)
	.ci/chart

security: $(READY) ## Bill of materials, secret scan, static security checks
	.ci/security

chaos-short: $(READY) ## Crash sweep, seeded simulation, storm of real processes: the short form that CI runs
	$(BIN)/python -m pytest -p no:randomly --dist load --maxschedchunk 1 tests/chaos $(ARGS)

upgrade-test: $(READY) ## Processes of an older checkout and of this one together (FROM=revision)
	$(BIN)/python -m tests.acceptance.upgrade --from $(FROM) $(ARGS)

chaos: $(READY) ## The long form, for hours (ARGS="--help" for knobs)
	$(BIN)/python -m tests.chaos --docs docs/reliability.md $(ARGS)

bench: $(READY) ## Measure speed and memory against ceilings (ARGS="intake --quick" to choose)
	$(BIN)/python -m benchmarks.speed $(ARGS)

bench-guard: $(READY) ## Fail if a recorded speed ratio fell (ARGS=--record to record)
	$(BIN)/python -m benchmarks.speed.guard $(ARGS)

lint: $(READY) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy, strict
	$(BIN)/mypy

contracts: $(READY) ## import-linter: who may import whom
	$(BIN)/lint-imports

base-install: $(READY) ## The producer side alone, on the oldest and the newest redis-py
	$(BIN)/python tests/packaging/base_install.py

alerts: ## Alert rules: each fires when it should and is silent when it should be, by promtool
	.ci/alerts

dashboards: $(READY) ## Dashboards: Grafana's types, and every query on a real Prometheus that scraped real workers
	.ci/dashboards

check: lint types contracts base-install ## All checks but the tests

lock: $(READY) ## Renew the hashed requirement files from pyproject.toml
	$(BIN)/uv pip compile -q --upgrade pyproject.toml --generate-hashes --universal --python-version 3.11 \
	  --no-header --no-annotate -o requirements/base.txt
	for extra in $(EXTRAS); do \
	  $(BIN)/uv pip compile -q --upgrade pyproject.toml --extra $$extra --generate-hashes --universal \
	    --python-version 3.11 --no-header --no-annotate -o requirements/$$extra.txt || exit 1; \
	done
	$(BIN)/uv pip compile -q --upgrade pyproject.toml --extra worker --extra entra --extra encryption --extra otlp --extra emulator --generate-hashes \
	  --universal --python-version 3.11 --no-header --no-annotate -o requirements/image.txt
	$(BIN)/uv pip compile -q --upgrade --group build --generate-hashes --universal --python-version 3.11 \
	  --no-header --no-annotate -o requirements/build.txt
	for tools in image chart security; do \
	  $(BIN)/uv pip compile -q --upgrade .ci/requirements/$$tools.in --generate-hashes --universal \
	    --python-version 3.11 --no-header --no-annotate -o .ci/requirements/$$tools.txt || exit 1; \
	done

clean: ## Remove the virtual environment and what tools left behind
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .work dist build
