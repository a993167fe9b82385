# Everything a newcomer needs is `make demo` and `make test`; both install into .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Test processes: most tests wait for real servers, so there are more than cores.
WORKERS ?= 3

.PHONY: demo test lint fix bench compare run clean help

help:            ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 12

demo: $(STAMP)   ## a hub, two sites, three agents and a Pico on this machine; KEEP=1 leaves it running
	@$(BIN)/python -m tests.demo $(if $(KEEP),--keep)

test: $(STAMP) lint  ## everything CI runs, what fails fastest first
	@$(BIN)/python -m tests.support.micropython --fetch
	PYTHONASYNCIODEBUG=0 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

lint: $(STAMP)   ## formatting, lint, types
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

fix: $(STAMP)    ## formatting and the lint that mends itself
	$(BIN)/python -m ruff format . && $(BIN)/python -m ruff check --fix .

bench: $(STAMP)  ## figures side by side with nats-server, as ratios
	@$(BIN)/python -m tests.bench $(ARGS)

compare: $(STAMP) ## random JetStream programs at nats-server and leafnode side by side: SEEDS=0:1000
	@$(BIN)/python -m tests.conformance.programs $(if $(SEEDS),--seeds $(SEEDS))

fuzz: $(STAMP)   ## a minute of noise for each parser, led by coverage; ARGS="600 session" for more of one
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	@$(BIN)/python -m tests.fuzz $(ARGS)

run: $(STAMP)    ## a broker on localhost with streams in .cache/run
	$(BIN)/leafnode -a 127.0.0.1 -js -sd .cache/run -m 8222

clean:           ## forget the environment and everything cached
	rm -rf .venv .cache

$(STAMP): pyproject.toml Makefile
	@$(PYTHON) tests/support/setup_venv.py .venv
	@touch $@
