# The commands of the project. Continuous integration calls these and nothing else.
PYTHON ?= python3
SUITE := $(PYTHON) -m emulator
PYTEST := venv/bin/python -m pytest
TOGETHER := $(MAKE) --no-print-directory -j4

# Where it is set, every process would compile the project and rewrite the tests' assertions anew: a third of `make unit`.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help dev demo setup doctor test unit store store-turns store-chats store-gateway store-accounts
.PHONY: suite suite-front suite-fuzz launcher bench fuzz lint format types check lock openapi clean

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

store: setup ## the ledger, the repositories and the security rules on Firestore emulators, in four parts at once
	@$(TOGETHER) store-turns store-chats store-gateway store-accounts

# About equally long, each with an emulator and a Redis of its own. They wait more than they compute: leases, pauses, slow
# answers. Those of privacy can stand anywhere, for each of them has a database of its own; those of the rules cannot
# stand beside tests that look into whole collections, where they leave documents of every shape.
CHATS := $(addprefix tests/store/,chat privacy)
TURNS := $(addprefix tests/store/chat/test_,alone.py breaker.py every_event.py generations.py key_spending.py outages.py \
	process.py repeats.py taken_over.py turn.py)
GATEWAY := $(addprefix tests/store/,access breaker events gateway identity limits)

store-turns:
	$(SUITE) firestore -- $(PYTEST) $(TURNS)

store-chats:
	$(SUITE) firestore -- $(PYTEST) $(CHATS) $(TURNS:%=--ignore=%)

store-gateway:
	$(SUITE) firestore -- $(PYTEST) $(GATEWAY)

store-accounts:
	$(SUITE) firestore -- $(PYTEST) tests/store tests/rules $(CHATS:%=--ignore=%) $(GATEWAY:%=--ignore=%)

suite: setup ## the whole suite through its front door, with real client libraries, while a fuzzer asks beside them
	$(SUITE) run --block test -- $(TOGETHER) suite-front suite-fuzz

suite-front:
	$(PYTEST) tests/suite tests/clients --ignore=tests/suite/test_fuzz.py

suite-fuzz:
	$(PYTEST) tests/suite/test_fuzz.py

launcher: setup ## starting and stopping the local suite: nothing may be left behind
	$(PYTEST) tests/launcher -n 2 --dist worksteal

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
