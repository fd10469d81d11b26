# Two commands: `make demo` runs the whole chain on made videos, `make test` runs all tests.
# `make gpu-check` runs all checks that need a GPU and writes gpu-check.md.
# `make image-test` builds the Docker image without Docker and uses it (root, buildah, debootstrap).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test coverage lint docs gpu-check image-test clean

$(VENV)/.runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.runtime
	$(BIN)/hrpro demo --out demo-out

# A file's tests share what they extract and train; files that take longest come first (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.dev
	$(PYTEST)

# Slower than `make test`: every line is counted.
coverage: $(VENV)/.dev
	$(PYTEST) --cov --cov-report=term

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -W --keep-going -n docs docs/_build
	@echo open docs/_build/index.html in a browser

# On a machine with a GPU: VIDEOS='a.mp4 b.mp4'; for training as well ARGS='--features DIR --annotations FILE ...'.
gpu-check: $(VENV)/.dev
	$(BIN)/python benchmarks/gpu_check.py $(VIDEOS) $(ARGS)

image-test:
	VIDEO='$(VIDEO)' docker/image_test.sh

clean:
	rm -rf $(VENV) demo-out docs/_build build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage
