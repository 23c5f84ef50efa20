# make demo   trains a grapheme-to-phoneme model on CMUdict and shows what it does
# make test   builds and tests
# Each makes its own .venv and needs only python3, venv, g++ and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MINUTES ?= 5
WORDS ?= sequence recurrent

BUILD_TOOLS := cmake ninja "pybind11>=3.0" "scikit-build-core>=1.0"
NATIVE := CMakeLists.txt pyproject.toml $(shell find csrc -type f)

.PHONY: build demo test test-all test-emulated test-cuda sanitize-cuda test-peers bench bench-cuda lint clean

build: $(VENV)/built

demo: build
	$(BIN)/python examples/g2p.py --minutes $(MINUTES) $(WORDS)

test: build
	$(BIN)/python -m pytest

test-all: build
	$(BIN)/python -m pytest -m ""

# The CPU's suites over the kernels of CUDA, on a device that needs no GPU.
test-emulated: build
	$(BIN)/python -m pytest tests --device emulated -n auto

# For the CUDA torch that PYTHON has (2.11 or newer), with nvcc on the PATH.
test-cuda:
	$(PYTHON) -m pip install --quiet $(BUILD_TOOLS)
	$(PYTHON) -m pip install --quiet --no-build-isolation --editable ".[test]"
	$(PYTHON) -m pytest -m cuda
	$(PYTHON) -m pytest tests --device cuda
	$(MAKE) sanitize-cuda

# Tensors that share memory from a pool would hide what is read past their ends.
sanitize-cuda:
	@command -v compute-sanitizer || { \
	  echo "make sanitize-cuda: no compute-sanitizer on the PATH: NOTHING IS SANITIZED" >&2; exit 1; }
	for tool in memcheck racecheck; do \
	  PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $$tool --error-exitcode 1 \
	    $(PYTHON) -m pytest -m "cuda and sanitizer" || exit 1; done

bench: $(VENV)/rivals
	$(BIN)/python -m benchmarks

# In the environment of test-cuda. Rivals that are not to be had are named.
bench-cuda:
	-$(PYTHON) -m pip install --quiet --no-build-isolation --editable ".[bench]"
	-$(PYTHON) -m pip install --quiet --no-build-isolation --no-deps -r benchmarks/rivals/requirements.txt
	$(PYTHON) -m benchmarks cuda

test-peers: $(VENV)/peers
	$(BIN)/python -m pytest tests/test_presets.py

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files '*.cpp' '*.h' '*.cu' '*.cuh')

clean:
	rm -rf $(VENV) build

# torch is pinned exactly: a range takes the newest build with gigabytes of CUDA.
$(VENV)/torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet torch==2.13.0 $(BUILD_TOOLS)
	touch $@

$(VENV)/built: $(VENV)/torch $(NATIVE)
	$(BIN)/pip install --quiet --no-build-isolation --editable ".[test]"
	touch $@

# Their own pins would take away torch.
$(VENV)/rivals: $(VENV)/built benchmarks/rivals/requirements.txt
	$(BIN)/pip install --quiet --no-build-isolation --editable ".[bench]"
	$(BIN)/pip install --quiet --no-build-isolation --no-deps -r benchmarks/rivals/requirements.txt
	touch $@

$(VENV)/peers: $(VENV)/rivals tests/compat/requirements.txt
	$(BIN)/pip install --quiet --no-build-isolation --editable ".[compat]"
	$(BIN)/pip install --quiet --no-build-isolation --no-deps -r tests/compat/requirements.txt
	touch $@

$(VENV)/dev: $(VENV)/built
	$(BIN)/pip install --quiet --no-build-isolation --editable ".[dev]"
	touch $@
