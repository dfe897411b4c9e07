# Two commands: `make run` builds and trains everything, `make test` checks everything.
#
#   make run                              on a generated sample market; dbt's unit tests, which ask
#                                         the SQL and not the data, are in make test
#   make run DATA=path/to/asx             on a folder of vendor files; LAYOUT says how they map to
#                                         the raw tables (default: the folder's name)
#   make run TARGET=postgres              on the server that PGHOST and the other PG variables name,
#                                         without PGHOST on one of the project's own, in .postgres/
SHELL := /bin/bash
.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
LAYOUT ?= $(if $(DATA),$(notdir $(patsubst %/,%,$(DATA))),sample)
TARGET ?= duckdb
MARKET ?= $(if $(filter us,$(LAYOUT)),us,asx)
SAMPLE_DIR := sample_data
TEST_DIR := target/test

# a database of its own for each market, as every market has a DuckDB file of its own
define USE_POSTGRES
if [ "$$ASXW_TARGET" = postgres ] && [ -z "$${PGHOST:-}" ]; then eval "$$(asxw postgres start --database asx_warehouse_$(subst -,_,$(notdir $(basename $(LAYOUT)))))"; fi
endef

help: ## Show the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

check-machine:
	@$(PYTHON) tools/check_machine.py

# pip checks every package against the hashes of the lock
$(VENV)/.run: requirements.lock pyproject.toml | check-machine
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.test: requirements-dev.lock pyproject.toml | check-machine
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@ $(VENV)/.run

install: $(VENV)/.run ## Create .venv from the hash-locked requirements

run: $(VENV)/.run ## Load, build, train, score: DATA=folder LAYOUT=name TARGET=duckdb or postgres
	@export PATH="$(CURDIR)/$(BIN):$$PATH" ASXW_TARGET=$(TARGET)
	$(USE_POSTGRES)
	if [ -z "$(DATA)" ]; then asxw sample-market $(SAMPLE_DIR); fi
	asxw load $(or $(DATA),$(SAMPLE_DIR)) --layout $(LAYOUT) --set-aside
	dbt --quiet build --exclude-resource-type unit_test --vars '{market: $(MARKET)}'
	asxw train
	asxw score
	dbt --quiet build --select source:ml+ --exclude-resource-type unit_test --vars '{market: $(MARKET)}'
	asxw status

lint: $(VENV)/.test ## sqlfluff, ruff, mypy, dbt parse with warnings as errors
	@export PATH="$(CURDIR)/$(BIN):$$PATH" DBT_TARGET_PATH=$(TEST_DIR)/lint
	ruff check .
	ruff format --check .
	mypy
	ASXW_TARGET=memory dbt --quiet --warn-error parse --no-partial-parse
	sqlfluff lint models tests/singular --processes 2 --disable-progress-bar

test: lint ## Everything: lint, dbt unit and data tests, pytest with coverage
	@export PATH="$(CURDIR)/$(BIN):$$PATH"
	mkdir -p $(TEST_DIR)
	rm -f $(TEST_DIR)/warehouse.duckdb*
	export ASXW_DUCKDB_PATH=$(CURDIR)/$(TEST_DIR)/warehouse.duckdb DBT_TARGET_PATH=$(CURDIR)/$(TEST_DIR)/dbt
	asxw sample-market $(TEST_DIR)/sample > /dev/null
	asxw load $(TEST_DIR)/sample --layout sample > /dev/null
	dbt --quiet build
	echo "dbt unit and data tests on the sample market: passed"
	pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder

# from nothing on both: what earlier builds left behind, as fct_panel_restatements, is no difference
parity: $(VENV)/.run ## Build DATA (or the sample) on DuckDB and Postgres and compare every public cell
	@export PATH="$(CURDIR)/$(BIN):$$PATH" ASXW_DUCKDB_PATH=$(CURDIR)/target/parity/warehouse.duckdb
	mkdir -p target/parity
	rm -f target/parity/warehouse.duckdb*
	if [ -z "$${PGHOST:-}" ]; then eval "$$(asxw postgres start --database parity --empty)"; fi
	if [ -z "$(DATA)" ]; then asxw sample-market $(SAMPLE_DIR) > /dev/null; fi
	for ASXW_TARGET in duckdb postgres; do
		export ASXW_TARGET DBT_TARGET_PATH=$(CURDIR)/target/parity/$$ASXW_TARGET
		asxw load $(or $(DATA),$(SAMPLE_DIR)) --layout $(LAYOUT) --set-aside
		dbt --quiet build --exclude-resource-type test unit_test --vars '{market: $(MARKET)}'
	done
	asxw --target duckdb parity postgres

# on the sample market in a warehouse of its own; the ledger of the warehouse of `make run` gets a copy
audit: $(VENV)/.test ## Prove that nothing looks ahead, on the sample and both engines; DATA=folder: on its warehouse
	@export PATH="$(CURDIR)/$(BIN):$$PATH" DBT_TARGET_PATH=$(CURDIR)/target/audit/$(TARGET)
	if [ -n "$(DATA)" ]; then
		export ASXW_TARGET=$(TARGET)
		$(USE_POSTGRES)
		dbt --quiet parse --vars '{market: $(MARKET)}'
		asxw audit static
		asxw audit replay --count 5 --vars '{market: $(MARKET)}'
		asxw audit list
		exit
	fi
	mkdir -p target/audit
	rm -f target/audit/warehouse.duckdb*
	export ASXW_DUCKDB_PATH=$(CURDIR)/target/audit/warehouse.duckdb
	asxw sample-market target/audit/sample --symbols 60 --sessions 420 > /dev/null
	build_and_replay() {
		export ASXW_TARGET=$$1 DBT_TARGET_PATH=$(CURDIR)/target/audit/$$1
		asxw load target/audit/sample --layout sample > /dev/null
		dbt --quiet build --exclude-resource-type unit_test
		asxw audit replay --count 3 --out target/audit/$$1/differences.csv
	}
	# another sample is another database; the DuckDB file was removed
	sample=$$($(BIN)/python -c "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest()[:8])" target/audit/sample/manifest.json)
	eval "$$(asxw postgres start --database asx_warehouse_audit_$$sample)"
	(build_and_replay duckdb; asxw audit static; asxw audit invariance; asxw audit ladder --name sample --trees 30 --stride 3) & on_duckdb=$$!
	(build_and_replay postgres; asxw --target duckdb audit mutations) & on_postgres=$$!
	failed=0
	wait $$on_duckdb || failed=1
	wait $$on_postgres || failed=1
	asxw --target duckdb audit collect postgres
	asxw --target duckdb audit list
	if [ -f warehouse.duckdb ]; then env -u ASXW_DUCKDB_PATH asxw --target duckdb audit collect $$ASXW_DUCKDB_PATH; fi
	exit $$failed

lock: ## Compile the locks again (needs uv)
	@mkdir -p target
	echo "dbt-core-experimental-parser ; sys_platform == 'never'" > target/override.txt
	compile="uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet --override target/override.txt --extra build"
	$$compile --extra embedded --extra dev -o requirements-dev.lock
	$$compile --extra embedded -c requirements-dev.lock -o requirements.lock

clean: ## Remove what a build leaves behind; the warehouse stays
	rm -rf target logs $(SAMPLE_DIR) htmlcov .coverage .mypy_cache .pytest_cache .ruff_cache

.PHONY: help check-machine install run lint test parity audit lock clean
