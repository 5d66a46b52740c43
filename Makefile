# `make run` boots Debian to a shell; `make test` runs everything that CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := passt qemu-utils qemu-system-misc qemu-system-arm e2fsprogs device-tree-compiler cpio iproute2 xz-utils gnupg gdb-multiarch

# Hundreds of processes of the tests import the same modules: compiled once, whatever the host's habit.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check format unit guest docs bench fuzz soak packages gpu-guest clean

run: $(VENV)/installed
	@$(BIN)/python -m tools.first_run

test: packages $(VENV)/developer
	$(BIN)/python -m pytest -q -n auto --dist loadgroup --no-loadscope-reorder

check: $(VENV)/developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/developer
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: $(VENV)/developer
	$(BIN)/python -m pytest -q -m "not guest"

guest: packages $(VENV)/developer
	$(BIN)/python -m pytest -q -m guest

# Writes the generated pages and the guests' C header anew, and works through all pages as a reader would.
docs: $(VENV)/developer
	$(BIN)/python -m hypervisor.config.reference > docs/description.md
	$(BIN)/python -m gpu.guest.reference > docs/gpu-protocol.md
	$(BIN)/python -m gpu.guest.header > gpu/guest/gpu_protocol.h
	$(BIN)/python -m pytest -q -m "not guest" tests/docs

bench: packages $(VENV)/developer
	$(BIN)/python -m tests.perf

fuzz: packages $(VENV)/developer
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -q --timeout 0 -n auto --dist worksteal -m "fuzz and not guest"

soak: packages $(VENV)/developer
	$(BIN)/python -m pytest -q --timeout 0 -n auto --dist loadgroup --no-loadscope-reorder -m slow --run-slow

# The guests' OpenCL library and examples, for every architecture and libc, below build/gpu-guest.
gpu-guest: $(VENV)/developer
	$(BIN)/python -m gpu.guest.build build/gpu-guest

# Where ensurepip is missing half of one is left, which would be taken for whole.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install -q -e .
	@touch $@

$(VENV)/developer: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install -q -e '.[dev]'
	@touch $@ $(VENV)/installed

# What the tests use of the host. As root they are installed; else what is missing is named.
packages:
	@missing=$$(for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then \
	    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	  else \
	    echo "these packages are missing; install them as root: apt-get install $$missing" >&2; exit 1; \
	  fi; \
	fi

clean:
	rm -rf $(VENV) build dist *.egg-info
