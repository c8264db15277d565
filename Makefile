# Two commands to start with: `make demo` and `make test`. Each makes its own environment.
PYTHON ?= python3
ADDONS_PYTHON ?= $(shell command -v python3.11 || command -v python3.10 || echo python3)
LOWEST_PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV := .venv
ADDONS_VENV := .venv-addons
LOWEST_VENV := .venv-lowest
DEMO_OUTPUT ?= demo-output
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test test-slow test-addons test-lowest notebooks docs lint format clean

demo: $(VENV)/installed
	$(VENV)/bin/tfvlad demo $(DEMO_OUTPUT)

test: $(VENV)/installed
	$(VENV)/bin/python -m pytest -n auto --dist loadfile -m "not slow and not addons"

test-slow: $(VENV)/installed
	$(VENV)/bin/python -m pytest -m "slow and not addons"

test-addons: $(ADDONS_VENV)/installed
	$(ADDONS_VENV)/bin/python -m pytest -n auto --dist loadfile -m "not slow and not current"

# The lowest versions that setup.cfg allows, on the current stack.
test-lowest: $(LOWEST_VENV)/installed
	$(LOWEST_VENV)/bin/python -m pytest -n auto --dist loadfile -m "not slow and not addons"

notebooks: $(VENV)/installed
	$(VENV)/bin/python -c "from tests.examples import test_notebooks; test_notebooks.refresh()"

docs: $(VENV)/docs-installed
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --editable ".[dev,bench,export,tune]"
	touch $@

$(VENV)/docs-installed: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --editable ".[docs]"
	touch $@

$(ADDONS_VENV)/installed: setup.cfg pyproject.toml
	$(ADDONS_PYTHON) -m venv $(ADDONS_VENV)
	$(ADDONS_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(ADDONS_VENV)/bin/python -m pip install --quiet --editable ".[addons,dev,bench,tune]"
	touch $@

# pip cannot resolve to the lowest versions; uv, which it brings here, can.
$(LOWEST_VENV)/installed: setup.cfg pyproject.toml
	$(LOWEST_PYTHON) -m venv $(LOWEST_VENV)
	$(LOWEST_VENV)/bin/python -m pip install --quiet "uv >=0.8,<1"
	$(LOWEST_VENV)/bin/uv pip install --quiet --upgrade --python $(LOWEST_VENV)/bin/python \
		--resolution lowest-direct --editable ".[dev,export,tune]" \
		"tensorflow ==2.21.*" "keras ==3.15.*"
	touch $@

clean:
	rm -rf $(VENV) $(ADDONS_VENV) $(LOWEST_VENV) build dist *.egg-info
