# The two commands of the README are `make demo` and `make test`; each sets up everything it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CXX_FILES = $(shell git ls-files '*.h' '*.cc' '*.cpp' '*.inc')
NATIVE := $(wildcard csrc/*.cc csrc/*.h csrc/*/*) CMakeLists.txt setup.py pyproject.toml

.PHONY: demo test bench lint format clean

demo: $(VENV)/train.installed
	$(BIN)/maam compare

test: $(VENV)/test.installed
	$(BIN)/python -m pytest tests

bench: $(VENV)/bench.installed
	$(BIN)/python -m pytest benchmarks --benchmark-only

lint: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

format: $(VENV)/test.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

clean:
	rm -rf $(VENV) build dist *.egg-info maam_ops/*.so

# One editable install for each set of extras; a change of the native sources builds again.
$(VENV)/%.installed: $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@
