# Kubestage: `make help` lists the tasks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test test-fast check bench up down proto clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml
	@scripts/prepare $(PYTHON) $(VENV)
	@touch $@

demo: $(STAMP) ## from a fresh machine: a cluster, the nine stages with kubectl, all gone again
	@$(BIN)/python scripts/demo.py

test: $(STAMP) ## every test (root and Ray included)
	@$(BIN)/python -m pytest

test-fast: $(STAMP) ## tests that need neither root nor Ray
	@$(BIN)/python -m pytest -m "not root and not ray and not etcd"

check: $(STAMP) ## lint, types, direction of imports
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache | tail -n 12

bench: $(STAMP) ## the benchmarks in scripts/
	@for b in scripts/bench_*.py; do echo "== $$b"; $(BIN)/python $$b; done

up: $(STAMP) ## kubestage up
	@$(BIN)/kubestage up

down: $(STAMP) ## kubestage down
	@$(BIN)/kubestage down

proto: $(STAMP) ## regenerate the protobuf modules
	@for d in cluster/etcd/rpc cluster/runtime/rpc; do \
	  [ -d $$d ] && (cd $$d && $(CURDIR)/$(BIN)/python -m grpc_tools.protoc -I. --python_out=. *.proto) || true; done

clean: ## remove the virtual environment and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache *.egg-info
