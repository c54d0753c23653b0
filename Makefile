# Everything runs in .venv; `make quickstart` and `make test` are all that a new machine needs (Python >= 3.10).
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: quickstart test lint types contracts format recipes full bench clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,app,quant]'
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

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# whole optimizer steps of Sightline and TRL, on a quiet machine; stops and goes on (BENCH="--minutes 30")
bench: .venv/installed-dev
	$(BIN)/python -m benchmarks.step $(BENCH)

clean:
	rm -rf .venv quickstart build dist src/*.egg-info
