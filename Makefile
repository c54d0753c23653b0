# Everything runs in .venv; `make quickstart` and `make test` are all that a new machine needs (Python >= 3.10).
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: quickstart test lint types contracts docs notebooks format bench full clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,app,quant,docs,notebooks]'
	touch $@

quickstart: .venv/installed
	$(BIN)/sightline quickstart --output-dir quickstart --overwrite-output-dir

# one torch thread a worker: two workers on two cores beat two threads in one
test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/pyright

contracts: .venv/installed-dev
	$(BIN)/lint-imports

# draws the pictures, then builds site/ strictly: a broken link or an unknown anchor is an error
docs: .venv/installed-dev
	$(BIN)/python docs/draw.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# runs every notebook from top to bottom; nothing is written but to a temporary folder
notebooks: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/jupyter execute --timeout=900 notebooks/*.ipynb

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# whole optimizer steps of Sightline and TRL, on a quiet machine; stops and goes on (BENCH="--minutes 30")
bench: .venv/installed-dev
	$(BIN)/python -m benchmarks.step $(BENCH)

clean:
	rm -rf .venv quickstart build dist site src/*.egg-info
