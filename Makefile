# Every target makes what it needs; nothing has to be activated first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: setup demo test check lint slow bench agent wheels lock clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@if command -v uv >/dev/null 2>&1; then \
	    uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	    uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
	    $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'; \
	fi
	@touch $(STAMP)

demo: setup        ## tune a small network on real digit images: 30 points, 2 workers, a minute or two
	$(BIN)/gridtune run examples/digits/task.yaml --workers 2

test slow: export OMP_NUM_THREADS = 1 # as in an optimizer host: threads that fight over small models take ten times as long

test: setup        ## all tests but the long ones
	$(BIN)/pytest -n 2 --dist loadscope -m "not slow"

slow: setup        ## the long tests
	$(BIN)/pytest -n 2 --dist worksteal -m slow

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/vermin --quiet --no-tips --violations --target=3.9- --eval-annotations --backport dataclasses --exclude-regex '$$^' common evaluation
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test   ## what a change must pass

bench: setup       ## how fast asks and tells are, beside others and the limits of this machine: about half an hour
	@if command -v uv >/dev/null 2>&1; then \
	    uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[benchmarks]'; \
	else \
	    $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[benchmarks]'; \
	fi
	$(BIN)/python -m benchmarks.asktell
	$(BIN)/python benchmarks/ask_cost.py

LIBRARIES := build/agent-libraries
PURE := --quiet --no-deps --only-binary :all: --python-version 3.9 --target $(LIBRARIES) -r agent-constraints.txt

agent: setup       ## dist/gridtune-agent.pyz: the agent as one file, for Python 3.9 and newer
	@rm -rf $(LIBRARIES)
	@if command -v uv >/dev/null 2>&1; then uv pip install $(PURE); else $(BIN)/python -m pip install $(PURE); fi
	$(BIN)/python -m gridtune_steering.agentfile dist --libraries $(LIBRARIES)

wheels:            ## wheels/: all that the service's image is made of, to build it without a network
	$(PYTHON) -m pip wheel --quiet -w wheels -c constraints.txt hatchling '.[steering,opentelemetry]'
	$(PYTHON) -m pip download --quiet --no-deps --only-binary :all: --python-version 3.9 -d wheels -r agent-constraints.txt

lock:              ## renew the pinned versions in constraints.txt and agent-constraints.txt (needs uv)
	uv pip compile --quiet --upgrade --no-header --no-annotate --no-emit-index-url --universal \
	    --python-version 3.11 --extra dev --extra docker --extra benchmarks --no-emit-package gridtune pyproject.toml -o constraints.txt
	echo requests | uv pip compile --quiet --upgrade --no-header --no-annotate --no-emit-index-url \
	    --python-version 3.9 - -o agent-constraints.txt

clean:
	rm -rf $(VENV) build dist wheels .mypy_cache .ruff_cache .pytest_cache
