# make run    the function on http://localhost:8080, with its own Redis and a demo model
# make test   the whole test suite, on a real Redis, without a network
# make test-servers   the parts that touch Redis most, on Redis 6.2, 7, Valkey and a cluster
# make chaos  break everything at random for minutes, and count what was lost
# make fuzz   garbage on every route: 50,000 requests
# make bench  how fast it is, beside other ways to do the same; what a turn costs in Redis commands
# make bench-peers   install LiteLLM and Portkey into .peers/, for `make bench` to measure as well
# make check  style and types
# make docs   write the settings into .env.example and README.md
# make lock   compile requirements*.in into requirements*.txt

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test test-servers fuzz chaos bench bench-peers check lock docs clean

run: $(VENV)/installed
	@exec $(BIN)/python -m dev.run

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 4
	$(BIN)/python -m pytest -n 4 --cluster tests/test_once.py tests/test_stop_resume.py tests/test_survive.py tests/test_access.py tests/test_limits.py tests/test_agents.py tests/test_readers.py
	$(BIN)/python -m pytest -n 4 --relay=off

test-servers: $(VENV)/installed
	$(BIN)/python -m dev.servers

fuzz: $(VENV)/installed
	FUZZ_REQUESTS=50000 $(BIN)/python -m pytest -n 4 tests/test_fuzz.py

chaos: $(VENV)/installed
	$(BIN)/python -m bench.chaos

bench: $(VENV)/installed
	$(BIN)/python -m bench.commands
	$(BIN)/python -m bench.refusals
	$(BIN)/python -m bench.speed

# Portkey's streams are answered with 500 when npm gives it a newer @hono/node-server than 1.14.1
# (its issue 1389); its own lock file has 1.13.5. Node 24 runs it faster than Node 20.
bench-peers: $(VENV)/installed
	$(PYTHON) -m venv .peers/litellm
	.peers/litellm/bin/pip install -q --disable-pip-version-check 'litellm[proxy]==1.106.2'
	cp bench/peers.json .peers/package.json
	npm install --silent --prefix .peers

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@if command -v shellcheck >/dev/null; then shellcheck -x deploy.sh dev/*.sh .ci/run; \
	elif [ -n "$$CI" ]; then echo 'shellcheck is missing'; exit 1; \
	else echo 'shellcheck is not installed: the shell scripts were not checked'; fi

lock: $(VENV)/installed
	$(BIN)/uv pip compile -q requirements.in --universal --python-version 3.11 --generate-hashes --no-header -o requirements.txt
	$(BIN)/uv pip compile -q requirements-dev.in --universal --python-version 3.11 --generate-hashes --no-header -o requirements-dev.txt

docs: $(VENV)/installed
	$(BIN)/python -m dev.docs

$(VENV)/installed: requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Chatkeep needs Python 3.11 or newer; try make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) .data .peers
