# make run           the function on http://localhost:8080, with its own Redis and a demo model
#                    PORT=8080       where it listens
#                    HOST=127.0.0.1  who reaches it: this machine alone
#                    DATA_DIR=.data  where its own Redis keeps the chats
# make quick         style, types, and the tests that need no Redis and no process: seconds
# make check         style and types
# make test          all tests, on a real Redis and on a cluster; needs no network, takes minutes
# make test-servers  the tests that touch Redis most, on Redis 6.2, 7, Valkey 9 and a cluster
# make test-clients  real OpenAI clients of Python and JavaScript, installed into .clients/; writes
#                    docs/clients.md
# make test-providers  install LiteLLM into .peers/, and run the function with it
# make fuzz          50,000 requests of garbage on every route
# make chaos         break everything at random for minutes, and count what was lost
# make bench         speed beside other ways to do the same; what a turn costs in Redis commands
# make bench-peers   install LiteLLM and Portkey into .peers/, for `make bench` to measure as well
# make sbom          what is deployed, as CycloneDX: sbom.json
# make audit         known vulnerabilities of what is deployed; asks the internet
# make docs          write the settings into .env.example and docs/settings.md
# make lock          compile requirements*.in into requirements*.txt
# make clean         remove what was installed, and the chats of `make run`
# make help          this text; PYTHON=python3.12 chooses the Python of a first `make`

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := .venv-run

.PHONY: help run quick test test-servers test-clients test-providers fuzz chaos bench bench-peers check lock docs sbom audit clean

run: $(RUN)/installed
	@exec $(RUN)/bin/python -m dev.run

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

quick: check
	$(BIN)/python -m pytest --quick

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 4
	$(BIN)/python -m pytest -n 4 --cluster tests/test_once.py tests/test_stop_resume.py tests/test_survive.py tests/test_access.py tests/test_limits.py tests/test_agents.py tests/test_readers.py

test-servers: $(VENV)/installed
	$(BIN)/python -m dev.servers

test-clients: $(VENV)/installed
	$(BIN)/python -m dev.clients

test-providers: $(VENV)/installed .peers/litellm/installed
	CI_PROVIDERS=1 $(BIN)/python -m pytest tests/test_litellm.py

fuzz: $(VENV)/installed
	FUZZ_REQUESTS=50000 FUZZ_MUTATIONS=20000 $(BIN)/python -m pytest -n 4 tests/test_fuzz.py tests/test_completions_fuzz.py

chaos: $(VENV)/installed
	$(BIN)/python -m bench.chaos

bench: $(VENV)/installed
	$(BIN)/python -m bench.commands
	$(BIN)/python -m bench.refusals
	$(BIN)/python -m bench.speed

# Portkey's streams are answered with 500 when npm gives it a newer @hono/node-server than 1.14.1
# (its issue 1389); its own lock file has 1.13.5. Node 24 runs it faster than Node 20.
bench-peers: $(VENV)/installed .peers/litellm/installed
	cp bench/peers.json .peers/package.json
	npm install --silent --prefix .peers

.peers/litellm/installed:
	$(PYTHON) -m venv .peers/litellm
	.peers/litellm/bin/pip install -q --disable-pip-version-check 'litellm[proxy]==1.106.2'
	@touch $@

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
	$(BIN)/uv pip compile -q requirements-run.in -c requirements-dev.txt --no-deps --universal --python-version 3.11 --generate-hashes --no-header -o requirements-run.txt

sbom: $(VENV)/installed
	@$(BIN)/python -m dev.sbom >sbom.json

# Not in CI: what was right yesterday must not fail today because somebody found something.
audit: $(VENV)/installed
	$(BIN)/uv tool run pip-audit --disable-pip --require-hashes --requirement requirements.txt

docs: $(VENV)/installed
	$(BIN)/python -m dev.docs

$(VENV)/installed: requirements-dev.txt
	@$(PYTHON) -m dev.environment $(VENV) requirements-dev.txt

# Only what is needed to run: a third of the above.
$(RUN)/installed: requirements.txt requirements-run.txt
	@$(PYTHON) -m dev.environment $(RUN) requirements.txt --wheels requirements-run.txt --small

clean:
	rm -rf $(VENV) $(RUN) .data .peers .clients
