# make demo [INPUT=scan.ply [UP=y]]  three fits through the add-on, headless -> build/demo/{demo.blend,before_after.png,report.json}
# make test                   lint, types and all tests, also inside two Blender versions
# make lint | extension | clean
# Every target makes what it needs: a worker's environment in .venv, Blender as a Python module in build/env/bpy-*.

SHELL := /bin/sh
VENV := .venv
PYTHON := $(VENV)/bin/python
BPY_OLD := build/env/bpy-4.5
BPY_NEW := build/env/bpy-5.2
BPY_PACKAGES := pytest pytest-timeout
# Small matrices lose by spreading over many cores, and a thread more than there are cores halves the speed.
export OMP_NUM_THREADS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ $$n -gt 8 ] && n=8; echo $$n)
export GOMP_SPINCOUNT ?= 5000
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export NEURAL_SDF_PYTHON := $(abspath $(PYTHON))
# No screen is needed; and Blender's own variables must not leak into the interpreters.
PYTEST := -m pytest -q
unexport PYTHONPATH PYTHONHOME

.PHONY: all test test-worker test-blender lint demo extension clean help

all: help

help:
	@sed -n '1,4s/^# //p' Makefile

# --- environments: each stamp is renewed when what it was made from changes ---------------------------------------

$(VENV)/.made: pyproject.toml scripts/install_torch
	@echo "== worker environment in $(VENV)"
	@[ -x $(PYTHON) ] || { python=$$(scripts/find_python 3.11 3.12 3.13) && "$$python" -m venv $(VENV); }
	@scripts/install_torch $(PYTHON)
	@$(PYTHON) -m pip install -q -e .
	@touch $@

$(VENV)/.made-dev: $(VENV)/.made
	@echo "== test tools in $(VENV)"
	@$(PYTHON) -m pip install -q -e '.[dev]'
	@touch $@

build/env/bpy-%/.made: scripts/find_python
	@echo "== Blender $* as a Python module in build/env/bpy-$*"
	@[ -x build/env/bpy-$*/bin/python ] || { case $* in 4.*|5.0) v=3.11;; *) v=3.13;; esac; \
	  python=$$(scripts/find_python $$v) && "$$python" -m venv build/env/bpy-$*; }
	@build/env/bpy-$*/bin/python -c 'import bpy' 2>/dev/null || \
	  build/env/bpy-$*/bin/python -m pip install -q 'bpy==$*.*' || \
	  build/env/bpy-$*/bin/python -m pip install -q --extra-index-url https://download.blender.org/pypi/ 'bpy==$*.*'
	@build/env/bpy-$*/bin/python -m pip install -q $(BPY_PACKAGES)
	@touch $@

# --- checks ----------------------------------------------------------------------------------------------------

lint: $(VENV)/.made-dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

test-worker: $(VENV)/.made-dev
	$(PYTHON) $(PYTEST) -m 'not blender'

test-blender: $(VENV)/.made-dev $(BPY_OLD)/.made $(BPY_NEW)/.made
	$(BPY_OLD)/bin/python $(PYTEST) -m blender tests/blender_addon
	$(BPY_NEW)/bin/python $(PYTEST) -m blender tests/blender_addon

test: $(VENV)/.made-dev $(BPY_OLD)/.made $(BPY_NEW)/.made
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test-worker
	@$(MAKE) --no-print-directory test-blender
	@echo "== all tests passed: worker, Blender 4.5, Blender 5.2"

# --- products --------------------------------------------------------------------------------------------------

# BLENDER=/path/to/blender runs the demo in an installed Blender instead of the module.
ifdef BLENDER
demo: $(VENV)/.made
	$(BLENDER) --background --factory-startup --python-exit-code 1 --python scripts/demo.py -- $(if $(INPUT),--input "$(INPUT)") $(if $(UP),--up $(UP))
else
demo: $(VENV)/.made $(BPY_NEW)/.made
	$(BPY_NEW)/bin/python scripts/demo.py $(if $(INPUT),--input "$(INPUT)") $(if $(UP),--up $(UP))
endif

# With an installed Blender, 'blender --command extension build' does the same.
extension: $(BPY_NEW)/.made
	@mkdir -p dist
	@tool=$$(echo $(BPY_NEW)/lib/python*/site-packages/bpy/*/scripts/addons_core/bl_pkg/cli/blender_ext.py) && \
	  $(BPY_NEW)/bin/python "$$tool" build --source-dir . --output-dir dist && \
	  $(BPY_NEW)/bin/python "$$tool" validate dist/*.zip

clean:
	rm -rf build dist $(VENV) sdfcore.egg-info .pytest_cache .ruff_cache .mypy_cache
