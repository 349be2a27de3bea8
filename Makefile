# The commands of the project. Continuous integration calls these and nothing else.
PYTHON ?= python3
SUITE := $(PYTHON) -m emulator
PYTEST := venv/bin/python -m pytest

# Where it is set, every process would compile the project and rewrite the tests' assertions anew: a third of `make unit`.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help dev demo setup doctor test unit store store-turns store-accounts suite launcher bench fuzz lint format types check lock openapi clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: ## start the whole product locally (installs what is missing); Ctrl-C stops it
	@$(SUITE) dev

demo: ## ask a question as a seeded user and show everything that happened (needs `make dev` running)
	@$(SUITE) attach -- venv/bin/python -m emulator.demo

setup: ## only install what is missing
	@$(SUITE) setup

doctor: ## show which Python, Node, Java, Redis and emulators are used
	@$(SUITE) doctor

test: unit store suite launcher ## run every test; runs beside `make dev`

unit: setup ## tests without sockets (half a minute), then those of the stand-in over real ones
	$(PYTEST) tests/unit --disable-socket --allow-unix-socket -n 2 --dist loadfile -p no:schemathesis
	$(PYTEST) tests/standin -n 2 --dist loadfile -p no:schemathesis

store: setup ## the ledger, the repositories and the security rules on the Firestore emulator, in two halves at once
	@$(MAKE) --no-print-directory -j2 store-turns store-accounts

TURNS := tests/store/chat tests/store/breaker tests/store/gateway

store-turns:
	$(SUITE) firestore -- $(PYTEST) $(TURNS)

store-accounts:
	$(SUITE) firestore -- $(PYTEST) tests/store tests/rules $(TURNS:%=--ignore=%)

suite: setup ## the whole suite through its front door, with real client libraries
	$(SUITE) run --block test -- $(PYTEST) tests/suite tests/clients

launcher: setup ## starting and stopping the local suite: nothing may be left behind
	$(PYTEST) tests/launcher

bench: setup ## what a chat turn costs, beside its budgets (PEERS=1: beside other gateways; PROFILE=1: by function)
	$(SUITE) firestore -- venv/bin/python -m tests.load.turns
	$(SUITE) firestore -- venv/bin/python -m tests.load.gateway
	$(SUITE) firestore -- venv/bin/python -m tests.load.limiter

fuzz: setup ## ask every route new absurd questions (FUZZ_EXAMPLES=1000 make fuzz)
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-200} $(SUITE) run --block test -- $(PYTEST) tests/suite/test_fuzz.py

lint: setup ## style, and which package may import which
	venv/bin/ruff check .
	venv/bin/ruff format --check .
	venv/bin/lint-imports

format: setup ## format the code and mend what can be mended
	venv/bin/ruff format .
	venv/bin/ruff check --fix .

types: setup ## static types
	venv/bin/mypy main.py functions triggers shared emulator tests

check: lint types test ## everything that continuous integration checks

lock: ## pin every dependency anew from requirements.in and requirements-dev.in
	venv/bin/python -m pip install --quiet uv
	venv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header requirements.in -o requirements.txt
	venv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header -c requirements.txt requirements-dev.in -o requirements-dev.txt

openapi: setup ## write docs/openapi.json from the route declarations
	venv/bin/python -m emulator.openapi

clean: ## remove everything that set-up and runs have made
	rm -rf venv .suite emulator/node_modules tests/clients/js/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis
