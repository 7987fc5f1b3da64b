# `make` alone prints this help. Everything is installed into .venv; nothing outside the project is touched.
.DEFAULT_GOAL := help
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*##.*/\1/p' Makefile)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := uv==0.13.9
AIRFLOW_VENV := .venv-airflow
AIRFLOW_BIN := $(AIRFLOW_VENV)/bin
AIRFLOW_STAMP := $(AIRFLOW_VENV)/.installed
TWO_AT_A_TIME := -n 2 --dist loadfile
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: $(STAMP) ## Set up: virtual environment, locked dependencies, JVM jars
	@$(BIN)/esclusa setup

$(STAMP): requirements.lock setup.py
	@test -z "$$JAVA_HOME" || test -x "$$JAVA_HOME/bin/java" || { echo "JAVA_HOME is $$JAVA_HOME, and there is no bin/java in it; set it right, or unset it" >&2; exit 4; }
	@test -n "$$JAVA_HOME" || command -v java >/dev/null || { echo "no Java found; Spark needs Java 17 or 21. On Debian: sudo apt-get install openjdk-17-jre-headless" >&2; exit 4; }
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed; this is " + sys.version.split()[0] + ". Choose another with make PYTHON=…")'
	@echo "setting up $(VENV) (about a minute, once)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { echo "on Debian: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet "$(UV)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

setup-airflow: setup $(AIRFLOW_STAMP) ## Set up Airflow, in an environment of its own

$(AIRFLOW_STAMP): $(STAMP) requirements-airflow.lock setup.py
	@echo "setting up $(AIRFLOW_VENV) (about a minute, once)"
	@test -x $(AIRFLOW_BIN)/python || $(BIN)/python -m venv --without-pip $(AIRFLOW_VENV)
	@$(BIN)/uv pip sync --quiet --python $(AIRFLOW_BIN)/python --compile-bytecode --require-hashes requirements-airflow.lock
	@$(BIN)/uv pip install --quiet --python $(AIRFLOW_BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

run: setup ## Run the flight pipeline over 336,776 real departures
	@$(BIN)/esclusa demo

run-kafka: setup ## Stream the same flights through a real Kafka broker
	@$(BIN)/esclusa setup --kafka
	@$(BIN)/esclusa demo --kafka

kafka: setup ## Start a Kafka broker on loopback, on a free port
	@$(BIN)/esclusa setup --kafka
	@$(BIN)/esclusa kafka start

kafka-stop: setup ## Stop that broker
	@$(BIN)/esclusa kafka stop

airflow: setup-airflow ## Start a local Airflow over the pipelines, with real flights; Ctrl-C stops it
	@$(BIN)/esclusa airflow start

airflow-stop: setup ## Stop that Airflow from elsewhere
	@$(BIN)/esclusa airflow stop

test: chromium strace setup ## Lint, types, and all tests
	@$(BIN)/esclusa setup --kafka
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest $(TWO_AT_A_TIME) tests/unit tests/spark
	$(BIN)/python -m pytest tests/e2e
	@$(MAKE) --no-print-directory test-dags test-airflow

lint: setup-airflow ## Lint and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --python-executable $(AIRFLOW_BIN)/python jobs/orchestration/*.py dags/*.py

chromium:
	@command -v chromium >/dev/null || { echo "no chromium found; on Debian: sudo apt-get install chromium" >&2; exit 4; }

strace:
	@command -v strace >/dev/null || { echo "no strace found; on Debian: sudo apt-get install strace" >&2; exit 4; }

test-unit: setup ## Tests that need no JVM
	$(BIN)/python -m pytest tests/unit

test-spark: strace setup ## Tests in two Spark sessions, side by side
	@$(BIN)/esclusa setup --kafka
	$(BIN)/python -m pytest $(TWO_AT_A_TIME) tests/spark

test-e2e: strace setup ## Tests of whole commands, a cluster, a broker
	@$(BIN)/esclusa setup --kafka
	$(BIN)/python -m pytest tests/e2e

test-dags: setup-airflow ## Tests of the DAGs, in Airflow's environment
	$(AIRFLOW_BIN)/python -m pytest tests/dags

test-airflow: chromium setup-airflow ## Tests under a real scheduler
	$(BIN)/python -m pytest tests/airflow

test-slow: chromium strace setup setup-airflow ## Tests that take their time: brokers, networks, Airflow and maintenance that fail
	@$(BIN)/esclusa setup --kafka
	$(BIN)/python -m pytest tests/spark tests/e2e -m slow
	$(BIN)/python -m pytest tests/airflow -m slow

torture: strace setup ## Kill a pipeline at every point of a batch; SEED=1 KILLS=360 MINUTES=60
	@$(BIN)/esclusa setup --kafka
	$(BIN)/python -m jobs.testing.torture $(if $(SEED),--seed $(SEED)) $(if $(KILLS),--kills $(KILLS)) $(if $(MINUTES),--minutes $(MINUTES))

torture-airflow: setup-airflow ## Kill Airflow's processes around a pipeline at every point of a batch
	$(BIN)/python -m pytest tests/airflow/test_what_dies.py -m "slow or not slow"

schedules: setup ## Try the order of writes over 100,000 crash schedules
	ESCLUSA_SCHEDULES=100000 $(BIN)/python -m pytest tests/unit/test_commit_schedules.py

mutants: setup ## Break commit, lease and manifest in every small way; the unit tests must notice 90 %
	rm -rf mutants
	ESCLUSA_SCHEDULES=200 $(BIN)/mutmut run --max-children 2 >mutants.log 2>&1 || { tail -50 mutants.log; exit 1; }
	$(BIN)/python tests/score_mutants.py

bench: setup setup-airflow ## Measure the gate against plain Spark and Great Expectations, and what Airflow parses
	@$(BIN)/esclusa setup --kafka
	$(BIN)/python benchmarks/parse.py
	$(BIN)/python benchmarks/gate.py

bench-fleet: setup ## Measure 20 small pipelines in one Spark application against 20
	$(BIN)/python benchmarks/fleet.py

wheel: setup ## Build the wheel into dist/
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist >/dev/null && ls dist/*.whl

bundle: setup ## Build the deployable archive into dist/
	@$(BIN)/python -m jobs.dev.bundle

lock: setup ## Pin all dependencies anew, with hashes
	$(BIN)/$(LOCK) --extra dev setup.py -o requirements.lock
	$(BIN)/$(LOCK) --extra airflow --extra airflow-dev --overrides requirements-airflow.overrides setup.py -o requirements-airflow.lock
	$(BIN)/$(LOCK) -c requirements.lock setup.py -o requirements-run.lock
	$(BIN)/$(LOCK) --extra airflow -c requirements-airflow.lock --overrides requirements-airflow.overrides setup.py -o requirements-airflow-run.lock
	$(BIN)/python -m jobs.dev.jars

clean: ## Remove what the demo and the builds wrote (not .venv)
	@if [ -x $(BIN)/esclusa ]; then $(BIN)/esclusa kafka stop; $(BIN)/esclusa airflow stop; fi
	rm -rf data build dist *.egg-info spark-warehouse metastore_db derby.log
