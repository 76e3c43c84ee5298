# Everything runs in .venv, made and filled by the first target that needs it and again only when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format docs bench clean

demo: .venv/.installed-text
	$(BIN)/qfedfm demo

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile  # two files at a time, one thread each

lint: .venv/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/.installed-docs
	$(BIN)/sphinx-build -q -W --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: .venv/.installed-text
	@set -e; for file in $(sort $(wildcard benchmarks/*.py)); do echo "== $$file"; $(BIN)/python "$$file"; done

clean:
	rm -rf docs/_build docs/reference docs/notebooks .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "qfedfm needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1): name another one, such as  make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
	  exit 1; }
	$(PYTHON) -m venv .venv
	touch $@

.venv/.installed-text: pyproject.toml .venv/.made
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[text]'
	touch $@

.venv/.installed-test: pyproject.toml .venv/.made
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[test]'
	touch .venv/.installed-text .venv/.installed-docs $@

.venv/.installed-docs: pyproject.toml .venv/.made
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[docs]'
	touch .venv/.installed-text $@
