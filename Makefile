# make compare: set up and run the main job on the embedded default.  make test: set up and run the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
OUT ?= runs/compare
TORCH := torch>=2.10

.PHONY: compare test lint clean

compare: $(VENV)/installed
	$(BIN)/zoo compare llava-1.5 instructblip openflamingo gpt4roi video-chatgpt --setting scenes-tiny --out $(OUT)

test: $(VENV)/installed-test
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Without an NVIDIA driver the CUDA build is gigabytes for nothing. A local wheel of pip's configuration comes first,
# then PyTorch's own index of CPU builds; where neither is to be had (or they are CPU builds anyway), the default.
$(VENV)/torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; run: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then \
	  echo "installing torch"; $(PIP) install '$(TORCH)'; \
	else \
	  echo "installing a CPU build of torch"; \
	  $(PIP) install --no-index --no-deps '$(TORCH)' 2>/dev/null \
	  || $(PIP) install --retries 1 --timeout 20 --no-deps --index-url https://download.pytorch.org/whl/cpu '$(TORCH)' 2>/dev/null \
	  || $(PIP) install '$(TORCH)'; \
	fi
	@touch $@

$(VENV)/installed: $(VENV)/torch pyproject.toml
	@echo "installing the project"
	@$(PIP) install -e .
	@touch $@

$(VENV)/installed-test: $(VENV)/torch pyproject.toml
	@echo "installing the project with its test extra"
	@$(PIP) install -e '.[test]'
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache
