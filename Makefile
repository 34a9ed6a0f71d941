# Two commands set everything up on a fresh machine: `make demo` and `make test`.
# Each creates .venv, installs what it needs and says what it does.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test check format benchmark faults soak clean

help:
	@echo "make demo       render an endoscopy clip, segment it, write the overlay video into demo/"
	@echo "make test       install everything for development and run the tests"
	@echo "make check      format, lint and types"
	@echo "make format     let ruff format the code"
	@echo "make benchmark  time Tiny beside the U-Net on the CPU backends"
	@echo "make faults     every fault of the live path on real processes, 15 minutes"
	@echo "make soak       stream for 20 minutes with outages, and fit the slopes"
	@echo "make clean      remove .venv and caches"

demo: $(VENV)/.run
	$(BIN)/rwkv-edge demo --output demo

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: $(VENV)/.dev
	$(BIN)/python benchmarks/backends.py

faults: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults -m "slow_fault or not slow_fault"

soak: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.soak --minutes 20

$(VENV)/bin/python:
	@sh tools/check_system.sh "$(PYTHON)"
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# What a deployed box needs; no Torch.
$(VENV)/.run: $(VENV)/bin/python pyproject.toml
	@echo "installing rwkv-edge (ONNX Runtime, OpenCV, PyAV) into $(VENV)"
	@$(PIP) install --constraint constraints.txt --editable .
	@$(BIN)/python tools/check_imports.py
	@touch $@

# Training, export and the tests; Torch's CPU build.
$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing rwkv-edge for development (Torch, ONNX, OpenVINO, pytest) into $(VENV)"
	@$(PIP) install --constraint constraints.txt --editable ".[dev]"
	@$(BIN)/python tools/check_imports.py
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
